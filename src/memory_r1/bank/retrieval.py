"""Where a scope's entries have their vectors, and the nearest of them: cached indexes, kept true by revisions."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank.index import HomeIndex, IndexRow
from memory_r1.bank.ranking import Rows, best, joined
from memory_r1.bank.rows import ENTRY_COLUMNS, KIND, entry_of, scope_sql
from memory_r1.types import MemoryEntry, Retrieved, Scope

_BATCH = 1_024


class Retriever:
    """The indexes of one open bank. What other processes wrote is taken in at the next search.

    At most about `index_bytes` are kept; the home searched longest ago goes first.
    """

    def __init__(self, dimension: int, index_bytes: int) -> None:
        self._dimension = dimension
        self._index_bytes = index_bytes
        self._indexes: OrderedDict[int, HomeIndex] = OrderedDict()

    def nearest(
        self,
        db: sqlite3.Connection,
        vector: NDArray[np.float32] | None,
        terms: NDArray[np.uint32] | None,
        scope: Scope,
        k: int,
        now: float,
        narrowed: tuple[str, list[Any]],
        filtered: bool,
        *,
        per_speaker: bool,
        of: Sequence[str | None] | None,
        exact: bool,
        kinds: Sequence[int],
    ) -> list[tuple[int, Retrieved]]:
        """(key, retrieved) of the `k` best entries, best first. `narrowed`: the SQL of scope and filter.

        `exact`: only entries with no ids but the scope's.
        """
        ids = (scope.user_id, scope.agent_id, scope.run_id) if exact else None

        def rows(home: int, whole: bool) -> Rows:
            keys = None
            if filtered or not whole:
                found = db.execute(f"SELECT key FROM entry WHERE home = ? AND {narrowed[0]}", (home, *narrowed[1]))
                keys = np.fromiter((row[0] for row in found), dtype=np.int64)
            return self._index(db, home).rows(vector, terms, now, keys=keys, of=of, scope=ids, kinds=kinds)

        homes = self._homes(db, scope)
        parts = (rows(*home) for home in homes)
        hits = best(next(parts) if len(homes) == 1 else joined(parts, terms), terms, k, per_speaker=per_speaker)
        return [(key, Retrieved(self._entry(db, key), score, near)) for key, score, near in hits[:k]]

    def _entry(self, db: sqlite3.Connection, key: int) -> MemoryEntry:
        """An entry that the search in hand has found; its home may have had to make room for others."""
        index = self._indexes.get(key >> 32)
        if index is not None:
            return index.entry(key)
        return entry_of(db.execute(f"SELECT {ENTRY_COLUMNS} FROM entry WHERE key = ?", (key,)).fetchone())

    def _homes(self, db: sqlite3.Connection, scope: Scope) -> list[tuple[int, bool]]:
        """Where a scope's entries have their vectors, and whether all that lies there is in the scope."""
        name, value = scope.home
        row = db.execute("SELECT id FROM home WHERE name = ? AND value = ?", (name, value)).fetchone()
        own = [(row["id"], len(scope.ids) == 1)] if row else []
        if name == "user_id":
            return own
        # An agent's or a run's entries may also belong to users, and then lie in the users' homes.
        where, values = scope_sql(scope)
        others = db.execute(f"SELECT DISTINCT home FROM entry WHERE {where} AND deleted_at IS NULL", values)
        return own + [(other, False) for (other,) in others if not row or other != row["id"]]

    def _index(self, db: sqlite3.Connection, home: int) -> HomeIndex:
        revision, rebuilt = db.execute("SELECT revision, rebuilt FROM home WHERE id = ?", (home,)).fetchone()
        index = self._indexes.pop(home, None)
        if index is None or index.revision < rebuilt or index.dead_share > 0.5:
            index = HomeIndex(self._dimension)
        self._indexes[home] = index
        if index.revision < revision:
            for rows in _changed_rows(db, home, index.revision):
                index.upsert(rows)
            index.revision = revision
            while len(self._indexes) > 1 and sum(one.nbytes for one in self._indexes.values()) > self._index_bytes:
                self._indexes.popitem(last=False)
        return index


def _changed_rows(db: sqlite3.Connection, home: int, revision: int) -> Iterator[list[IndexRow]]:
    """The entries of a home that changed after a revision, deleted ones included, in the order of their change.

    In batches, so that building an index of many entries does not hold all vectors three times.
    """
    rows = db.execute(
        f"SELECT deleted_at IS NULL, coalesce(expires_at, 9e999), terms, vector, {KIND}, {ENTRY_COLUMNS} "
        "FROM entry JOIN vector USING (key) WHERE home = ? AND revision > ? ORDER BY revision",
        (home, revision),
    )
    rows.row_factory = None
    while batch := rows.fetchmany(_BATCH):
        yield [IndexRow(row[5], row[0], row[8], row[1], row[2], row[3], row[5:], row[4]) for row in batch]
