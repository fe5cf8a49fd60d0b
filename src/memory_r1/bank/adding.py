"""Adding entries: what an add writes, written in as few statements as it takes."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank.rows import ENTRY_COLUMNS, dump, seconds
from memory_r1.bank.writes import (
    WRITE_VECTOR,
    check_metadata,
    check_text,
    next_operation,
    searched_text,
    vector_row,
    write_log,
)
from memory_r1.types import Fact, Logged, Provenance, Scope

AS_GIVEN = Provenance(reason="stored as given")
_BATCH = 1_000  # rows kept back
_INSERT_ENTRY = f"INSERT INTO entry ({ENTRY_COLUMNS}) VALUES ({','.join('?' * 16)})"


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to be stored as given, by `add_many`."""

    text: str
    scope: Scope
    speaker: str | None = None
    event_time: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] | None = None
    provenance: Provenance = AS_GIVEN
    kept_turn: str | None = None


def new_states(entries: Sequence[NewEntry], time: datetime) -> list[dict[str, Any]]:
    """The whole states of new entries, as the log keeps them. Raises InvalidInput for what cannot be stored."""
    added = seconds(time)
    return [
        {
            "text": check_text(entry.text),
            "speaker": entry.speaker,
            "scope": entry.scope.ids,
            "created_at": added,
            "updated_at": added,
            "event_time": seconds(entry.event_time),
            "expires_at": seconds(entry.expires_at),
            "metadata": check_metadata(entry.metadata),
            "deleted_at": None,
            **({"kept_turn": entry.kept_turn} if entry.kept_turn is not None else {}),
        }
        for entry in entries
    ]


def add_entries(
    db: sqlite3.Connection,
    time: datetime,
    entries: Sequence[NewEntry],
    states: Sequence[Mapping[str, Any]],
    vectors: Sequence[NDArray[np.float32]],
    fact: Fact | None,
) -> list[Logged]:
    """Write new entries with their states (`new_states`) and vectors, and log each ADD."""
    additions = Additions(db)
    log = []
    for number, (entry, state, vector) in enumerate(zip(entries, states, vectors, strict=True), next_operation(db)):
        entry_id = str(uuid.uuid4())
        additions.add(entry_id, entry.scope, state, vector)
        log.append(Logged(number, "ADD", entry_id, time, entry.scope, None, state, fact, entry.provenance))
    additions.write()
    write_log(db, log)
    return log


class Additions:
    """The entries one transaction adds: each home is read once, and rows are written in batches.

    `write` must end it; before that, some rows are not yet there.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._homes: dict[tuple[str, str], list[int]] = {}
        self._entries: list[tuple[Any, ...]] = []
        self._vectors: list[tuple[int, bytes, bytes]] = []

    def add(self, entry_id: str, scope: Scope, state: Mapping[str, Any], vector: NDArray[np.float32]) -> None:
        """`vector` is that of the state's `searched_text`."""
        home, number, revision = self._next(scope.home)
        key = home << 32 | number
        text, speaker = state["text"], state["speaker"]
        times = (state["created_at"], state["updated_at"], state["event_time"], state["expires_at"])
        rest = (dump(state["metadata"]), home, revision, state["deleted_at"], state.get("kept_turn"))
        ids = (scope.user_id, scope.agent_id, scope.run_id)
        self._entries.append((key, entry_id, text, speaker, *ids, *times, *rest))
        self._vectors.append(vector_row(key, searched_text(text, speaker), vector))
        if len(self._entries) >= _BATCH:
            self._flush()

    def write(self) -> None:
        self._flush()
        rows = [(number, revision, home) for home, number, revision in self._homes.values()]
        self._db.executemany("UPDATE home SET numbers = ?, revision = ? WHERE id = ?", rows)

    def _next(self, name: tuple[str, str]) -> tuple[int, int, int]:
        """(home, number, revision) for one more entry."""
        at = self._homes.get(name)
        if at is None:
            at = self._homes[name] = self._read_home(name)
        at[1] += 1
        at[2] += 1
        return at[0], at[1], at[2]

    def _read_home(self, name: tuple[str, str]) -> list[int]:
        sql = "SELECT id, numbers, revision FROM home WHERE name = ? AND value = ?"
        row = self._db.execute(sql, name).fetchone()
        if row is None:
            self._db.execute("INSERT INTO home (name, value) VALUES (?, ?)", name)
            row = self._db.execute(sql, name).fetchone()
        return list(row)

    def _flush(self) -> None:
        self._db.executemany(_INSERT_ENTRY, self._entries)
        self._db.executemany(WRITE_VECTOR, self._vectors)
        self._entries.clear()
        self._vectors.clear()
