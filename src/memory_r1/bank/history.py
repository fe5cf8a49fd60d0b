"""What was: reading the operation log, undoing one of its lines, and taking in the log of another bank."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank.adding import Additions
from memory_r1.bank.rows import OPERATION_COLUMNS, logged_of, seconds
from memory_r1.bank.writes import next_operation, write_log
from memory_r1.errors import Conflict, InvalidInput
from memory_r1.types import Logged, Scope

UNDONE_BY = {"ADD": "DELETE", "UPDATE": "UPDATE", "DELETE": "ADD"}


def read_log(db: sqlite3.Connection, where: str, values: Sequence[Any], last: int | None = None) -> list[Logged]:
    """The operations for which the SQL condition holds, or the `last` of them, oldest first."""
    sql = f"SELECT {OPERATION_COLUMNS} FROM operation WHERE {where} ORDER BY id"
    if last is not None:
        rows = db.execute(f"{sql} DESC LIMIT ?", (*values, last)).fetchall()
        return [logged_of(row) for row in reversed(rows)]
    return [logged_of(row) for row in db.execute(sql, values)]


def check_undoable(logged: Logged, history: Sequence[Logged]) -> None:
    """`history`: that of the entry. Raises InvalidInput for what cannot be undone, Conflict for what cannot now."""
    if logged.kind not in UNDONE_BY:
        raise InvalidInput(f"operation {logged.id} is a {logged.kind}: it changed no entry that could be restored")
    if logged.after is None:
        raise InvalidInput(f"operation {logged.id} was purged: what it replaced is erased for good")
    later = [other.id for other in _standing_after(logged.id, history) if other.after]
    if later:
        numbers = ", ".join(map(str, later))
        raise Conflict(f"entry {logged.entry_id} was changed after operation {logged.id}; undo first: {numbers}")


def _standing_after(operation_id: int, history: Sequence[Logged]) -> list[Logged]:
    """The later operations on an entry that still count, latest first: an undo and what it reversed cancel out.

    So that operations can be undone one after another, from the latest back.
    """
    standing: list[Logged] = []
    reversed_ones: set[int] = set()
    for other in reversed([each for each in history if each.id > operation_id]):
        if other.id in reversed_ones:
            continue
        if other.undoes is not None and other.undoes > operation_id:
            reversed_ones.add(other.undoes)
        else:
            standing.append(other)
    return standing


def reversal(logged: Logged, text: str, now: float | None) -> dict[str, Any]:
    """The changes that reverse an operation on an entry whose text is now `text`."""
    if logged.before is None:
        return {"deleted_at": now}
    changes = {name: logged.before[name] for name in ("event_time", "expires_at", "metadata", "deleted_at")}
    if logged.before["text"] != text:
        changes["text"] = logged.before["text"]
    return changes


def not_yet_here(db: sqlite3.Connection, log: Sequence[Logged]) -> list[Logged]:
    """The lines of another bank's log about entries that this bank has never had."""
    here = {row[0] for row in db.execute("SELECT DISTINCT entry_id FROM operation WHERE entry_id IS NOT NULL")}
    seen = set(map(tuple, db.execute("SELECT kind, time FROM operation WHERE entry_id IS NULL")))
    return [
        logged
        for logged in log
        if (logged.entry_id not in here if logged.entry_id else (logged.kind, seconds(logged.time)) not in seen)
    ]


def take_in(
    db: sqlite3.Connection,
    log: Sequence[Logged],
    states: Mapping[str, Mapping[str, Any]],
    vectors: Sequence[NDArray[np.float32]],
) -> None:
    """Write the entries that a log leaves behind (`fold`), with their vectors, and the log, numbered anew."""
    additions = Additions(db)
    for (entry_id, state), vector in zip(states.items(), vectors, strict=True):
        additions.add(entry_id, Scope(**state["scope"]), state, vector)
    additions.write()
    numbers: dict[int, int] = {}
    anew = []
    for number, logged in enumerate(log, next_operation(db)):
        undoes = None if logged.undoes is None else numbers.get(logged.undoes)
        anew.append(replace(logged, id=number, undoes=undoes))
        numbers[logged.id] = number
    write_log(db, anew, counted=False)
