"""What takes how long, for whoever wants to watch: a span is opened by name and told numbers, never a text or an id.

`no_span` watches nothing; telemetry.py has the spans of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from memory_r1.flow import LLM
from memory_r1.types import Prompt, Reply

Value = str | int | float | bool
Note = Callable[[dict[str, Value]], None]


class Span(Protocol):
    """Opens a span with attributes; what it gives tells it more."""

    def __call__(self, name: str, **attributes: Value) -> AbstractContextManager[Note]: ...


@contextmanager
def no_span(name: str, **attributes: Value) -> Iterator[Note]:
    del name, attributes
    yield _nothing


def _nothing(_: dict[str, Value]) -> None: ...


@dataclass(frozen=True, slots=True)
class WatchedLLM:
    """An LLM with a span around every call, named as OpenTelemetry's conventions for generative models name things."""

    llm: LLM
    span: Span

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        with self.span(
            "memory_r1.model", **{"memory_r1.step": prompts[0].step, "gen_ai.operation.name": "chat"}
        ) as note:
            replies = self.llm.complete(prompts)
            note(
                {
                    "gen_ai.usage.input_tokens": sum(reply.prompt_tokens for reply in replies),
                    "gen_ai.usage.output_tokens": sum(reply.completion_tokens for reply in replies),
                    "gen_ai.response.model": replies[0].model or "",
                }
            )
        return replies
