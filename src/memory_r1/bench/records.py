"""One question's record, as a run leaves it in records.jsonl, and the same without the data set's text.

LoCoMo's licence (CC BY-NC) keeps its text out of what we publish: a published record names question and turns by id,
and the report joins the text when it is given the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


def published(record: Mapping[str, Any]) -> Record:
    """A record without the data set's own text: of what was retrieved, the turns' ids and the scores remain."""
    kept = {name: value for name, value in record.items() if name not in TEXT_OF_THE_DATA}
    kept["retrieved"] = [{"turn": one.get("turn"), "score": one.get("score")} for one in record["retrieved"]]
    return kept
