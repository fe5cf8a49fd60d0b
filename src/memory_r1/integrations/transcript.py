"""The messages of one session, word for word and in order: what frameworks call a session or a chat history.

A transcript lies in a scope of its own, run_id = the session, so that no search of a user's memories meets it; what is
worth remembering of it goes to a user's memory when one is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from memory_r1.bank import NewEntry
from memory_r1.bank.rows import MESSAGE
from memory_r1.bank.writes import MAX_TEXT, check_metadata, mended
from memory_r1.errors import InvalidInput
from memory_r1.integrations.waiting import Waiting
from memory_r1.memory import Memory
from memory_r1.scoped import ScopedMemory
from memory_r1.types import MemoryEntry, Scope

_ONLY = {MESSAGE: "*"}  # the scope may hold memories, too
_AS_JSON = "json"  # of a message that metadata cannot hold as it is: U+0000 in what a tool put out, a NaN


class Message(NamedTuple):
    """`kept` is given back as it was. `text`, where there is any, is what `role` ("user" or "assistant") said."""

    kept: Mapping[str, Any]
    role: str | None = None
    text: str | None = None


class Transcript:
    """Blocks, as Memory does: call it off an event loop."""

    def __init__(self, memory: Memory, session_id: str, remember: ScopedMemory | None = None) -> None:
        self._bank, self._scrub = memory.bank, memory.scrub
        self._scope = Scope(run_id=session_id)
        self._waiting = Waiting(remember) if remember else None

    def all(self, last: int | None = None) -> list[dict[str, Any]]:
        """What was kept, oldest first: all, or the `last` so many."""
        kept = [_kept(entry) for entry in self._entries()]
        return kept if last is None else kept[-last:] if last > 0 else []

    def append(self, messages: Iterable[Message]) -> None:
        """Keep messages, in one transaction, and then remember what was said in them.

        Where the model is down they are kept, and remembered with the next ones: who calls has nothing to repeat.
        """
        added = [self._scrubbed(message) for message in messages]
        self._bank.add_many(
            NewEntry(_shown(said, kept), self._scope, role, metadata={MESSAGE: _storable(kept)})
            for kept, role, said in added
        )
        if self._waiting:
            self._waiting.remember((role, text or "") for _, role, text in added if role)

    def _scrubbed(self, message: Message) -> Message:
        return message if self._scrub is None else Message(*self._scrub.value(message)[0])

    def pop(self) -> dict[str, Any] | None:
        """Take the newest message away and return it; None when there is none."""
        entries = self._entries()
        if not entries:
            return None
        self._bank.delete(entries[-1].id)
        return _kept(entries[-1])

    def clear(self) -> None:
        """Take every message away. Like every deletion it can be undone; `Memory.purge` erases."""
        for entry in self._entries():
            self._bank.delete(entry.id)

    def _entries(self) -> list[MemoryEntry]:
        return self._bank.all(self._scope, filters=_ONLY)


def _storable(message: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return check_metadata(message)
    except InvalidInput:
        return {_AS_JSON: json.dumps(dict(message))}


def _kept(entry: MemoryEntry) -> dict[str, Any]:
    message = entry.metadata[MESSAGE]
    return dict(json.loads(message[_AS_JSON]) if message.keys() == {_AS_JSON} else message)


def _shown(said: str | None, kept: Mapping[str, Any]) -> str:
    """A message's text as an entry may have it: without words, as of a call of tools, its JSON."""
    text = mended(said or "")[:MAX_TEXT]
    return text if text.strip() else json.dumps(dict(kept))[:MAX_TEXT]
