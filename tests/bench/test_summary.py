"""A run's figures from five records, worked by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from memory_r1.bench.records import Answered, Record
from memory_r1.bench.summary import compare, summarise
from memory_r1.errors import InvalidInput

CATEGORIES = ("multi-hop", "temporal", "open-domain")
PRINTED = {"multi-hop": "Single Hop"}


def record(name: str, category: str, scores: dict[str, Any], **changed: Any) -> Record:
    given: dict[str, Any] = {"answer": "two words", "known": True, "readable": True, "dropped": 0, "logprob": None}
    given |= {"tokens": {"prompt": 100, "completion": 10}, "seconds": {"find": 0.1, "answer": 1.0}} | changed
    answered = Answered(name, name.split("/")[0], category, "?", "gold", retrieved=(), used=(), scores=scores, **given)
    return asdict(answered)


RECORDS = [
    record("a/0", "multi-hop", {"f1": 1.0, "judge_strict": 1.0}),
    record("a/1", "temporal", {"f1": 0.5, "judge_strict": None}, seconds={"find": 0.2, "answer": 2.0}),
    record("b/0", "temporal", {"f1": 0.0, "judge_strict": 0.0}, answer="I don't know.", known=False, dropped=4),
    record("b/1", "temporal", {"f1": 0.0}, readable=False, tokens={"prompt": 200, "completion": 20}),
    record("b/2", "adversarial", {"abstained": 1.0}, answer="I don't know.", known=False),
]


def test_the_figures_of_five_records() -> None:
    found = summarise(RECORDS, CATEGORIES, PRINTED, seed=0)
    assert found == {
        "questions": 4,
        "unanswerable": 1,
        "dialogues": 2,
        "categories": {
            "multi-hop": {"printed": "Single Hop", "questions": 1},
            "temporal": {"printed": "temporal", "questions": 3},
        },
        "metrics": {
            "f1": {
                "questions": 4,
                "unscored": 0,
                "micro": 0.375,  # 1.5 / 4
                "macro": 0.5833,  # (1 + .5 / 3) / 2
                "interval_95": [0.0, 0.75],  # of four draws 1/16 are all 0, 1/51 sum to more than 3
                "resampled": "question",
                "by_category": {
                    "multi-hop": {"questions": 1, "mean": 1.0, "interval_95": [1.0, 1.0], "resampled": "question"},
                    "temporal": {"questions": 3, "mean": 0.1667, "interval_95": [0.0, 0.5], "resampled": "question"},
                },
            },
            "judge_strict": {
                "questions": 2,
                "unscored": 2,  # one could not be read, one is not there
                "micro": 0.5,
                "macro": 0.5,
                "interval_95": [0.0, 1.0],
                "resampled": "question",
                "by_category": {
                    "multi-hop": {"questions": 1, "mean": 1.0, "interval_95": [1.0, 1.0], "resampled": "question"},
                    "temporal": {"questions": 1, "mean": 0.0, "interval_95": [0.0, 0.0], "resampled": "question"},
                },
            },
        },
        "abstained": {"questions": 1, "mean": 1.0, "interval_95": [1.0, 1.0], "resampled": "question"},
        "unknown": 0.25,  # the unanswerable question is not among these
        "unreadable": 0.2,
        "answer_words": 2.4,  # (2 + 2 + 3 + 2 + 3) / 5
        "dropped": 0.8,
        "tokens": {"prompt": 120.0, "completion": 12.0},
        "seconds": {"find": {"p50": 0.1, "p95": 0.18}, "answer": {"p50": 1.0, "p95": 1.8}},  # 3.8: .8 of the last step
    }
    assert json.loads(json.dumps(found)) == found


def test_a_run_without_unanswerable_questions_or_with_nothing_else_is_summarised_too() -> None:
    assert summarise(RECORDS[:4], CATEGORIES, {}, seed=0)["abstained"] is None
    only = summarise(RECORDS[4:], CATEGORIES, {}, seed=0)
    assert (only["questions"], only["metrics"], only["unknown"], only["unreadable"]) == (0, {}, None, 0.0)


def test_a_judge_that_was_never_readable_has_no_mean() -> None:
    records = [record("a/0", "temporal", {"judge_lenient": None})]
    assert summarise(records, CATEGORIES, {}, seed=0)["metrics"]["judge_lenient"] == {
        "questions": 0, "unscored": 1, "micro": None, "macro": None, "by_category": {}
    }  # fmt: skip


def test_systems_are_compared_on_the_questions_that_both_have_a_score_for() -> None:
    others = [
        record("b/0", "temporal", {"f1": 0.0, "judge_strict": 1.0}),
        record("a/0", "multi-hop", {"f1": 0.0, "judge_strict": 0.0}),
        record("c/0", "multi-hop", {"f1": 1.0}),
    ]
    # a/0: 1 - 0, b/0: 0 - 0. Of two draws three of four are above 0.
    found = compare(RECORDS, others, "f1", seed=0)
    assert found == {
        "questions": 2, "difference": 0.5, "interval_95": [0.0, 1.0], "resampled": "question",
        "above_zero": pytest.approx(0.75, abs=0.02),
    }  # fmt: skip
    assert compare(RECORDS, others, "judge_strict", seed=0)["difference"] == 0.0  # +1 and -1
    with pytest.raises(InvalidInput, match="no question in common with the score 'bleu1'"):
        compare(RECORDS, others, "bleu1", seed=0)


def test_records_that_cannot_be_summarised_are_refused() -> None:
    with pytest.raises(InvalidInput, match="answered no question yet"):
        summarise([], CATEGORIES, {}, seed=0)
    with pytest.raises(InvalidInput, match="records of the categories temporal, but only multi-hop"):
        summarise(RECORDS, ["multi-hop"], {}, seed=0)
