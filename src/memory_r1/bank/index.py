"""The search index of one home (the entries that share a first id), in memory, built from the bank's rows.

Rows are only ever appended; a changed entry is a new row and the old one is dead, so that a refresh costs what changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank.postings import Postings
from memory_r1.bank.ranking import Rows
from memory_r1.bank.rows import MEMORY, PUT, TURN, entry_of
from memory_r1.bank.vectors import Vectors
from memory_r1.types import MemoryEntry

_TAIL_SHARE, _TAIL_ROWS = 0.05, 256
_ROW_BYTES = 700  # what Python keeps of an entry beside its text, its words and its vector, about


class IndexRow(NamedTuple):
    """What the index keeps of an entry. `key` is the row id in the bank; a dead row only removes.

    `kind`: rows.KIND; `stored`: the ENTRY_COLUMNS, where `HomeIndex.entry` is to give the entry.
    """

    key: int
    alive: bool
    speaker: str | None
    expires_at: float
    terms: bytes
    vector: bytes
    stored: Sequence[Any] = ()
    kind: int = MEMORY


class HomeIndex:
    """Searchable state of one home as of `revision`."""

    def __init__(self, dimension: int) -> None:
        self.revision = 0
        self._dimension = dimension
        self._count = 0
        self._vectors = Vectors(dimension)
        self._keys = np.zeros(64, dtype=np.int64)
        self._alive = np.zeros(64, dtype=bool)
        self._kind = np.zeros(64, dtype=np.int8)
        self._expires = np.full(64, np.inf)
        self._speaker = np.zeros(64, dtype=np.int32)
        self._scope = np.zeros(64, dtype=np.int32)
        self._scopes: dict[tuple[Any, ...], int] = {}
        self._length = np.zeros(64, dtype=np.float32)
        self._after = np.zeros(64, dtype=np.int32)  # 1 + the row of the kept turn that follows, 0 where none does
        self._last_turn: dict[Sequence[Any], int] = {}  # by scope
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
        self._kind[start:end] = [row.kind for row in fresh]
        self._expires[start:end] = [row.expires_at for row in fresh]
        self._length[start:end] = [len(row.terms) // 4 for row in fresh]
        self._speaker[start:end] = [self._speakers.setdefault(row.speaker, len(self._speakers)) for row in fresh]
        self._scope[start:end] = [self._scopes.setdefault(tuple(row.stored[4:7]), len(self._scopes)) for row in fresh]
        self._alive[start:end] = True
        for place, row in enumerate(fresh, start):
            if row.kind == TURN:
                self._follow(place, row)
        self._row_of.update((row.key, place) for place, row in enumerate(fresh, start))
        self._stored.update((row.key, row.stored) for row in fresh)
        # A word has some six letters and a code of four bytes; the metadata are kept as they are.
        self._text_bytes += 2 * len(terms) + sum(len(row.stored[11]) for row in fresh if row.stored)
        self._count = end
        self._tail = None

    def _follow(self, place: int, row: IndexRow) -> None:
        """Note which turn this one follows: none, where it was taken out and brought back."""
        scope = tuple(row.stored[4:7])
        last = self._last_turn.get(scope)
        if last is None or row.key > self._keys[last]:
            self._last_turn[scope] = place
            if last is not None:
                self._after[last] = place + 1

    def _grow(self, needed: int) -> None:
        if needed <= len(self._keys):
            return
        capacity = max(needed, 2 * len(self._keys)) if self._count else needed
        for name in ("_keys", "_alive", "_kind", "_expires", "_speaker", "_scope", "_length", "_after"):
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

    def rows(
        self,
        vector: NDArray[np.float32] | None,
        terms: NDArray[np.uint32] | None,
        now: float,
        *,
        keys: NDArray[np.int64] | None = None,
        of: Sequence[str | None] | None = None,
        scope: tuple[str | None, ...] | None = None,
        kinds: Sequence[int] = (MEMORY, PUT),
    ) -> Rows:
        """What a search may find here: what has not expired `now`. `keys`: only these entries; `of`: these speakers'.

        `scope`: only entries that have just these ids (user, agent, run) and no others. `kinds`: only entries of these
        kinds. `vector` or `terms` may be None to rank by the other alone.
        """
        some = slice(self._count)
        allowed = self._alive[some] & (self._expires[some] > now)
        if keys is not None:
            allowed &= np.isin(self._keys[some], keys)
        if of is not None:
            allowed &= np.isin(self._speaker[some], [self._speakers.get(speaker, -1) for speaker in of])
        if scope is not None:
            allowed &= self._scope[some] == self._scopes.get(scope, -1)
        wanted = np.zeros(3, dtype=bool)
        wanted[list(kinds)] = True
        allowed &= wanted[self._kind[some]]
        return Rows(
            self._keys[some],
            allowed,
            None if vector is None else self._vectors.cosines(vector),
            self._length[some],
            self._speaker[some],
            list(self._speakers),
            () if terms is None else self._postings(),
            self._after[some] - 1 if TURN in kinds and self._last_turn else None,
        )
