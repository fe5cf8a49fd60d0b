"""The session and the tools under the real Agents SDK; a scripted model plays the agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.memory import Session, SessionSettings
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from conftest import ANN
from memory_r1 import Memory
from memory_r1.errors import ModelUnavailable
from memory_r1.integrations.openai_agents import MemorySession, memory_tools
from memory_r1.scoped import ScopedMemory
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.tools import MemoryTools, RawMemoryTools
from memory_r1.types import Prompt

set_tracing_disabled(True)


def says(text: str) -> ResponseOutputMessage:
    content = [ResponseOutputText(text=text, type="output_text", annotations=[])]
    return ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=content)


def calls(tool: str, **arguments: Any) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(type="function_call", call_id=tool, name=tool, arguments=json.dumps(arguments))


class Scripted(Model):
    """Replies in order; `asked` keeps what it was given."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.asked: list[Any] = []

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        del system_instructions
        self.asked.append(input)
        return ModelResponse(output=[self.replies.pop(0)], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


def test_an_agent_goes_on_with_its_session_in_another_process_of_the_file(tmp_path: Any) -> None:
    path = tmp_path / "bank.db"
    for said, reply in (("I have a dog", "Nice!"), ("What do I have?", "A dog.")):
        model = Scripted(says(reply))
        with Memory(path, embedder=HashEmbedder()) as memory:
            session = MemorySession(memory, "s1")
            assert isinstance(session, Session)
            result = asyncio.run(Runner.run(Agent("helper", model=model), said, session=session))
            assert result.final_output == reply
    told = [item["content"] if item["role"] == "user" else item["content"][0]["text"] for item in model.asked[0]]
    assert told == ["I have a dog", "Nice!", "What do I have?"]


def test_a_session_keeps_items_in_order_and_word_for_word() -> None:
    items: list[Any] = [
        {"role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "nothing"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Nothing there."}]},
    ]

    async def use(session: MemorySession, other: MemorySession) -> None:
        await session.add_items(items)
        assert await session.get_items() == items
        assert await session.get_items(limit=2) == items[2:]
        assert await session.get_items(limit=0) == []
        assert await other.get_items() == []
        assert await session.pop_item() == items[3]
        assert await session.get_items() == items[:3]
        await session.clear_session()
        assert await session.get_items() == []
        assert await session.pop_item() is None

    with Memory(":memory:", embedder=HashEmbedder()) as memory:
        asyncio.run(use(MemorySession(memory, "s1"), MemorySession(memory, "s2")))
        limited = MemorySession(memory, "s3", session_settings=SessionSettings(limit=1))
        asyncio.run(limited.add_items(items))
        assert asyncio.run(limited.get_items()) == items[3:]


def test_a_session_that_remembers_learns_what_was_said() -> None:
    facts = iter([["Ann has a dog"], []])
    llm = ScriptedLLM(lambda _: json.dumps({"facts": next(facts)}))
    with Memory(":memory:", llm=llm, embedder=HashEmbedder()) as memory:
        session = MemorySession(memory, "s1", remember=ScopedMemory(memory, ANN))
        agent = Agent("helper", model=Scripted(says("Nice!")))
        asyncio.run(Runner.run(agent, "I have a dog", session=session))
        assert [entry["memory"] for entry in memory.get_all(user_id="ann")["results"]] == ["Ann has a dog"]
        said = [prompt.messages[-1].content.splitlines()[-1] for prompt in llm.prompts]
        assert [text.rpartition(": ")[2] for text in said] == ["I have a dog", "Nice!"]


