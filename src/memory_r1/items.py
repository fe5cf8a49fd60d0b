"""Items of a key-value store (namespace, key, value) as memory entries: what LangGraph's stores hold.

The members of the value lie in the metadata under "value.NAME", where filters reach them. The namespace lies there as
JSON, so that ("a", "b") is not taken for ("a.b",), and each of its prefixes, so that one filter finds all below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from memory_r1.bank.rows import NAMESPACES

_TEXTS = ("content", "text", "memory", "data")
_VALUE = "value."


class Item(NamedTuple):
    namespace: tuple[str, ...]
    key: str
    value: Mapping[str, Any]


def item_text(value: Mapping[str, Any]) -> str:
    """What an item is found by: the text under one of the usual names, or else the whole value as JSON."""
    inner: Any = value
    while isinstance(inner, Mapping):
        inner = next((inner[name] for name in _TEXTS if inner.get(name)), None)
    return inner if isinstance(inner, str) and inner.strip() else json.dumps(value, ensure_ascii=False)


def item_metadata(item: Item) -> dict[str, Any]:
    prefixes = [_named(item.namespace[:length]) for length in range(1, len(item.namespace) + 1)]
    value = {_VALUE + name: held for name, held in item.value.items()}
    return {"namespace": _named(item.namespace), NAMESPACES: prefixes, "key": item.key, **value}


def item_of(metadata: Mapping[str, Any] | None) -> Item | None:
    """The item that an entry's metadata holds; None for an entry that is none."""
    if not metadata or not {"namespace", NAMESPACES, "key"} <= metadata.keys():
        return None
    value = {name.removeprefix(_VALUE): held for name, held in metadata.items() if name.startswith(_VALUE)}
    return Item(tuple(json.loads(metadata["namespace"])), metadata["key"], value)


def is_item(namespace: Sequence[str], key: str) -> dict[str, Any]:
    """The filter that finds one item."""
    return {"namespace": {"eq": _named(namespace)}, "key": {"eq": key}}


def is_below(prefix: Sequence[str]) -> dict[str, Any]:
    """The filter that finds the items of a namespace and of all below it."""
    return {NAMESPACES: {"contains": _named(prefix)} if prefix else "*"}


def member(name: str) -> str:
    """What a filter calls a member of the value."""
    return _VALUE + name


def _named(namespace: Sequence[str]) -> str:
    return json.dumps(list(namespace), ensure_ascii=False)
