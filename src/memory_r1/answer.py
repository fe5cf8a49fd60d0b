"""The Answer Agent: retrieve up to 60 entries, keep the few that tell (distillation), answer briefly.

question -> retrieved entries -> {"keep": [positions], "answer": "..."}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memory_r1.bank.sqlite import MemoryBank
from memory_r1.flow import Flow
from memory_r1.prompts import instructions, numbered
from memory_r1.replies import json_object, position, sentence
from memory_r1.types import Answer, Message, Prompt, Reply, Retrieved, Scope

RETRIEVED = 60
UNKNOWN = "I don't know."
_REPLY_TOKENS = 120
_UNKNOWN_WORDS = frozenset({"", "unknown", "i don't know", "i do not know", "not mentioned", "no information", "none"})


def ask(
    question: str, bank: MemoryBank, scope: Scope, *, k: int = RETRIEVED, filters: Mapping[str, Any] | None = None
) -> Flow[Answer]:
    """Answer a question from the bank. With two speakers in the scope, half of the entries are of each.

    An empty bank is not asked about: the answer is that it does not know.
    """
    retrieved = bank.search(question, scope, k, filters=filters, per_speaker=True)
    shown: Sequence[Retrieved] = retrieved
    while shown:
        reply = yield answer_prompt(question, shown)
        if reply.stop != "overflow":
            return parse_answer(reply, retrieved, shown)
        shown = shown[: _fitting(len(shown), reply)]
    return Answer(UNKNOWN, tuple(retrieved), (), known=False, dropped=len(retrieved))


def _fitting(count: int, reply: Reply) -> int:
    """How many memories to show next: the lowest-ranked go first, at least one each time."""
    if not reply.prompt_tokens or not reply.context_tokens:
        return count // 2
    share = max(0.0, (reply.context_tokens - _REPLY_TOKENS) / reply.prompt_tokens)
    return min(count - 1, int(count * share * 0.95))


def answer_prompt(question: str, shown: Sequence[Retrieved]) -> Prompt:
    text, version = instructions("answer")
    message = f"Memories:\n{numbered([retrieved.entry for retrieved in shown])}\nQuestion: {question}"
    messages = (Message("system", text), Message("user", message))
    return Prompt("answer", messages, answer_schema(len(shown)), _REPLY_TOKENS, version=version)


def answer_schema(count: int) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": {
            "keep": {"type": "array", "items": {"enum": list(range(1, count + 1))}, "maxItems": 8},
            "answer": {"type": "string", "maxLength": 160},
        },
        "required": ["keep", "answer"],
        "additionalProperties": False,
    }


def parse_answer(reply: Reply, retrieved: Sequence[Retrieved], shown: Sequence[Retrieved]) -> Answer:
    """The answer and the entries it kept; positions that are not there are ignored.

    A reply that is not the JSON asked for is taken as the answer itself, marked unreadable.
    """
    found = json_object(reply.text)
    readable = found is not None and isinstance(found.get("answer"), str)
    text = sentence(found.get("answer") if readable and found else reply.text) or ""
    keep = found.get("keep") if found else None
    places = dict.fromkeys(
        place for item in (keep if isinstance(keep, list) else []) if (place := position(item, len(shown))) is not None
    )
    known = text.casefold().strip(" .!") not in _UNKNOWN_WORDS
    return Answer(
        text=text if known else UNKNOWN,
        retrieved=tuple(retrieved),
        used=tuple(shown[place].entry for place in places) if known else (),
        known=known,
        dropped=len(retrieved) - len(shown),
        readable=readable,
    )