def test_a_session_takes_messages_of_blanks_and_of_any_length() -> None:
    items: list[Any] = [
        {"role": "user", "content": "x" * 150_000},
        {"role": "assistant", "content": "\n\n"},
        {"role": "assistant", "content": " " * 100_000 + "Nice!"},
    ]
    llm = ScriptedLLM(lambda _: '{"facts": []}')
    with Memory(":memory:", llm=llm, embedder=HashEmbedder()) as memory:
        session = MemorySession(memory, "s1", remember=ScopedMemory(memory, ANN))
        asyncio.run(session.add_items(items))
        assert asyncio.run(session.get_items()) == items
        said = "".join(prompt.messages[-1].content.partition(": ")[2] for prompt in llm.prompts)
        assert said == "x" * 150_000 + "Nice!"


def test_an_agent_calls_the_memorys_tools_and_reads_their_mistakes() -> None:
    model = Scripted(
        calls("add_memory", text="Ann has a dog", speaker="user", timestamp="2026-05-08"),
        calls("search_memories", query="dog", limit=5, as_of=None),
        calls("undo_operation", operation=7),
        says("done"),
    )
    with Memory(":memory:", embedder=HashEmbedder()) as memory:
        tools = memory_tools(RawMemoryTools(ScopedMemory(memory, ANN)))
        agent = Agent("helper", model=model, tools=[*tools])
        assert asyncio.run(Runner.run(agent, "Remember: I have a dog")).final_output == "done"
        (entry,) = memory.get_all(user_id="ann")["results"]
    outputs = [item["output"] for item in model.asked[-1] if item.get("type") == "function_call_output"]
    added, found, refused = outputs
    assert f"operation 1: ADD (stored as given) [{entry['id']}] Ann has a dog" in added
    assert f"- [{entry['id']}] (2026-05-08) Ann has a dog" in found
    assert "no operation 7" in refused


def test_a_tool_tells_the_model_when_to_call_it_and_what_its_arguments_are() -> None:
    with Memory(":memory:", embedder=HashEmbedder()) as memory:
        tools = {tool.name: tool for tool in memory_tools(MemoryTools(ScopedMemory(memory, ANN)))}
    assert len(tools) == 8
    assert tools["search_memories"].description.startswith("Find memories by meaning and by words, best first.")
    properties = tools["search_memories"].params_json_schema["properties"]
    assert properties["query"]["description"] == "What to look for: a question or key words, with names."


def test_a_session_keeps_what_tools_put_out_word_for_word_and_is_not_broken_by_it() -> None:
    deep: Any = "end"
    for _ in range(40):
        deep = [deep]
    items: list[Any] = [
        {"role": "user", "content": "list the files \0 \ud83d"},
        {"type": "function_call_output", "call_id": "f", "output": "a\0b"},
        {"type": "function_call_output", "call_id": "n", "output": 2**70, "deep": deep},
    ]
    with Memory(":memory:", llm=ScriptedLLM([]), embedder=HashEmbedder()) as memory:
        session = MemorySession(memory, "s1")
        asyncio.run(session.add_items(items))
        assert asyncio.run(session.get_items()) == items
        assert asyncio.run(session.pop_item()) == items[-1]


def test_a_session_keeps_messages_while_the_model_is_down_and_learns_of_them_later() -> None:
    down = True

    def model(prompt: Prompt) -> str:
        if down:
            raise ModelUnavailable("down")
        said = prompt.messages[-1].content.rpartition("user: ")[2]
        return json.dumps({"facts": [said]} if prompt.step == "extract" else {"operation": "ADD"})

    with Memory(":memory:", llm=ScriptedLLM(model), embedder=HashEmbedder()) as memory:
        session = MemorySession(memory, "s1", remember=ScopedMemory(memory, ANN))
        asyncio.run(session.add_items([{"role": "user", "content": "I have a dog"}]))
        down = False
        asyncio.run(session.add_items([{"role": "user", "content": "I have a cat"}]))
        assert [item["content"] for item in asyncio.run(session.get_items())] == ["I have a dog", "I have a cat"]
        told = [entry["memory"] for entry in memory.get_all(user_id="ann")["results"]]
        assert told == ["I have a dog", "I have a cat"]
