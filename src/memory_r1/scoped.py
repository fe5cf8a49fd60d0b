"""A Memory that cannot leave one scope: what a client, a tool or an agent is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memory_r1.memory import Memory
from memory_r1.messages import Messages
from memory_r1.results import operation_dict
from memory_r1.types import Answer, Scope


@dataclass(frozen=True, slots=True)
class ScopedMemory:
    """Memory's methods in one scope; arguments and results are Memory's.

    An entry or an operation of another scope is as if it were not there, whatever id is given; a filter may narrow the
    scope and never widen it.
    """

    memory: Memory
    scope: Scope

    @property
    def _ids(self) -> dict[str, Any]:
        return dict(self.scope.ids)

    def add(self, messages: Messages, **options: Any) -> dict[str, Any]:
        return self.memory.add(messages, **self._ids, **options)

    def search(self, query: str, **options: Any) -> dict[str, Any]:
        return self.memory.search(query, **self._ids, **options)

    def answer(self, question: str, **options: Any) -> Answer:
        return self.memory.answer(question, **self._ids, **options)

    def context(self, query: str, **options: Any) -> str:
        return self.memory.context(query, **self._ids, **options)

    def get_all(self, **options: Any) -> dict[str, Any]:
        return self.memory.get_all(**self._ids, **options)

    def update(self, memory_id: str, text: str | None = None, **changes: Any) -> dict[str, Any]:
        self.memory.bank.get(memory_id, self.scope)
        return self.memory.update(memory_id, text, **changes)

    def delete(self, memory_id: str) -> dict[str, Any]:
        self.memory.bank.get(memory_id, self.scope)
        return self.memory.delete(memory_id)

    def history(self, memory_id: str) -> list[dict[str, Any]]:
        return [operation_dict(logged) for logged in self.memory.bank.history(memory_id, self.scope)]

    def quarantined(self) -> dict[str, Any]:
        return self.memory.quarantined(**self._ids)

    def release(self, quarantine_id: str) -> dict[str, Any]:
        self.memory.bank.held(self.scope, quarantine_id)
        return self.memory.release(quarantine_id)

    def discard(self, quarantine_id: str) -> dict[str, Any]:
        self.memory.bank.held(self.scope, quarantine_id)
        return self.memory.discard(quarantine_id)

    def operations(self, last: int) -> list[dict[str, Any]]:
        """The latest operations of the scope, oldest first, without those that only kept a turn's words."""
        return [operation_dict(logged) for logged in self.memory.bank.log(self.scope, last=last, turns=False)]

    def undo(self, operation_id: int) -> dict[str, Any]:
        return operation_dict(self.memory.bank.undo(operation_id, self.scope))
