"""How entries, facts and operations look in the file, and back."""

from __future__ import annotations

import functools
import json
import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from memory_r1.errors import InvalidInput
from memory_r1.types import SCOPE_KEYS, Fact, Logged, MemoryEntry, Provenance, Scope

ENTRY_COLUMNS = (
    "key, id, text, speaker, user_id, agent_id, run_id, created_at, updated_at, event_time, expires_at, "
    "metadata, home, revision, deleted_at, kept_turn"
)
OPERATION_COLUMNS = (
    "id, kind, entry_id, time, user_id, agent_id, run_id, before, after, fact, turn_id, "
    "model, adapter, prompt_version, logprob, reason, undoes, flags, said"
)

NAMESPACES, MESSAGE = "namespaces", "message"
"""Members of the metadata that mark what a program put and reads back as it is: the namespaces of a store's item
(items.py), a message of a transcript (integrations/transcript.py)."""
MEMORY, PUT, TURN = range(3)
KIND = (
    f"CASE WHEN kept_turn IS NOT NULL THEN {TURN} WHEN json_type(metadata, '$.{NAMESPACES}') = 'array' "
    f"OR json_type(metadata, '$.{MESSAGE}') = 'object' THEN {PUT} ELSE {MEMORY} END"
)
"""What an entry is: a memory, what a program put as it is, or a turn's own words."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)  # dumps() makes one a call


_YEAR_10000 = 253_402_300_800.0  # what 31 December 9999, 23:59:59.999999 is rounded to, and no calendar holds
_LAST = math.nextafter(_YEAR_10000, 0.0)


def seconds(time: datetime | None) -> float | None:
    """Epoch seconds, UTC; a time without a zone is taken as UTC."""
    if time is None:
        return None
    return min((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp(), _LAST)


class NoTime(ValueError):
    """A number in the file that no calendar holds."""


def moment(value: float | None) -> datetime | None:
    try:
        return None if value is None else datetime.fromtimestamp(_LAST if value == _YEAR_10000 else value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise NoTime(f"{value!r} is no time: {error}") from error


def _known(value: float | None) -> datetime:
    time = moment(value)
    if time is None:  # a column of ours that is never NULL
        raise NoTime("a time is missing")
    return time


def dump(value: Any) -> str:
    """Compact JSON. Raises InvalidInput for what JSON or UTF-8 cannot hold."""
    try:
        text = _ENCODER.encode(value)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidInput(f"metadata must be plain JSON values in valid Unicode: {error}") from error
    if "\\u0000" in text and _NUL.search(text):
        raise InvalidInput("metadata must not hold U+0000: the file's text search would take it for the end")
    return text


_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # not the six characters that say so, which JSON writes with two strokes


def as_dict(row: sqlite3.Row) -> dict[str, Any]:
    return dict(zip(row.keys(), tuple(row), strict=True))


def state_of(row: sqlite3.Row | Mapping[str, Any]) -> dict[str, Any]:
    """An entry's whole state as the log keeps it."""
    return {
        "text": row["text"],
        "speaker": row["speaker"],
        "scope": {name: row[name] for name in SCOPE_KEYS if row[name] is not None},
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "event_time": row["event_time"],
        "expires_at": row["expires_at"],
        "metadata": json.loads(row["metadata"]),
        "deleted_at": row["deleted_at"],
        **({"kept_turn": row["kept_turn"]} if row["kept_turn"] is not None else {}),
    }


@functools.lru_cache(maxsize=4096)
def _scope(user_id: str | None, agent_id: str | None, run_id: str | None) -> Scope:
    """Scopes check what they are given, and a search reads sixty entries of mostly one."""
    return Scope(user_id, agent_id, run_id)


def entry_of(row: Sequence[Any]) -> MemoryEntry:
    """The entry in a row of the ENTRY_COLUMNS, taken by position: sixty of them are most of a search."""
    (
        _,
        entry_id,
        text,
        speaker,
        user_id,
        agent_id,
        run_id,
        created,
        updated,
        event,
        expires,
        metadata,
        _,
        revision,
        _,
        kept_turn,
    ) = row
    created_at = _known(created)
    updated_at = created_at if updated == created else _known(updated)
    return MemoryEntry(
        entry_id,
        text,
        _scope(user_id, agent_id, run_id),
        created_at,
        updated_at,
        revision,
        speaker,
        moment(event),
        moment(expires),
        json.loads(metadata) if metadata != "{}" else {},
        kept_turn,
    )


def logged_of(row: sqlite3.Row) -> Logged:
    scope = {name: row[name] for name in SCOPE_KEYS if row[name] is not None}
    return Logged(
        id=row["id"],
        kind=row["kind"],
        entry_id=row["entry_id"],
        time=_known(row["time"]),
        scope=Scope(**scope) if scope else None,
        before=None if row["before"] is None else json.loads(row["before"]),
        after=None if row["after"] is None else json.loads(row["after"]),
        fact=None if row["fact"] is None else fact_of(json.loads(row["fact"])),
        provenance=Provenance(
            turn_id=row["turn_id"],
            model=row["model"],
            adapter=row["adapter"],
            prompt_version=row["prompt_version"],
            logprob=row["logprob"],
            reason=row["reason"],
            flags=() if row["flags"] is None else tuple(json.loads(row["flags"])),
            said=row["said"],
        ),
        undoes=row["undoes"],
    )


def fact_state(fact: Fact) -> dict[str, Any]:
    return {
        "text": fact.text,
        "speaker": fact.speaker,
        "event_time": seconds(fact.event_time),
        "dated": fact.dated,
    }


def fact_of(state: Mapping[str, Any]) -> Fact:
    return Fact(state["text"], state["speaker"], moment(state["event_time"]), state["dated"])


def scope_sql(scope: Scope | None) -> tuple[str, list[Any]]:
    """(condition, values) that an entry or an operation is in `scope`; None is every scope."""
    if scope is None:
        return "1", []
    return " AND ".join(f"{name} = ?" for name in scope.ids), list(scope.ids.values())
