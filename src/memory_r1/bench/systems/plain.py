"""The two ends of the scale: remembering nothing, and showing everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memory_r1.bench.data import Dialogue, Question
from memory_r1.bench.systems import Found, in_context
from memory_r1.recall import estimated_tokens
from memory_r1.types import Turn


def said(turn: Turn) -> Found:
    """A turn as a memory: who said what, and when."""
    return Found(in_context(f"{turn.speaker}: {turn.text}", turn.time), turn.time, turn.speaker, turn.id)


class NoMemory:
    """Nothing is remembered: what the model guesses, or how well it says that it does not know."""

    name, repeatable = "no-memory", True

    def read(self, dialogue: Dialogue, progress: Callable[[int], None]) -> None:
        progress(len(dialogue.turns))

    def find(self, question: Question, k: int) -> Sequence[Found]:
        del question, k
        return ()

    def stats(self) -> Mapping[str, Any]:
        return {"entries": 0, "memory_tokens": 0}

    def close(self) -> None: ...


class FullContext:
    """Every turn, in order, whatever the budget. What overflows the model's context loses the dialogue's end."""

    name, repeatable = "full-context", True

    def __init__(self) -> None:
        self._turns: tuple[Found, ...] = ()

    def read(self, dialogue: Dialogue, progress: Callable[[int], None]) -> None:
        self._turns = tuple(map(said, dialogue.turns))
        progress(len(self._turns))

    def find(self, question: Question, k: int) -> Sequence[Found]:
        del question, k
        return self._turns

    def stats(self) -> Mapping[str, Any]:
        tokens = sum(estimated_tokens(one.text) for one in self._turns)
        return {"entries": len(self._turns), "memory_tokens": tokens, "deviations": ["shows all turns, not k of them"]}

    def close(self) -> None: ...
