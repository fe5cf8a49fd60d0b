"""OpenAILLM against a real HTTP server on this machine that plays a script."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from memory_r1.errors import InvalidInput, ModelRefused, ModelUnavailable
from memory_r1.llm.openai import OpenAILLM
from memory_r1.types import STEPS, Message, Prompt

KEY = "sk-very-secret-key"
SCHEMA = {"type": "object", "properties": {"facts": {"type": "array"}}}


def prompt(text: str = "Hello", schema: dict[str, Any] | None = None) -> Prompt:
    return Prompt("extract", (Message("system", "Be brief."), Message("user", text)), schema, max_tokens=9)


def completion(text: str = "Hi", **choice: Any) -> tuple[int, dict[str, Any]]:
    answer = {"message": {"content": text}, "finish_reason": "stop", **choice}
    return 200, {"model": "m-1", "choices": [answer], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


def refusal(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message}}


class Server:
    """`answer` maps a request's body to (status, body) or (status, body, headers); None cuts the connection."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.loras: tuple[int, Any] = 404, {}
        self.answer: Callable[[dict[str, Any]], Any] = lambda _: completion()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/lora-adapters"
                status, content = server.loras
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.bodies.append(body)
                server.headers.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
                answer = server.answer(body)
                if answer is None:  # a reply that promises more than comes
                    self.send_response(200)
                    self.send_header("Content-Length", "500")
                    self.end_headers()
                    self.wfile.write(b'{"choices": [')
                    self.close_connection = True
                    return
                status, content, *headers = answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in (headers[0] if headers else {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with suppress(ConnectionError):  # a client that did not wait
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = False  # so that stopping waits for the answers under way
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def script(self, *answers: Any) -> None:
        """Answer with these in turn, and with the last one from then on."""
        left = list(answers)
        self.answer = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def llm(server: Server) -> Iterator[OpenAILLM]:
    with OpenAILLM(server.url + "/", "m", api_key=KEY, timeout=5, retries=1) as llm:
        yield llm


def test_a_reply_has_its_text_and_what_it_cost(llm: OpenAILLM) -> None:
    reply = llm.complete([prompt()])[0]
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("Hi", 7, 3)
    assert (reply.stop, reply.model, reply.logprobs, reply.token_ids) == ("end", "m-1", None, None)


def test_a_request_has_the_messages_the_limits_and_the_key(server: Server, llm: OpenAILLM) -> None:
    llm.complete([prompt("Who?")])
    body = server.bodies[0]
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 9, 0.0)
    assert "response_format" not in body
    assert server.headers[0]["path"] == "/v1/chat/completions"
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_extra_settings_go_into_every_request_and_win(server: Server) -> None:
    with OpenAILLM(server.url, "m", extra={"top_k": 1, "max_tokens": 5}) as llm:
        llm.complete([prompt()])
    assert (server.bodies[0]["top_k"], server.bodies[0]["max_tokens"]) == (1, 5)


def played(server: Server, adapters: dict[Any, str | int]) -> list[tuple[str, Any, str | None]]:
    """(model, adapters) of the request that each step makes, and the adapter that its reply names."""
    with OpenAILLM(server.url, "m", adapters=adapters) as llm:
        replies = [llm.complete([Prompt(step, (), None, 9)])[0] for step in STEPS]
    asked = [(body["model"], body.get("lora")) for body in server.bodies]
    return [(*one, reply.adapter) for one, reply in zip(asked, replies, strict=True)]


def test_a_step_is_played_by_the_adapter_that_a_server_names_and_the_others_by_the_model(server: Server) -> None:
    assert played(server, {"manage": "my-manager", "answer": "my-answerer"}) == [
        ("m", None, None),
        ("my-manager", None, "my-manager"),
        ("my-answerer", None, "my-answerer"),
        ("m", None, None),
    ]


def test_a_reply_by_an_adapter_names_the_model_that_plays_it_and_a_wrong_name_is_said_to_be_the_adapters(
    server: Server,
) -> None:
    with OpenAILLM(server.url, "m", adapters={"manage": "mine"}) as llm:
        [reply] = llm.complete([Prompt("manage", (), None, 9)])
        assert (reply.model, reply.adapter) == ("m", "mine")  # vLLM gives the adapter's name for the model's
        server.script(refusal(404, "The model `mine` does not exist"))
        with pytest.raises(ModelUnavailable, match="check base_url and the name of the adapter, mine"):
            llm.complete([Prompt("manage", (), None, 9)])
        with pytest.raises(ModelUnavailable, match="check base_url and the model's name"):
            llm.complete([Prompt("answer", (), None, 9)])


def test_a_chat_request_that_is_passed_on_is_played_by_no_adapter(server: Server) -> None:
    for adapters in ({"answer": 2}, {"answer": "named"}, {}):
        with OpenAILLM(server.url, "m", adapters=adapters) as llm:
            llm.chat({"messages": []})
    assert [body.get("lora") for body in server.bodies] == [[], None, None]


def test_a_step_is_played_by_the_adapter_that_llama_cpp_numbers_and_the_others_by_none(server: Server) -> None:
    assert played(server, {"manage": 1, "answer": 2}) == [
        ("m", [], None),
        ("m", [{"id": 1, "scale": 1.0}], "1"),
        ("m", [{"id": 2, "scale": 1.0}], "2"),
        ("m", [], None),
    ]


def test_the_files_behind_llama_cpps_numbers_are_told_without_the_machines_paths(
    server: Server, llm: OpenAILLM
) -> None:
    assert llm.lora_files() == {}  # a server that numbers none
    server.loras = 200, [{"id": 0, "path": "/home/ann/runs/first/answer.gguf", "scale": 0.0}]
    assert llm.lora_files() == {0: "first/answer.gguf"}
    server.loras = 200, {"status": "another program's page"}
    assert llm.lora_files() == {}


def test_log_probabilities_and_token_ids_are_kept_where_the_server_gives_them(server: Server, llm: OpenAILLM) -> None:
    tokens = [{"token": "H", "logprob": -0.5}, {"token": "i", "logprob": -0.25}]
    server.script(completion(logprobs={"content": tokens}, token_ids=[5, 6]))
    reply = llm.complete([prompt()])[0]
    assert (reply.logprobs, reply.token_ids, reply.logprob) == ([-0.5, -0.25], [5, 6], -0.75)


def test_a_reply_cut_at_max_tokens_says_so(server: Server, llm: OpenAILLM) -> None:
    server.script(completion("Hi the", finish_reason="length"))
    assert llm.complete([prompt()])[0].stop == "length"


def test_replies_keep_the_order_of_the_prompts_when_later_ones_are_faster(server: Server, llm: OpenAILLM) -> None:
    def answer(body: dict[str, Any]) -> Any:
        text = body["messages"][1]["content"]
        time.sleep(0.02 * (8 - int(text)))
        return completion(text)

    server.answer = answer
    assert [reply.text for reply in llm.complete([prompt(str(i)) for i in range(8)])] == [str(i) for i in range(8)]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(refusal(500, "oops"), id="500"),
        pytest.param((429, {}, {"Retry-After": "0"}), id="429"),
        pytest.param(None, id="cut"),
    ],
)
def test_a_passing_failure_is_tried_again(server: Server, llm: OpenAILLM, first: Any) -> None:
    server.script(first, completion())
    assert llm.complete([prompt()])[0].text == "Hi"
    assert len(server.bodies) == 2


