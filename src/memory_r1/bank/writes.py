"""The rows that every change writes, inside the one transaction that MemoryBank opened for it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank.filters import MAX_DEPTH
from memory_r1.bank.rows import (
    ENTRY_COLUMNS,
    OPERATION_COLUMNS,
    as_dict,
    dump,
    fact_state,
    scope_sql,
    seconds,
    state_of,
)
from memory_r1.bank.terms import term_codes
from memory_r1.errors import InvalidInput
from memory_r1.types import SCOPE_KEYS, Fact, Logged, Provenance, Scope

MAX_TEXT = 100_000
ERASED = "before = NULL, after = NULL, fact = NULL, turn_id = NULL, reason = 'purged'"
BY_HAND = Provenance(reason="by hand")

_ROLES = frozenset({"user", "assistant", "human", "ai", "tool"})
_CHANGING = ("text", "updated_at", "event_time", "expires_at", "metadata", "revision", "deleted_at")
_INSERT_ENTRY = f"INSERT INTO entry ({ENTRY_COLUMNS}) VALUES ({','.join('?' * 15)})"
_INSERT_OPERATION = f"INSERT INTO operation ({OPERATION_COLUMNS.removeprefix('id, ')}) VALUES ({','.join('?' * 16)})"
_WRITE_VECTOR = "INSERT OR REPLACE INTO vector VALUES (?, ?, ?)"
_BATCH = 1_000  # rows kept back
_UPDATE_ENTRY = f"UPDATE entry SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE key = ?"


class Additions:
    """The entries one transaction adds: each home is read once, and rows are written in batches.

    `write` must end it; before that, some rows are not yet there.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._homes: dict[tuple[str, str], list[int]] = {}
        self._entries: list[tuple[Any, ...]] = []
        self._vectors: list[tuple[int, bytes, bytes]] = []

    def add(self, entry_id: str, state: Mapping[str, Any], vector: NDArray[np.float32]) -> None:
        """`vector` is that of the state's `searched_text`."""
        home, number, revision = self._next(Scope(**state["scope"]).home)
        key = home << 32 | number
        scope = [state["scope"].get(name) for name in SCOPE_KEYS]
        times = [state[name] for name in ("created_at", "updated_at", "event_time", "expires_at")]
        identity = (key, entry_id, state["text"], state["speaker"])
        rest = (dump(state["metadata"]), home, revision, state["deleted_at"])
        self._entries.append((*identity, *scope, *times, *rest))
        self._vectors.append(vector_row(key, searched_text(state["text"], state["speaker"]), vector))
        if len(self._entries) >= _BATCH:
            self._flush()

    def write(self) -> None:
        self._flush()
        rows = [(number, revision, home) for home, number, revision in self._homes.values()]
        self._db.executemany("UPDATE home SET numbers = ?, revision = ? WHERE id = ?", rows)

    def _next(self, name: tuple[str, str]) -> tuple[int, int, int]:
        """(home, number, revision) for one more entry."""
        if name not in self._homes:
            self._db.execute("INSERT OR IGNORE INTO home (name, value) VALUES (?, ?)", name)
            sql = "SELECT id, numbers, revision FROM home WHERE name = ? AND value = ?"
            self._homes[name] = list(self._db.execute(sql, name).fetchone())
        at = self._homes[name]
        at[1:] = at[1] + 1, at[2] + 1
        return at[0], at[1], at[2]

    def _flush(self) -> None:
        self._db.executemany(_INSERT_ENTRY, self._entries)
        self._db.executemany(_WRITE_VECTOR, self._vectors)
        self._entries.clear()
        self._vectors.clear()


def searched_text(text: str, speaker: str | None) -> str:
    """What an entry is found by: its text, after the speaker's name where the text does not name them.

    A turn stored as given rarely names who says it, and without that e5-small found little more than half of the
    evidence (recall at 10 .35 against .62 on LoCoMo's first two conversations).
    """
    if speaker is None or speaker.casefold() in _ROLES or speaker.casefold() in text.casefold():
        return text
    return f"{speaker}: {text}"


