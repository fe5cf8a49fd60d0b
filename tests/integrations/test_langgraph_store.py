"""MemoryStore beside LangGraph's own InMemoryStore, alone and under a real graph."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore, GetOp, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from conftest import ANN, BOB
from memory_r1 import Memory
from memory_r1.errors import BadFilter
from memory_r1.integrations.langgraph import MemoryStore
from memory_r1.scoped import ScopedMemory
from memory_r1.testing import HashEmbedder, ScriptedLLM

DOCS: list[tuple[tuple[str, ...], str, dict[str, Any]]] = [
    (("memories", "ann"), "dog", {"text": "Ann has a dog called Pepper", "age": 3, "tags": ["pet"]}),
    (("memories", "ann"), "cat", {"text": "Ann has a cat", "age": 5, "owner": {"name": "Ann"}}),
    (("memories", "bob"), "dog", {"text": "Bob walks dogs", "age": None}),
    (("memories", "ann", "work"), "job", {"content": {"content": "Ann teaches"}, "full time": True}),
    (("settings",), 'th"eme', {}),
]


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory(":memory:", embedder=HashEmbedder()) as memory:
        yield memory


@pytest.fixture
def store(memory: Memory) -> MemoryStore:
    return filled(MemoryStore(ScopedMemory(memory, ANN)))


@pytest.fixture
def peer() -> InMemoryStore:
    return filled(InMemoryStore())


def filled(store: Any) -> Any:
    for namespace, key, value in DOCS:
        store.put(namespace, key, value)
    return store


def named(found: Any) -> list[tuple[tuple[str, ...], str, dict[str, Any]]]:
    return sorted(((item.namespace, item.key, item.value) for item in found), key=repr)


def test_items_come_back_as_they_were_put(store: MemoryStore) -> None:
    for namespace, key, value in DOCS:
        item = store.get(namespace, key)
        assert item is not None
        assert (item.namespace, item.key, item.value) == (namespace, key, value)
    assert store.get(("memories",), "dog") is None
    assert store.batch([GetOp(("memories.ann",), "dog")]) == [None]  # a label with a dot is not two labels
    assert store.get(("memories", "ann"), "*") is None


@pytest.mark.parametrize("prefix", [(), ("memories",), ("memories", "ann"), ("mem",), ("memories", "ann", "work")])
@pytest.mark.parametrize(
    "wanted",
    [
        *(
            None,
            {},
            {"age": 3},
            {"age": {"$gt": 3}},
            {"age": {"$gte": 3, "$lt": 5}},
            {"age": {"$eq": 5}},
            {"age": None},
        ),
        *({"age": {"$ne": 3}}, {"owner": {"name": "Ann"}}, {"full time": True}, {"tags": ["pet"]}, {"text": "Ann"}),
        {"age": 3, "text": "Ann has a dog called Pepper"},
    ],
)
def test_filters_find_what_langgraphs_own_store_finds(
    store: MemoryStore, peer: InMemoryStore, prefix: tuple[str, ...], wanted: dict[str, Any] | None
) -> None:
    if wanted and isinstance(wanted.get("age"), dict) and {"$gt", "$gte"} & wanted["age"].keys():
        peer.delete(("memories", "bob"), "dog")  # it raises for an order between a number and nothing
        for namespace, key, value in DOCS:
            if "age" not in value:
                peer.delete(namespace, key)
    assert named(store.search(prefix, filter=wanted, limit=50)) == named(peer.search(prefix, filter=wanted, limit=50))


@pytest.mark.parametrize(
    "asked",
    [
        *({}, {"prefix": ("memories",)}, {"suffix": ("ann",)}, {"prefix": ("memories", "*", "work")}, {"max_depth": 1}),
        *({"prefix": ("*",), "suffix": ("ann",)}, {"max_depth": 2, "limit": 2, "offset": 1}, {"prefix": ("a",)}),
    ],
)
def test_namespaces_are_listed_as_langgraphs_own_store_lists_them(
    store: MemoryStore, peer: InMemoryStore, asked: dict[str, Any]
) -> None:
    assert store.list_namespaces(**asked) == peer.list_namespaces(**asked)


def test_a_query_ranks_by_meaning_and_words_within_the_prefix_and_the_filter(store: MemoryStore) -> None:
    first, *rest = store.search(("memories",), query="a dog called Pepper")
    assert (first.key, first.namespace) == ("dog", ("memories", "ann"))
    assert first.score is not None
    assert all(first.score >= (item.score or 0) for item in rest)
    (job,) = store.search((), query="teaches", filter={"full time": True})
    assert job.key == "job"
    whole = store.search((), query="Ann", limit=4)
    pages = [*store.search((), query="Ann", limit=2), *store.search((), query="Ann", limit=2, offset=2)]
    assert [item.key for item in pages] == [item.key for item in whole]


def test_putting_again_changes_the_item_and_deleting_removes_it_and_both_can_be_undone(
    store: MemoryStore, memory: Memory
) -> None:
    store.put(("memories", "ann"), "dog", {"text": "Ann has two dogs"})
    item = store.get(("memories", "ann"), "dog")
    assert item is not None
    assert item.value == {"text": "Ann has two dogs"}
    assert item.updated_at > item.created_at
    assert len(store.search(("memories", "ann"))) == 3
    store.delete(("memories", "ann"), "dog")
    store.delete(("memories", "ann"), "dog")
    assert store.get(("memories", "ann"), "dog") is None
    deleted, updated = (logged.id for logged in memory.bank.log()[:-3:-1])
    memory.undo(deleted)
    memory.undo(updated)
    item = store.get(("memories", "ann"), "dog")
    assert item is not None
    assert item.value == DOCS[0][2]


@pytest.mark.parametrize(
    "decision",
    [
        '{"operation": "DELETE", "index": 1}',
        '{"operation": "UPDATE", "index": 1, "text": "Ann has no dog called Pepper"}',
    ],
)
def test_no_decision_of_the_memory_manager_touches_an_item(decision: str) -> None:
    told = "Ann has no dog called Pepper any more"
    llm = ScriptedLLM(lambda prompt: json.dumps({"facts": [told]}) if prompt.step == "extract" else decision)
    with Memory(":memory:", llm=llm, embedder=HashEmbedder()) as memory:
        ann = ScopedMemory(memory, ANN)
        store = filled(MemoryStore(ann))
        ann.add("Ann has a dog called Pepper", infer=False)
        before = named(store.search((), limit=50))
        (done,) = ann.add(told)["results"]
        assert (done["event"], done["previous_memory"]) == (
            json.loads(decision)["operation"],
            "Ann has a dog called Pepper",
        )
        assert llm.prompts[-1].messages[-1].content == (f"Memories:\n1. Ann has a dog called Pepper\nNew fact: {told}")
        assert named(store.search((), limit=50)) == before


def test_a_batch_reads_before_it_writes_and_the_last_put_of_a_key_counts(store: MemoryStore) -> None:
    place = (("new",), "k")
    ops = [PutOp(*place, {"n": 1}), GetOp(*place), PutOp(*place, {"n": 2}), SearchOp(("new",))]
    assert store.batch(ops) == [None, None, None, []]
    (item,) = store.search(("new",))
    assert item.value == {"n": 2}


def test_async_methods_do_the_same(store: MemoryStore) -> None:
    async def use() -> None:
        await asyncio.gather(*(store.aput(("many",), str(number), {"n": number}) for number in range(20)))
        assert len(await store.asearch(("many",), limit=50)) == 20
        item = await store.aget(("many",), "7")
        assert item is not None
        assert item.value == {"n": 7}

    asyncio.run(use())


def test_other_entries_and_other_scopes_are_not_items(store: MemoryStore, memory: Memory) -> None:
    memory.add("Ann likes tea", user_id="ann", infer=False)
    MemoryStore(ScopedMemory(memory, BOB)).put(("memories", "ann"), "secret", {"text": "Bob has a safe"})
    assert named(store.search((), limit=50)) == sorted(DOCS, key=repr)
    assert store.get(("memories", "ann"), "secret") is None


def test_an_operator_that_a_store_does_not_have_is_refused(store: MemoryStore) -> None:
    with pytest.raises(BadFilter, match=r"a store's filter has no \$like; it has \$eq, "):
        store.search((), filter={"text": {"$like": "dog"}})


def test_a_graph_remembers_in_one_thread_and_recalls_in_another(store: BaseStore) -> None:
    class State(TypedDict):
        said: str
        recalled: list[str]

    def remember(state: State, runtime: Runtime[None]) -> dict[str, Any]:
        assert runtime.store is not None
        found = runtime.store.search(("talk",), query=state["said"])
        runtime.store.put(("talk",), state["said"], {"text": state["said"]})
        return {"recalled": [item.value["text"] for item in found]}

    graph = StateGraph(State).add_node(remember).add_edge(START, "remember").compile(store=store)
    assert graph.invoke({"said": "I have a dog", "recalled": []})["recalled"] == []
    assert graph.invoke({"said": "my dog is called Pepper", "recalled": []})["recalled"] == ["I have a dog"]
