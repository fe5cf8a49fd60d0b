"""From the records of a run to the figures of its result; nothing here has a model or a data set's text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from memory_r1.bench.records import Record
from memory_r1.bench.statistics import (
    Interval,
    interval,
    macro_mean,
    micro_mean,
    paired_difference,
    quantiles,
)
from memory_r1.errors import InvalidInput

ABSTAINED = "abstained"


def summarise(
    records: Sequence[Record], categories: Sequence[str], printed: Mapping[str, str], seed: int
) -> dict[str, Any]:
    """Every figure of some records as plain JSON values, rounded to 4 digits:

    {"questions": n, "unanswerable": n, "dialogues": n, "categories": {name: {"printed", "questions"}},
     "metrics": {metric: {"questions", "unscored", "micro", "macro", "interval_95", "resampled",
                          "by_category": {name: {"questions", "mean", "interval_95", "resampled"}}}},
     "abstained": {"questions", "mean", "interval_95", "resampled"} or None,
     "unknown", "unreadable": shares, "answer_words", "dropped": means,
     "tokens": {part: mean}, "seconds": {part: {"p50", "p95"}}}

    Metrics are means over answerable questions; `categories` gives their order, and one without questions is left out.
    "unscored" counts judgements that are not in the means: None, as they could not be read, or absent. "abstained" is
    over unanswerable questions. "unknown" is the share of answerable ones to which the answer was that the memories do
    not tell. The other shares and means are over all records. Raises InvalidInput without records, or for an answerable
    question of a category that is not named.
    """
    if not records:
        raise InvalidInput("there are no records to summarise; the run has answered no question yet")
    answerable = [record for record in records if ABSTAINED not in record["scores"]]
    unanswerable = [record for record in records if ABSTAINED in record["scores"]]
    counts = Counter(record["category"] for record in answerable)
    if strange := sorted(counts.keys() - set(categories)):
        raise InvalidInput(
            f"records of the categories {', '.join(strange)}, but only {', '.join(categories)} are named"
        )
    metrics = dict.fromkeys(metric for record in answerable for metric in record["scores"])
    return {
        "questions": len(answerable),
        "unanswerable": len(unanswerable),
        "dialogues": len({record["dialogue"] for record in records}),
        "categories": {
            name: {"printed": printed.get(name, name), "questions": counts[name]} for name in categories if counts[name]
        },
        "metrics": {metric: _metric(answerable, metric, categories, seed) for metric in metrics},
        "abstained": _mean(unanswerable, ABSTAINED, seed) if unanswerable else None,
        "unknown": _average([not record["known"] for record in answerable]) if answerable else None,
        "unreadable": _average([not record["readable"] for record in records]),
        "answer_words": _average([len(record["answer"].split()) for record in records]),
        "dropped": _average([record["dropped"] for record in records]),
        "tokens": {part: _average(values) for part, values in _parts(records, "tokens").items()},
        "seconds": {part: quantiles(values) for part, values in _parts(records, "seconds").items()},
    }


def compare(first: Sequence[Record], second: Sequence[Record], metric: str, seed: int) -> dict[str, Any]:
    """The first system's score over the second's, on the questions that both have a score for:

    {"questions", "difference", "interval_95", "resampled", "above_zero"}, the last the share of resamples in which the
    first is better. Raises InvalidInput when there is no such question.
    """
    theirs = {record["question"]: record for record in _scored(second, metric)}
    ours = [record for record in _scored(first, metric) if record["question"] in theirs]
    if not ours:
        raise InvalidInput(f"the two systems have no question in common with the score {metric!r}")
    found = paired_difference(
        [record["scores"][metric] for record in ours],
        [theirs[record["question"]]["scores"][metric] for record in ours],
        [record["dialogue"] for record in ours],
        seed,
    )
    return {
        "questions": len(ours),
        "difference": round(found.mean, 4),
        **_interval_95(found.interval),
        "above_zero": round(found.above_zero, 4),
    }


def _metric(records: Sequence[Record], metric: str, categories: Sequence[str], seed: int) -> dict[str, Any]:
    scored = _scored(records, metric)
    unscored = len(records) - len(scored)
    if not scored:  # a judge that never replied with a verdict
        return {"questions": 0, "unscored": unscored, "micro": None, "macro": None, "by_category": {}}
    values, names = [record["scores"][metric] for record in scored], [record["category"] for record in scored]
    return {
        "questions": len(scored),
        "unscored": unscored,
        "micro": round(micro_mean(values), 4),
        "macro": round(macro_mean(values, names), 4),
        **_interval_95(interval(values, [record["dialogue"] for record in scored], seed)),
        "by_category": {
            name: _mean([record for record in scored if record["category"] == name], metric, seed)
            for name in categories
            if name in names
        },
    }


def _mean(records: Sequence[Record], metric: str, seed: int) -> dict[str, Any]:
    values = [record["scores"][metric] for record in records]
    drawn = interval(values, [record["dialogue"] for record in records], seed)
    return {"questions": len(values), "mean": round(micro_mean(values), 4), **_interval_95(drawn)}


def _scored(records: Sequence[Record], metric: str) -> list[Record]:
    return [record for record in records if record["scores"].get(metric) is not None]


def _interval_95(found: Interval) -> dict[str, Any]:
    return {"interval_95": [round(found.low, 4), round(found.high, 4)], "resampled": found.unit}


def _parts(records: Sequence[Record], field: str) -> dict[str, list[float]]:
    """The values of each part that a field counts, over the records that have it."""
    parts: dict[str, list[float]] = {}
    for record in records:
        for part, value in record[field].items():
            parts.setdefault(part, []).append(value)
    return parts


def _average(values: Sequence[float]) -> float:
    return round(micro_mean(values), 4)
