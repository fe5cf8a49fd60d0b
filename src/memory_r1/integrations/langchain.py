"""A memory as LangChain's retriever and chat history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
from langchain_core.retrievers import BaseRetriever
from pydantic import InstanceOf

from memory_r1.integrations.transcript import Message, Transcript
from memory_r1.memory import Memory
from memory_r1.scoped import ScopedMemory

_ROLES = {"human": "user", "ai": "assistant"}


class MemoryRetriever(BaseRetriever):
    """The `k` best memories of a scope as documents: the text, and what else `Memory.search` tells as metadata.

    Their text is data that somebody said once: put it into a prompt as such (`ScopedMemory.context` fences it).
    """

    memory: InstanceOf[ScopedMemory]
    k: int = 10
    filters: Mapping[str, Any] | None = None

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        del run_manager
        found = self.memory.search(query, top_k=self.k, filters=self.filters)["results"]
        return [_document(entry) for entry in found]


def _document(entry: Mapping[str, Any]) -> Document:
    rest = {name: value for name, value in entry.items() if name not in ("id", "memory", "hash") and value is not None}
    return Document(id=entry["id"], page_content=entry["memory"], metadata=rest)


class MemoryChatHistory(BaseChatMessageHistory):
    """The messages of a session, kept word for word; `remember` also learns from what people and models say in it."""

    def __init__(self, memory: Memory, session_id: str, remember: ScopedMemory | None = None) -> None:
        self._transcript = Transcript(memory, session_id, remember)

    @property
    def messages(self) -> list[BaseMessage]:
        return list(messages_from_dict(self._transcript.all()))

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        self._transcript.append(
            Message(message_to_dict(each), _ROLES.get(each.type), str(each.text) or None) for each in messages
        )

    def clear(self) -> None:
        self._transcript.clear()
