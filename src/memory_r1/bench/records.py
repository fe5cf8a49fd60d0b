"""One question's record, as a run leaves it in records.jsonl, and the same without the data set's text.

LoCoMo's licence (CC BY-NC) keeps its text out of what we publish: a published record names question and turns by id,
and the report joins the text when it is given the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memory_r1.bank.terms import words

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """A question as it was answered. `retrieved` are {"text", "time", "speaker", "turn", "score"}, best first;

    `used` are positions in it, from 0. `seconds` and `tokens` are by part: {"find": s, "answer": s},
    {"prompt": n, "completion": n}. `scores` by metric: {"f1", "f1_locomo", "bleu1", "exact_match"}, later
    "judge_lenient" and "judge_strict" (None: unreadable); an unanswerable question has {"abstained": 0 or 1} alone.
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
    scores: Mapping[str, float | None]
    tokens: Mapping[str, int]
    seconds: Mapping[str, float]


TEXT_OF_THE_DATA = ("text", "gold")
LONGEST_QUOTE = 7
"""Words of the data that an answer may repeat and still be published."""


def published(record: Mapping[str, Any]) -> Record:
    """A record without the data set's own text: of what was retrieved, the turns' ids and the scores remain.

    An answer that repeats what was retrieved, word for word and at length, is named by it, too.
    """
    kept = {name: value for name, value in record.items() if name not in TEXT_OF_THE_DATA}
    kept["retrieved"] = [{"turn": one.get("turn"), "score": one.get("score")} for one in record["retrieved"]]
    if (source := _quoted(record["answer"], record["retrieved"])) is not None:
        kept["answer"] = f"[words of {source.get('turn') or 'a memory'}]"
    return kept


def _quoted(answer: str, retrieved: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What the answer holds so many words of, in a row, that it is theirs."""
    said = [words(one["text"]) for one in retrieved]
    told = words(answer)
    length = LONGEST_QUOTE + 1
    runs = {tuple(told[place : place + length]) for place in range(len(told) - length + 1)}
    for one, text in zip(retrieved, said, strict=True):
        if any(tuple(text[place : place + length]) in runs for place in range(len(text) - length + 1)):
            return one
    return None
