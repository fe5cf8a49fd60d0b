"""Migrations from other memory layers: from files that the real packages wrote, and from broken and hostile ones.

tests/mem0_stores holds what Mem0 1.0.11 and 2.2.1 left, made by the make.py there.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.sqlite import SqliteStore

from conftest import ANN, BOB
from memory_r1.bank import MemoryBank
from memory_r1.errors import InvalidInput
from memory_r1.formats import detect
from memory_r1.items import Item, item_of
from memory_r1.migration import DELETED, NO_TEXT, NOBODYS, TWICE, Migration, langgraph, mem0
from memory_r1.types import Scope

STORES = Path(__file__).parent / "mem0_stores"
NOW = datetime(2026, 12, 1, tzinfo=UTC)
BOBS = Scope("bob", "helper", "r1")


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def texts(bank: MemoryBank, scope: Scope) -> list[tuple[str, str | None, dict[str, Any]]]:
    return sorted((entry.text, entry.speaker, dict(entry.metadata)) for entry in bank.all(scope))


def history(bank: MemoryBank, scope: Scope) -> list[tuple[str, str | None]]:
    (entry,) = bank.all(scope)
    return [(logged.kind, (logged.after or {}).get("text")) for logged in bank.history(entry.id)]


@pytest.mark.parametrize(("version", "kept"), [("mem0-1", {}), ("mem0-2", {"topic": "pets"})])
class TestMem0:
    """The stores of both major versions. The first one lost the metadata of a memory when it updated it."""

    def test_its_folder_is_taken_with_its_history(self, version: str, kept: dict[str, Any], bank: MemoryBank) -> None:
        folder = STORES / version / "qdrant"
        assert detect(folder) == "mem0"
        found = mem0(folder, None, None, NOW)
        assert found.skipped == {DELETED: 1}
        assert found.scopes() == {"user_id=ann": 1, "user_id=bob agent_id=helper run_id=r1": 2}
        assert bank.restore(found.operations) == 3
        assert texts(bank, ANN) == [("Ann has three dogs", None, kept)]
        assert texts(bank, BOB) == [("Bob likes tea, 緑茶", "Bob", {}), ("Noted", "assistant", {})]
        dogs = ["Ann has a dog", "Ann has two dogs", "Ann has three dogs"]
        assert history(bank, ANN) == list(zip(("ADD", "UPDATE", "UPDATE"), dogs, strict=True))
        exported = json.loads((STORES / version / "export.json").read_text(encoding="utf-8"))["results"]
        (ann,) = (memory for memory in exported if memory["user_id"] == "ann")
        (entry,) = bank.all(ANN)
        times = (entry.event_time, entry.created_at, entry.updated_at)
        assert (entry.id, *(time and time.isoformat() for time in times)) == (
            *(ann["id"], ann["created_at"], ann["created_at"], ann["updated_at"]),
        )
        bank.undo(bank.history(ann["id"])[-1].id)
        assert texts(bank, ANN) == [("Ann has two dogs", None, kept)]

    def test_its_export_is_taken_as_it_is(self, version: str, kept: dict[str, Any], bank: MemoryBank) -> None:
        path = STORES / version / "export.json"
        assert detect(path) == "mem0"
        bank.restore(mem0(path, None, None, NOW).operations)
        assert texts(bank, ANN) == [("Ann has three dogs", None, kept)]
        assert texts(bank, BOBS) == [("Bob likes tea, 緑茶", "Bob", {}), ("Noted", "assistant", {})]

    def test_an_export_may_be_given_its_history(self, version: str, kept: dict[str, Any], bank: MemoryBank) -> None:
        found = mem0(STORES / version / "export.json", None, STORES / version / "history.db", NOW)
        assert found.skipped == {DELETED: 1}
        bank.restore(found.operations)
        assert len(history(bank, ANN)) == 3
        assert texts(bank, ANN) == [("Ann has three dogs", None, kept)]

    def test_a_history_alone_goes_into_the_scope_that_is_given(
        self, version: str, kept: dict[str, Any], bank: MemoryBank
    ) -> None:
        del kept
        path = STORES / version / "history.db"
        assert detect(path) == "mem0"
        with pytest.raises(InvalidInput, match=r"^Mem0's history alone says not whose the memories are; give --user$"):
            mem0(path, None, None, NOW)
        bank.restore(mem0(path, ANN, None, NOW).operations)
        assert [text for text, _, _ in texts(bank, ANN)] == ["Ann has three dogs", "Bob likes tea, 緑茶", "Noted"]
        (deleted,) = (logged for logged in bank.log() if logged.kind == "DELETE")
        bank.undo(deleted.id)
        assert "Ann lives in Berlin" in [text for text, _, _ in texts(bank, ANN)]

    def test_a_second_import_brings_nothing(self, version: str, kept: dict[str, Any], bank: MemoryBank) -> None:
        del kept
        for path in (STORES / version / "qdrant", STORES / version / "export.json"):
            fresh, here = mem0(path, None, None, NOW).without(bank)
            bank.restore(fresh.operations)
        assert (fresh.operations, here) == ([], 3)
        assert bank.count() == 3

    def test_the_store_is_read_and_not_changed(
        self, version: str, kept: dict[str, Any], tmp_path: Path, bank: MemoryBank
    ) -> None:
        del kept, bank
        copy = tmp_path / "copy"
        shutil.copytree(STORES / version, copy)
        before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
        mem0(copy, None, None, NOW)
        assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


MEMORIES: list[Any] = [
    {
        "id": "m1",
        "memory": "Ann has a dog",
        "user_id": "ann",
        "metadata": {"topic": "pets"},
        "created_at": "2026-05-08T10:00:00-07:00",
        "updated_at": None,
        "expiration_date": "2027-01-01",
    },
    {"id": "m2", "memory": "The agent is brief", "agent_id": "a1", "run_id": "r1", "metadata": None},
    {"text": "No id and nobody's"},
]


@pytest.mark.parametrize("shape", [lambda m: m, lambda m: {"results": m, "relations": []}, lambda m: {"memories": m}])
def test_each_shape_of_a_mem0_export_is_read_alike(tmp_path: Path, shape: Callable[[Any], Any]) -> None:
    found = mem0(written(tmp_path / "mem0.json", shape(MEMORIES)), BOB, None, NOW)
    assert found.skipped == {}
    states = [logged.after or {} for logged in found.operations]
    assert [(state["text"], state["scope"], state["metadata"]) for state in states] == [
        ("Ann has a dog", ANN.ids, {"topic": "pets"}),
        ("The agent is brief", {"agent_id": "a1", "run_id": "r1"}, {}),
        ("No id and nobody's", BOB.ids, {}),
    ]
    said = datetime(2026, 5, 8, 17, tzinfo=UTC).timestamp()
    times = [(state["created_at"], state["event_time"], state["expires_at"]) for state in states]
    assert times[0] == (said, said, datetime(2027, 1, 1, tzinfo=UTC).timestamp())
    assert times[1:] == [(NOW.timestamp(), None, None)] * 2
    assert {logged.provenance.reason for logged in found.operations} == {"imported from Mem0"}


def test_what_cannot_be_taken_is_counted_by_reason(tmp_path: Path) -> None:
    wrong = [
        *("text", {}, {"memory": ""}),
        {"memory": "x"},
        {"memory": " ", "user_id": "a"},
        {"memory": "x", "user_id": 7},
        {"memory": "x", "user_id": "a", "created_at": "soon"},
        {"memory": "x", "user_id": "a", "metadata": [1]},
        {"id": "m1", "memory": "again", "user_id": "ann"},
        {"id": "a\nb", "memory": "x", "user_id": "a"},
    ]
    found = mem0(written(tmp_path / "mem0.json", [MEMORIES[0], *wrong]), None, None, NOW)
    assert [logged.entry_id for logged in found.operations] == ["m1"]
    assert {reason[:40]: count for reason, count in found.skipped.items()} == {
        NO_TEXT[:40]: 3,
        NOBODYS[:40]: 1,
        "text is empty: there is nothing to remem": 1,
        "user_id must be a string, not int": 1,
        "not a time: 'soon'; write \"2023-05-08T13"[:40]: 1,
        "metadata must be a mapping such as {'top": 1,
        TWICE[:40]: 1,
        "its id must be at most 256 printable cha": 1,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "mem0.json is not JSON: "),
        ("[" * 100_000, "mem0.json is not JSON: "),
        ("7", 'mem0.json is no Mem0 export: it has no list of memories under "results"'),
        ({"results": {}}, 'mem0.json is no Mem0 export: it has no list of memories under "results"'),
    ],
)
def test_a_file_that_is_no_mem0_export_is_refused_by_name(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        mem0(written(tmp_path / "mem0.json", content), None, None, NOW)
    assert str(caught.value).startswith(message)


def test_a_folder_without_a_local_collection_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"holds no local Qdrant collection .* save what Mem0's get_all returns"):
        mem0(tmp_path, ANN, None, NOW)


def test_a_history_that_does_not_lead_to_the_memory_is_left_out(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(STORES / "mem0-2", copy)
    with sqlite3.connect(copy / "history.db") as db:
        db.execute("DELETE FROM history WHERE new_memory = 'Ann has three dogs'")
    db.close()
    found = mem0(copy / "qdrant", None, None, NOW)
    anns = [logged for logged in found.operations if logged.scope == ANN]
    assert [(logged.kind, (logged.after or {})["text"]) for logged in anns] == [("ADD", "Ann has three dogs")]


class Payload:
    """What an attacker would put into a point."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("echo taken over",)


