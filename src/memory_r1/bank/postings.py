"""Which rows of an index hold a word, and BM25 over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BM25_K1, BM25_B = 1.2, 0.5


class Posted(NamedTuple):
    """The rows that hold one term, how often each holds it, and how many words each has."""

    rows: NDArray[np.int64]
    counts: NDArray[np.float32]
    lengths: NDArray[np.float32]


class Holder(Protocol):
    def of(self, term: np.uint32, /) -> Posted: ...


class Postings:
    """(term, row, count, length) sorted by term: `of(term)` is two binary searches."""

    def __init__(self, terms: NDArray[np.uint32], first: int, lengths: NDArray[np.float32]) -> None:
        """`terms`: those of the rows `first`, `first` + 1, …, in this order; `lengths`: how many each row has."""
        places = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths.astype(np.int64))
        pairs, counts = np.unique((terms.astype(np.uint64) << np.uint64(32)) | places, return_counts=True)
        at = (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
        self._terms = (pairs >> np.uint64(32)).astype(np.uint32)
        self._rows = at + first
        self._counts = counts.astype(np.float32)
        # Copied here, so that a search reads them in one run and not from as many places as there are rows.
        self._lengths = lengths[at]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self._terms, self._rows, self._counts, self._lengths))

    def of(self, term: np.uint32) -> Posted:
        low, high = self._terms.searchsorted(term, "left"), self._terms.searchsorted(term, "right")
        return Posted(self._rows[low:high], self._counts[low:high], self._lengths[low:high])


class Found:
    """What was found of a few terms; of others it holds nothing."""

    def __init__(self, posted: Mapping[int, Posted]) -> None:
        self._posted = posted

    def of(self, term: np.uint32) -> Posted:
        return self._posted.get(int(term), _NOWHERE)


_NOWHERE = Posted(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))


def bm25(
    postings: Sequence[Holder],
    terms: NDArray[np.uint32],
    lengths: NDArray[np.float32],
    allowed: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """(rows,) BM25 (Robertson and Zaragoza 2009, eq. 3.15) of the distinct query terms over the allowed rows.

    `lengths`, `allowed`: (rows,). Rows that are not allowed have scores, too, but count nowhere.
    """
    scores = np.zeros(len(lengths), dtype=np.float32)
    total = int(np.count_nonzero(allowed))
    if not total:
        return scores
    everything = total == len(allowed)
    mean = max(float(lengths.sum() if everything else lengths[allowed].sum()) / total, 1.0)
    for term in np.unique(terms):
        found = [part.of(term) for part in postings]
        if everything:
            frequency = sum(len(posted.rows) for posted in found)
        else:
            frequency = sum(int(np.count_nonzero(allowed[posted.rows])) for posted in found)
        # Python's floats keep the arrays at 32 bits; one of numpy's would make them 64.
        idf = math.log(1 + (total - frequency + 0.5) / (frequency + 0.5))
        for rows, counts, lengths_there in found:
            norm = lengths_there * (BM25_K1 * BM25_B / mean)
            norm += BM25_K1 * (1 - BM25_B)
            norm += counts
            scores[rows] += counts * (idf * (BM25_K1 + 1)) / norm
    return scores
