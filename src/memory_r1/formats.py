"""Files that `memory-r1 import` takes: LoCoMo's JSON, chats as JSON lines, Mem0's export, and our own export."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memory_r1.bank import NewEntry
from memory_r1.bench import locomo
from memory_r1.dates import parse_time
from memory_r1.errors import InvalidInput
from memory_r1.transfer import FORMAT
from memory_r1.types import Provenance, Scope, Turn

Format = Literal["memory-r1", "locomo", "chat", "mem0"]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns to remember in one scope. Every turn has an id, so that an import can be resumed."""

    scope: Scope
    turns: tuple[Turn, ...]


def detect(path: Path) -> Format:
    """What a file holds, by its beginning. Raises InvalidInput when it is none of the four."""
    with path.open(encoding="utf-8") as file:
        head = file.read(4096)
    first = head.lstrip().partition("\n")[0]
    if FORMAT in first:
        return "memory-r1"
    if '"conversation"' in head or '"session_1"' in head or '"dia_id"' in head or '"qa"' in head:
        return "locomo"
    if '"content"' in first and '"role"' in first and not first.startswith("["):
        return "chat"
    if '"memory"' in head or '"results"' in head:
        return "mem0"
    raise InvalidInput(f"{path.name} is no memory-r1 export, LoCoMo file, chat JSONL or Mem0 export; name its --format")


def locomo_dialogues(path: Path, only: str | None = None, sessions: int | None = None) -> list[Dialogue]:
    """Each conversation in a scope of its own, user_id = its name ("conv-26").

    `only` picks one of them, `sessions` the first so many of its dated sessions.
    """
    loaded = locomo.load(path).dialogues
    chosen = [
        Dialogue(Scope(user_id=one.id), tuple(turn for session in one.sessions[:sessions] for turn in session.turns))
        for one in loaded
        if only in (None, one.id)
    ]
    if not chosen:
        raise InvalidInput(f"{path.name} has no conversation {only!r}; it has {', '.join(one.id for one in loaded)}")
    return chosen


def chat_dialogue(path: Path, scope: Scope) -> Dialogue:
    """One message a line: {"role", "content"}, and where they are there "name", "timestamp" and "id"."""
    turns = []
    for number, message in _lines(path):
        content, role = message.get("content"), message.get("role", "user")
        if role == "system":
            continue
        if not isinstance(content, str) or not content.strip():
            raise InvalidInput(f'{path.name} line {number}: a message needs "content" with its text')
        said = parse_time(message["timestamp"]) if message.get("timestamp") is not None else None
        turns.append(
            Turn(message.get("name") or role, content, said, str(message.get("id") or f"{path.name}:{number}"))
        )
    return Dialogue(scope, tuple(turns))


def mem0_entries(path: Path, scope: Scope | None) -> Iterator[NewEntry]:
    """Mem0's export or `get_all` result: stored as given, in each memory's own scope, else in `scope`."""
    loaded = _json(path)
    memories = loaded.get("results") or loaded.get("memories") if isinstance(loaded, dict) else loaded
    if not isinstance(memories, list):
        raise InvalidInput(f'{path.name} is no Mem0 export: it has no list of memories under "results"')
    for number, memory in enumerate(memories, 1):
        if not isinstance(memory, dict) or not isinstance(memory.get("memory") or memory.get("text"), str):
            raise InvalidInput(f'{path.name}: memory {number} has no text under "memory"')
        ids = {name: memory[name] for name in ("user_id", "agent_id", "run_id") if memory.get(name)}
        own = Scope(**ids) if ids else scope
        if own is None:
            raise InvalidInput(f"{path.name}: memory {number} says not whose it is; give --user")
        said = memory.get("created_at")
        expires = memory.get("expiration_date")
        yield NewEntry(
            text=memory.get("memory") or memory["text"],
            scope=own,
            event_time=parse_time(said) if said else None,
            expires_at=parse_time(expires) if expires else None,
            metadata=memory.get("metadata") or {},
            provenance=Provenance(turn_id=None, reason=f"imported from Mem0: {memory.get('id')}"),
        )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path.name} is not JSON: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                message = json.loads(line)
            except ValueError as error:
                raise InvalidInput(f"{path.name} line {number} is not JSON: {error}") from error
            if not isinstance(message, dict):
                raise InvalidInput(f"{path.name} line {number} is not a message object")
            yield number, message
