"""A memory as LangGraph's long-term store (`compile(store=…)`): in one file, searched by meaning and words."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

from memory_r1 import items
from memory_r1.bank import NewEntry
from memory_r1.errors import BadFilter
from memory_r1.scoped import ScopedMemory
from memory_r1.types import MemoryEntry


class MemoryStore(BaseStore):
    """Items in one scope of a memory, under their namespaces. What is put is stored as it is: no model is asked.

    Every put and delete is an operation of the bank and can be undone. A search by `query` is hybrid and its score the
    fused rank in 0..1; every item can be found, whatever `index` says. Filters are LangGraph's, where an object without
    operators means that very object. Two processes that put the same new key at once may leave it twice.
    """

    def __init__(self, memory: ScopedMemory) -> None:
        self._bank, self._scrub = memory.memory.bank, memory.memory.scrub
        self._scope = memory.scope
        self._putting = threading.Lock()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Reads see the store as it was before the batch; of two puts of one key the last counts."""
        asked = list(ops)
        results = [self._read(op) for op in asked]
        puts = {(op.namespace, op.key): op.value for op in asked if isinstance(op, PutOp)}
        with self._putting:
            self._put(puts)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return await asyncio.to_thread(self.batch, list(ops))

    def _read(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            entry = self._entry(op.namespace, op.key)
            return None if entry is None else Item(**_fields(entry))
        if isinstance(op, SearchOp):
            return self._search(op)
        if isinstance(op, ListNamespacesOp):
            return self._namespaces(op)
        return None

    def _entry(self, namespace: tuple[str, ...], key: str) -> MemoryEntry | None:
        return next(iter(self._bank.all(self._scope, filters=items.is_item(namespace, key), limit=1)), None)

    def _search(self, op: SearchOp) -> list[SearchItem]:
        filters = items.is_below(op.namespace_prefix) | _filters(op.filter or {})
        end = op.offset + op.limit
        if end <= op.offset:
            return []
        if not op.query:
            found = self._bank.all(self._scope, filters=filters, limit=end)
            return [SearchItem(**_fields(entry)) for entry in found[op.offset :]]
        ranked = self._bank.search(op.query, self._scope, end, filters=filters)
        return [SearchItem(**_fields(one.entry), score=one.score) for one in ranked[op.offset :]]

    def _namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        entries = self._bank.all(self._scope, filters=items.is_below(()))
        every = {item.namespace for entry in entries if (item := items.item_of(entry.metadata))}
        kept = {each for each in every if all(_matches(each, one) for one in op.match_conditions or ())}
        return sorted({each[: op.max_depth] for each in kept})[op.offset : op.offset + op.limit]

    def _put(self, puts: Mapping[tuple[tuple[str, ...], str], Mapping[str, Any] | None]) -> None:
        new = []
        for (namespace, key), value in puts.items():
            entry = self._entry(namespace, key)
            if value is None:
                if entry is not None:
                    self._bank.delete(entry.id)
                continue
            if self._scrub is not None:
                value = self._scrub.value(value)[0]
            text = items.item_text(value)
            metadata = items.item_metadata(items.Item(namespace, key, value))
            if entry is None:
                new.append(NewEntry(text, self._scope, metadata=metadata))
            elif entry.text == text:
                self._bank.update(entry.id, metadata=metadata)
            else:
                self._bank.update(entry.id, text=text, metadata=metadata)
        if new:
            self._bank.add_many(new)


def _fields(entry: MemoryEntry) -> dict[str, Any]:
    item = items.item_of(entry.metadata)
    assert item is not None  # the filters find items only
    times = {"created_at": entry.created_at, "updated_at": entry.updated_at}
    return {"namespace": item.namespace, "key": item.key, "value": dict(item.value), **times}


_OPERATORS = {"$eq": "eq", "$ne": "ne", "$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}


def _filters(given: Mapping[str, Any]) -> dict[str, Any]:
    """LangGraph's filter in our grammar."""
    return {items.member(name): _condition(wanted) for name, wanted in given.items()}


def _condition(wanted: Any) -> Any:
    if wanted is None:
        return None
    if not isinstance(wanted, Mapping) or not any(str(name).startswith("$") for name in wanted):
        return {"eq": wanted}
    unknown = sorted(set(wanted) - set(_OPERATORS))
    if unknown:
        raise BadFilter(f"a store's filter has no {', '.join(unknown)}; it has {', '.join(_OPERATORS)}")
    return {_OPERATORS[name]: value for name, value in wanted.items()}


def _matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
