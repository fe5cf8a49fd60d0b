"""Erasing for good, inside the one transaction that MemoryBank opened for it. Freed pages are the file's matter."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from memory_r1.bank.history import read_log
from memory_r1.bank.kept import words_behind
from memory_r1.bank.quarantine import KEPT_APART, quarantined_source
from memory_r1.bank.rows import ENTRY_COLUMNS, dump, scope_sql
from memory_r1.bank.writes import BY_HAND, bump, log_operation
from memory_r1.errors import EntryNotFound
from memory_r1.types import QUARANTINE, SCOPE_KEYS, Scope

_ERASED = "before = NULL, after = NULL, fact = NULL, turn_id = NULL, reason = 'purged', flags = NULL"


def purge_one(db: sqlite3.Connection, time: datetime, entry_id: str) -> list[int]:
    """Erase an entry and all that tells of it, the words of turns included, or what is quarantined.

    Returns the keys of the entries erased.
    """
    row = db.execute(f"SELECT {ENTRY_COLUMNS} FROM entry WHERE id = ?", (entry_id,)).fetchone()
    if row is None and (held := read_log(db, f"entry_id = ? AND {KEPT_APART}", (entry_id,))):
        db.execute(f"UPDATE operation SET {_ERASED} WHERE entry_id = ?", (entry_id,))
        log_operation(db, time, "PURGE", entry_id, held[0].scope, None, None, None, BY_HAND)
        return []
    if (
        row is None
        and db.execute("SELECT 1 FROM operation WHERE entry_id = ? AND kind = 'PURGE'", (entry_id,)).fetchone()
    ):
        return []  # again, as when its traces in the file could not be erased yet
    if row is None:
        raise EntryNotFound(f"no memory entry {entry_id!r} to purge")
    purged = [row, *words_behind(db, [row])]
    for one in purged:
        (_erase_decisions if one["kept_turn"] is None else _erase_words)(db, one)
    for one in purged:
        _purge_entry(db, time, one)
    return [one["key"] for one in purged]


def purge_scope(db: sqlite3.Connection, time: datetime, scope: Scope) -> list[int]:
    """Erase a scope's entries, its log, its turns and its pending facts. Returns the entries' keys."""
    where, values = scope_sql(scope)
    rows = db.execute(f"SELECT {ENTRY_COLUMNS} FROM entry WHERE {where}", values).fetchall()
    for kept in (words := words_behind(db, rows)):  # said in a wider scope
        _erase_words(db, kept)
    _erase_lines(db, f"entry_id IN (SELECT id FROM entry WHERE {where})", values)
    # Decisions that left no entry hold text, too: NOOPs and turns not yet decided.
    db.execute(f"UPDATE operation SET {_ERASED} WHERE {where}", values)
    within = " AND ".join(f"json_extract(scope, '$.{name}') = ?" for name in scope.ids)
    db.execute(f"DELETE FROM turn WHERE {within}", values)
    for row in (purged := [*rows, *words]):
        _purge_entry(db, time, row)
    db.execute("DELETE FROM home WHERE id NOT IN (SELECT home FROM entry)")
    return [row["key"] for row in purged]


def _erase_decisions(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """Erase what the log tells of an entry, and every decision about a fact in its own words."""
    history = db.execute(
        "SELECT before, after, fact, turn_id FROM operation WHERE entry_id = ?", (row["id"],)
    ).fetchall()
    texts = {json.loads(state)["text"] for *states, _ in history for state in states if state}
    for *_, turn_id in history:
        if (source := quarantined_source(turn_id)) is not None:
            _erase_kept_apart(db, source, row)
    scope = Scope(row["user_id"], row["agent_id"], row["run_id"])
    where, values = scope_sql(scope)
    marks = ",".join("?" * len(texts))
    _erase_lines(db, "entry_id = ?", [row["id"]])
    # Where the same words changed another entry, that entry's states stay: they are its own.
    db.execute(
        "UPDATE operation SET fact = NULL, turn_id = NULL, reason = 'purged' "
        f"WHERE {where} AND json_extract(fact, '$.text') IN ({marks})",
        (*values, *texts),
    )
    db.execute("DELETE FROM turn WHERE scope = ? AND facts IS NOT NULL", (dump(scope.ids),))


def _erase_words(db: sqlite3.Connection, kept: sqlite3.Row) -> None:
    """Erase what tells a kept turn's words: its own lines, those of it that left no entry, and facts yet undecided."""
    db.execute(f"UPDATE operation SET {_ERASED} WHERE entry_id = ?", (kept["id"],))
    db.execute(f"UPDATE operation SET {_ERASED} WHERE said = ? AND entry_id IS NULL", (kept["id"],))
    if (source := quarantined_source(kept["kept_turn"])) is not None:
        _erase_kept_apart(db, source, kept)
    scope = Scope(kept["user_id"], kept["agent_id"], kept["run_id"])
    db.execute(
        "DELETE FROM turn WHERE scope = ? AND id = ? AND facts IS NOT NULL", (dump(scope.ids), kept["kept_turn"])
    )


def _erase_lines(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> None:
    """Erase log lines that name purged entries, and what is noted of their turns while these are not decided.

    Whatever the line's scope: who reads a wider one can decide about an entry, as by finding a fact there already.
    """
    lines = db.execute(f"SELECT turn_id, user_id, agent_id, run_id FROM operation WHERE {where}", values)
    told = defaultdict(set)
    for turn_id, *ids in lines:
        told[turn_id].add(tuple(ids))
    for scope, turn_id in db.execute("SELECT scope, id FROM turn WHERE facts IS NOT NULL").fetchall():
        # A line that changed an entry is in the entry's scope, and its turn may be in a wider one.
        own = {SCOPE_KEYS.index(name): value for name, value in json.loads(scope).items()}
        if any(all(ids[place] == value for place, value in own.items()) for ids in told.get(turn_id, ())):
            db.execute("DELETE FROM turn WHERE scope = ? AND id = ?", (scope, turn_id))
    db.execute(f"UPDATE operation SET {_ERASED} WHERE {where}", values)


def _erase_kept_apart(db: sqlite3.Connection, held_id: str, row: sqlite3.Row) -> None:
    """Erase what an entry was released from: lines of quarantine in the entry's own scope or a wider one.

    No others: a turn id comes with an import, too, and may then name an entry of anybody.
    """
    wider = " AND ".join(f"({name} IS NULL OR {name} IS ?)" for name in SCOPE_KEYS)
    db.execute(
        f"UPDATE operation SET {_ERASED} WHERE entry_id = ? AND kind IN (?, ?, ?) AND {wider}",
        (held_id, *QUARANTINE, *(row[name] for name in SCOPE_KEYS)),
    )


def _purge_entry(db: sqlite3.Connection, time: datetime, row: sqlite3.Row) -> None:
    """Erase an entry itself, and log that something was erased."""
    for table in ("entry", "vector", "recall"):
        db.execute(f"DELETE FROM {table} WHERE key = ?", (row["key"],))
    db.execute("UPDATE home SET rebuilt = ? WHERE id = ?", (bump(db, row["home"]), row["home"]))
    scope = Scope(row["user_id"], row["agent_id"], row["run_id"])
    log_operation(db, time, "PURGE", row["id"], scope, None, None, None, BY_HAND)
