"""What `memory-r1 import` takes: which format it has, and the dialogues to remember in LoCoMo's JSON and in chats.

Our own export is read by transfer.py, what other memory layers left by migration.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memory_r1.bank.writes import check_text
from memory_r1.bench import locomo
from memory_r1.dates import zoned_time
from memory_r1.errors import InvalidInput
from memory_r1.files import at, json_lines, open_text
from memory_r1.migration import is_sqlite, tables
from memory_r1.transfer import FORMAT
from memory_r1.types import Scope, Turn

Format = Literal["memory-r1", "locomo", "chat", "mem0", "langgraph"]
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns to remember in one scope. Every turn has an id, so that an import can be resumed."""

    scope: Scope
    turns: tuple[Turn, ...]


def detect(path: Path) -> Format:
    """What a file holds, by its beginning, or a folder. Raises InvalidInput when it is none of the five."""
    if path.is_dir():
        return "mem0"
    if is_sqlite(path):
        return _of_tables(path)
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
    if all(f'"{name}"' in head for name in ("namespace", "key", "value")):
        return "langgraph"
    if any(f'"{name}"' in head for name in ("memory", "results", "memories")):
        return "mem0"
    raise InvalidInput(
        f"{path.name} is no memory-r1 export, LoCoMo file, chat JSONL, Mem0 export or LangGraph store; "
        "name its --format"
    )


def _of_tables(path: Path) -> Format:
    held = tables(path)
    if "operation" in held:
        raise InvalidInput(f"{path.name} is a memory bank: name it with --db, or import what `memory-r1 export` writes")
    if "store" in held:
        return "langgraph"
    if "history" in held:
        return "mem0"
    raise InvalidInput(f"{path.name} is a SQLite file of neither Mem0's history nor a LangGraph store")


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
    said = None if message.get("timestamp") is None else zoned_time(message["timestamp"])
    turn_id = message.get("id")
    if turn_id is None:
        turn_id = f"{where}:{hashlib.sha256(check_text(content).encode()).hexdigest()[:8]}"
    return Turn(speaker, check_text(content), said, str(turn_id))
