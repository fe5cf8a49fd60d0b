"""What is kept apart until a person has looked at it: lines of the log that are no entries.

A QUARANTINE line holds all that was to be remembered, as an entry's state under an id of its own; a RELEASE or a
DISCARD with the same id ends it. Nothing that reads entries can meet it, and whatever carries the log (an export, a
fork, a purge of the scope) carries it too.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from memory_r1.bank.adding import AS_GIVEN, NewEntry, new_states
from memory_r1.bank.history import read_log
from memory_r1.bank.rows import scope_sql
from memory_r1.bank.turns import note_facts
from memory_r1.bank.writes import BY_HAND, log_operation, next_operation, write_log
from memory_r1.errors import EntryNotFound, InvalidInput
from memory_r1.types import Logged, Provenance, Scope

KEPT_APART = "flags IS NOT NULL AND kind = 'QUARANTINE' AND after IS NOT NULL"
_HELD = (
    f"{KEPT_APART} AND NOT EXISTS (SELECT 1 FROM operation AS later WHERE later.entry_id = operation.entry_id "
    "AND later.kind IN ('RELEASE', 'DISCARD'))"
)
_TURN = "quarantine-"


def keep_apart(db: sqlite3.Connection, time: datetime, new: Sequence[NewEntry]) -> list[Logged]:
    """Log what is to be kept apart. A turn that has an id counts as remembered from now on."""
    log = []
    for number, (entry, state) in enumerate(zip(new, new_states(new, time), strict=True), next_operation(db)):
        log.append(
            Logged(number, "QUARANTINE", str(uuid.uuid4()), time, entry.scope, None, state, None, entry.provenance)
        )
        if entry.provenance.turn_id is not None:
            note_facts(db, entry.scope, entry.provenance.turn_id, [])
    write_log(db, log)
    return log


def held(db: sqlite3.Connection, scope: Scope | None, held_id: str | None = None) -> list[Logged]:
    """The QUARANTINE lines that nothing has ended, oldest first; with an id that one, or EntryNotFound."""
    where, values = scope_sql(scope)
    if held_id is None:
        return read_log(db, f"{_HELD} AND {where}", values)
    found = read_log(db, f"{_HELD} AND entry_id = ? AND {where}", (held_id, *values))
    if not found:
        raise EntryNotFound(f"nothing in quarantine has the id {held_id!r}; `memory-r1 quarantine list` shows the ids")
    return found


def end(db: sqlite3.Connection, time: datetime, held_id: str, kind: Literal["RELEASE", "DISCARD"]) -> Logged:
    (line,) = held(db, None, held_id)
    return log_operation(db, time, kind, held_id, line.scope, None, None, None, BY_HAND)


def as_given(how: Provenance) -> bool:
    """Whether what is kept apart is to be stored as it is, and not to be decided by a model."""
    return how.reason == AS_GIVEN.reason


def released_turn(held_id: str) -> str:
    """The id of the turn that a release remembers: a second try goes on where the first one stopped."""
    return _TURN + held_id


def check_turn_id(turn_id: str | None) -> None:
    """Raises InvalidInput for an id that a caller gives a turn and that only a release may give."""
    if quarantined_source(turn_id) is not None:
        raise InvalidInput(f"a message's id must not begin with {_TURN!r}, as those of released messages do")


def quarantined_source(turn_id: str | None) -> str | None:
    """What was kept apart, where a turn is a released one. Whose it was the id does not tell."""
    return turn_id.removeprefix(_TURN) if turn_id is not None and turn_id.startswith(_TURN) else None
