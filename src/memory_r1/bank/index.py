"""The search index of one home (the entries that share a first id), in memory, built from the bank's rows.

Exact cosine and BM25, fused by reciprocal rank. Rows are only ever appended; a changed entry is a new row and the old
one is dead, so that a refresh costs what changed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank.postings import BM25_B as BM25_B
from memory_r1.bank.postings import BM25_K1 as BM25_K1
from memory_r1.bank.postings import Postings, bm25
from memory_r1.bank.rows import entry_of
from memory_r1.bank.terms import words
from memory_r1.bank.vectors import Vectors
from memory_r1.types import MemoryEntry

RRF_CONSTANT = 5.0
UNNAMED = 1 / 1.4
"""What the score of an entry of another speaker is worth where the question names one. This and the constant of rank
fusion were chosen on LoCoMo's train and validation dialogues (docs/evaluation.md)."""

_TAIL_SHARE, _TAIL_ROWS = 0.05, 256
_GROUP = 32  # scores of which one stands for all
_ROW_BYTES = 700  # what Python keeps of an entry beside its text, its words and its vector, about


class IndexRow(NamedTuple):
    """What the index keeps of an entry. `key` is the row id in the bank; a dead row only removes.

    `stored`: the ENTRY_COLUMNS, where `HomeIndex.entry` is to give the entry.
    """

    key: int
    alive: bool
    speaker: str | None
    expires_at: float
    terms: bytes
    vector: bytes
    stored: Sequence[Any] = ()


class Hit(NamedTuple):
    """`score`: fused rank in 0..1, 1 when first in both rankings; `similarity`: cosine."""

    key: int
    score: float
    similarity: float