def change_entry(
    db: sqlite3.Connection,
    time: datetime,
    kind: str,
    row: sqlite3.Row,
    changes: Mapping[str, Any],
    vector: NDArray[np.float32] | None,
    fact: Fact | None,
    how: Provenance,
    undoes: int | None = None,
) -> Logged:
    """Change columns of an entry and log it. `vector` is that of the new text, where the text changes."""
    before = as_dict(row)
    after = {**before, **changes, "updated_at": seconds(time), "revision": bump(db, row["home"])}
    if "metadata" in changes:
        after["metadata"] = dump(check_metadata(changes["metadata"]))
    db.execute(_UPDATE_ENTRY, (*(after[name] for name in _CHANGING), row["key"]))
    if vector is not None:
        write_vector(db, row["key"], searched_text(after["text"], after["speaker"]), vector)
    scope = Scope(row["user_id"], row["agent_id"], row["run_id"])
    states = state_of(before), state_of(after)
    return log_operation(db, time, kind, row["id"], scope, *states, fact, how, undoes)


def bump(db: sqlite3.Connection, home: int) -> int:
    """The home's next revision: what tells every process's cached index that something changed."""
    sql = "UPDATE home SET revision = revision + 1 WHERE id = ? RETURNING revision"
    return int(db.execute(sql, (home,)).fetchone()[0])


def write_vector(db: sqlite3.Connection, key: int, text: str, vector: NDArray[np.float32]) -> None:
    db.execute(_WRITE_VECTOR, vector_row(key, text, vector))


def vector_row(key: int, text: str, vector: NDArray[np.float32]) -> tuple[int, bytes, bytes]:
    return key, term_codes(text).astype("<u4", copy=False).tobytes(), vector.astype("<f4", copy=False).tobytes()


def log_operation(
    db: sqlite3.Connection,
    time: datetime,
    kind: str,
    entry_id: str | None,
    scope: Scope | None,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    fact: Fact | None,
    how: Provenance,
    undoes: int | None = None,
) -> Logged:
    ids = (scope.user_id, scope.agent_id, scope.run_id) if scope else (None, None, None)
    states = before and dump(before), after and dump(after), fact and dump(fact_state(fact))
    decision = (how.turn_id, how.model, how.adapter, how.prompt_version, how.logprob, how.reason, undoes)
    number = db.execute(_INSERT_OPERATION, (kind, entry_id, seconds(time), *ids, *states, *decision)).lastrowid
    assert number is not None
    if how.turn_id is not None and scope is not None:
        _count_decided(db, scope, how.turn_id)
    return Logged(number, kind, entry_id, time, scope, before, after, fact, how, undoes)


def _count_decided(db: sqlite3.Connection, scope: Scope, turn_id: str) -> None:
    # The facts are dropped with the last decision: they stand in the log from then on.
    db.execute(
        "UPDATE turn SET decided = decided + 1, "
        "facts = CASE WHEN decided + 1 >= json_array_length(facts) THEN NULL ELSE facts END "
        "WHERE scope = ? AND id = ? AND facts IS NOT NULL",
        (dump(scope.ids), turn_id),
    )


def fold(log: Iterable[Logged]) -> dict[str, Mapping[str, Any]]:
    """Entry id -> state, deleted entries included: what an operation log says is so after its last line."""
    states: dict[str, Mapping[str, Any]] = {}
    for logged in log:
        if logged.entry_id is not None and logged.after is not None:
            states[logged.entry_id] = logged.after
        elif logged.kind == "PURGE" and logged.entry_id is not None:
            states.pop(logged.entry_id, None)
    return states


