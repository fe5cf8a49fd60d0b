"""The chat endpoint: OpenAI's own client, an upstream over HTTP and one in the process, recall in, remember after."""

from __future__ import annotations

import itertools
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi.testclient import TestClient
from serving import listening as serving_app
from serving import said, serving

from memory_r1 import Memory
from memory_r1.errors import InvalidInput, ModelUnavailable
from memory_r1.serve.app import Settings, create_app
from memory_r1.serve.chat import ChatSettings, HttpUpstream, with_recall
from memory_r1.serve.keys import Keys
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Prompt, Scope

ME = Settings(chat=ChatSettings(default=Scope(user_id="me")))


class ChattingLLM(ScriptedLLM):
    """A memory's model that answers chats, too; `asked` keeps the bodies."""

    def __init__(self) -> None:
        super().__init__(said)
        self.asked: list[dict[str, Any]] = []

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(dict(body))
        if body["messages"][0].get("content") == "too long":
            return {"error": {"code": 400, "message": "too long", "type": "invalid_request_error"}}
        message = {"role": "assistant", "content": "Nice to meet you."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"choices": [choice], "model": "double", "usage": {"total_tokens": 12}}


class Upstream:
    """An OpenAI-compatible server on a loopback port, that streams when it is asked to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, dict[str, Any]]] = []
        self.status = 200
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send("application/json", b'{"object": "list", "data": [{"id": "double"}]}')

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                upstream.asked.append((self.headers["Authorization"], body))
                if upstream.status != 200:
                    self._send("application/json", b'{"error": {"message": "no such model", "code": "not_found"}}')
                    return
                choice = {"index": 0, "finish_reason": "stop"}
                head: dict[str, Any] = {"id": "chatcmpl-1", "created": 1, "model": "double"}
                if not body.get("stream"):
                    whole = {**choice, "message": {"role": "assistant", "content": "Hello!"}}
                    reply = {**head, "object": "chat.completion", "choices": [whole]}
                    self._send("application/json", json.dumps(reply).encode())
                    return
                head["object"] = "chat.completion.chunk"
                pieces = [{**choice, "delta": {"content": piece}} for piece in ("Hel", "lo!")]
                chunks = [json.dumps({**head, "choices": [piece]}) for piece in pieces]
                stream = "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"])
                self._send("text/event-stream", stream.encode())

            def _send(self, kind: str, body: bytes) -> None:
                self.send_response(upstream.status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/v1"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.httpd.shutdown()
    made.httpd.server_close()


def chatting() -> tuple[ChattingLLM, Memory]:
    llm = ChattingLLM()
    return llm, Memory(":memory:", llm=llm, embedder=HashEmbedder())


def remembered(client: TestClient, user: str, count: int, headers: Mapping[str, str] | None = None) -> list[str]:
    """The texts of a user, once there are so many."""
    until = time.monotonic() + 20
    while True:
        reply = client.get("/memories", params={"user_id": user}, headers=headers)
        texts = [entry["memory"] for entry in reply.json()["results"]]
        if len(texts) >= count or time.monotonic() > until:
            return texts
        time.sleep(0.02)


def chat(client: TestClient, text: str, **fields: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": text}], **fields})


def test_what_was_said_in_one_chat_is_recalled_in_the_next() -> None:
    llm, memory = chatting()
    with serving(memory=memory, settings=ME) as client:
        first = chat(client, "I have a dog called Biscuit.", model="any").json()
        assert first["choices"][0]["message"]["content"] == "Nice to meet you."
        assert llm.asked[0]["messages"] == [{"role": "user", "content": "I have a dog called Biscuit."}]
        assert remembered(client, "me", 1) == ["I have a dog called Biscuit."]
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is my dog called?"}]
        client.post("/v1/chat/completions", json={"messages": messages, "temperature": 0.5})
        sent = llm.asked[1]
        assert (sent["messages"][0], sent["temperature"]) == ({"role": "system", "content": "Be brief."}, 0.5)
        told = sent["messages"][1]["content"]
        assert told.startswith("<recalled-memory note=")
        assert "I have a dog called Biscuit.\n</recalled-memory>\n\nWhat is my dog called?" in told
        assert remembered(client, "me", 2)[1] == "What is my dog called?"


def test_whose_memory_a_chat_uses_is_the_keys_or_named() -> None:
    keys = Keys()
    _, ann = keys.create(Scope(user_id="ann"))
    _, all_ = keys.create(None)
    _, memory = chatting()
    with serving(memory=memory, keys=keys, settings=ME) as client:
        mine, any_ = {"Authorization": f"Bearer {ann}"}, {"X-API-Key": all_}
        body = {"messages": [{"role": "user", "content": "I like tea"}]}
        path = "/v1/chat/completions"
        assert client.post(path, json=body, headers=mine).status_code == 200
        assert client.post(path, json={**body, "user": "bob"}, headers=mine).status_code == 403
        assert client.post(path, json=body, headers={**mine, "X-User-Id": "bob"}).status_code == 403
        assert client.post(path, json=body, headers=any_).json()["error"]["code"] == "missing_scope"
        assert client.post(path, json=body, headers={**any_, "X-User-Id": "bob"}).status_code == 200
        both = client.post(path, json={**body, "user": "eve"}, headers={**any_, "X-User-Id": "bob"})
        assert both.json()["error"]["code"] == "invalid_input"
        for user in ("ann", "bob"):
            assert remembered(client, user, 1, any_) == ["I like tea"]
        assert len(client.get("/scopes", headers=any_).json()["results"]) == 2


def test_a_refused_chat_is_not_remembered_and_a_tools_result_is_not_the_users() -> None:
    llm, memory = chatting()
    with serving(memory=memory, settings=ME) as client:
        refused = chat(client, "too long")
        assert (refused.status_code, refused.json()["error"]["message"]) == (400, "too long")
        messages = [
            {"role": "user", "content": "What is the weather?"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
        ]
        assert client.post("/v1/chat/completions", json={"messages": messages}).status_code == 200
        assert chat(client, "   ").status_code == 200
        assert chat(client, "I like tea").status_code == 200
        assert remembered(client, "me", 1) == ["I like tea"]
        assert llm.asked[1]["messages"] == messages


def chunks(reply: httpx.Response) -> list[Any]:
    *lines, done = reply.text.strip().split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_model_that_cannot_stream_sends_its_reply_in_one_piece() -> None:
    llm, memory = chatting()
    with serving(memory=memory, settings=ME) as client:
        (only,) = chunks(chat(client, "hello", stream=True))
        assert only["choices"][0]["delta"]["content"] == "Nice to meet you."
        assert (llm.asked[0]["max_tokens"], "stream" in llm.asked[0]) == (1024, False)
        first, usage = chunks(chat(client, "hello", stream=True, stream_options={"include_usage": True}))
        assert (first["choices"], usage["choices"], usage["usage"]) == (only["choices"], [], {"total_tokens": 12})
        refused = chat(client, "too long", stream=True, user="eve")
        assert (refused.status_code, refused.json()["error"]["message"]) == (400, "too long")
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["memory-r1"]


class StreamingLLM(ScriptedLLM):
    """A memory's model that tells its reply in pieces: each after the first when `go` is set."""

    def __init__(self) -> None:
        super().__init__(self.remembering)
        self.go = threading.Event()
        self.stopped = threading.Event()
        self.did: list[str] = []

    def remembering(self, prompt: Prompt) -> str:
        self.did.append(prompt.step)
        return said(prompt)

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError(f"a stream was asked for: {body}")

    def chat_stream(self, body: Mapping[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None:
        if body["messages"][-1]["content"] == "too long":
            receive({"error": {"code": 400, "message": "too long"}})
            return
        if body["messages"][-1]["content"] == "down":
            raise ModelUnavailable("the model was closed")
        for piece in ("Hel", "lo", "!") if body.get("stream_options") is None else itertools.repeat("la"):
            if receive({"choices": [{"index": 0, "delta": {"content": piece}}]}):
                self.stopped.set()
                return
            assert self.go.wait(30)
        self.did.append("chat")


def test_a_model_in_the_process_streams_its_reply_as_it_is_made_and_stops_when_the_client_leaves() -> None:
    llm = StreamingLLM()
    memory = Memory(":memory:", llm=llm, embedder=HashEmbedder())
    with (
        memory,
        serving_app(create_app(memory, Keys(), settings=ME)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):

        def streamed(text: str, user: str, **options: Any) -> openai.Stream[Any]:
            asked: list[Any] = [{"role": "user", "content": text}]
            return client.chat.completions.create(model="any", user=user, messages=asked, stream=True, **options)

        stream = streamed("hello", "ann")
        assert next(stream).choices[0].delta.content == "Hel"  # while the model waits for `go`
        llm.go.set()
        assert [chunk.choices[0].delta.content for chunk in stream] == ["lo", "!"]
        while not memory.bank.count(Scope(user_id="ann")):
            time.sleep(0.01)
        assert llm.did == ["chat", "extract"]  # one after the other: nothing was related, so that nothing was decided
        endless = streamed("hello", "ann", stream_options={"include_usage": True})
        next(endless)
        endless.close()
        assert llm.stopped.wait(30)
        for text, status in (("too long", 400), ("down", 503)):
            with pytest.raises(openai.APIStatusError) as refused:
                streamed(text, "eve")
            assert refused.value.status_code == status


def test_a_stream_ends_where_what_was_said_cannot_be_kept(tmp_path: Path) -> None:
    """The client is told so, and the model does not go on for nobody."""
    llm = StreamingLLM()
    llm.go.set()
    inbox = tmp_path / "inbox.db"
    memory = Memory(":memory:", llm=llm, embedder=HashEmbedder())
    with serving(memory=memory, settings=replace(ME, inbox=inbox)) as client:
        with closing(sqlite3.connect(inbox)) as damaged:
            damaged.execute("DROP TABLE job")
        refused = chat(client, "hello", stream=True, stream_options={"include_usage": True})
        assert refused.status_code == 500
        assert llm.stopped.wait(30)


def test_a_memory_whose_model_cannot_chat_says_what_to_do() -> None:
    with serving(settings=ME) as client:
        error = chat(client, "hello").json()["error"]
        assert (error["code"], error["remedy"]) == ("no_upstream", "Start the server with --upstream URL.")


def test_an_upstream_is_asked_with_its_own_key_and_never_with_ours(upstream: Upstream) -> None:
    keys = Keys()
    _, secret = keys.create(Scope(user_id="ann"))
    with serving(keys=keys, upstream=HttpUpstream(upstream.url, "llama", "sk-own"), settings=ME) as client:
        headers = {"Authorization": f"Bearer {secret}"}
        body = {"model": "gpt", "messages": [{"role": "user", "content": "hello"}], "top_p": 0.5}
        assert client.post("/v1/chat/completions", json=body, headers=headers).json()["id"] == "chatcmpl-1"
        assert client.get("/v1/models", headers=headers).json()["data"] == [{"id": "double"}]
    with serving(keys=keys, upstream=HttpUpstream(upstream.url)) as client:
        assert client.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    (first, sent), (second, unchanged) = upstream.asked
    assert (first, sent["model"], sent["top_p"]) == ("Bearer sk-own", "llama", 0.5)
    assert (second, unchanged["model"]) == (None, "gpt")


def test_without_keys_the_clients_own_key_reaches_the_upstream(upstream: Upstream) -> None:
    with serving(
        upstream=HttpUpstream(upstream.url), settings=ME, headers={"Authorization": "Bearer sk-mine"}
    ) as client:
        assert chat(client, "hello").status_code == 200
    assert upstream.asked[0][0] == "Bearer sk-mine"


def test_an_upstreams_refusal_comes_back_as_it_is_and_one_that_is_away_is_named(upstream: Upstream) -> None:
    upstream.status = 404
    with serving(upstream=HttpUpstream(upstream.url), settings=ME) as client:
        reply = chat(client, "hello")
        assert (reply.status_code, reply.json()["error"]["message"]) == (404, "no such model")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = HttpUpstream(f"http://127.0.0.1:{closed.getsockname()[1]}/v1", api_key="sk-secret")
        with serving(upstream=away, settings=ME) as client:
            reply = chat(client, "hello")
            assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_unavailable")
            assert "sk-secret" not in reply.text
            assert client.get("/ready").json()["waiting"] == 0


def test_an_upstream_must_be_a_url() -> None:
    with pytest.raises(InvalidInput, match="http://"):
        HttpUpstream("localhost:8000")


def test_recall_goes_before_the_text_of_the_last_user_message() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": "Who is it?"}]
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    told = with_recall([*messages, {"role": "user", "content": parts}], "FENCE")
    assert told == [*messages, {"role": "user", "content": [{"type": "text", "text": "FENCE"}, *parts]}]
    assert with_recall(messages[1:], "FENCE") == messages[1:]


@contextmanager
def listening(memory: Memory, keys: Keys, upstream: Upstream) -> Iterator[str]:
    """The server on a real port."""
    with serving_app(create_app(memory, keys, upstream=HttpUpstream(upstream.url), settings=ME)) as url:
        yield f"{url}/v1"


def test_openais_own_client_has_a_memory_by_its_base_url_alone(upstream: Upstream) -> None:
    keys = Keys()
    _, secret = keys.create(Scope(user_id="ann"))
    with Memory(":memory:", llm=ScriptedLLM(said), embedder=HashEmbedder()) as memory:
        with listening(memory, keys, upstream) as url, openai.OpenAI(base_url=url, api_key=secret) as client:
            asked: list[Any] = [{"role": "user", "content": "I have a dog called Biscuit."}]
            reply = client.chat.completions.create(model="double", messages=asked)
            assert reply.choices[0].message.content == "Hello!"
            stream = client.chat.completions.create(model="double", messages=asked, stream=True)
            assert [chunk.choices[0].delta.content for chunk in stream] == ["Hel", "lo!"]
            assert [model.id for model in client.models.list()] == ["double"]
            with pytest.raises(openai.AuthenticationError, match="unknown or was revoked"):
                client.with_options(api_key="mr1_wrong").chat.completions.create(model="double", messages=asked)
            while len(memory.bank.log(Scope(user_id="ann"))) < 2:
                time.sleep(0.01)
        assert [entry["memory"] for entry in memory.get_all(user_id="ann")["results"]] == [
            "I have a dog called Biscuit."
        ]
