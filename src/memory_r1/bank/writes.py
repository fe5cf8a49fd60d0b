"""The rows that every change writes, inside the one transaction that MemoryBank opened for it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
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
from memory_r1.bank.turns import count_decided
from memory_r1.errors import InvalidInput
from memory_r1.types import QUARANTINE, Fact, Logged, Provenance, Scope

MAX_TEXT = 100_000
BY_HAND = Provenance(reason="by hand")

_ROLES = frozenset({"user", "assistant", "human", "ai", "tool"})
_CHANGING = ("text", "updated_at", "event_time", "expires_at", "metadata", "revision", "deleted_at")
_INSERT_OPERATION = f"INSERT INTO operation ({OPERATION_COLUMNS}) VALUES ({','.join('?' * 19)})"
WRITE_VECTOR = "INSERT OR REPLACE INTO vector VALUES (?, ?, ?)"
_UPDATE_ENTRY = f"UPDATE entry SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE key = ?"


def in_pieces(text: str) -> list[str]:
    """A text of any length as texts that may be remembered: none where it says nothing."""
    pieces = (text[start : start + MAX_TEXT] for start in range(0, len(text), MAX_TEXT))
    return [piece for piece in pieces if piece.strip()]


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
    told_in: Scope | None = None,
) -> Logged:
    """Change columns of an entry and log it. `vector` is that of the new text, where the text changes.

    `told_in`: the scope of the turn that was decided about, which may be wider than the entry's.
    """
    before = as_dict(row)
    after = {**before, **changes, "updated_at": seconds(time), "revision": bump(db, row["home"])}
    if "metadata" in changes:
        after["metadata"] = dump(check_metadata(changes["metadata"]))
    db.execute(_UPDATE_ENTRY, (*(after[name] for name in _CHANGING), row["key"]))
    if vector is not None:
        write_vector(db, row["key"], searched_text(after["text"], after["speaker"]), vector)
    scope = Scope(row["user_id"], row["agent_id"], row["run_id"])
    states = state_of(before), state_of(after)
    return log_operation(db, time, kind, row["id"], scope, *states, fact, how, undoes, told_in)


def bump(db: sqlite3.Connection, home: int) -> int:
    """The home's next revision: what tells every process's cached index that something changed."""
    sql = "UPDATE home SET revision = revision + 1 WHERE id = ? RETURNING revision"
    return int(db.execute(sql, (home,)).fetchone()[0])


def write_vector(db: sqlite3.Connection, key: int, text: str, vector: NDArray[np.float32]) -> None:
    db.execute(WRITE_VECTOR, vector_row(key, text, vector))


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
    told_in: Scope | None = None,
) -> Logged:
    logged = Logged(next_operation(db), kind, entry_id, time, scope, before, after, fact, how, undoes)
    write_log(db, [logged], told_in)
    return logged


def next_operation(db: sqlite3.Connection) -> int:
    """The number of the next operation. Given by us and not by SQLite, so that one statement writes many lines."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'operation'").fetchone()
    return row[0] + 1 if row else 1


def write_log(
    db: sqlite3.Connection, log: Sequence[Logged], told_in: Scope | None = None, counted: bool = True
) -> None:
    """Write lines numbered from `next_operation`, and count them for their turns, of the lines' scope or `told_in`.

    Lines of another bank are not `counted`: a turn of the same id here is another turn.
    """
    db.executemany(_INSERT_OPERATION, map(_operation_row, log))
    for logged in log if counted else ():
        if logged.provenance.turn_id is not None and (scope := told_in or logged.scope) is not None:
            count_decided(db, scope, logged.provenance.turn_id)


def _operation_row(logged: Logged) -> tuple[Any, ...]:
    scope, how = logged.scope, logged.provenance
    ids = (scope.user_id, scope.agent_id, scope.run_id) if scope else (None, None, None)
    before, after = logged.before and dump(logged.before), logged.after and dump(logged.after)
    fact = logged.fact and dump(fact_state(logged.fact))
    decision = (how.turn_id, how.model, how.adapter, how.prompt_version, how.logprob, how.reason, logged.undoes)
    flags = dump(how.flags) if how.flags else None
    time = seconds(logged.time)
    return (logged.id, logged.kind, logged.entry_id, time, *ids, before, after, fact, *decision, flags, how.said)


def fold(log: Iterable[Logged]) -> dict[str, Mapping[str, Any]]:
    """Entry id -> state, deleted entries included: what an operation log says is so after its last line."""
    states: dict[str, Mapping[str, Any]] = {}
    for logged in log:
        if logged.kind in QUARANTINE:
            continue
        if logged.entry_id is not None and logged.after is not None:
            states[logged.entry_id] = logged.after
        elif logged.kind == "PURGE" and logged.entry_id is not None:
            states.pop(logged.entry_id, None)
    return states


def holds_only(db: sqlite3.Connection, scope: Scope) -> bool:
    """Whether no row of the file tells of anything outside a scope, so that copying its pages copies the scope."""
    outside, values = " OR ".join(f"{name} IS NOT ?" for name in scope.ids), list(scope.ids.values())
    (homes,) = db.execute("SELECT count(*) FROM home").fetchone()
    return homes <= 1 and not any(
        db.execute(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1", given).fetchone()
        for table, condition, given in (
            ("entry", outside, values),
            ("turn", "scope != ?", [dump(scope.ids)]),
            ("operation", outside, values),
        )
    )


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


def mended(text: str) -> str:
    """Other people's text without what cannot be stored: U+0000, as tools print it, and halves of surrogate pairs."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


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
    checked = clean(text)
    if not checked.strip():
        raise InvalidInput("text is empty: there is nothing to remember")
    if len(checked) > MAX_TEXT:
        raise InvalidInput(f"text has {len(checked):,} characters; an entry holds at most {MAX_TEXT:,}: split it")
    return checked
