"""How far each turn with an id has been remembered, so that an interruption resumes after the last fact decided."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from memory_r1.bank.rows import dump, fact_of, fact_state
from memory_r1.errors import AlreadyDecided
from memory_r1.types import Fact, Scope


@dataclass(frozen=True, slots=True)
class TurnProgress:
    """How far a turn with an id has been remembered: its facts, and how many of them are decided."""

    facts: tuple[Fact, ...]
    decided: int
    done: bool


def read_progress(db: sqlite3.Connection, scope: Scope, turn_id: str) -> TurnProgress | None:
    sql = "SELECT facts, decided FROM turn WHERE scope = ? AND id = ?"
    row = db.execute(sql, (dump(scope.ids), turn_id)).fetchone()
    if row is None:
        return None
    facts = tuple(map(fact_of, json.loads(row["facts"] or "[]")))
    return TurnProgress(facts, row["decided"], row["facts"] is None)


def note_facts(db: sqlite3.Connection, scope: Scope, turn_id: str | None, facts: Sequence[Fact]) -> bool:
    """Note what a turn tells. False, and nothing is noted, where that was done before."""
    pending = dump([fact_state(fact) for fact in facts]) if facts else None
    noted = db.execute("INSERT OR IGNORE INTO turn VALUES (?, ?, ?, 0)", (dump(scope.ids), turn_id, pending))
    return noted.rowcount > 0


def is_remembered(db: sqlite3.Connection, scope: Scope, turn_id: str | None) -> bool:
    """Whether nothing of a turn is left to remember; never of a turn without an id."""
    progress = None if turn_id is None else read_progress(db, scope, turn_id)
    return progress is not None and progress.done


def note_remembered(db: sqlite3.Connection, scope: Scope, turn_id: str | None) -> bool:
    """Note that nothing of a turn is left to remember. False where that was so already; True without an id."""
    if turn_id is None:
        return True
    sql = (
        "INSERT INTO turn VALUES (?, ?, NULL, 0) "
        "ON CONFLICT (scope, id) DO UPDATE SET facts = NULL WHERE facts IS NOT NULL"
    )
    return db.execute(sql, (dump(scope.ids), turn_id)).rowcount > 0


def check_undecided(db: sqlite3.Connection, scope: Scope, turn_id: str, place: int) -> None:
    """Raises AlreadyDecided where the fact at this place of a turn's has been decided.

    Not where the turn is no longer noted, because an entry of its scope was purged: its facts are still to be kept.
    """
    progress = read_progress(db, scope, turn_id)
    if progress is not None and (progress.done or progress.decided > place):
        raise AlreadyDecided(f"fact {place + 1} of the turn {turn_id!r} was decided by another process")


def count_decided(db: sqlite3.Connection, scope: Scope, turn_id: str) -> None:
    """One more fact of the turn is decided. With the last, the facts are dropped: the log has them from then on."""
    db.execute(
        "UPDATE turn SET decided = decided + 1, "
        "facts = CASE WHEN decided + 1 >= json_array_length(facts) THEN NULL ELSE facts END "
        "WHERE scope = ? AND id = ? AND facts IS NOT NULL",
        (dump(scope.ids), turn_id),
    )
