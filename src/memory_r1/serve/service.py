"""What the paths share: the memory, work off the event loop, and adding that loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread

from memory_r1.errors import MemoryR1Error, ModelError, ModelRefused
from memory_r1.flow import Usage
from memory_r1.memory import Memory
from memory_r1.results import added
from memory_r1.serve.inbox import Inbox, Job, with_ids
from memory_r1.serve.metrics import Metrics
from memory_r1.serve.refusals import Refusal, refusal_of
from memory_r1.types import Logged, Scope, Step, Turn

T = TypeVar("T")

WhenModelDown = Literal["refuse", "queue"]


class Workers:
    """Threads for what blocks. Slow work (models, whole banks) has threads of its own, so that a search never waits.

    Where `most_waiting` calls wait for a slow thread already, the next is refused.
    """

    def __init__(self, quick: int = 16, slow: int = 16, most_waiting: int = 64) -> None:
        self._quick, self._slow, self._most_waiting = CapacityLimiter(quick), CapacityLimiter(slow), most_waiting
        self._turns: WeakValueDictionary[tuple[str, str], _Turn] = WeakValueDictionary()

    async def quick(self, call: Callable[..., T], *args: Any, **named: Any) -> T:
        return await to_thread.run_sync(partial(call, *args, **named), limiter=self._quick)

    async def slow(self, call: Callable[..., T], *args: Any, **named: Any) -> T:
        if self._slow.statistics().tasks_waiting >= self._most_waiting:
            raise self._busy("for the model")
        return await to_thread.run_sync(partial(call, *args, **named), limiter=self._slow)

    async def in_turn(self, scope: Scope, call: Callable[..., T], *args: Any) -> T:
        """`slow`, one call of a home after another.

        They would wait for each other in any case, each with a thread that somebody else could use.
        """
        turn = self._turns.get(scope.home)
        if turn is None:
            turn = self._turns[scope.home] = _Turn()
        if turn.waiting >= self._most_waiting:
            raise self._busy("for this user's turn")
        turn.waiting += 1
        try:
            await turn.lock.acquire()
        finally:
            turn.waiting -= 1
        try:
            return await self.slow(call, *args)
        finally:
            turn.lock.release()

    def _busy(self, whom: str) -> Refusal:
        message = f"{self._most_waiting} requests wait {whom} already"
        return Refusal(503, "busy", message, "Try again in a moment.", headers={"Retry-After": "5"})


@dataclass(slots=True, weakref_slot=True)
class _Turn:
    """Whose turn it is to remember for one home, and how many wait for theirs."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class NewTurns:
    """An add that has been checked."""

    turns: tuple[Turn, ...]
    scope: Scope
    metadata: Mapping[str, Any] | None = None
    expires_at: datetime | None = None
    infer: bool = True
    dry_run: bool = False


@dataclass(slots=True)
class Service:
    """`queues`: whether turns wait in the inbox while the model is down; otherwise they are refused."""

    memory: Memory
    workers: Workers
    queues: bool
    inbox: Inbox = field(init=False)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    asked: bool = False  # whether a model was: reading its usage would load it
    metrics: Metrics = field(init=False)

    def add(self, new: NewTurns, progress: Callable[[Sequence[Logged]], None] = lambda _: None) -> dict[str, Any]:
        """Memory.add. While the model is down: raises Refusal with what was done, or queues the turns.

        Where turns are queued, those of whom something waits already go behind it: what was told first is decided
        first, and nobody waits for a model that was down a moment ago.
        """
        logged: list[Logged] = []
        done = 0

        def collect(turns: int, operations: list[Logged]) -> None:
            nonlocal done
            done = turns
            logged.extend(operations)
            if not new.dry_run:
                self.metrics.applied(operations)
            progress(operations)

        queues = self.queues and new.infer and not new.dry_run
        turns = with_ids(new.turns) if queues else new.turns
        self.asked |= new.infer
        if queues and self.inbox.holds(new.scope):
            self.put(Job(turns, new.scope, new.metadata, new.expires_at))
            return {**added([]), "queued": len(turns)}
        try:
            return self.memory.add(
                turns,
                **_keywords(new.scope),
                metadata=new.metadata,
                expiration_date=new.expires_at,
                infer=new.infer,
                dry_run=new.dry_run,
                progress=collect,
            )
        except MemoryR1Error as error:
            if queues and isinstance(error, ModelError) and not isinstance(error, ModelRefused):
                self.put(Job(turns, new.scope, new.metadata, new.expires_at))
                return {**added(logged), "queued": len(turns) - done}
            raise refusal_of(error, added(logged) if logged else None) from error

    def put(self, job: Job, *, wake: bool = True) -> None:
        """Keep a job in the inbox, without what is scrubbed."""
        turns, metadata, _ = self.memory.scrubbed(job.turns, job.metadata)
        self.inbox.put(replace(job, turns=tuple(turns), metadata=metadata), wake=wake)

    def remember(self, job: Job, check: Callable[[], None]) -> None:
        """A job of the inbox."""

        def collect(_: int, operations: list[Logged]) -> None:
            self.metrics.applied(operations)
            check()

        self.asked = True
        self.memory.add(
            job.turns, **_keywords(job.scope), metadata=job.metadata, expiration_date=job.expires_at, progress=collect
        )

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that goes on when its request is over; `finish` waits for it."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def finish(self) -> None:
        """Wait for all work, so that nothing that was begun is lost."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    def usage(self) -> Mapping[Step, Usage]:
        return self.memory.llm.usage if self.asked else {}


def _keywords(scope: Scope) -> dict[str, Any]:
    return dict(scope.ids)
