"""The LLM judge: is an answer right, by a generous reading and by a strict one?

The field's judge is the generous one, and it lets most vague answers on the right topic pass; so that both are always
reported, and under their names. A judge's prompt is the only one that a gold answer reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from memory_r1.flow import Flow
from memory_r1.prompts import Name, instructions
from memory_r1.replies import json_object
from memory_r1.types import Message, Prompt, Reply

Reading = Literal["lenient", "strict"]
READINGS: tuple[Reading, ...] = ("lenient", "strict")

_PROMPTS: Mapping[Reading, Name] = {"lenient": "judge_lenient", "strict": "judge_strict"}
_REPLY_TOKENS = 120
# The reason stands first, so that the verdict follows from it; it is short, so that the verdict is still reached.
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string", "maxLength": 200}, "correct": {"type": "boolean"}},
    "required": ["reason", "correct"],
    "additionalProperties": False,
}


def judge(question: str, gold: str, answer: str, reading: Reading) -> Flow[bool | None]:
    """Whether the judge finds the answer right; None when its reply cannot be read, which says nothing of the answer.

    A record keeps it as the score "judge_lenient" or "judge_strict": 1.0, 0.0 or None, and None is counted.
    """
    return parse_judgement((yield judge_prompt(question, gold, answer, reading)))


def judge_version(reading: Reading) -> str:
    """Of the prompt that grades by this reading."""
    return instructions(_PROMPTS[reading])[1]


def judge_prompt(question: str, gold: str, answer: str, reading: Reading) -> Prompt:
    text, version = instructions(_PROMPTS[reading])
    message = f"Question: {question}\nReference answer: {gold}\nAnswer to grade: {answer}"
    messages = (Message("system", text), Message("user", message))
    return Prompt("judge", messages, _SCHEMA, _REPLY_TOKENS, version=version, logprobs=False)


def parse_judgement(reply: Reply) -> bool | None:
    found = json_object(reply.text)
    correct = found.get("correct") if found else None
    return correct if isinstance(correct, bool) else None
