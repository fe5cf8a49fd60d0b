"""Banks as JSON lines: what `export` writes and `import` takes in.

The first line names the format; every other line is one logged operation with its whole before and after, so that
the lines rebuild entries, deleted ones and history. docs/storage-format.md describes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from memory_r1.bank.rows import dump, fact_of, fact_state, moment, seconds
from memory_r1.bank.sqlite import MemoryBank
from memory_r1.bank.writes import check_metadata, check_text, clean
from memory_r1.errors import InvalidInput
from memory_r1.types import LOGGED_KINDS, Logged, Provenance, Scope

FORMAT = "memory-r1-operations"
VERSION = 1


def export_lines(bank: MemoryBank, scope: Scope | None) -> Iterator[str]:
    yield dump({"format": FORMAT, "version": VERSION})
    for logged in bank.log(scope):
        yield dump(logged_state(logged))


def import_lines(bank: MemoryBank, lines: Iterable[str]) -> int:
    """Raises InvalidInput, naming the line, for what `export_lines` did not write; then nothing was imported."""
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    _, first = next(numbered, (0, ""))
    head = _object(1, first)
    if head.get("format") != FORMAT or head.get("version") != VERSION:
        raise InvalidInput(
            f"line 1 does not begin a memory-r1 export (version {VERSION}); chats and Mem0 exports are imported with "
            "`memory-r1 import --format`"
        )
    return bank.restore([_logged(number, _object(number, line)) for number, line in numbered])


def logged_state(logged: Logged) -> dict[str, Any]:
    how = logged.provenance
    return {
        "id": logged.id,
        "kind": logged.kind,
        "entry_id": logged.entry_id,
        "time": seconds(logged.time),
        "scope": logged.scope.ids if logged.scope else None,
        "before": logged.before,
        "after": logged.after,
        "fact": fact_state(logged.fact) if logged.fact else None,
        "turn_id": how.turn_id,
        "model": how.model,
        "adapter": how.adapter,
        "prompt_version": how.prompt_version,
        "logprob": how.logprob,
        "reason": how.reason,
        "flags": list(how.flags),
        **({"said": how.said} if how.said is not None else {}),
        "undoes": logged.undoes,
    }


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"line {number} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"line {number} is not a JSON object")
    return value


def _logged(number: int, state: dict[str, Any]) -> Logged:
    try:
        time = moment(state["time"])
        if time is None:
            raise InvalidInput(f"line {number} has no time")
        for name in ("entry_id", "turn_id", "model", "adapter", "prompt_version", "reason"):
            clean("" if state[name] is None else state[name])
        if state["kind"] not in LOGGED_KINDS:
            raise ValueError(state["kind"])
        before, after = _entry_state(state["before"]), _entry_state(state["after"])
        if any(each and (each["scope"] != state["scope"] or not state["entry_id"]) for each in (before, after)):
            raise ValueError("an entry of another scope, or without an id")
        fact = fact_of(state["fact"]) if state["fact"] else None
        if fact:
            clean(fact.text)
            clean("" if fact.speaker is None else fact.speaker)
        return Logged(
            id=int(state["id"]),
            kind=state["kind"],
            entry_id=state["entry_id"],
            time=time,
            scope=Scope(**state["scope"]) if state["scope"] else None,
            before=before,
            after=after,
            fact=fact,
            provenance=Provenance(
                state["turn_id"],
                state["model"],
                state["adapter"],
                state["prompt_version"],
                None if state["logprob"] is None else float(state["logprob"]),
                state["reason"],
                tuple(clean(flag) for flag in state.get("flags", ())),  # older exports have none
                None if state.get("said") is None else clean(state["said"]),
            ),
            undoes=None if state["undoes"] is None else int(state["undoes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidInput(f"line {number} is not an operation of a memory-r1 export: {error!r}") from error


def _entry_state(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """An entry's state, when it is one that could have been written."""
    if state is None:
        return None
    check_text(state["text"])
    clean("" if state["speaker"] is None else state["speaker"])
    times = {
        name: moment(state[name]) for name in ("created_at", "updated_at", "event_time", "expires_at", "deleted_at")
    }
    if times["created_at"] is None or times["updated_at"] is None:
        raise ValueError("an entry without its times")
    return {
        "text": state["text"],
        "speaker": state["speaker"],
        "scope": Scope(**state["scope"]).ids,
        **{name: seconds(time) for name, time in times.items() if name != "deleted_at"},
        "metadata": check_metadata(state["metadata"]),
        "deleted_at": seconds(times["deleted_at"]),
        **({"kept_turn": clean(state["kept_turn"])} if state.get("kept_turn") is not None else {}),  # older have none
    }