def test_retry_after_replaces_the_waiting_time(server: Server) -> None:
    server.script(*[(429, {}, {"Retry-After": "0"})] * 6, completion())
    with OpenAILLM(server.url, "m", retries=6) as llm:
        start = time.monotonic()
        assert llm.complete([prompt()])[0].text == "Hi"
    assert time.monotonic() - start < 5  # six doubling waits would be 15 s and more


def test_a_lasting_server_error_is_reported_with_its_words(server: Server, llm: OpenAILLM) -> None:
    server.script(refusal(503, "the GPU is on fire"))
    with pytest.raises(ModelUnavailable, match=r"503: the GPU is on fire"):
        llm.complete([prompt()])
    assert len(server.bodies) == 2


def test_a_connection_cut_each_time_names_the_url_and_what_to_check(server: Server, llm: OpenAILLM) -> None:
    server.script(None)
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:\d+/v1 cannot be reached .* check that the server runs"):
        llm.complete([prompt()])


def test_a_server_that_is_not_there_is_unavailable(server: Server) -> None:
    server.stop()
    with (
        OpenAILLM(server.url, "m", retries=0, timeout=2) as llm,
        pytest.raises(ModelUnavailable, match=r"cannot be reached"),
    ):
        llm.complete([prompt()])


def test_a_server_that_is_too_slow_is_unavailable(server: Server) -> None:
    def answer(_: dict[str, Any]) -> Any:
        time.sleep(0.5)
        return completion()

    server.answer = answer
    with (
        OpenAILLM(server.url, "m", retries=0, timeout=0.1) as llm,
        pytest.raises(ModelUnavailable, match=r"did not answer in time; raise timeout"),
    ):
        llm.complete([prompt()])


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b'{"choices": []}', b"[1]", b'{"choices": [{"mess'])
def test_a_body_that_is_no_completion_is_reported_not_parsed(server: Server, llm: OpenAILLM, body: bytes) -> None:
    server.script((200, body))
    with pytest.raises(ModelUnavailable, match=r"not a chat completion.*check base_url"):
        llm.complete([prompt()])


