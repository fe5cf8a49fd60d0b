"""What other memory layers left behind, as operations of ours: Mem0's stores and exports, LangGraph's stores.

Files are read without the packages that wrote them, and never changed. A memory keeps its id, its times and, where
Mem0's history tells it, everything that happened to it; one that cannot be taken is counted with the reason.
"""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.bank.adding import new_states
from memory_r1.bank.rows import seconds
from memory_r1.bank.writes import check_text, clean
from memory_r1.dates import parse_time
from memory_r1.errors import InvalidInput
from memory_r1.files import read_json
from memory_r1.items import Item, item_metadata, item_text
from memory_r1.types import SCOPE_KEYS, Logged, Provenance, Scope

MEM0 = Provenance(reason="imported from Mem0")
LANGGRAPH = Provenance(reason="imported from LangGraph")
TWICE = "its id is that of an earlier one"
NO_TEXT = 'there is no text under "memory"'
NOBODYS = "it says not whose it is; give --user"
DELETED = "deleted in Mem0, whose history does not say whose it was"

# What Mem0 keeps in its vector store beside a memory's own metadata.
_MEM0_KEYS = frozenset({"data", "hash", "created_at", "updated_at", "id", "text_lemmatized", "attributed_to"}) | {
    *("actor_id", "role", "expiration_date", *SCOPE_KEYS)
}
_NAMES = uuid.UUID("6f1f5f0c-6f0b-4a41-9a5b-0d3a4c1f7c55")  # under which a memory without an id gets one


class Step(NamedTuple):
    """One thing that happened to a memory elsewhere: "ADD", "UPDATE" or "DELETE", and the text it left."""

    kind: str
    text: str
    time: datetime


@dataclass(slots=True)
class Migration:
    """What a migration brings: operations for `MemoryBank.restore`, and how many memories it leaves, by reason."""

    operations: list[Logged] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def take(self, entry_id: str, entry: NewEntry, steps: Sequence[Step]) -> None:
        """One memory with what happened to it, which begins with an ADD.

        Raises InvalidInput for what cannot be stored; then nothing of it was taken.
        """
        before: dict[str, Any] | None = None
        for number, step in enumerate(steps):
            after = _after(entry, step, before)
            logged = Logged(number, step.kind, entry_id, step.time, entry.scope, before, after, None, entry.provenance)
            self.operations.append(logged)
            before = after

    @contextmanager
    def each(self) -> Iterator[None]:
        """What cannot be stored is left, and counted."""
        taken = len(self.operations)
        try:
            yield
        except InvalidInput as error:
            del self.operations[taken:]
            self.skipped[str(error)] += 1

    def scopes(self) -> dict[str, int]:
        """How many memories go where: "user_id=ann" -> 12."""
        named = (" ".join(f"{name}={value}" for name, value in scope.ids.items()) for scope in self._scopes())
        return dict(Counter(named))

    def _scopes(self) -> Iterator[Scope]:
        return (logged.scope for logged in self.operations if logged.before is None and logged.scope)

    def without(self, bank: MemoryBank) -> tuple[Migration, int]:
        """What is not in the bank yet, and how many memories are."""
        here = {logged.entry_id for logged in bank.log()}
        fresh = [logged for logged in self.operations if logged.entry_id not in here]
        new = Migration([replace(logged, id=number) for number, logged in enumerate(fresh, 1)], self.skipped)
        return new, sum(1 for _ in self._scopes()) - sum(1 for _ in new._scopes())


