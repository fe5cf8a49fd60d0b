"""The paths of Mem0's self-hosted server, and what a decided memory has beyond it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from memory_r1.audit import audit
from memory_r1.bank.writes import check_metadata
from memory_r1.dates import parse_time, zoned_time
from memory_r1.errors import BadFilter
from memory_r1.messages import turns_of
from memory_r1.results import added, entry_dict, found_dict, held_dict, operation_dict
from memory_r1.serve import schemas
from memory_r1.serve.guard import Caller, caller_of
from memory_r1.serve.refusals import Json, Refusal
from memory_r1.serve.service import NewTurns, Service
from memory_r1.types import Logged, Scope

SILENCE = 15.0
"""Seconds after which a stream sends a comment, so that nobody between takes it for dead."""

_EVENT = {
    "type": "object",
    "properties": {"event": {"enum": ["operation", "done", "error"]}, "data": {"type": "string"}},
    "required": ["event", "data"],
}

MemoryId = Annotated[str, Path(max_length=200)]


def _returns(model: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}}


def memories_router(service: Service) -> APIRouter:
    router = APIRouter()
    memory, workers = service.memory, service.workers
    bank = memory.bank

    @router.post(
        "/memories",
        tags=["memories"],
        responses={
            200: {
                "model": schemas.Added,
                "content": {"text/event-stream": {"schema": _EVENT}},
                "description": "What each fact did; as a stream, an event `operation` for each, and `done` at the end.",
            },
            202: {
                "model": schemas.Queued,
                "description": "The model is down; the turns are kept and will be remembered.",
            },
        },
    )
    async def add(
        request: Request,
        body: schemas.NewMemories,
        stream: bool = False,
        accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> Response:
        """Remember messages. Each fact in them becomes ADD, UPDATE, DELETE or NOOP."""
        new = _new_turns(service, body, caller_of(request.scope))
        if stream or "text/event-stream" in (accept or ""):
            return StreamingResponse(_events(service, new), media_type="text/event-stream")
        decides = new.infer or new.dry_run
        result = await (workers.in_turn(new.scope, service.add, new) if decides else workers.quick(service.add, new))
        return Json(result, 202 if "queued" in result else 200)

    @router.get("/memories", tags=["memories"], responses=_returns(schemas.Entries))
    async def get_all(request: Request, query: Annotated[schemas.Listing, Query()]) -> Response:
        """The entries of a scope, oldest first."""
        run = workers.slow if query.as_of else workers.quick
        found = await run(
            memory.get_all,
            **caller_of(request.scope).ids(query.ids),
            top_k=query.limit or query.top_k,
            skip=query.skip,
            newest_first=query.order == "newest",
            filters=_json_filter(query.filters),
            as_of=query.as_of,
            show_expired=query.show_expired,
            turns=query.turns,
        )
        return Json(found)

    @router.delete("/memories", tags=["memories"], responses=_returns(schemas.DeletedAll))
    async def delete_all(request: Request, query: schemas.WhoseQuery) -> Response:
        """Remove every entry of a scope. Each stays in the log and can be undone; POST /reset erases."""
        ids = caller_of(request.scope).ids(query.ids)
        return Json(await workers.quick(memory.delete_all, **ids))

    @router.post("/search", tags=["memories"], responses=_returns(schemas.Found))
    async def search(request: Request, body: schemas.Search) -> Response:
        """The best entries for a query, by meaning and by words, best first."""
        run = workers.slow if body.as_of is not None else workers.quick
        found = await run(
            memory.search,
            body.query,
            **caller_of(request.scope).ids(body.ids),
            **{
                name: getattr(body, name)
                for name in ("limit", "top_k", "filters", "threshold", "as_of", "show_expired", "turns")
            },
        )
        return Json(found)

    @router.get("/memories/{memory_id}", tags=["memories"], responses=_returns(schemas.Entry))
    async def get(request: Request, memory_id: MemoryId) -> Response:
        """One entry as it is now."""
        return Json(entry_dict(await workers.quick(bank.get, memory_id, _scope(request))))

    @router.put("/memories/{memory_id}", tags=["memories"], responses=_returns(schemas.Changed))
    async def update(request: Request, memory_id: MemoryId, body: schemas.Changes) -> Response:
        """Change an entry by hand. What it said stays in its history."""
        scope = _scope(request)
        changes: dict[str, Any] = {"text": body.text, "data": body.data, "metadata": body.metadata}
        if "expiration_date" in body.model_fields_set:
            changes["expiration_date"] = body.expiration_date

        def change() -> dict[str, Any]:
            bank.get(memory_id, scope)  # an entry never changes its scope
            return memory.update(memory_id, **changes)

        return Json(await workers.quick(change))

    @router.delete("/memories/{memory_id}", tags=["memories"], responses=_returns(schemas.Changed))
    async def delete(request: Request, memory_id: MemoryId) -> Response:
        """Remove an entry. Its history stays, and POST /undo brings it back."""
        scope = _scope(request)

        def remove() -> dict[str, Any]:
            bank.get(memory_id, scope)
            return memory.delete(memory_id)

        return Json(await workers.quick(remove))

    @router.get("/memories/{memory_id}/history", tags=["memories"], responses=_returns(list[schemas.OperationLine]))
    async def history(request: Request, memory_id: MemoryId) -> Response:
        """Every operation on an entry, oldest first; of one that was deleted, too."""
        logged = await workers.quick(bank.history, memory_id, _scope(request))
        return Json([operation_dict(one) for one in logged])

    @router.post("/reset", tags=["memories"], responses=_returns(schemas.DeletedAll))
    async def reset(request: Request, query: schemas.WhoseQuery) -> Response:
        """Erase a scope for good: entries, vectors, log, and what waits to be remembered. Nothing brings it back."""
        scope = Scope(**caller_of(request.scope).ids(query.ids))

        def erase() -> int:
            service.inbox.erase(scope)
            return memory.purge(**scope.ids)

        count = await workers.slow(erase)
        return Json({"message": "Memories erased for good.", "count": count})

    @router.post("/ask", tags=["answers"], responses=_returns(schemas.AnswerText))
    async def ask(request: Request, body: schemas.Ask) -> Response:
        """A brief answer by the Answer Agent, with what was retrieved and the entries it kept."""
        service.asked = True
        ids = caller_of(request.scope).ids(body.ids)
        answer = await workers.slow(
            memory.answer,
            body.question,
            **ids,
            filters=body.filters,
            top_k=body.top_k,
            as_of=body.as_of,
            least_certainty=body.least_certainty,
        )
        return Json(
            {
                "answer": answer.text,
                "known": answer.known,
                "used": [entry_dict(entry) for entry in answer.used],
                "retrieved": [found_dict(found) for found in answer.retrieved],
                "dropped": answer.dropped,
                "logprob": answer.logprob,
                "certainty": answer.certainty,
            }
        )

    @router.post("/context", tags=["answers"], responses=_returns(schemas.ContextText))
    async def context(request: Request, body: schemas.Context) -> Response:
        """The best entries for a query as a fenced block of data for another model's prompt."""
        ids = caller_of(request.scope).ids(body.ids)
        text = await workers.quick(memory.context, body.query, **ids, filters=body.filters, max_tokens=body.max_tokens)
        return Json({"context": text})

    @router.get("/operations", tags=["log"], responses=_returns(schemas.OperationLines))
    async def operations(request: Request, query: Annotated[schemas.Operations, Query()]) -> Response:
        """The latest operations, latest first; `before` reads on."""
        scope = _scope(request, query)
        logged = await workers.quick(bank.log, scope, before=query.before, last=query.top_k)
        return Json({"results": [operation_dict(one) for one in reversed(logged)]})

    @router.post("/undo", tags=["log"], responses=_returns(schemas.OperationLine))
    async def undo(request: Request, body: schemas.Undo) -> Response:
        """Reverse one operation by a new one. 409 when its entry has been changed since."""
        return Json(operation_dict(await workers.quick(bank.undo, body.operation, _scope(request))))

    @router.get("/quarantine", tags=["quarantine"], responses=_returns(schemas.AllHeld))
    async def quarantined(request: Request, query: schemas.WhoseQuery) -> Response:
        """What was kept apart since it reads like instructions for a model, oldest first. No search meets it."""
        held = await workers.quick(bank.held, _scope(request, query))
        return Json({"results": [held_dict(one) for one in held]})

    @router.post("/quarantine/{memory_id}/release", tags=["quarantine"], responses=_returns(schemas.Added))
    async def release(request: Request, memory_id: MemoryId) -> Response:
        """Remember it after all, as it was to be: a person has looked at it."""
        scope = _scope(request)
        service.asked = True

        def remember() -> dict[str, Any]:
            bank.held(scope, memory_id)
            return memory.release(memory_id)

        return Json(await workers.slow(remember))

    @router.delete("/quarantine/{memory_id}", tags=["quarantine"], responses=_returns(schemas.Changed))
    async def discard(request: Request, memory_id: MemoryId) -> Response:
        """Never remember it. The log keeps its words until its scope is erased."""
        scope = _scope(request)

        def drop() -> dict[str, Any]:
            bank.held(scope, memory_id)
            return memory.discard(memory_id)

        return Json(await workers.quick(drop))

    @router.get("/audit", tags=["log"], responses=_returns(schemas.Findings))
    async def audit_(request: Request, query: Annotated[schemas.Auditing, Query()]) -> Response:
        """Suspicious entries, duplicates, contradictions, stale and never-recalled ones. Nothing is changed."""
        scope = _scope(request, query)
        found = await workers.slow(audit, bank, scope, stale_after=timedelta(days=query.stale_days))
        counts = Counter[str]()
        lines = []
        for one in found:
            counts[one.kind] += 1
            if query.top_k is None or counts[one.kind] <= query.top_k:
                entries = [entry_dict(entry) for entry in one.entries]
                lines.append({"kind": one.kind, "why": one.why, "entries": entries})
        return Json({"findings": lines, "counts": counts})

    @router.get(
        "/export",
        tags=["log"],
        responses={
            200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}, "description": "JSON lines."}
        },
    )
    async def export(request: Request, query: schemas.WhoseQuery) -> Response:
        """The whole log as JSON lines that `memory-r1 import` takes in; without ids, of all that the key opens."""
        scope = _scope(request, query)
        lines = await workers.slow(memory.export, **(scope.ids if scope else {}))
        return StreamingResponse((line + "\n" for line in lines), media_type="application/x-ndjson")

    @router.get("/scopes", tags=["log"], responses=_returns(schemas.Scopes))
    async def scopes(request: Request) -> Response:
        """The scopes that have entries and that the key opens."""
        bound = caller_of(request.scope).bound
        held = await workers.quick(bank.scopes)
        lines = [{**scope.ids, "memories": n} for scope, n in held if bound.items() <= scope.ids.items()]
        return Json({"results": lines, "bound": bound or None})

    return router