@pytest.mark.parametrize(
    ("message", "asked", "limit"),
    [
        pytest.param(
            "This model's maximum context length is 4097 tokens. However, your messages resulted in 5120 tokens.",
            5120,
            4097,
            id="openai",
        ),
        pytest.param(
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8900 in the "
            "messages, 100 in the completion). Please reduce the length of the messages or completion.",
            8900,
            8192,
            id="openai-older",
        ),
        pytest.param(
            "'max_tokens' is too large: 256. This model's maximum context length is 2048 tokens and your request has "
            "2000 input tokens (256 > 2048 - 2000).",
            2000,
            2048,
            id="vllm-max-tokens",
        ),
        pytest.param(
            "The prompt (total length 5000) is too long. Make sure that the decoder prompt (length 5000) is no longer "
            "than the maximum model length of 4096.",
            5000,
            4096,
            id="vllm",
        ),
        pytest.param(
            "request (15030 tokens) exceeds the available context size (4096 tokens), try increasing it",
            15030,
            4096,
            id="llama.cpp",
        ),
        pytest.param("Input exceeds the context window", 0, None, id="no-numbers"),
    ],
)
def test_a_prompt_that_does_not_fit_is_an_overflow(
    server: Server, llm: OpenAILLM, message: str, asked: int, limit: int | None
) -> None:
    server.script(refusal(400, message))
    reply = llm.complete([prompt()])[0]
    assert (reply.text, reply.stop, reply.prompt_tokens, reply.context_tokens) == ("", "overflow", asked, limit)


def test_a_schema_goes_out_as_response_format(server: Server, llm: OpenAILLM) -> None:
    llm.complete([prompt(schema=SCHEMA)])
    expected = {"type": "json_schema", "json_schema": {"name": "extract", "schema": SCHEMA, "strict": True}}
    assert server.bodies[0]["response_format"] == expected


def test_a_server_without_schemas_is_asked_a_weaker_way_and_that_is_remembered(server: Server, llm: OpenAILLM) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if "response_format" in body:
            return refusal(400, f"response_format {body['response_format']['type']} is not supported")
        return completion()

    server.answer = answer
    llm.complete([prompt(schema=SCHEMA)])
    llm.complete([prompt(schema=SCHEMA)])
    kinds = [body.get("response_format", {}).get("type") for body in server.bodies]
    assert kinds == ["json_schema", "json_object", None, None]


