"""What people pass as messages, as turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from memory_r1.bank.quarantine import check_turn_id
from memory_r1.bank.writes import check_text, clean
from memory_r1.dates import zoned_time
from memory_r1.errors import InvalidInput
from memory_r1.types import Turn

Messages = str | Mapping[str, Any] | Turn | Sequence[Mapping[str, Any] | Turn]


def turns_of(messages: Messages, time: datetime) -> list[Turn]:
    """Messages as turns. A dict may carry "name" (the speaker), "timestamp" and "id".

    System messages and those without text (calls of tools, pictures) are left out.
    """
    if isinstance(messages, (str, Mapping, Turn)):
        messages = [{"role": "user", "content": messages}] if isinstance(messages, str) else [messages]
    if not isinstance(messages, Sequence) or isinstance(messages, (bytes, bytearray)):
        raise InvalidInput(f"messages must be a text, message dicts or Turns, not {type(messages).__name__}")
    turns = []
    for message in messages:
        if isinstance(message, str):
            message = {"role": "user", "content": message}
        if isinstance(message, Mapping):
            if message.get("role") == "system" or _says_nothing(message.get("content", "")):
                continue
            message = _turn_of(message, time)
        if not isinstance(message, Turn):
            raise InvalidInput(f"a message must be a dict with role and content, not {type(message).__name__}")
        turns.append(_checked(message if message.time is not None else replace(message, time=time)))
    if not turns:
        raise InvalidInput("messages hold nothing to remember: give a text or user and assistant messages")
    return turns


def _says_nothing(content: object) -> bool:
    """Whether a message has no text, as OpenAI's have it: a call of tools (null), or a picture alone."""
    return content is None or (
        isinstance(content, Sequence)
        and not isinstance(content, str)
        and all(isinstance(part, Mapping) and "text" not in part for part in content)
    )


def _turn_of(message: Mapping[str, Any], time: datetime) -> Turn:
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):  # OpenAI's list of parts: the text ones
        content = "\n".join(clean(part["text"]) for part in content if isinstance(part, Mapping) and "text" in part)
    if not isinstance(content, str):
        raise InvalidInput('a message needs "content" with its text: {"role": "user", "content": "…"}')
    speaker = message.get("name") or message.get("role") or "user"
    said = time if message.get("timestamp") is None else message["timestamp"]
    return Turn(speaker, content, said, message.get("id"))


def _checked(turn: Turn) -> Turn:
    check_text(turn.text)
    for name, value in (("name or role", turn.speaker), ("id", "" if turn.id is None else turn.id)):
        if not isinstance(value, str) or not value.isprintable():
            raise InvalidInput(f"a message's {name} must be a string of printable characters, not {value!a:.80}")
    check_turn_id(turn.id)
    return turn if turn.time is None else replace(turn, time=zoned_time(turn.time))