def _after(entry: NewEntry, step: Step, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """An entry's whole state after a step."""
    if before is None:
        return new_states([replace(entry, text=step.text)], step.time)[0]
    gone = seconds(step.time) if step.kind == "DELETE" else None
    return {**before, "text": check_text(step.text), "updated_at": seconds(step.time), "deleted_at": gone}


# -- Mem0 -----------------------------------------------------------------------------------------------------------


def mem0(path: Path, scope: Scope | None, history: Path | None, now: datetime) -> Migration:
    """Mem0's memories from its local Qdrant folder, its SQLite history, or a JSON export (what `get_all` returns).

    Each goes into its own scope, else into `scope`. `history`: its history.db, found by itself beside a folder.
    A history alone (another vector store held the memories) says not whose they are: all go into `scope`.
    """
    if path.is_dir():
        memories: Iterable[Any] = _qdrant(path)
        if history is None:
            history = next((file for file in (path / "history.db", path.parent / "history.db") if file.exists()), None)
    elif is_sqlite(path):
        return _from_history(_mem0_history(path), scope)
    else:
        memories = _exported(path)
    return _from_memories(memories, {} if history is None else _mem0_history(history), scope, now)


def _from_memories(
    memories: Iterable[Any], histories: Mapping[str, list[Mapping[str, Any]]], scope: Scope | None, now: datetime
) -> Migration:
    found = Migration()
    seen: set[str] = set()
    for memory in memories:
        with found.each():
            entry = _mem0_entry(memory, scope)
            entry_id = _mem0_id(memory, entry)
            if entry_id in seen:
                raise InvalidInput(TWICE)
            seen.add(entry_id)
            added = now if entry.event_time is None else entry.event_time
            steps = _steps(histories.get(entry_id, []))
            found.take(entry_id, entry, steps if _tells(steps, entry.text) else [Step("ADD", entry.text, added)])
    gone = sum(1 for memory_id, rows in histories.items() if memory_id not in seen and rows[-1]["event"] == "DELETE")
    if gone:
        found.skipped[DELETED] = gone
    return found


def _from_history(histories: Mapping[str, list[Mapping[str, Any]]], scope: Scope | None) -> Migration:
    if scope is None:
        raise InvalidInput("Mem0's history alone says not whose the memories are; give --user")
    found = Migration()
    for memory_id, rows in histories.items():
        with found.each():
            steps = _steps(rows)
            if not steps or steps[0].kind != "ADD":
                raise InvalidInput("its history does not begin with an ADD")
            entry = NewEntry(steps[0].text, scope, rows[0]["actor_id"], steps[0].time, provenance=MEM0)
            found.take(_checked_id(memory_id), entry, steps)
    return found


def _steps(rows: Iterable[Mapping[str, Any]]) -> list[Step]:
    steps: list[Step] = []
    for row in rows:
        kind, when = row["event"], row["updated_at"] or row["created_at"]
        if kind not in ("ADD", "UPDATE", "DELETE") or when is None:
            continue
        text = row["new_memory"] if kind != "DELETE" else row["old_memory"] or (steps[-1].text if steps else None)
        steps.append(Step(kind, check_text(text), parse_time(when)))
    return steps


def _tells(steps: Sequence[Step], text: str) -> bool:
    """Whether a history leads from an ADD to the memory as it is."""
    return (
        bool(steps)
        and [step.kind for step in steps] == ["ADD", *["UPDATE"] * (len(steps) - 1)]
        and (steps[-1].text == text)
    )


def _mem0_entry(memory: Any, scope: Scope | None) -> NewEntry:
    text = (memory.get("memory") or memory.get("text")) if isinstance(memory, dict) else None
    if not isinstance(text, str):
        raise InvalidInput(NO_TEXT)
    ids = {name: memory[name] for name in SCOPE_KEYS if memory.get(name)}
    own = Scope(**ids) if ids else scope
    if own is None:
        raise InvalidInput(NOBODYS)
    said, expires = memory.get("created_at"), memory.get("expiration_date")
    speaker = memory.get("actor_id") or ("assistant" if memory.get("role") == "assistant" else None)
    return NewEntry(
        text=check_text(text),
        scope=own,
        speaker=None if speaker is None else clean(speaker),
        event_time=parse_time(said) if said else None,
        expires_at=parse_time(expires) if expires else None,
        metadata=memory.get("metadata"),
        provenance=MEM0,
    )


def _mem0_id(memory: Mapping[str, Any], entry: NewEntry) -> str:
    """Mem0's own, or one made of what the memory says, so that the same export twice is one import."""
    if memory.get("id"):
        return _checked_id(memory["id"])
    return _made_id(entry.scope, entry.text, str(entry.event_time))


def _checked_id(given: Any) -> str:
    checked = clean(str(given))
    if not checked.isprintable() or len(checked) > 256:
        raise InvalidInput("its id must be at most 256 printable characters")
    return checked


def _made_id(scope: Scope, *parts: str) -> str:
    return str(uuid.uuid5(_NAMES, json.dumps([scope.ids, *parts])))


def _exported(path: Path) -> Iterable[Any]:
    memories = read_json(path)
    if isinstance(memories, dict):
        memories = next((memories[name] for name in ("results", "memories") if name in memories), None)
    if not isinstance(memories, list):
        raise InvalidInput(f'{path.name} is no Mem0 export: it has no list of memories under "results"')
    return memories


def _mem0_history(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Memory id -> its rows, oldest first."""
    histories: dict[str, list[Mapping[str, Any]]] = {}
    columns = "memory_id, old_memory, new_memory, event, created_at, updated_at, actor_id"
    for row in _rows(path, f"SELECT {columns} FROM history ORDER BY rowid", "Mem0 history"):
        histories.setdefault(str(row["memory_id"]), []).append(row)
    return histories


def qdrant_collections(folder: Path) -> list[Path]:
    """The SQLite files of the collections in a folder that Qdrant's local mode keeps, or in one of its own folders."""
    return sorted({*folder.glob("collection/*/storage.sqlite"), *folder.glob("*/collection/*/storage.sqlite")})


def _qdrant(folder: Path) -> Iterator[Any]:
    """What the points hold, in the shape of an export."""
    collections = qdrant_collections(folder)
    if not collections:
        raise InvalidInput(
            f"{folder} holds no local Qdrant collection (collection/NAME/storage.sqlite); from a Qdrant server or "
            "another vector store, save what Mem0's get_all returns as JSON and import that"
        )
    for file in collections:
        if file.parent.name.startswith(("mem0migrations", "mem0_migrations")):  # Mem0's own notes, no memories
            continue
        for row in _rows(file, "SELECT point FROM points", "Qdrant collection"):
            point = _unpickled(row["point"], file)
            payload = point.get("payload") or {}
            own = {name: value for name, value in payload.items() if name not in _MEM0_KEYS}
            yield {**payload, "id": point.get("id"), "memory": payload.get("data"), "metadata": own}


class _Fields:
    """Stands for whatever class of the Qdrant client a point was made of: its fields and nothing else."""

    def __setstate__(self, state: Any) -> None:
        self.fields = state["__dict__"]


class _Points(pickle.Unpickler):
    """Qdrant's local mode keeps points as pickles. A pickle can name anything to call, so that nothing is let in."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("qdrant_client."):
            return _Fields
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no point holds")


def _unpickled(point: bytes, file: Path) -> Mapping[str, Any]:
    try:
        made = _Points(io.BytesIO(point)).load()
        return dict(made.fields)
    except (pickle.UnpicklingError, AttributeError, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InvalidInput(f"{file}: a point cannot be read: {error}") from error


# -- LangGraph ------------------------------------------------------------------------------------------------------


def langgraph(path: Path, scope: Scope | None, now: datetime) -> Migration:
    """The items of a LangGraph store: the file of its SqliteStore, or a JSON list of `item.dict()`.

    All go into `scope`; without one each goes to the user whom the last label of its namespace names, as in
    ("memories", "ann").
    """
    found = Migration()
    seen: set[str] = set()
    for row in _store_rows(path) if is_sqlite(path) else _items(path):
        with found.each():
            item = _item(row)
            own = scope or Scope(user_id=item.namespace[-1])
            entry_id = _made_id(own, *item.namespace, item.key)
            if entry_id in seen:
                raise InvalidInput(TWICE)
            seen.add(entry_id)
            created, expires = row.get("created_at"), row.get("expires_at")
            added = parse_time(created) if created else now
            text = item_text(item.value)
            expires_at = parse_time(expires) if expires else None
            entry = NewEntry(text, own, None, added, expires_at, item_metadata(item), LANGGRAPH)
            found.take(entry_id, entry, [Step("ADD", text, added)])
    return found


def _item(row: Mapping[str, Any]) -> Item:
    namespace, key, value = row.get("namespace"), row.get("key"), row.get("value")
    if not isinstance(namespace, list) or not namespace or not all(isinstance(label, str) for label in namespace):
        raise InvalidInput('"namespace" must be a list of labels')
    if not isinstance(key, str) or not isinstance(value, dict):
        raise InvalidInput('an item needs a "key" and an object under "value"')
    return Item(tuple(namespace), key, value)


def _items(path: Path) -> list[Any]:
    items = read_json(path)
    if isinstance(items, dict):
        items = items.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidInput(f"{path.name} is no list of a LangGraph store's items: write [item.dict() for item in …]")
    return items


def _store_rows(path: Path) -> Iterator[dict[str, Any]]:
    for row in _rows(path, "SELECT * FROM store ORDER BY rowid", "LangGraph store"):
        try:
            value = json.loads(row["value"])
        except (ValueError, TypeError, RecursionError):
            value = None
        yield {**row, "namespace": str(row["prefix"]).split("."), "value": value}


# -- SQLite files -----------------------------------------------------------------------------------------------------


def is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def tables(path: Path) -> set[str]:
    return {row["name"] for row in _rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'", "SQLite file")}


def _rows(path: Path, sql: str, what: str) -> list[dict[str, Any]]:
    """Rows of a file that is only read, even when the program that wrote it is running."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql)]
    except sqlite3.Error as error:
        raise InvalidInput(f"{path} cannot be read as a {what}: {error}") from error
