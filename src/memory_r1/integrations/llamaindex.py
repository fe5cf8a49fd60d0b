"""A memory as a block of LlamaIndex's `Memory`: what lasts when the short-term buffer has let go of it."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import BaseMemoryBlock
from pydantic import InstanceOf

from memory_r1.bank.writes import in_pieces
from memory_r1.scoped import ScopedMemory

_ROLES = {MessageRole.USER: "user", MessageRole.ASSISTANT: "assistant"}


class LongTermMemory(BaseMemoryBlock[str]):
    """Remembers the messages that leave the short-term buffer, and recalls for the last message of the user.

    What is recalled is the fenced block of `Memory.context`, of at most `max_tokens`.
    """

    name: str = "long_term_memory"
    memory: InstanceOf[ScopedMemory]
    max_tokens: int = 1000

    async def _aget(self, messages: list[ChatMessage] | None = None, **_: Any) -> str:
        asked = [each.content for each in messages or [] if each.role == MessageRole.USER and each.content]
        if not asked:
            return ""
        return await asyncio.to_thread(self.memory.context, asked[-1], max_tokens=self.max_tokens)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        said = [
            {"role": _ROLES[each.role], "content": piece}
            for each in messages
            if each.role in _ROLES
            for piece in in_pieces(each.content or "")
        ]
        if said:
            await asyncio.to_thread(self.memory.add, said)
