"""A memory for the OpenAI Agents SDK: a session that lasts, and the memory's tools."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agents import FunctionTool, RunContextWrapper, TResponseInputItem, default_tool_error_function, function_tool
from agents.memory import SessionSettings

from memory_r1.errors import MemoryR1Error
from memory_r1.integrations.transcript import Message, Transcript
from memory_r1.memory import Memory
from memory_r1.scoped import ScopedMemory
from memory_r1.tools import MemoryTools


class MemorySession:
    """The SDK's `Session`: the items of a conversation, kept word for word in the bank's file.

    `remember` also learns from what user and assistant say in it, before `add_items` returns.
    """

    def __init__(
        self,
        memory: Memory,
        session_id: str,
        remember: ScopedMemory | None = None,
        session_settings: SessionSettings | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings
        self._transcript = Transcript(memory, session_id, remember)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """All items, or the latest `limit` (by default that of the settings), oldest first."""
        last = limit if limit is not None else self.session_settings and self.session_settings.limit
        return await asyncio.to_thread(self._transcript.all, last)

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        await asyncio.to_thread(self._transcript.append, [_message(item) for item in items])

    async def pop_item(self) -> TResponseInputItem | None:
        return await asyncio.to_thread(self._transcript.pop)

    async def clear_session(self) -> None:
        await asyncio.to_thread(self._transcript.clear)


def memory_tools(tools: MemoryTools) -> list[FunctionTool]:
    """The memory's tools for `Agent(tools=…)`; put `memory_r1.tools.INSTRUCTIONS` into the agent's instructions."""
    return [function_tool(tool, failure_error_function=_failure) for tool in tools.all()]


def _failure(context: RunContextWrapper[Any], error: Exception) -> str:
    """What the model reads: our own errors tell it the remedy, others are the SDK's to word."""
    return str(error) if isinstance(error, MemoryR1Error) else default_tool_error_function(context, error)


def _message(item: Mapping[str, Any]) -> Message:
    role, content = item.get("role"), item.get("content")
    if not isinstance(content, str):
        parts = content if isinstance(content, list) else []
        content = "\n".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and part.get("text"))
    return Message(item, role if role in ("user", "assistant") else None, content or None)
