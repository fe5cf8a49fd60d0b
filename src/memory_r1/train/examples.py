"""Examples as JSON lines: prompts with the replies that are right, to look at, to clone, or to grade on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memory_r1.errors import InvalidInput
from memory_r1.files import json_lines
from memory_r1.train.samples import write_lines
from memory_r1.train.teacher import Example
from memory_r1.types import Message, Prompt, Step


class Placed(NamedTuple):
    """An example and the dialogue that it is of."""

    dialogue: str
    example: Example


def write_examples(path: Path, examples: Iterable[Placed]) -> int:
    """One line each; returns how many. The file appears whole or not at all: CheckpointFailed then says why."""
    return write_lines(path, (_state(*one) for one in examples))


def read_examples(path: Path, steps: Sequence[Step]) -> list[Placed]:
    """Those of these steps. Raises InvalidInput for a line that is no example, naming it, and where there is none."""
    found = []
    for number, state in json_lines(path, "example"):
        try:
            placed = _placed(state)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{path.name} line {number} is not an example: {error!r}") from error
        if placed.example.prompt.step in steps:
            found.append(placed)
    if not found:
        raise InvalidInput(f"{path.name} holds no example of {' or '.join(steps)}")
    return found


def _state(dialogue: str, example: Example) -> dict[str, Any]:
    prompt = example.prompt
    return {
        "step": prompt.step,
        "about": example.about,
        "dialogue": dialogue,
        "messages": [[message.role, message.content] for message in prompt.messages],
        "reply": example.reply,
        "schema": prompt.schema,
        "max_tokens": prompt.max_tokens,
        "version": prompt.version,
    }


def _placed(state: dict[str, Any]) -> Placed:
    messages = tuple(Message(role, content) for role, content in state["messages"])
    prompt = Prompt(state["step"], messages, state["schema"], max_tokens=state["max_tokens"], version=state["version"])
    return Placed(state["dialogue"], Example(prompt, state["reply"], state["about"]))
