"""The server: `create_app` puts the parts together, and what it opens it closes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response

from memory_r1.errors import MemoryR1Error
from memory_r1.memory import Memory
from memory_r1.serve.chat import ChatSettings, ModelUpstream, Upstream, chat_router
from memory_r1.serve.guard import Guard, Limits, caller_of
from memory_r1.serve.inbox import Inbox
from memory_r1.serve.keys import Keys
from memory_r1.serve.memories import memories_router
from memory_r1.serve.metrics import CONTENT_TYPE, Metrics
from memory_r1.serve.pages import pages_router
from memory_r1.serve.refusals import Refusal, refusal_of
from memory_r1.serve.schemas import Error
from memory_r1.serve.service import Service, WhenModelDown, Workers
from memory_r1.serve.training import Runs, training_router

log = logging.getLogger("memory_r1.serve")

_REFUSALS = {
    400: "The request cannot be meant.",
    401: "No key, or none that is valid.",
    403: "The key is for another scope.",
    404: "No such entry or operation in the key's scope.",
    409: "The entry has been changed since.",
    413: "The request is too large.",
    422: "A field is missing, unknown or of another type.",
    429: "Too many requests with this key.",
    503: "The model is down or busy.",
}

_ABOUT = """Long-term memory for LLM agents: paths and bodies of Mem0's self-hosted server, and undo, history, answers \
and a chat endpoint with memory. Every error is {"error": {"code", "message", "remedy"}}."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`keys_required`: also when no key was made yet. `local`: without keys, answer to this machine alone.

    `inbox`: the file of turns that wait to be remembered. While the model is down, adds are refused, or wait there and
    are tried again after `retry_seconds`, then after twice as many.
    """

    limits: Limits = field(default_factory=Limits)
    chat: ChatSettings = field(default_factory=ChatSettings)
    when_model_down: WhenModelDown = "refuse"
    inbox: str | Path = ":memory:"
    retry_seconds: float = 1.0
    keys_required: bool = False
    local: bool = True


def create_app(
    memory: Memory,
    keys: Keys,
    *,
    upstream: Upstream | None = None,
    settings: Settings | None = None,
    runs: Runs | None = None,
) -> FastAPI:
    """The ASGI application. `memory` and `keys` stay their owner's to close, after the application has ended.

    `upstream` answers the chat endpoint; by default the memory's own model does. `runs`: the training runs to show.
    """
    chosen = settings or Settings()
    workers = Workers()
    service = Service(memory, workers, queues=chosen.when_model_down == "queue")
    service.inbox = inbox = Inbox(chosen.inbox, service.remember, delay=chosen.retry_seconds)
    gauges = {
        "inbox_waiting": ("Adds that wait to be remembered.", inbox.waiting),
        "inbox_failed": ("Adds that could not be remembered and were set aside.", inbox.failed),
        "entries": ("Memory entries.", memory.bank.count),
    }
    service.metrics = metrics = Metrics(gauges, service.usage)
    answering = upstream or ModelUpstream(lambda: _chat_model(memory), "memory-r1", workers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        inbox.start()
        try:
            yield
        finally:
            await service.finish()
            await workers.quick(inbox.stop)
            await answering.close()
            inbox.close()

    app = FastAPI(
        title="memory-r1",
        version=version("memory-r1"),
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads its scripts from elsewhere; pages.py has one of our own
        redoc_url=None,
        dependencies=[
            Security(HTTPBearer(auto_error=False)),
            Security(APIKeyHeader(name="X-API-Key", auto_error=False)),
        ],
        responses={status: {"model": Error, "description": about} for status, about in _REFUSALS.items()},
    )
    app.include_router(memories_router(service))
    app.include_router(chat_router(service, answering, chosen.chat))
    app.include_router(training_router(runs, workers))
    app.include_router(pages_router())
    _add_upkeep(app, service)
    _add_refusals(app, metrics)
    app.add_middleware(Guard, keys, metrics, chosen.limits, keys_required=chosen.keys_required, local=chosen.local)
    return app


def _chat_model(memory: Memory) -> Any:
    model = memory.llm.default
    if not hasattr(model, "chat"):
        message = "the memory's model does not speak OpenAI's protocol"
        raise Refusal(400, "no_upstream", message, "Start the server with --upstream URL.")
    return model


def _add_upkeep(app: FastAPI, service: Service) -> None:
    bank, workers = service.memory.bank, service.workers

    @app.get("/health", tags=["upkeep"])
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok", "version": version("memory-r1")}

    @app.get("/ready", tags=["upkeep"])
    async def ready() -> dict[str, Any]:
        """The bank can be read, and what waits is being remembered. 503 where not."""
        try:
            await workers.quick(bank.log, last=1)
            waiting = await workers.quick(service.inbox.waiting)
        except MemoryR1Error as error:
            log.error("not ready: %s", error)
            raise Refusal(503, "not_ready", "the bank cannot be read", "Look at the server's log.") from error
        if not service.inbox.works:
            raise Refusal(503, "not_ready", "nothing that waits is remembered any more", "Restart the server.")
        return {"status": "ready", "waiting": waiting}

    @app.get(
        "/metrics", tags=["upkeep"], responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text."}}
    )
    async def metrics(request: Request) -> Response:
        """Counts for Prometheus. With keys on it needs one that is bound to no scope."""
        caller_of(request.scope).check_everybody("the counts are")
        return Response(await workers.quick(service.metrics.text), media_type=CONTENT_TYPE)


def _add_refusals(app: FastAPI, metrics: Metrics) -> None:
    """Every error in one shape. What a client sent is not repeated: it may be private, and lands in logs."""

    def answer(refusal: Refusal) -> Response:
        metrics.refused(refusal.code)
        return refusal.response()

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error, Refusal):
            return answer(error)
        code = {404: "unknown_path", 405: "unknown_method"}.get(error.status_code, "invalid_input")
        message = str(error.detail)
        return answer(Refusal(error.status_code, code, message, "See /docs.", headers=error.headers))

    async def known(_: Request, error: Exception) -> Response:
        assert isinstance(error, MemoryR1Error)
        refusal = refusal_of(error)
        if refusal.status_code >= 500:
            log.warning("%s, answered with %d", type(error).__name__, refusal.status_code)  # texts are not logged
        return answer(refusal)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3]]
        return answer(Refusal(422, "invalid_request", "; ".join(found), "Correct these fields; see /docs."))

    async def unexpected(_: Request, error: Exception) -> Response:
        del error  # the server logs it with its traceback
        return answer(
            Refusal(500, "internal", "something went wrong in the server", "Report it with the server's log.")
        )

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(MemoryR1Error, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