def erase_decisions(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """Erase what the log tells of an entry, and every decision about a fact in its own words."""
    history = db.execute("SELECT before, after, fact FROM operation WHERE entry_id = ?", (row["id"],)).fetchall()
    texts = {json.loads(state)["text"] for states in history for state in states if state}
    scope = Scope(row["user_id"], row["agent_id"], row["run_id"])
    where, values = scope_sql(scope)
    marks = ",".join("?" * len(texts))
    db.execute(f"UPDATE operation SET {ERASED} WHERE entry_id = ?", (row["id"],))
    # Where the same words changed another entry, that entry's states stay: they are its own.
    db.execute(
        "UPDATE operation SET fact = NULL, turn_id = NULL, reason = 'purged' "
        f"WHERE {where} AND json_extract(fact, '$.text') IN ({marks})",
        (*values, *texts),
    )
    db.execute("DELETE FROM turn WHERE scope = ? AND facts IS NOT NULL", (dump(scope.ids),))


def purge_entry(db: sqlite3.Connection, time: datetime, row: sqlite3.Row) -> None:
    """Erase an entry itself, and log that something was erased."""
    for table in ("entry", "vector", "recall"):
        db.execute(f"DELETE FROM {table} WHERE key = ?", (row["key"],))
    db.execute("UPDATE home SET rebuilt = ? WHERE id = ?", (bump(db, row["home"]), row["home"]))
    scope = Scope(row["user_id"], row["agent_id"], row["run_id"])
    log_operation(db, time, "PURGE", row["id"], scope, None, None, None, BY_HAND)


def copy_scope(source: sqlite3.Connection, target: sqlite3.Connection, scope: Scope) -> None:
    """Every row of a scope, with the keys and numbers it has."""
    where, values = scope_sql(scope)
    for table, sql, given in (
        ("meta", "SELECT * FROM meta", []),
        ("home", f"SELECT * FROM home WHERE id IN (SELECT home FROM entry WHERE {where})", values),
        ("entry", f"SELECT {ENTRY_COLUMNS} FROM entry WHERE {where}", values),
        ("vector", f"SELECT * FROM vector WHERE key IN (SELECT key FROM entry WHERE {where})", values),
        ("operation", f"SELECT {OPERATION_COLUMNS} FROM operation WHERE {where}", values),
        ("turn", "SELECT * FROM turn WHERE scope = ?", [dump(scope.ids)]),
    ):
        rows = [tuple(row) for row in source.execute(sql, given)]
        if rows:
            target.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)


def clean(text: object) -> str:
    """`text` when it can be stored. Raises InvalidInput for another type, U+0000 or a lone surrogate."""
    if not isinstance(text, str):
        raise InvalidInput(f"text must be a string, not {type(text).__name__}")
    if "\0" in text:  # SQLite's JSON functions would end the text there
        raise InvalidInput("text holds U+0000, which is no character: remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "text holds half of a surrogate pair, which is no character; decode the input with errors='replace'"
        ) from error
    return text


def check_metadata(metadata: object) -> dict[str, Any]:
    """`metadata` as the JSON object to be stored. Raises InvalidInput for what a filter could not read back."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"metadata must be a mapping such as {{'topic': 'travel'}}, not {type(metadata).__name__}")
    found: dict[str, Any] = json.loads(dump(dict(metadata)))
    values: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        for value in values:
            if isinstance(value, str) and "\0" in value:
                raise InvalidInput("metadata holds U+0000, which is no character")
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise InvalidInput("metadata holds an integer of more than 64 bits: store it as a string")
        inner = [list(value) + list(value.values()) for value in values if isinstance(value, dict)]
        values = [each for some in [*inner, *(value for value in values if isinstance(value, list))] for each in some]
        if not values:
            return found
    raise InvalidInput(f"metadata may be nested {MAX_DEPTH} levels deep")


def check_text(text: object) -> str:
    """`text` when it can be an entry's. Raises InvalidInput when it is not a string, empty, or too long."""
    if not clean(text).strip():
        raise InvalidInput("text is empty: there is nothing to remember")
    if len(clean(text)) > MAX_TEXT:
        raise InvalidInput(f"text has {len(clean(text)):,} characters; an entry holds at most {MAX_TEXT:,}: split it")
    return clean(text)
