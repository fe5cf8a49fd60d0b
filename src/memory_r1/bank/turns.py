"""Turns with an id: how far each has been remembered, and the entries that keep the words of one.

An interruption resumes after the last fact decided. A kept turn belongs to the memories made of it: what takes one of
them out for good, or corrects it, takes the turn's words out, too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memory_r1.bank.rows import ENTRY_COLUMNS, dump, fact_of, fact_state
from memory_r1.types import SCOPE_KEYS, Fact, Scope

KEPT_TURN = "kept turn"
"""The reason in the log of a turn's words that were kept: no model decided about them."""


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


def note_facts(db: sqlite3.Connection, scope: Scope, turn_id: str | None, facts: Sequence[Fact]) -> None:
    pending = dump([fact_state(fact) for fact in facts]) if facts else None
    db.execute("INSERT OR IGNORE INTO turn VALUES (?, ?, ?, 0)", (dump(scope.ids), turn_id, pending))


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


def count_decided(db: sqlite3.Connection, scope: Scope, turn_id: str) -> None:
    """One more fact of the turn is decided. With the last, the facts are dropped: the log has them from then on."""
    db.execute(
        "UPDATE turn SET decided = decided + 1, "
        "facts = CASE WHEN decided + 1 >= json_array_length(facts) THEN NULL ELSE facts END "
        "WHERE scope = ? AND id = ? AND facts IS NOT NULL",
        (dump(scope.ids), turn_id),
    )


def is_kept(db: sqlite3.Connection, scope: Scope, turn_id: str) -> bool:
    """Whether the bank keeps a turn's words, or kept them until they were taken out."""
    sql = (
        "SELECT 1 FROM entry WHERE home = (SELECT id FROM home WHERE name = ? AND value = ?) AND kept_turn = ? "
        "AND user_id IS ? AND agent_id IS ? AND run_id IS ? LIMIT 1"
    )
    ids = (scope.user_id, scope.agent_id, scope.run_id)
    return db.execute(sql, (*scope.home, turn_id, *ids)).fetchone() is not None


def with_kept_turns(db: sqlite3.Connection, rows: Iterable[sqlite3.Row]) -> list[sqlite3.Row]:
    """Entries, and after them the kept turns that told of them and are not among them, each once."""
    found = {row["key"]: row for row in rows}
    for row in list(found.values()):
        found |= {kept["key"]: kept for kept in kept_turns_of(db, row) if kept["key"] not in found}
    return list(found.values())


def kept_turns_of(db: sqlite3.Connection, row: sqlite3.Row) -> list[sqlite3.Row]:
    """The entries that keep the words of the turns an entry's history names: of its own scope or of a wider one."""
    homes = [(name, row[name]) for name in SCOPE_KEYS if row[name] is not None]
    kept = db.execute(
        f"SELECT {ENTRY_COLUMNS} FROM entry WHERE kept_turn IN "
        "(SELECT turn_id FROM operation WHERE entry_id = ? AND turn_id IS NOT NULL) AND home IN "
        f"(SELECT id FROM home WHERE (name, value) IN (VALUES {','.join(['(?, ?)'] * len(homes))}))",
        (row["id"], *(value for home in homes for value in home)),
    )
    return [one for one in kept if all(one[name] in (None, row[name]) for name in SCOPE_KEYS)]
