"""One local OpenAI-compatible endpoint through which every system under test gets the same model and embedder.

`/v1/chat/completions`, `/v1/embeddings` and `/v1/models`, on a loopback port that the system chooses, for as long as
the benchmark runs. What each caller spends is counted.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from memory_r1.embed import Embedder
from memory_r1.errors import ModelUnavailable
from memory_r1.flow import Usage
from memory_r1.replies import json_object, whole_objects

MAX_BODY = 32 << 20  # bytes
CALLS = 4  # tool calls in one reply: without an end, a small model repeats itself
DEFAULT_REPLY = 2048  # tokens, where a caller sets no limit: a small model that rambles would fill its context


class Chat(Protocol):
    """A model that answers OpenAI chat completion requests as they stand."""

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]: ...


class Endpoint:
    """The endpoint, listening from construction to `close`. `usage` counts calls and tokens by "chat" and "embed"."""

    def __init__(self, model: Chat, embedder: Embedder, name: str) -> None:
        self.model, self.embedder, self.name = model, embedder, name
        self.usage = {"chat": Usage(), "embed": Usage()}
        self.refused = 0
        self.failed: Exception | None = None
        self._lock = threading.Lock()
        endpoint = self

        class Handler(_Handler):
            here = endpoint

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="memory-r1-endpoint", daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def check(self) -> None:
        """Raises ModelUnavailable where the model or the embedder failed, and not the system that asked it."""
        if self.failed is not None:
            raise ModelUnavailable(f"{type(self.failed).__name__}: {self.failed}") from self.failed

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def chat(self, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """(status, reply). A tool that must be called is asked for by a schema, since a small model forgets to.

        What the model refuses is the caller's; where it is overloaded, breaks or raises, the model failed.
        """
        if body.get("stream"):
            return 400, _error(400, "this endpoint does not stream; send stream: false")
        asked = {**body, "max_tokens": body.get("max_tokens") or body.get("max_completion_tokens") or DEFAULT_REPLY}
        asked.pop("max_completion_tokens", None)
        forced = forced_tools(body)
        if forced:
            # Servers refuse tools beside a schema, and llama.cpp's own "required" lets a small model answer in prose.
            dropped = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
            asked = {name: value for name, value in asked.items() if name not in dropped}
            asked["messages"] = told(body["messages"], forced)
            schema = {"name": "calls", "schema": calls_schema(forced), "strict": True}
            asked["response_format"] = {"type": "json_schema", "json_schema": schema}
        try:
            reply = self.model.chat(asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run ends by it, in `check`
            return self._fail(error)
        with self._lock:
            if "error" in reply:
                self.refused += 1
            self._count("chat", reply.get("usage") or {})
        if "error" not in reply:
            return 200, as_tool_calls(reply) if forced else reply
        status = _status(reply)
        if status == 429 or status > 500 or (status == 500 and self._breaks()):
            self.failed = ModelUnavailable(f"the model answered {status}: {reply['error'].get('message')}")
        return status, reply

    def _breaks(self) -> bool:
        """Whether the model answers nothing: servers say 500 of a request that they cannot take, too."""
        try:
            return "error" in self.model.chat({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1})
        except Exception as error:  # noqa: BLE001
            self._fail(error)
            return True

    def _fail(self, error: Exception) -> tuple[int, dict[str, Any]]:
        self.failed = error
        return 503, _error(503, str(error))

    def embed(self, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """(status, reply). `input_type`: "query" or "passage" (the default), for embedders that tell them apart."""
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            return 400, _error(400, "input must be a text or a list of texts, not token ids")
        try:
            vectors = self.embedder.embed(texts, query=body.get("input_type") == "query")
        except Exception as error:  # noqa: BLE001 - as of the model
            return self._fail(error)
        packed = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist(),
            }
            for i, vector in enumerate(np.asarray(vectors, dtype=np.float32))
        ]
        words = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": words, "total_tokens": words}
        with self._lock:
            self._count("embed", usage)
        return 200, {"object": "list", "data": data, "model": self.embedder.name, "usage": usage}

    def models(self) -> dict[str, Any]:
        names = (self.name, self.embedder.name)
        return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "local"} for name in names]}

    def _count(self, what: str, usage: Mapping[str, Any]) -> None:
        self.usage[what].calls += 1
        self.usage[what].prompt_tokens += int(usage.get("prompt_tokens") or 0)
        self.usage[what].completion_tokens += int(usage.get("completion_tokens") or 0)


def _status(reply: Mapping[str, Any]) -> int:
    """That of a reply which is an error."""
    code = reply["error"].get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def forced_tools(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The functions one of which the request says must be called; none where the model is free to talk."""
    functions = [tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"]
    choice = body.get("tool_choice")
    if choice in ("required", "any"):
        return functions
    if isinstance(choice, dict):
        named = (choice.get("function") or {}).get("name")
        return [function for function in functions if function["name"] == named]
    return []


def call_schema(functions: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON schema of one call: {"name": ..., "arguments": {...}}. References inside arguments move to its top."""
    definitions: dict[str, Any] = {}
    calls = []
    for function in functions:
        parameters = dict(function.get("parameters") or {"type": "object"})
        for key in ("$defs", "definitions"):
            definitions |= parameters.pop(key, {})
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, "arguments": parameters},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**schema, "$defs": definitions} if definitions else schema


def calls_schema(functions: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON schema of a reply: {"calls": [one to CALLS calls]}."""
    call = call_schema(functions)
    definitions = call.pop("$defs", None)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"calls": {"type": "array", "items": call, "minItems": 1, "maxItems": CALLS}},
        "required": ["calls"],
        "additionalProperties": False,
    }
    return {**schema, "$defs": definitions} if definitions else schema


