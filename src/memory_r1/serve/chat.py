"""OpenAI's chat completions with a memory: recall into the conversation, ask the model, remember what the user said.

What is recalled goes into the user's last message, inside the fence of recall.py: it has the authority of data and not
that of a system prompt, any chat template takes it, and a prompt that is cached stays the same up to there. The client
never sees it, so it does not come back as history.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Protocol, cast, runtime_checkable

import httpx
from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from memory_r1.bank.writes import in_pieces
from memory_r1.errors import InvalidInput, ModelUnavailable
from memory_r1.serve.guard import caller_of
from memory_r1.serve.inbox import Job, with_ids
from memory_r1.serve.refusals import Json, Refusal
from memory_r1.serve.service import Service, Workers
from memory_r1.types import Scope, Turn

QUERY = 2_000
"""Characters of a message that are searched for: an embedder reads no more."""

DEFAULT_REPLY = 1024  # tokens, where a caller sets no limit: a small model that rambles would fill its context

_HANG_UP = 1.0  # seconds for a first chunk of a stream that is to be ended

_TO_CLIENT = ("content-type", "retry-after", "x-request-id")


class Upstream(Protocol):
    """The model that answers. `authorization`: the client's own header, where it may be passed on."""

    async def chat(self, body: dict[str, Any], authorization: str | None) -> Response: ...

    async def models(self, authorization: str | None) -> Response: ...

    async def close(self) -> None: ...


class HttpUpstream:
    """An OpenAI-compatible server at `{base_url}/chat/completions`; streams pass through as they come.

    `model` replaces the name that a client sends; `extra` goes into every chat. Without an `api_key` of its own, the
    client's is passed on.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        api_key: str | None = None,
        *,
        extra: Mapping[str, Any] = MappingProxyType({}),
        timeout: float = 600.0,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise InvalidInput(f"the upstream must begin with http:// or https://, not {base_url!r}")
        self._model, self._key, self._extra = model, api_key, dict(extra)
        self._base_url = base_url.rstrip("/")
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(timeout, connect=10.0))

    async def chat(self, body: dict[str, Any], authorization: str | None) -> Response:
        sent = {**body, "model": self._model} if self._model else body
        return await self._ask("POST", "/chat/completions", authorization, {**sent, **self._extra})

    async def models(self, authorization: str | None) -> Response:
        return await self._ask("GET", "/models", authorization, None)

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str, authorization: str | None, body: dict[str, Any] | None) -> Response:
        headers = {"Content-Type": "application/json"}
        if own := f"Bearer {self._key}" if self._key else authorization:
            headers["Authorization"] = own
        content = None if body is None else json.dumps(body).encode()
        request = self._client.build_request(method, self._base_url + path, content=content, headers=headers)
        try:
            reply = await self._client.send(request, stream=True)
            kept = {name: value for name, value in reply.headers.items() if name in _TO_CLIENT}
            if "text/event-stream" in reply.headers.get("content-type", ""):
                return StreamingResponse(_passed_on(reply), reply.status_code, kept)
            return Response(await reply.aread(), reply.status_code, kept)
        except httpx.HTTPError as error:  # its text could hold the request, and that the key
            what = type(error).__name__
            raise Refusal(
                502, "upstream_unavailable", f"the upstream model did not answer ({what})", "Look at its server."
            ) from None


async def _passed_on(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.aiter_bytes():
            yield chunk
    finally:
        await reply.aclose()


class Chat(Protocol):
    """A model that answers OpenAI chat completion requests: EmbeddedLLM, OpenAILLM."""

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]: ...


@runtime_checkable
class StreamingChat(Chat, Protocol):
    """One that tells its reply chunk by chunk, until `receive` returns True: EmbeddedLLM."""

    def chat_stream(self, body: Mapping[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None: ...


class ModelUpstream:
    """A model in this process, loaded at the first request by `model`. One that cannot stream replies in one piece."""

    def __init__(self, model: Callable[[], Chat], name: str, workers: Workers) -> None:
        self._model, self._name, self._workers = model, name, workers
        self._streams: set[asyncio.Task[None]] = set()

    async def chat(self, body: dict[str, Any], authorization: str | None) -> Response:
        del authorization
        asked = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
        asked["max_tokens"] = body.get("max_tokens") or asked.pop("max_completion_tokens", None) or DEFAULT_REPLY
        if body.get("stream"):
            return await self._streamed(asked, body.get("stream_options") or {})
        reply = await self._workers.slow(lambda: self._model().chat(asked))
        return _refusal(reply) or Json(_whole(reply))

    async def _streamed(self, asked: dict[str, Any], options: Any) -> Response:
        """The chunks as they come. What goes wrong before the first one has a status of its own."""
        loop, chunks = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | Exception | None]()
        gone = threading.Event()

        def receive(chunk: dict[str, Any]) -> bool:
            loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            return gone.is_set()

        async def work() -> None:
            try:
                await self._workers.slow(lambda: _stream(self._model(), asked, options, receive))
                chunks.put_nowait(None)
            except Exception as error:  # noqa: BLE001 - raised again by whoever waits for the chunks
                chunks.put_nowait(error)

        task = asyncio.create_task(work())
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        first = await chunks.get()
        if isinstance(first, Exception):
            raise first
        if first is not None and (refusal := _refusal(first)):
            return refusal

        async def lines() -> AsyncIterator[str]:
            chunk: dict[str, Any] | Exception | None = first
            try:
                while isinstance(chunk, dict):
                    yield f"data: {json.dumps(chunk)}\n\n"
                    chunk = await chunks.get()
                if isinstance(chunk, Exception):
                    raise chunk
                yield "data: [DONE]\n\n"
            finally:
                gone.set()  # the model need not go on for a client that has left

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def models(self, authorization: str | None) -> Response:
        del authorization
        listed = [{"id": self._name, "object": "model", "created": 0, "owned_by": "memory-r1"}]
        return Json({"object": "list", "data": listed})

    async def close(self) -> None:
        """Wait for streams whose clients have left. The model is its owner's."""
        while self._streams:
            await asyncio.wait(self._streams)