@pytest.mark.parametrize(
    "point", [pickle.dumps(Payload()), pickle.dumps(Path("x")), b"", b"no pickle", pickle.dumps(7)]
)
def test_a_point_that_names_code_is_refused_and_not_run(
    tmp_path: Path, point: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "collection" / "mem0"
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "storage.sqlite") as db:
        db.execute("CREATE TABLE points (id TEXT PRIMARY KEY, point BLOB)")
        db.execute("INSERT INTO points VALUES ('1', ?)", (point,))
    db.close()
    with pytest.raises(InvalidInput, match="a point cannot be read"):
        mem0(tmp_path, ANN, None, NOW)
    assert "taken over" not in capfd.readouterr().out


class TestLangGraph:
    """Stores of the real SqliteStore, and its items as JSON."""

    def store(self, path: Path) -> SqliteStore:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        store = SqliteStore(connection)
        store.setup()
        store.put(("memories", "ann"), "dog", {"kind": "Memory", "content": {"content": "Ann has a dog"}})
        store.put(("memories", "bob"), "profile", {"text": "Bob likes tea", "age": 40})
        store.put(("settings",), "theme", {"dark": True})
        return store

    def items(self) -> dict[str, Item]:
        return {
            "ann": Item(("memories", "ann"), "dog", {"kind": "Memory", "content": {"content": "Ann has a dog"}}),
            "bob": Item(("memories", "bob"), "profile", {"text": "Bob likes tea", "age": 40}),
            "settings": Item(("settings",), "theme", {"dark": True}),
        }

    def check(self, bank: MemoryBank, found: Migration) -> None:
        assert found.skipped == {}
        assert bank.restore(found.operations) == 3
        for user, item in self.items().items():
            (entry,) = bank.all(Scope(user_id=user))
            assert item_of(entry.metadata) == item
            assert entry.event_time is not None
        assert {entry.text for entry in bank.all()} == {"Ann has a dog", "Bob likes tea", '{"dark": true}'}
        assert found.without(bank) == (Migration(), 3)

    def test_the_file_of_a_sqlite_store_is_taken(self, tmp_path: Path, bank: MemoryBank) -> None:
        path = tmp_path / "store.sqlite"
        store = self.store(path)
        try:
            assert detect(path) == "langgraph"
            self.check(bank, langgraph(path, None, NOW))
        finally:
            store.conn.close()

    def test_its_items_as_json_are_taken(self, tmp_path: Path, bank: MemoryBank) -> None:
        store = self.store(tmp_path / "store.sqlite")
        items = [item.dict() for item in store.search(())]
        store.conn.close()
        path = written(tmp_path / "items.json", items)
        assert detect(path) == "langgraph"
        self.check(bank, langgraph(path, None, NOW))

    def test_a_scope_that_is_given_takes_all(self, tmp_path: Path) -> None:
        store = self.store(tmp_path / "store.sqlite")
        store.conn.close()
        found = langgraph(tmp_path / "store.sqlite", Scope(agent_id="helper"), NOW)
        assert found.scopes() == {"agent_id=helper": 3}

    def test_what_is_no_item_is_counted(self, tmp_path: Path) -> None:
        item = {"namespace": ["a"], "key": "k", "value": {}}
        items = [item, item, {**item, "namespace": "a"}, {**item, "value": None}, {**item, "namespace": [" "]}]
        found = langgraph(written(tmp_path / "items.json", {"items": items}), None, NOW)
        assert found.scopes() == {"user_id=a": 1}
        assert found.skipped == {
            TWICE: 1,
            '"namespace" must be a list of labels': 1,
            'an item needs a "key" and an object under "value"': 1,
            "user_id must not be empty or begin or end with white space: ' '": 1,
        }


def test_other_sqlite_files_are_refused_by_name(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE notes (text TEXT)")
    db.close()
    with pytest.raises(InvalidInput, match=r"^other\.db is a SQLite file of neither Mem0's history nor a LangGraph"):
        detect(tmp_path / "other.db")
    with pytest.raises(InvalidInput, match="cannot be read as a LangGraph store: no such table: store"):
        langgraph(tmp_path / "other.db", ANN, NOW)
    (tmp_path / "cut.db").write_bytes(b"SQLite format 3\0 and no more")
    with pytest.raises(InvalidInput, match="cannot be read as a SQLite file"):
        detect(tmp_path / "cut.db")
