"""Turns kept word for word, as entries beside the memories made of them.

A turn's words belong to what was made of them: every operation that a turn led to names the entry that keeps its words
(`Provenance.said`). What a person deletes, corrects or purges takes them with it, so that it does not come back.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from memory_r1.bank.adding import NewEntry
from memory_r1.bank.rows import ENTRY_COLUMNS
from memory_r1.bank.writes import MAX_TEXT
from memory_r1.dates import annotate
from memory_r1.types import SCOPE_KEYS, Provenance, Scope, Turn

KEPT_TURN = "kept turn"
"""The reason in the log of words that were kept: no model decided about them."""
UNSAID = Provenance(reason="told what was taken out")


def words_of(
    turn: Turn,
    scope: Scope,
    metadata: Mapping[str, Any] | None = None,
    expires_at: datetime | None = None,
    flags: tuple[str, ...] = (),
) -> NewEntry:
    """The entry that keeps a turn's words: who said them, and after each relative date what it means."""
    dated = annotate(turn.text, turn.time) if turn.time else turn.text
    longest_first = (f"{turn.speaker}: {dated}", f"{turn.speaker}: {turn.text}", turn.text)
    text = next(text for text in longest_first if len(text) <= MAX_TEXT or text is turn.text)
    how = Provenance(reason=KEPT_TURN, flags=flags)
    return NewEntry(text, scope, turn.speaker, turn.time, expires_at, metadata, how, turn.id or str(uuid.uuid4()))


def entry_keeping(db: sqlite3.Connection, scope: Scope, turn_id: str) -> str | None:
    """The id of the entry that keeps a turn's words, in just this scope."""
    row = db.execute(
        "SELECT id FROM entry WHERE home = (SELECT id FROM home WHERE name = ? AND value = ?) AND kept_turn = ? "
        "AND user_id IS ? AND agent_id IS ? AND run_id IS ? LIMIT 1",
        (*scope.home, turn_id, scope.user_id, scope.agent_id, scope.run_id),
    ).fetchone()
    return None if row is None else str(row[0])


def words_behind(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[sqlite3.Row]:
    """The entries that keep the words behind these entries, as their history names them, and are not among them.

    Of an entry's own scope or of a wider one: an import could name any.
    """
    if not db.execute("SELECT 1 FROM entry WHERE kept_turn IS NOT NULL LIMIT 1").fetchone():
        return []
    found = {row["key"]: row for row in rows}
    own = len(found)
    for row in rows:
        named = "SELECT said FROM operation WHERE entry_id = ? AND said IS NOT NULL"
        for kept in db.execute(f"SELECT {ENTRY_COLUMNS} FROM entry WHERE id IN ({named})", (row["id"],)):
            if kept["kept_turn"] is not None and all(kept[name] in (None, row[name]) for name in SCOPE_KEYS):
                found.setdefault(kept["key"], kept)
    return list(found.values())[own:]


def standing(rows: Iterable[sqlite3.Row]) -> list[sqlite3.Row]:
    """Those that have not been taken out."""
    return [row for row in rows if row["deleted_at"] is None]