def told(messages: Sequence[Mapping[str, Any]], functions: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages, with the functions and the form of the reply told in the system message."""
    text = "\n".join(
        (
            "Call one or more of these functions:",
            *(json.dumps(function, ensure_ascii=False) for function in functions),
            'Reply with JSON only: {"calls": [{"name": "the function", "arguments": {...}}, ...]}',
        )
    )
    first = messages[0] if messages and messages[0].get("role") == "system" else None
    rest = messages[1:] if first else messages
    content = f"{first['content']}\n\n{text}" if first else text
    return [{"role": "system", "content": content}, *map(dict, rest)]


def as_tool_calls(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply whose text is calls, as the protocol's tool calls. Of one that was cut off the whole ones remain."""
    choice = reply["choices"][0]
    content = choice["message"].get("content") or ""
    found = json_object(content) or {}
    calls = found.get("calls") if "calls" in found else whole_objects(content)
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return reply
    made = [
        {
            "id": f"call_{number}_{reply.get('id', '')}",
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call.get("arguments", {}), ensure_ascii=False)},
        }
        for number, call in enumerate(calls)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": made}
    return {**reply, "choices": [{**choice, "message": message, "finish_reason": "tool_calls"}]}


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "type": "invalid_request_error"}}


class _Handler(BaseHTTPRequestHandler):
    here: Endpoint
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.here.failed is not None:
            self._send(503, _error(503, str(self.here.failed)))
        elif self.path.rstrip("/") == "/v1/models":
            self._send(200, self.here.models())
        else:
            self._send(404, _error(404, f"there is no {self.path}; /v1/models is there"))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            return self._send(413, _error(413, f"a request may have {MAX_BODY} bytes"))
        try:
            body = json.loads(self.rfile.read(length))
            if not isinstance(body, dict):
                raise TypeError("a request is a JSON object")
        except (ValueError, TypeError) as error:
            return self._send(400, _error(400, f"not a JSON object: {error}"))
        answer = {"/v1/chat/completions": self.here.chat, "/v1/embeddings": self.here.embed}.get(self.path.rstrip("/"))
        if answer is None:
            return self._send(404, _error(404, f"there is no {self.path}; /v1/chat/completions and /v1/embeddings are"))
        return self._send(*answer(body))

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests are counted, and their text is nobody's to log."""
