"""What can be compared: anything that reads a dialogue and finds memories for a question.

Every system's memories are shown to the same Answer Agent with the same prompt, model and budget, so that a difference
between two rows of a table is a difference between what they remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from memory_r1.bench.data import Dialogue, Question
from memory_r1.dates import annotate


@dataclass(frozen=True, slots=True)
class Found:
    """One memory that a system found for a question. `turn` names the turn it came from, where the system knows;

    `turns` all of them, where it is made of several.
    """

    text: str
    time: datetime | None = None
    speaker: str | None = None
    turn: str | None = None
    score: float | None = None
    turns: tuple[str, ...] = ()


def in_context(text: str, said_at: datetime | None) -> str:
    """Words that bear the date when they were said, as every system shows them: with what their relative dates mean.

    For memory-r1 "yesterday (7 May 2023)" is part of remembering. Without the same for others a table would compare
    who does this sum, not who remembers.
    """
    return annotate(text, said_at) if said_at else text


class System(Protocol):
    """A memory system under test. One dialogue after another is read; questions are about the one read last."""

    name: str
    repeatable: bool
    """Whether reading a dialogue once more leads to the same bank."""

    def read(self, dialogue: Dialogue, progress: Callable[[int], None]) -> None:
        """Take in a dialogue from its first turn, with nothing left of an earlier one; calls progress(turns_done)."""
        ...

    def find(self, question: Question, k: int) -> Sequence[Found]:
        """At most `k` memories, best first. Sees the question's text and `asked_at`, never its answer or evidence."""
        ...

    def stats(self) -> Mapping[str, Any]:
        """What the bank of the dialogue read last holds, and what reading it took:

        {"entries": n, "memory_tokens": n, "operations": {"ADD": n, ...}, "unreadable": n, ...}, and anything else
        worth a line in the results (a deviation under "deviations": [...]).
        """
        ...

    def close(self) -> None: ...
