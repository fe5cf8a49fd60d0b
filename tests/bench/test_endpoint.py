from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pytest

from memory_r1.bench.endpoint import Endpoint, call_schema, calls_schema, forced_tools
from memory_r1.errors import ModelUnavailable
from memory_r1.testing import HashEmbedder

SAVE = {"name": "save", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}}
TOOLS = [{"type": "function", "function": SAVE}, {"type": "function", "function": {"name": "skip"}}]


class ScriptedChat:
    """Answers every request with one text, and keeps what it was asked."""

    def __init__(self, text: str = "hello") -> None:
        self.text, self.asked = text, []

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(dict(body))
        if not body["messages"]:
            return {"error": {"code": 422, "message": "no messages", "type": "invalid_request_error"}}
        message = {"role": "assistant", "content": self.text}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


@pytest.fixture
def model() -> ScriptedChat:
    return ScriptedChat()


@pytest.fixture
def endpoint(model: ScriptedChat) -> Iterator[Endpoint]:
    with Endpoint(model, HashEmbedder(8), "small") as endpoint:
        yield endpoint


def post(endpoint: Endpoint, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{endpoint.base_url}/{path}", json=body)


def test_a_chat_request_is_passed_on_and_counted(endpoint: Endpoint, model: ScriptedChat) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5}
    reply = post(endpoint, "chat/completions", body)
    assert reply.json()["choices"][0]["message"]["content"] == "hello"
    assert model.asked == [{"model": "small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}]
    chat = endpoint.usage["chat"]
    assert (chat.calls, chat.prompt_tokens, chat.completion_tokens) == (1, 7, 3)


def test_a_refusal_keeps_its_status_and_is_counted(endpoint: Endpoint) -> None:
    reply = post(endpoint, "chat/completions", {"messages": []})
    assert (reply.status_code, reply.json()["error"]["message"], endpoint.refused) == (422, "no messages", 1)


def test_a_tool_that_must_be_called_is_called(endpoint: Endpoint, model: ScriptedChat) -> None:
    model.text = (
        '{"calls": [{"name": "save", "arguments": {"text": "Ann likes tea."}}, {"name": "skip", "arguments": {}}]}'
    )
    body = {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS, "tool_choice": "required"}
    choice = post(endpoint, "chat/completions", body).json()["choices"][0]
    call, second = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("save", {"text": "Ann likes tea."})
    assert (second["function"], call["id"] == second["id"]) == ({"name": "skip", "arguments": "{}"}, False)
    assert set(model.asked[0]) == {"messages", "response_format", "max_tokens"}  # servers take no tools beside a schema
    assert json.dumps(SAVE) in model.asked[0]["messages"][0]["content"]
    asked_for = model.asked[0]["response_format"]["json_schema"]
    assert asked_for == {"name": "calls", "schema": calls_schema([tool["function"] for tool in TOOLS]), "strict": True}


def test_of_calls_that_were_cut_off_the_whole_ones_remain(endpoint: Endpoint, model: ScriptedChat) -> None:
    whole = '{"calls": [{"name": "skip", "arguments": {}}, {"name": "save", "argu'
    body = {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS, "tool_choice": "required"}
    model.text = whole
    (call,) = post(endpoint, "chat/completions", body).json()["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "skip", "arguments": "{}"}
    model.text = '{"calls": [{"name": "save", "argu'
    assert post(endpoint, "chat/completions", body).json()["choices"][0]["message"]["content"] == model.text


def test_a_model_that_failed_is_not_the_failure_of_the_system_that_asked(
    endpoint: Endpoint, model: ScriptedChat
) -> None:
    endpoint.check()
    works, model.chat = model.chat, fails  # type: ignore[method-assign]
    assert post(endpoint, "chat/completions", {"messages": []}).status_code == 503
    model.chat = works  # type: ignore[method-assign]
    assert httpx.get(f"{endpoint.base_url}/models").status_code == 503
    with pytest.raises(ModelUnavailable, match="out of memory"):
        endpoint.check()


def test_a_500_for_one_request_alone_is_the_callers(endpoint: Endpoint, model: ScriptedChat) -> None:
    """llama.cpp says 500 of a schema that it cannot turn into a grammar, too."""
    works = model.chat

    def picky(body: Mapping[str, Any]) -> dict[str, Any]:
        return {"error": {"code": 500, "message": "no such grammar"}} if "response_format" in body else works(body)

    model.chat = picky  # type: ignore[method-assign]
    assert post(endpoint, "chat/completions", {"messages": [], "response_format": {}}).status_code == 500
    endpoint.check()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_neither_is_one_that_breaks_or_is_overloaded(endpoint: Endpoint, model: ScriptedChat, status: int) -> None:
    model.chat = lambda _: {"error": {"code": status, "message": "slot unavailable"}}  # type: ignore[method-assign]
    assert post(endpoint, "chat/completions", {"messages": []}).status_code == status
    with pytest.raises(ModelUnavailable, match=f"answered {status}: slot unavailable"):
        endpoint.check()


def test_nor_is_an_embedder_that_breaks(endpoint: Endpoint) -> None:
    class Broken(HashEmbedder):
        def embed(self, texts: Any, query: bool = False) -> Any:
            raise RuntimeError(f"onnxruntime: bad allocation for {texts}, {query}")

    endpoint.embedder = Broken()
    assert post(endpoint, "embeddings", {"input": "tea"}).status_code == 503
    with pytest.raises(ModelUnavailable, match="RuntimeError: onnxruntime: bad allocation"):
        endpoint.check()


def fails(_: Mapping[str, Any]) -> dict[str, Any]:
    raise ModelUnavailable("out of memory")


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", ["save", "skip"]),
        ({"type": "function", "function": {"name": "skip"}}, ["skip"]),
        ("auto", []),
        (None, []),
    ],
)
def test_only_a_choice_that_leaves_no_way_out_forces_a_tool(choice: Any, names: list[str]) -> None:
    assert [one["name"] for one in forced_tools({"tools": TOOLS, "tool_choice": choice})] == names


def test_definitions_inside_a_tools_parameters_move_to_the_top() -> None:
    parameters = {"type": "object", "properties": {"p": {"$ref": "#/$defs/P"}}, "$defs": {"P": {"type": "string"}}}
    assert call_schema([{"name": "save", "parameters": parameters}]) == {
        "type": "object",
        "properties": {
            "name": {"const": "save"},
            "arguments": {"type": "object", "properties": {"p": {"$ref": "#/$defs/P"}}},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
        "$defs": {"P": {"type": "string"}},
    }


def test_embeddings_are_the_embedders_as_numbers_and_packed(endpoint: Endpoint) -> None:
    expected = HashEmbedder(8).embed(["a b", "c"])
    plain = post(endpoint, "embeddings", {"input": ["a b", "c"]}).json()
    assert np.allclose([one["embedding"] for one in plain["data"]], expected)
    packed = post(endpoint, "embeddings", {"input": "a b", "encoding_format": "base64"}).json()
    vector = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    assert np.array_equal(vector, expected[0])
    assert endpoint.usage["embed"].calls == 2


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("embeddings", {"input": [1, 2]}, 400),
        ("embeddings", {"input": []}, 400),
        ("embeddings", ["a"], 400),
        ("chat/completions", {"messages": [], "stream": True}, 400),
        ("completions", {"prompt": "x"}, 404),
    ],
)
def test_what_is_not_offered_is_refused_with_a_reason(endpoint: Endpoint, path: str, body: Any, status: int) -> None:
    reply = post(endpoint, path, body)
    assert (reply.status_code, bool(reply.json()["error"]["message"])) == (status, True)


def test_both_models_are_listed(endpoint: Endpoint) -> None:
    listed = httpx.get(f"{endpoint.base_url}/models").json()
    assert [one["id"] for one in listed["data"]] == ["small", "hash-8"]