def test_the_words_of_a_refusal_switch_no_schema_off(server: Server, llm: OpenAILLM) -> None:
    server.script(refusal(400, "input: 'I took a guided tour' violates our policy"))
    with pytest.raises(ModelRefused, match="400"):
        llm.complete([prompt("I took a guided tour", SCHEMA)])
    server.script(completion())
    llm.complete([prompt(schema=SCHEMA)])
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"


def test_a_parameter_that_a_server_refuses_is_named_otherwise_or_left_out(server: Server, llm: OpenAILLM) -> None:
    def answer(body: dict[str, Any]) -> Any:
        for name in ("max_tokens", "temperature", "logprobs"):
            if name in body:
                return 400, {"error": {"message": f"Unsupported parameter: '{name}'", "param": name}}
        return completion()

    server.answer = answer
    llm.complete([prompt()])
    llm.complete([prompt()])
    assert len(server.bodies) == 5
    assert server.bodies[-1].keys() == {"model", "messages", "max_completion_tokens"}


def test_another_400_is_not_taken_for_a_missing_schema_feature(server: Server, llm: OpenAILLM) -> None:
    server.script(refusal(400, "temperature must be below 2"))
    with pytest.raises(ModelUnavailable, match="400: temperature must be below 2"):
        llm.complete([prompt(schema=SCHEMA)])
    assert len(server.bodies) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C alone there")
@pytest.mark.parametrize("waits_for", ["a reply", "the next attempt"])
def test_ctrl_c_stops_at_once_whatever_the_server_does(server: Server, waits_for: str) -> None:
    released = threading.Event()

    def answer(_: dict[str, Any]) -> Any:
        if waits_for == "a reply":
            released.wait(30)
        return 429, {}, {"Retry-After": "30"}

    server.answer = answer
    code = f"""
from memory_r1.llm.openai import OpenAILLM
from memory_r1.types import STEPS, Message, Prompt
try:
    OpenAILLM({server.url!r}, "m").complete([Prompt("answer", (Message("user", "Hello"),), None, 9)] * 12)
except KeyboardInterrupt:
    print("interrupted")
"""
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while len(server.bodies) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)  # so that the answers are there where they come
    sent = time.monotonic()
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=60) == ("interrupted\n", "")
    took = time.monotonic() - sent
    released.set()
    assert took < 5
    assert len(server.bodies) == 8  # as many as run at once, and none for the rest


def test_several_batches_together_send_no_more_requests_at_once_than_concurrency(server: Server) -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def answer(_: dict[str, Any]) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return completion()

    server.answer = answer
    with OpenAILLM(server.url, "m", concurrency=3) as llm, ThreadPoolExecutor(4) as callers:
        replies = list(callers.map(llm.complete, [[prompt()] * 4] * 4))
    assert [len(batch) for batch in replies] == [4, 4, 4, 4]
    assert most == 3


def test_the_key_is_in_no_error_and_no_repr(server: Server, llm: OpenAILLM) -> None:
    server.script(refusal(401, f"Incorrect API key provided: {KEY}"))
    with pytest.raises(ModelUnavailable, match="check api_key") as caught:
        llm.complete([prompt()])
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert KEY not in repr(llm)


def test_a_closed_client_says_so(llm: OpenAILLM) -> None:
    llm.close()
    llm.close()
    with pytest.raises(ModelUnavailable, match="was closed"):
        llm.complete([prompt()])


@pytest.mark.parametrize("wrong", [{"retries": -1}, {"concurrency": 0}, {"timeout": 0}])
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        OpenAILLM("http://localhost/v1", "m", **wrong)


def test_a_base_url_without_http_is_refused() -> None:
    with pytest.raises(InvalidInput, match="http://"):
        OpenAILLM("localhost:8000/v1", "m")


def test_no_prompts_give_no_replies(llm: OpenAILLM) -> None:
    assert llm.complete([]) == []
