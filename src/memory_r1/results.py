"""What Memory returns, as dicts that are ready for JSON. Names follow Mem0's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from memory_r1.manager import UNREADABLE
from memory_r1.types import Logged, MemoryEntry, Provenance, Retrieved


def added(logged: Sequence[Logged], scrubbed: Mapping[str, int] | None = None) -> dict[str, Any]:
    results = []
    for item in logged:
        result: dict[str, Any] = {"id": item.entry_id, "memory": _text(item), "event": item.kind, "operation": item.id}
        if item.kind in ("UPDATE", "DELETE") and item.before:
            result["previous_memory"] = item.before["text"]
        if item.provenance.reason:
            result["reason"] = item.provenance.reason
        if item.provenance.flags:
            result["flags"] = list(item.provenance.flags)
        results.append(result)
    done = {"results": results, "unreadable": sum(item.provenance.reason in UNREADABLE for item in logged)}
    return {**done, "scrubbed": dict(scrubbed)} if scrubbed else done


def _text(logged: Logged) -> str | None:
    if logged.kind == "NOOP":
        return logged.fact.text if logged.fact else None
    state = logged.after or logged.before
    return state["text"] if state else None


def entry_dict(entry: MemoryEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "memory": entry.text,
        "hash": hashlib.md5(entry.text.encode(), usedforsecurity=False).hexdigest(),
        "metadata": dict(entry.metadata) or None,
        "created_at": entry.created_at.isoformat(),
        "updated_at": entry.updated_at.isoformat(),
        "event_time": entry.event_time.isoformat() if entry.event_time else None,
        "expiration_date": entry.expires_at.isoformat() if entry.expires_at else None,
        "speaker": entry.speaker,
        **({"turn_id": entry.kept_turn} if entry.kept_turn is not None else {}),
        **entry.scope.ids,
    }


def found_dict(found: Retrieved) -> dict[str, Any]:
    return {**entry_dict(found.entry), "score": round(found.score, 6), "similarity": round(found.similarity, 6)}


def operation_dict(logged: Logged) -> dict[str, Any]:
    how: Provenance = logged.provenance
    return {
        "id": logged.id,
        "memory_id": logged.entry_id,
        "event": logged.kind,
        "old_memory": logged.before["text"] if logged.before else None,
        "new_memory": logged.after["text"] if logged.after and logged.kind != "DELETE" else None,
        "created_at": logged.time.isoformat(),
        "is_deleted": logged.kind == "DELETE",
        "fact": logged.fact.text if logged.fact else None,
        "turn_id": how.turn_id,
        "model": how.model,
        "adapter": how.adapter,
        "prompt_version": how.prompt_version,
        "logprob": how.logprob,
        "reason": how.reason,
        "undoes": logged.undoes,
        "flags": list(how.flags),
    }


def held_dict(held: Logged) -> dict[str, Any]:
    """What is kept apart."""
    assert held.after is not None
    assert held.scope is not None
    return {
        "id": held.entry_id,
        "memory": held.after["text"],
        "flags": list(held.provenance.flags),
        "speaker": held.after["speaker"],
        "metadata": held.after["metadata"] or None,
        "created_at": held.time.isoformat(),
        **held.scope.ids,
    }
