"""A memory as a block of LlamaIndex's `Memory`: what lasts when the short-term buffer has let go of it."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import BaseMemoryBlock
from pydantic import InstanceOf, PrivateAttr

from memory_r1.bank.writes import mended
from memory_r1.integrations.waiting import Waiting
from memory_r1.scoped import ScopedMemory

LONGEST_QUESTION = 2_000  # characters
_ROLES = {MessageRole.USER: "user", MessageRole.ASSISTANT: "assistant"}


class LongTermMemory(BaseMemoryBlock[str]):
    """Remembers the messages that leave the short-term buffer, and recalls for the last message of the user.

    What is recalled is the fenced block of `Memory.context`, of at most `max_tokens`. LlamaIndex lets go of messages
    before it gives them here, and offers them once: where the model is down they wait for the next ones.
    """

    name: str = "long_term_memory"
    memory: InstanceOf[ScopedMemory]
    max_tokens: int = 1000
    _waiting: Waiting | None = PrivateAttr(None)

    async def _aget(self, messages: list[ChatMessage] | None = None, **_: Any) -> str:
        asked = [each.content for each in messages or [] if each.role == MessageRole.USER and each.content]
        question = mended(asked[-1]).strip()[:LONGEST_QUESTION] if asked else ""
        if not question:
            return ""
        return await asyncio.to_thread(self.memory.context, question, max_tokens=self.max_tokens)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        said = [(_ROLES[each.role], each.content or "") for each in messages if each.role in _ROLES]
        if self._waiting is None:
            self._waiting = Waiting(self.memory)
        await asyncio.to_thread(self._waiting.remember, said)