@dataclass(frozen=True, slots=True)
class _Event:
    name: str
    data: Any

    def __str__(self) -> str:
        return f"event: {self.name}\ndata: {json.dumps(self.data)}\n\n"


async def _events(service: Service, new: NewTurns) -> AsyncIterator[str]:
    """The operations as they happen. The add goes on to its end also when the client is gone."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[_Event | None]()

    def tell(operations: Sequence[Logged]) -> None:
        for line in added(operations)["results"]:
            loop.call_soon_threadsafe(queue.put_nowait, _Event("operation", line))

    async def work() -> None:
        try:
            queue.put_nowait(_Event("done", await service.workers.in_turn(new.scope, service.add, new, tell)))
        except Refusal as refusal:
            queue.put_nowait(_Event("error", refusal.body))
        finally:
            queue.put_nowait(None)

    service.keep(work())
    while True:
        try:
            event = await asyncio.wait_for(queue.get(), SILENCE)
        except TimeoutError:
            yield ": still at it\n\n"
            continue
        if event is None:
            return
        yield str(event)


def _new_turns(service: Service, body: schemas.NewMemories, caller: Caller) -> NewTurns:
    """What is to be remembered, all of it checked before anything is done."""
    messages: Any = body.messages
    if not isinstance(messages, str):
        messages = [message.model_dump(exclude_none=True) for message in messages]
    scope = Scope(**caller.ids(body.ids))
    said = service.memory.bank.now() if body.timestamp is None else zoned_time(body.timestamp)
    turns = turns_of(messages, said)
    check_metadata(body.metadata)
    expires_at = None if body.expiration_date is None else parse_time(body.expiration_date)
    return NewTurns(tuple(turns), scope, body.metadata, expires_at, body.infer, body.dry_run)


def _json_filter(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFilter("the filter is not JSON") from error


def _scope(request: Request, whose: schemas.Ids | None = None) -> Scope | None:
    """The scope that the key opens, narrowed by the ids given; None is everything, for the file's owner."""
    ids = caller_of(request.scope).ids(whose.ids if whose else {})
    return Scope(**ids) if ids else None
