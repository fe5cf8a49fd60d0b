"""A ScopedMemory reads and changes its own scope and nothing else, whatever id, number or filter it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import ANN, BOB
from memory_r1 import Memory, Scope
from memory_r1.errors import BadFilter, EntryNotFound
from memory_r1.scoped import ScopedMemory
from memory_r1.testing import HashEmbedder, ScriptedLLM


@pytest.fixture
def memory() -> Iterator[Memory]:
    llm = ScriptedLLM(lambda _: '{"keep": [1], "answer": "a safe"}')
    with Memory(":memory:", llm=llm, embedder=HashEmbedder()) as memory:
        yield memory


@pytest.fixture
def ann(memory: Memory) -> ScopedMemory:
    return ScopedMemory(memory, ANN)


@pytest.fixture
def bobs(memory: Memory) -> dict[str, Any]:
    (added,) = ScopedMemory(memory, BOB).add("Bob has a safe", infer=False)["results"]
    return dict(added)


def test_its_own_entries_are_read_and_changed(ann: ScopedMemory) -> None:
    (added,) = ann.add("Ann has a dog", infer=False)["results"]
    assert [entry["memory"] for entry in ann.search("dog")["results"]] == ["Ann has a dog"]
    assert "Ann has a dog" in ann.context("dog")
    assert ann.answer("what has Ann?").used[0].text == "Ann has a dog"
    updated = ann.update(added["id"], "Ann has a cat")
    deleted = ann.delete(added["id"])
    assert [one["event"] for one in ann.history(added["id"])] == ["ADD", "UPDATE", "DELETE"]
    assert [one["id"] for one in ann.operations(2)] == [updated["operation"], deleted["operation"]]
    assert ann.undo(deleted["operation"])["new_memory"] == "Ann has a cat"
    assert [entry["memory"] for entry in ann.get_all()["results"]] == ["Ann has a cat"]


@pytest.mark.parametrize(
    "act",
    [
        lambda ann, bobs: ann.update(bobs["id"], "Ann has a safe"),
        lambda ann, bobs: ann.update(bobs["id"], metadata={"stolen": True}),
        lambda ann, bobs: ann.delete(bobs["id"]),
        lambda ann, bobs: ann.history(bobs["id"]),
        lambda ann, bobs: ann.undo(bobs["operation"]),
    ],
)
def test_what_belongs_to_another_is_as_if_it_were_not_there(
    memory: Memory, ann: ScopedMemory, bobs: dict[str, Any], act: Callable[[ScopedMemory, dict[str, Any]], Any]
) -> None:
    before = memory.bank.log()
    with pytest.raises(EntryNotFound):
        act(ann, bobs)
    assert memory.bank.log() == before


def test_reading_finds_nothing_of_another(ann: ScopedMemory, bobs: dict[str, Any]) -> None:
    assert bobs["memory"] == "Bob has a safe"
    assert ann.search("Bob has a safe")["results"] == ann.get_all()["results"] == ann.operations(9) == []
    assert ann.context("Bob has a safe") == ""
    assert ann.answer("Who has a safe?").retrieved == ()


@pytest.mark.parametrize("filters", [{"user_id": "bob"}, {"user_id": "*"}, {"OR": [{"user_id": "bob"}]}])
@pytest.mark.parametrize("read", [lambda ann, f: ann.search("safe", filters=f), lambda ann, f: ann.get_all(filters=f)])
@pytest.mark.usefixtures("bobs")
def test_a_filter_cannot_name_another(ann: ScopedMemory, filters: dict[str, Any], read: Any) -> None:
    with pytest.raises(BadFilter):
        read(ann, filters)


@pytest.mark.parametrize("ids", [{"user_id": "bob"}, {"agent_id": "a1"}])
def test_an_id_as_an_argument_cannot_replace_its_own(memory: Memory, ids: dict[str, str]) -> None:
    scoped = ScopedMemory(memory, Scope(user_id="ann", agent_id="helper"))
    with pytest.raises(TypeError, match="multiple values for keyword argument"):
        scoped.search("safe", **ids)