def _refusal(reply: Mapping[str, Any]) -> Response | None:
    """The answer where a model refused."""
    if "error" not in reply:
        return None
    code = reply["error"].get("code")
    return Json(reply, code if isinstance(code, int) and 400 <= code < 600 else 502)


def _whole(reply: Mapping[str, Any]) -> dict[str, Any]:
    made = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion", "created": int(time.time())}
    return {**made, **reply}


def _stream(model: Chat, asked: dict[str, Any], options: Any, receive: Callable[[dict[str, Any]], bool]) -> None:
    """A model's reply in OpenAI's chunks, also of one that gives it whole. `options`: stream_options, as sent."""
    if isinstance(model, StreamingChat):
        model.chat_stream({**asked, "stream_options": options} if options else asked, receive)
        return
    reply = model.chat(asked)
    if "error" in reply:
        receive(reply)
        return
    whole = _whole(reply)
    head = {**{name: whole.get(name) for name in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    choices = [
        {"index": place, "delta": choice["message"], "finish_reason": choice.get("finish_reason") or "stop"}
        for place, choice in enumerate(whole["choices"])
    ]
    receive({**head, "choices": choices})
    if isinstance(options, dict) and options.get("include_usage"):
        receive({**head, "choices": [], "usage": whole.get("usage")})


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """`default`: whose memory it is when neither a key nor the request says; None refuses."""

    default: Scope | None = None
    recall_tokens: int = 1000


class ChatMessage(BaseModel):
    """OpenAI's message, passed on as it is."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[dict[str, Any]] | None = None


class Completion(BaseModel):
    """OpenAI's body. Fields that are not named here go to the model as they are."""

    model_config = ConfigDict(extra="allow")

    messages: list[ChatMessage] = Field(
        min_length=1, examples=[[{"role": "user", "content": "What shall I cook for Mia tonight?"}]]
    )
    model: str = Field("", description="As the upstream model names it.")
    user: str | None = Field(None, description="Whose memory: the user_id.")
    stream: bool = False


def chat_router(service: Service, upstream: Upstream, settings: ChatSettings) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["chat"])

    def authorization_of(request: Request) -> str | None:
        """The client's own key for the upstream; never one of ours."""
        return None if caller_of(request.scope).key else request.headers.get("authorization")

    @router.post(
        "/chat/completions", responses={200: {"content": {"text/event-stream": {}}, "description": "OpenAI's."}}
    )
    async def completions(
        request: Request,
        body: Completion,
        x_user_id: Annotated[str | None, Header()] = None,
        x_agent_id: Annotated[str | None, Header()] = None,
        x_run_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Chat with any model and a memory: what is known is recalled, and what the user says is remembered after.

        Whose memory: the key's scope, or `user` (or the headers X-User-Id, X-Agent-Id and X-Run-Id).
        """
        if body.user is not None and x_user_id is not None and body.user != x_user_id:
            raise InvalidInput("user and X-User-Id name two users: send one of them")
        caller = caller_of(request.scope)
        ids = caller.ids({"user_id": body.user or x_user_id, "agent_id": x_agent_id, "run_id": x_run_id})
        if not ids and settings.default is not None and caller.key is None:
            ids = dict(settings.default.ids)
        scope = Scope(**ids)
        sent = body.model_dump(exclude_unset=True)
        messages = sent["messages"]
        question = _last_user_text(messages).strip()
        if question:
            recalled = await service.workers.quick(
                service.memory.context, question[:QUERY], **ids, max_tokens=settings.recall_tokens
            )
            sent["messages"] = with_recall(messages, recalled)
        try:
            reply = await upstream.chat(sent, authorization_of(request))
        except ModelUnavailable as error:
            raise Refusal(503, "model_unavailable", str(error), "Try again later.") from error
        if reply.status_code < 400 and messages[-1]["role"] == "user" and question:
            said = service.memory.bank.now()
            turns = [Turn("user", piece, said) for piece in in_pieces(question)]
            try:
                await service.workers.quick(service.put, Job(with_ids(turns), scope), wake=False)
            except BaseException:
                await _hang_up(reply)
                raise
            return _Then(reply, service.inbox.wake)
        return reply

    @router.get("/models", responses={200: {"description": "OpenAI's list."}})
    async def models(request: Request) -> Response:
        """The models that the upstream has."""
        return await upstream.models(authorization_of(request))

    return router


async def _hang_up(reply: Response) -> None:
    """End a stream that nobody will read: what tells it goes on until its generator, once begun, is closed.

    Whatever goes wrong in that is not what the client is to be told.
    """
    if isinstance(reply, StreamingResponse):
        stream = cast(AsyncGenerator[str | bytes, None], reply.body_iterator)
        with suppress(Exception):
            async with asyncio.timeout(_HANG_UP):
                await anext(stream)
            await stream.aclose()


class _Then(Response):
    """A response, and a call when it has gone out, or its client has left.

    Remembering would halve the speed of a reply that the same model is still writing.
    """

    def __init__(self, reply: Response, call: Callable[[], None]) -> None:
        super().__init__()
        self._reply, self._call = reply, call

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            await self._reply(scope, receive, send)
        finally:
            self._call()


def with_recall(messages: Sequence[Mapping[str, Any]], recalled: str) -> list[dict[str, Any]]:
    """The messages with what is recalled before the text of the user's last one."""
    told = [dict(message) for message in messages]
    place = _last_user(messages)
    if not recalled or place is None:
        return told
    content = told[place].get("content")
    if isinstance(content, str):
        told[place]["content"] = f"{recalled}\n\n{content}"
    elif isinstance(content, list):
        told[place]["content"] = [{"type": "text", "text": recalled}, *content]
    return told


def _last_user(messages: Sequence[Mapping[str, Any]]) -> int | None:
    return next((i for i in reversed(range(len(messages))) if messages[i].get("role") == "user"), None)


def _last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    place = _last_user(messages)
    content = messages[place].get("content") if place is not None else None
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))