class HomeIndex:
    """Searchable state of one home as of `revision`."""

    def __init__(self, dimension: int) -> None:
        self.revision = 0
        self._dimension = dimension
        self._count = 0
        self._vectors = Vectors(dimension)
        self._keys = np.zeros(64, dtype=np.int64)
        self._alive = np.zeros(64, dtype=bool)
        self._expires = np.full(64, np.inf)
        self._speaker = np.zeros(64, dtype=np.int32)
        self._length = np.zeros(64, dtype=np.float32)
        self._row_of: dict[int, int] = {}
        self._speakers: dict[str | None, int] = {}
        self._terms: list[NDArray[np.uint32]] = []  # one array a batch of rows
        self._base = Postings(np.zeros(0, np.uint32), 0, np.zeros(0, np.float32))
        self._base_rows, self._base_batches = 0, 0
        self._tail: Postings | None = None
        # An entry is kept as the row it was read as, and made when it is first found: a search reads no row from the
        # file, and entries that no search finds cost no time.
        self._stored: dict[int, Sequence[Any]] = {}
        self._entries: dict[int, MemoryEntry] = {}
        self._text_bytes = 0

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def nbytes(self) -> int:
        """About what the index holds in memory. Asked after every change, so it must not count row by row."""
        return self._vectors.nbytes + self._base.nbytes + self._text_bytes + _ROW_BYTES * self._count

    @property
    def dead_share(self) -> float:
        """How much of the index is dead rows; past a half it is cheaper to build it anew."""
        return 1.0 - len(self._row_of) / self._count if self._count > 1024 else 0.0

    def entry(self, key: int) -> MemoryEntry:
        found = self._entries.get(key)
        if found is None:
            found = self._entries[key] = entry_of(self._stored.pop(key))
        return found

    def upsert(self, rows: Sequence[IndexRow]) -> None:
        """Take in changed entries; the last row of a key counts."""
        for row in rows:
            if (old := self._row_of.pop(row.key, None)) is not None:
                self._alive[old] = False
                self._stored.pop(row.key, None)
                self._entries.pop(row.key, None)
        fresh = [row for row in {row.key: row for row in rows}.values() if row.alive]
        if not fresh:
            return
        start, end = self._count, self._count + len(fresh)
        self._grow(end)
        vectors, terms = b"".join(row.vector for row in fresh), b"".join(row.terms for row in fresh)
        self._vectors.append(np.frombuffer(vectors, "<f4").reshape(-1, self._dimension))
        self._terms.append(np.frombuffer(terms, "<u4"))
        self._keys[start:end] = [row.key for row in fresh]
        self._expires[start:end] = [row.expires_at for row in fresh]
        self._length[start:end] = [len(row.terms) // 4 for row in fresh]
        self._speaker[start:end] = [self._speakers.setdefault(row.speaker, len(self._speakers)) for row in fresh]
        self._alive[start:end] = True
        self._row_of.update((row.key, place) for place, row in enumerate(fresh, start))
        self._stored.update((row.key, row.stored) for row in fresh)
        self._text_bytes += 2 * len(terms)  # a word has some six letters and a code of four bytes
        self._count = end
        self._tail = None

    def _grow(self, needed: int) -> None:
        if needed <= len(self._keys):
            return
        capacity = max(needed, 2 * len(self._keys)) if self._count else needed
        for name in ("_keys", "_alive", "_expires", "_speaker", "_length"):
            old = getattr(self, name)
            new = np.zeros(capacity, dtype=old.dtype)
            new[: self._count] = old[: self._count]
            setattr(self, name, new)

    def _postings(self) -> tuple[Postings, ...]:
        if self._count - self._base_rows > max(_TAIL_ROWS, _TAIL_SHARE * self._base_rows):
            self._terms = [np.concatenate(self._terms)]
            self._base = Postings(self._terms[0], 0, self._length[: self._count])
            self._base_rows, self._base_batches, self._tail = self._count, 1, None
        if self._base_rows == self._count:
            return (self._base,)
        if self._tail is None:
            terms = np.concatenate(self._terms[self._base_batches :])
            self._tail = Postings(terms, self._base_rows, self._length[self._base_rows : self._count])
        return self._base, self._tail

    def search(
        self,
        vector: NDArray[np.float32] | None,
        terms: NDArray[np.uint32] | None,
        k: int,
        now: float,
        *,
        keys: NDArray[np.int64] | None = None,
        asked: Collection[str] = (),
        of: Sequence[str | None] | None = None,
    ) -> list[Hit]:
        """The best `k` hits, best first.

        `vector` or `terms` may be None to rank by the other alone. `keys`: only these entries; `of`: only these
        speakers'. `asked`: the words of a question; entries of speakers whom it names count for more, and where it
        names both of two, half of the hits are of each.
        """
        if not self._row_of:
            return []
        allowed = self._alive[: self._count] & (self._expires[: self._count] > now)
        if keys is not None:
            allowed &= np.isin(self._keys[: self._count], keys)
        if of is not None:
            allowed &= np.isin(self._speaker[: self._count], [self._speakers.get(speaker, -1) for speaker in of])
        groups, weight = self._by_speaker(allowed, asked)
        share = -(-k // len(groups))
        similarity = np.zeros(self._count, dtype=np.float32)
        if vector is not None:
            similarity = self._vectors.cosines(vector)
        text = None if terms is None else bm25(self._postings(), terms, self._length[: self._count], allowed)
        found = []
        for group in groups:
            rankings = []
            if vector is not None:
                rankings.append(_ranking(np.where(group, similarity, -np.inf), share))
            if text is not None:
                rankings.append(_ranking(np.where(group & (text > 0), text, -np.inf), share))
            rows, scores = _fuse(rankings)
            if weight is not None:
                scores = scores * weight[rows]
                best = np.argsort(-scores, kind="stable")
                rows, scores = rows[best], scores[best]
            found.append((rows[:share], scores[:share]))
        rows, scores = map(np.concatenate, zip(*found, strict=True))
        best = np.lexsort((self._keys[rows], -similarity[rows], -scores))
        rows, scores = rows[best], scores[best]
        return list(map(Hit, self._keys[rows].tolist(), scores.tolist(), similarity[rows].tolist()))

    def _by_speaker(
        self, allowed: NDArray[np.bool_], asked: Collection[str]
    ) -> tuple[list[NDArray[np.bool_]], NDArray[np.float64] | None]:
        """(groups, weight) of rows: groups that get an equal share of the hits, and what a row's score is worth."""
        named = [code for name, code in self._speakers.items() if asked and name and _first_word(name) in asked]
        if not named:
            return [allowed], None
        speaker = self._speaker[: self._count]
        present = np.flatnonzero(np.bincount(speaker[allowed], minlength=len(self._speakers)))
        others = np.setdiff1d(present, named)
        if len(present) == 2 and not len(others):
            return [allowed & (speaker == one) for one in present], None
        return [allowed], np.where(np.isin(speaker, others), UNNAMED, 1.0)


@lru_cache(maxsize=4096)
def _first_word(name: str) -> str:
    """What people are asked about by."""
    return next(iter(words(name)), "")


def _ranking(scores: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Rows of the highest finite scores, best first, and among equals in their order.

    Deep enough that fusion can lift what one ranking has low.
    """
    depth = max(2 * k, 100)
    rows = _candidates(scores, depth)
    some = scores[rows]
    if len(rows) > depth:  # what many rows have equally can make the candidates many
        least = np.partition(some, len(rows) - depth)[len(rows) - depth]
        above = rows[some > least]
        rows = np.sort(np.concatenate((above, rows[some == least][: depth - len(above)])))
        some = scores[rows]
    best: NDArray[np.int64] = rows[np.argsort(-some, kind="stable")]
    return best


def _candidates(scores: NDArray[np.floating], depth: int) -> NDArray[np.int64]:
    """Rows among which the `depth` highest finite scores are, in order, without a partition of all scores.

    Of groups of scores, `depth` have a highest one that reaches the `depth`-th highest of them: so do as many rows.
    """
    lowest = np.finfo(scores.dtype).min
    groups = len(scores) // _GROUP
    if groups > depth:
        highest = scores[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0)
        lowest = max(lowest, np.partition(highest, groups - depth)[groups - depth])
    return np.flatnonzero(scores >= lowest)


def _fuse(rankings: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(rows, scores), best first, by reciprocal rank (Cormack et al. 2009): first place in every ranking scores 1."""
    if len(rankings) == 1:
        return rankings[0], (RRF_CONSTANT + 1) / (RRF_CONSTANT + 1 + np.arange(len(rankings[0]), dtype=np.float64))
    shares = [(RRF_CONSTANT + 1) / (RRF_CONSTANT + 1 + np.arange(len(ranking))) for ranking in rankings]
    rows, where = np.unique(np.concatenate(rankings), return_inverse=True)
    scores = np.asarray(np.bincount(where, np.concatenate(shares) / len(rankings), len(rows)), dtype=np.float64)
    best = np.lexsort((rows, -scores))
    return rows[best], scores[best]
