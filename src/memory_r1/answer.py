"""The Answer Agent: retrieve up to 60 entries, keep the few that tell (distillation), answer briefly.

question -> retrieved entries -> {"keep": [positions], "answer": "..."}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from memory_r1.bank.sqlite import MemoryBank
from memory_r1.flow import Flow
from memory_r1.prompts import instructions, numbered
from memory_r1.replies import json_object, position, sentence
from memory_r1.types import Answer, Message, Prompt, Reply, Retrieved, Scope

RETRIEVED = 60
UNKNOWN = "I don't know."
_REPLY_TOKENS = 120
MAX_KEPT = 8  # memories
MAX_ANSWER = 160  # characters
_UNKNOWN_WORDS = frozenset({"", "unknown", "i don't know", "i do not know", "not mentioned", "no information", "none"})


def ask(
    question: str,
    bank: MemoryBank,
    scope: Scope,
    *,
    k: int = RETRIEVED,
    filters: Mapping[str, Any] | None = None,
    distil: bool = True,
    least_certainty: float = 0.0,
) -> Flow[Answer]:
    """Answer a question from the bank. An empty bank is not asked about: the answer is that it does not know."""
    retrieved = retrieve(question, bank, scope, k, filters)
    if not retrieved:
        return _unknown(retrieved)
    return (yield from answer_from(question, retrieved, distil=distil, least_certainty=least_certainty))


def retrieve(
    question: str, bank: MemoryBank, scope: Scope, k: int = RETRIEVED, filters: Mapping[str, Any] | None = None
) -> list[Retrieved]:
    """What the Answer Agent is shown: of two speakers half of the entries each, as in the paper.

    Where turns are kept, the best of memories and turns, whoever speaks: docs/results.md has the figures.
    """
    turns = bank.keeps_turns(scope)
    return bank.search(question, scope, k, filters=filters, per_speaker=not turns, turns=turns)


def answer_from(
    question: str, retrieved: Sequence[Retrieved], *, distil: bool = True, least_certainty: float = 0.0
) -> Flow[Answer]:
    """Answer from memories that were found already, best first, wherever they come from.

    `distil=False` asks for the answer alone, without first keeping the memories that tell: the ablation. An answer
    that the model is less certain of than `least_certainty`, 0 to 1, becomes that it does not know.
    """
    shown = retrieved
    while True:
        reply = yield answer_prompt(question, shown, distil)
        if reply.stop != "overflow":
            answer = parse_answer(reply, retrieved, shown)
            certain = answer.certainty is None or answer.certainty >= least_certainty
            return answer if certain else replace(answer, text=UNKNOWN, used=(), known=False)
        if not shown:
            return _unknown(retrieved)
        shown = shown[: _fitting(len(shown), reply)]


def _unknown(retrieved: Sequence[Retrieved]) -> Answer:
    return Answer(UNKNOWN, tuple(retrieved), (), known=False, dropped=len(retrieved))


def _fitting(count: int, reply: Reply) -> int:
    """How many memories to show next: the lowest-ranked go first, at least one each time."""
    if not reply.prompt_tokens or not reply.context_tokens:
        return count // 2
    share = max(0.0, (reply.context_tokens - _REPLY_TOKENS) / reply.prompt_tokens)
    return min(count - 1, int(count * share * 0.95))


def answer_prompt(question: str, shown: Sequence[Retrieved], distil: bool = True) -> Prompt:
    text, version = instructions("answer" if distil else "answer_plain")
    memories = numbered([retrieved.entry for retrieved in shown]) or "none"
    messages = (Message("system", text), Message("user", f"Memories:\n{memories}\nQuestion: {question}"))
    return Prompt("answer", messages, answer_schema(len(shown), distil), _REPLY_TOKENS, version=version)


def answer_schema(count: int, distil: bool = True) -> Mapping[str, Any]:
    answer = {"answer": {"type": "string", "maxLength": MAX_ANSWER}}
    places = {"enum": list(range(1, count + 1))} if count else {"type": "integer"}
    keep = {"keep": {"type": "array", "items": places, "maxItems": min(count, MAX_KEPT)}}
    properties = keep | answer if distil else answer
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
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
        logprob=reply.logprob,
    )
