"""One question's record, as a run leaves it in records.jsonl, and the same without the data set's text.

LoCoMo's licence (CC BY-NC) keeps its text out of what we publish: a published record names question and turns by id,
and the report joins the text when it is given the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memory_r1.bank.terms import words

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """A question as it was answered.

    `retrieved` are {"text", "time", "speaker", "turn", "turns", "score"}, best first; the last `dropped` of them did
    not fit into the prompt. `used` are positions among them, from 0. `logprob` is the reply's. `seconds` and
    `tokens` are by part: {"find": s, "answer": s}, {"prompt": n, "completion": n}. `scores` by metric: {"f1",
    "f1_locomo", "bleu1", "exact_match"}, later "judge_lenient" and "judge_strict" (None: unreadable); an unanswerable
    question has {"abstained": 0 or 1} alone.
    """

    question: str
    dialogue: str
    category: str
    text: str
    gold: str
    answer: str
    known: bool
    readable: bool
    retrieved: tuple[Mapping[str, Any], ...]
    used: tuple[int, ...]
    dropped: int
    logprob: float | None
    scores: Mapping[str, float | None]
    tokens: Mapping[str, int]
    seconds: Mapping[str, float]


TEXT_OF_THE_DATA = ("text", "gold")
IDS = ("turn", "turns", "score")
"""What is published of a memory that was retrieved."""
LONGEST_QUOTE = 7
"""Words of the data that an answer may repeat and still be published."""


def published(record: Mapping[str, Any]) -> Record:
    """A record without the data set's own text: of what was retrieved, the turns' ids and the scores remain.

    An answer that repeats what was retrieved, the question or its gold answer, word for word and at length, is
    replaced by the name of that.
    """
    kept = {name: value for name, value in record.items() if name not in TEXT_OF_THE_DATA}
    kept["retrieved"] = [{name: _short(one.get(name)) for name in IDS if name in one} for one in record["retrieved"]]
    told = [(one.get("turn") or "a memory", one["text"]) for one in record["retrieved"]]
    told += [("the question", record["text"]), ("the gold answer", record["gold"])]
    answer = runs(record["answer"])
    if source := next((name for name, text in told if answer & runs(text)), None):
        kept["answer"] = f"[words of {source}]"
    return kept


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def runs(text: str) -> set[tuple[str, ...]]:
    """Its words, so many in a row that whoever repeats them quotes."""
    said, length = words(text), LONGEST_QUOTE + 1
    return {tuple(said[place : place + length]) for place in range(len(said) - length + 1)}
