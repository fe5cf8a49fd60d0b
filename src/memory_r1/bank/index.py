"""The search index of one home (the entries that share a first id), in memory, built from the bank's rows.

Exact cosine over one matrix and BM25 over one posting array, fused by reciprocal rank. Rows are only ever
appended; a changed entry is a new row and the old one is dead, so that a refresh costs what changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_r1.types import MemoryEntry

RRF_CONSTANT = 5.0
BM25_K1, BM25_B = 1.2, 0.5
_TAIL_SHARE, _TAIL_ROWS = 0.05, 256


class IndexRow(NamedTuple):
    """What the index keeps of an entry. `key` is the row id in the bank; a dead row only removes."""

    key: int
    alive: bool
    speaker: str | None
    expires_at: float
    terms: bytes
    vector: bytes


class Hit(NamedTuple):
    """`score`: fused rank in 0..1, 1 when first in both rankings; `similarity`: cosine."""

    key: int
    score: float
    similarity: float


class _Postings:
    """(term, row, count) triples sorted by term: `rows_of(term)` is two binary searches."""

    def __init__(self, terms: NDArray[np.uint32], rows: NDArray[np.int64]) -> None:
        pairs, counts = np.unique(
            (terms.astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64), return_counts=True
        )
        self._terms = (pairs >> np.uint64(32)).astype(np.uint32)
        self._rows = (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
        self._counts = counts.astype(np.float32)

    def rows_of(self, term: np.uint32) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        low, high = np.searchsorted(self._terms, term, "left"), np.searchsorted(self._terms, term, "right")
        return self._rows[low:high], self._counts[low:high]


class HomeIndex:
    """Searchable state of one home as of `revision`."""

    def __init__(self, dimension: int) -> None:
        self.revision = 0
        self.entries: dict[int, MemoryEntry] = {}  # those read so far: a search of a warm index reads no row
        self._count = 0
        self._matrix = np.zeros((64, dimension), dtype=np.float32)
        self._keys = np.zeros(64, dtype=np.int64)
        self._alive = np.zeros(64, dtype=bool)
        self._expires = np.full(64, np.inf)
        self._speaker = np.zeros(64, dtype=np.int32)
        self._length = np.zeros(64, dtype=np.float32)
        self._row_of: dict[int, int] = {}
        self._speakers: dict[str | None, int] = {}
        self._terms: list[NDArray[np.uint32]] = []
        self._base = _Postings(np.zeros(0, np.uint32), np.zeros(0, np.int64))
        self._base_rows = 0
        self._tail: _Postings | None = None

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def nbytes(self) -> int:
        return self._matrix.nbytes + sum(terms.nbytes for terms in self._terms)

    @property
    def dead_share(self) -> float:
        """How much of the index is dead rows; past a half it is cheaper to build it anew."""
        return 1.0 - len(self._row_of) / self._count if self._count > 1024 else 0.0

    def upsert(self, rows: Sequence[IndexRow]) -> None:
        """Take in changed entries; the last row of a key counts."""
        for row in rows:
            if (old := self._row_of.pop(row.key, None)) is not None:
                self._alive[old] = False
                self.entries.pop(row.key, None)
        fresh = [row for row in {row.key: row for row in rows}.values() if row.alive]
        if not fresh:
            return
        start, end = self._count, self._count + len(fresh)
        self._grow(end)
        dimension = self._matrix.shape[1]
        self._matrix[start:end] = np.frombuffer(b"".join(row.vector for row in fresh), "<f4").reshape(-1, dimension)
        for place, row in enumerate(fresh, start):
            terms = np.frombuffer(row.terms, "<u4")
            self._terms.append(terms)
            self._keys[place], self._expires[place], self._length[place] = row.key, row.expires_at, len(terms)
            self._speaker[place] = self._speakers.setdefault(row.speaker, len(self._speakers))
            self._row_of[row.key] = place
        self._alive[start:end] = True
        self._count = end
        self._tail = None

    def _grow(self, needed: int) -> None:
        if needed <= len(self._keys):
            return
        capacity = max(needed, 2 * len(self._keys)) if self._count else needed
        for name in ("_matrix", "_keys", "_alive", "_expires", "_speaker", "_length"):
            old = getattr(self, name)
            new = np.zeros((capacity, *old.shape[1:]), dtype=old.dtype)
            new[: self._count] = old[: self._count]
            setattr(self, name, new)

    def _postings(self) -> tuple[_Postings, ...]:
        if self._count - self._base_rows > max(_TAIL_ROWS, _TAIL_SHARE * self._base_rows):
            self._base, self._base_rows, self._tail = self._posted(0), self._count, None
        if self._base_rows == self._count:
            return (self._base,)
        if self._tail is None:
            self._tail = self._posted(self._base_rows)
        return self._base, self._tail

    def _posted(self, start: int) -> _Postings:
        lengths = self._length[start : self._count].astype(np.int64)
        return _Postings(np.concatenate(self._terms[start:]), np.repeat(np.arange(start, self._count), lengths))

    def _bm25(self, terms: NDArray[np.uint32], allowed: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(rows,) BM25 (Robertson and Zaragoza 2009, eq. 3.15) of the distinct query terms over the allowed rows."""
        scores = np.zeros(self._count, dtype=np.float32)
        total = int(np.count_nonzero(allowed))
        if not total:
            return scores
        lengths = self._length[: self._count]
        norm = BM25_K1 * (1 - BM25_B + BM25_B * lengths / max(float(lengths[allowed].mean()), 1.0))
        postings = self._postings()
        for term in np.unique(terms):
            found = [part.rows_of(term) for part in postings]
            frequency = sum(int(np.count_nonzero(allowed[rows])) for rows, _ in found)
            idf = np.log(1 + (total - frequency + 0.5) / (frequency + 0.5))
            for rows, counts in found:
                scores[rows] += idf * counts * (BM25_K1 + 1) / (counts + norm[rows])
        return scores

    def search(
        self,
        vector: NDArray[np.float32] | None,
        terms: NDArray[np.uint32] | None,
        k: int,
        now: float,
        *,
        keys: NDArray[np.int64] | None = None,
        per_speaker: bool = False,
        of: Sequence[str | None] | None = None,
    ) -> list[Hit]:
        """The best `k` hits, best first; half of them of each speaker when `per_speaker` and there are just two.

        `vector` or `terms` may be None to rank by the other alone. `keys`: only these entries; `of`: only these
        speakers'.
        """
        if not self._row_of:
            return []
        allowed = self._alive[: self._count] & (self._expires[: self._count] > now)
        if keys is not None:
            allowed &= np.isin(self._keys[: self._count], keys)
        if of is not None:
            allowed &= np.isin(self._speaker[: self._count], [self._speakers.get(speaker, -1) for speaker in of])
        groups = [allowed]
        if per_speaker:
            speakers = np.unique(self._speaker[: self._count][allowed])
            if len(speakers) == 2:
                k = (k + 1) // 2
                groups = [allowed & (self._speaker[: self._count] == speaker) for speaker in speakers]
        similarity = np.zeros(self._count, dtype=np.float32)
        if vector is not None:
            similarity = self._matrix[: self._count] @ vector
        text = self._bm25(terms, allowed) if terms is not None else None
        found = []
        for group in groups:
            rankings = []
            if vector is not None:
                rankings.append(_ranking(np.where(group, similarity, -np.inf), k))
            if text is not None:
                rankings.append(_ranking(np.where(group & (text > 0), text, -np.inf), k))
            found.append([part[:k] for part in _fuse(rankings)])
        rows, scores = map(np.concatenate, zip(*found, strict=True))
        best = np.lexsort((self._keys[rows], -similarity[rows], -scores))
        rows, scores = rows[best], scores[best]
        return list(map(Hit, self._keys[rows].tolist(), scores.tolist(), similarity[rows].tolist()))


def _ranking(scores: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Rows of the highest finite scores, best first; deep enough that fusion can lift what one ranking has low."""
    depth = min(len(scores), max(2 * k, 100))
    rows = np.argpartition(scores, len(scores) - depth)[len(scores) - depth :]
    rows = rows[np.isfinite(scores[rows])]
    best: NDArray[np.int64] = rows[np.lexsort((rows, -scores[rows]))]
    return best


def _fuse(rankings: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(rows, scores), best first, by reciprocal rank (Cormack et al. 2009): first place in every ranking scores 1."""
    if len(rankings) == 1:
        return rankings[0], (RRF_CONSTANT + 1) / (RRF_CONSTANT + 1 + np.arange(len(rankings[0]), dtype=np.float64))
    shares = [(RRF_CONSTANT + 1) / (RRF_CONSTANT + 1 + np.arange(len(ranking))) for ranking in rankings]
    rows, where = np.unique(np.concatenate(rankings), return_inverse=True)
    scores = np.asarray(np.bincount(where, np.concatenate(shares) / len(rankings), len(rows)), dtype=np.float64)
    best = np.lexsort((rows, -scores))
    return rows[best], scores[best]
