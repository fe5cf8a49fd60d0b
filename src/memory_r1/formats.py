"""Files that `memory-r1 import` takes: LoCoMo's JSON, chats as JSON lines, Mem0's export, and our own export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.bank.writes import check_metadata, check_text
from memory_r1.bench import locomo
from memory_r1.dates import parse_time
from memory_r1.errors import InvalidInput
from memory_r1.files import at, json_lines, open_text, read_json
from memory_r1.transfer import FORMAT
from memory_r1.types import SCOPE_KEYS, Provenance, Scope, Turn

Format = Literal["memory-r1", "locomo", "chat", "mem0"]
MEM0 = "imported from Mem0"
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns to remember in one scope. Every turn has an id, so that an import can be resumed."""

    scope: Scope
    turns: tuple[Turn, ...]


def detect(path: Path) -> Format:
    """What a file holds, by its beginning. Raises InvalidInput when it is none of the four."""
    with open_text(path) as file:
        first = next((line for line in file if line.strip()), "")
        head = first[:_HEAD] + file.read(_HEAD)
    try:
        message = json.loads(first)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict) and message.get("format") == FORMAT:
        return "memory-r1"
    if isinstance(message, dict) and "content" in message:
        return "chat"
    if any(f'"{name}"' in head for name in ("conversation", "session_1", "dia_id", "qa")):
        return "locomo"
    if any(f'"{name}"' in head for name in ("memory", "results", "memories")):
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
    """One message a line: {"role", "content"}, and where they are there "name", "timestamp" and "id".

    A message without an id gets one of the file's name, its line and its content, so that a file that has grown, or
    another one of the same name, is remembered where it is new.
    """
    turns = []
    for number, message in json_lines(path, "message"):
        if message.get("role") != "system":
            with at(f"{path.name} line {number}"):
                turns.append(_chat_turn(message, f"{path.name}:{number}"))
    return Dialogue(scope, tuple(turns))


def _chat_turn(message: Mapping[str, Any], where: str) -> Turn:
    content, speaker = message.get("content"), message.get("name") or message.get("role") or "user"
    if not isinstance(content, str) or not content.strip():
        raise InvalidInput('a message needs "content" with its text')
    if not isinstance(speaker, str) or not speaker.isprintable():
        raise InvalidInput(f"the name or role must be a string of printable characters, not {speaker!a:.80}")
    said = None if message.get("timestamp") is None else parse_time(message["timestamp"])
    turn_id = message.get("id")
    if turn_id is None:
        turn_id = f"{where}:{hashlib.sha256(check_text(content).encode()).hexdigest()[:8]}"
    return Turn(speaker, check_text(content), said, str(turn_id))


def mem0_entries(path: Path, scope: Scope | None) -> Iterator[NewEntry]:
    """Mem0's export or `get_all` result: stored as given, in each memory's own scope, else in `scope`."""
    memories = read_json(path)
    if isinstance(memories, dict):
        memories = next((memories[name] for name in ("results", "memories") if name in memories), None)
    if not isinstance(memories, list):
        raise InvalidInput(f'{path.name} is no Mem0 export: it has no list of memories under "results"')
    for number, memory in enumerate(memories, 1):
        with at(f"{path.name}: memory {number}"):
            entry = _mem0_entry(memory, scope)
        yield entry


def _mem0_entry(memory: Any, scope: Scope | None) -> NewEntry:
    text = (memory.get("memory") or memory.get("text")) if isinstance(memory, dict) else None
    if not isinstance(text, str):
        raise InvalidInput('there is no text under "memory"')
    ids = {name: memory[name] for name in SCOPE_KEYS if memory.get(name)}
    own = Scope(**ids) if ids else scope
    if own is None:
        raise InvalidInput("it says not whose it is; give --user")
    said, expires = memory.get("created_at"), memory.get("expiration_date")
    return NewEntry(
        text=check_text(text),
        scope=own,
        event_time=parse_time(said) if said else None,
        expires_at=parse_time(expires) if expires else None,
        metadata=check_metadata(memory.get("metadata")),
        provenance=Provenance(reason=f"{MEM0}: {memory['id']}" if memory.get("id") else MEM0),
    )


def not_here_yet(entries: Iterable[NewEntry], bank: MemoryBank) -> list[NewEntry]:
    """The entries without those that an import of Mem0's export brought before, by Mem0's ids."""
    here = {(logged.scope, logged.provenance.reason) for logged in bank.log()}
    return [e for e in entries if e.provenance.reason == MEM0 or (e.scope, e.provenance.reason) not in here]
