"""The retriever and the chat history under real LangChain runnables."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda

from conftest import ANN
from memory_r1 import Memory, Scope
from memory_r1.integrations.langchain import MemoryChatHistory, MemoryRetriever
from memory_r1.scoped import ScopedMemory
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Prompt


def test_the_retriever_finds_documents_in_its_scope_alone() -> None:
    with Memory(":memory:", embedder=HashEmbedder()) as memory:
        kept = {"metadata": {"topic": "pets"}, "timestamp": "2026-05-08", "infer": False}
        (dog,) = memory.add("Ann has a dog", user_id="ann", **kept)["results"]
        memory.add("Ann has a house", user_id="ann", infer=False)
        memory.add("Bob has a dog", user_id="bob", infer=False)
        retriever = MemoryRetriever(memory=ScopedMemory(memory, ANN), k=1)
        (document,) = retriever.invoke("whose dog?")
        assert (document.id, document.page_content) == (dog["id"], "Ann has a dog")
        assert document.metadata["event_time"] == "2026-05-08T00:00:00+00:00"
        assert document.metadata["metadata"] == {"topic": "pets"}
        assert 0 < document.metadata["score"] <= 1
        assert asyncio.run(retriever.ainvoke("whose dog?")) == [document]
        (pets,) = MemoryRetriever(memory=ScopedMemory(memory, ANN), filters={"topic": "pets"}).invoke("house")
        assert pets.page_content == "Ann has a dog"
        chain = retriever | RunnableLambda(lambda documents: [each.page_content for each in documents])
        assert chain.invoke("dog") == ["Ann has a dog"]


def test_a_chat_history_gives_every_message_back_as_it_was() -> None:
    call: Any = {"name": "look", "args": {"at": "dog"}, "id": "c1", "type": "tool_call"}
    messages = [
        SystemMessage("Be kind."),
        HumanMessage("What is it?", id="h1", name="Ann"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("a dog", tool_call_id="c1"),
        AIMessage([{"type": "text", "text": "A dog."}]),
    ]
    with Memory(":memory:", embedder=HashEmbedder()) as memory:
        history = MemoryChatHistory(memory, "s1")
        history.add_messages(messages)
        assert history.messages == messages
        assert MemoryChatHistory(memory, "s2").messages == []
        history.clear()
        assert history.messages == []
        assert memory.get_all(run_id="s1")["results"] == []


def test_a_model_talks_with_a_history_and_what_matters_is_remembered() -> None:
    facts = iter([["Ann has a dog"], []])
    llm = ScriptedLLM(lambda _: json.dumps({"facts": next(facts)}))
    with Memory(":memory:", llm=llm, embedder=HashEmbedder()) as memory:
        history = MemoryChatHistory(memory, "s1", remember=ScopedMemory(memory, ANN))
        model = FakeListChatModel(responses=["Nice!"])
        history.add_user_message("I have a dog")
        history.add_messages([model.invoke(history.messages)])
        assert [(each.type, each.text) for each in MemoryChatHistory(memory, "s1").messages] == [
            ("human", "I have a dog"),
            ("ai", "Nice!"),
        ]
        assert [entry["memory"] for entry in memory.get_all(user_id="ann")["results"]] == ["Ann has a dog"]
        assert [entry.scope for entry in memory.bank.all(Scope(run_id="s1"))] == [Scope(run_id="s1")] * 2


def test_no_decision_of_the_memory_manager_touches_a_message_of_the_same_scope() -> None:
    def script(prompt: Prompt) -> str:
        return (
            json.dumps({"facts": ["Ann has a dog"]}) if prompt.step == "extract" else '{"operation":"DELETE","index":1}'
        )

    with Memory(":memory:", llm=ScriptedLLM(script), embedder=HashEmbedder()) as memory:
        history = MemoryChatHistory(memory, "s1", remember=ScopedMemory(memory, Scope(run_id="s1")))
        messages = [HumanMessage("I have a dog"), HumanMessage("Ann has a dog")]
        history.add_messages(messages)
        assert history.messages == messages
        assert [(one.kind, one.provenance.reason) for one in memory.bank.log()] == [
            ("ADD", "stored as given"),
            ("ADD", "stored as given"),
            ("ADD", "nothing related"),
            ("NOOP", "duplicate"),
        ]
