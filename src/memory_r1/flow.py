"""Flows and their drivers. Agent code yields Prompts and never calls a model; a driver answers.

    Flow[T] = Generator[Prompt, Reply, T]

`run` drives one flow, `run_batch` many in lockstep with one model batch a round, `arun` one from async code.
Serving, training, evaluation and scripted tests run the same flows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from memory_r1.errors import InvalidInput
from memory_r1.types import Prompt, Reply, Step

T = TypeVar("T")
Flow = Generator[Prompt, Reply, T]


class LLM(Protocol):
    """A language model: one reply per prompt, in order. Raises ModelError; never returns half a batch."""

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]: ...


def run(flow: Flow[T], llm: LLM) -> T:
    """Drive one flow to its result."""
    try:
        prompt = next(flow)
        while True:
            prompt = flow.send(llm.complete([prompt])[0])
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def run_batch(flows: Sequence[Flow[T]], llm: LLM) -> list[T]:
    """Drive many flows in lockstep: each round answers every waiting prompt with one model batch."""
    results: dict[int, T] = {}
    waiting: dict[int, Prompt] = {}

    def advance(i: int, reply: Reply | None) -> None:
        try:
            waiting[i] = next(flows[i]) if reply is None else flows[i].send(reply)
        except StopIteration as stop:
            results[i] = stop.value

    for i in range(len(flows)):
        advance(i, None)
    while waiting:
        round_ = list(waiting.items())
        waiting.clear()
        for (i, _), reply in zip(round_, llm.complete([prompt for _, prompt in round_]), strict=True):
            advance(i, reply)
    return [results[i] for i in range(len(flows))]


def _unwatched(*_: object) -> None:
    """Nobody is told."""


def watched(
    flow: Flow[T],
    *,
    before: Callable[[Prompt], None] = _unwatched,
    after: Callable[[Prompt, Reply], None] = _unwatched,
) -> Flow[T]:
    """The same flow; somebody is told of each prompt before it is answered, and of its reply after."""
    try:
        prompt = next(flow)
        while True:
            before(prompt)
            reply = yield prompt
            after(prompt, reply)
            prompt = flow.send(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def arun(flow: Flow[T], llm: LLM) -> T:
    """`run` from async code: the model works in a thread, the flow's own steps on the loop."""
    import asyncio  # a third of what importing the package would cost, and async callers have it already

    try:
        prompt = next(flow)
        while True:
            prompt = flow.send((await asyncio.to_thread(llm.complete, [prompt]))[0])
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


@dataclass
class Usage:
    """What one step has cost so far."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass
class Roles:
    """An LLM that sends each prompt to the model that plays its step, and counts what each step costs.

    `default` plays every step that `by_step` does not name.
    """

    default: LLM | None = None
    by_step: Mapping[Step, LLM] = field(default_factory=dict)
    usage: dict[Step, Usage] = field(default_factory=dict)

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        groups: dict[int, tuple[LLM, list[int]]] = {}
        for i, prompt in enumerate(prompts):
            llm = self.by_step.get(prompt.step, self.default)
            if llm is None:
                raise InvalidInput(f"no model plays the step {prompt.step!r}; Roles has {sorted(self.by_step)}")
            groups.setdefault(id(llm), (llm, []))[1].append(i)
        for llm, places in groups.values():
            for i, reply in zip(places, llm.complete([prompts[i] for i in places]), strict=True):
                replies[i] = reply
        for i, prompt in enumerate(prompts):
            usage = self.usage.setdefault(prompt.step, Usage())
            usage.calls += 1
            if replies[i].stop != "overflow":  # what is refused as too long is counted, and not read
                usage.prompt_tokens += replies[i].prompt_tokens
            usage.completion_tokens += replies[i].completion_tokens
        return [replies[i] for i in range(len(prompts))]
