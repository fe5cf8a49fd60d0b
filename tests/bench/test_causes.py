"""What lost an answer, on records made up here."""

from __future__ import annotations

from typing import Any

import pytest

from memory_r1.bench.causes import CAUSES, Cause, cause, counted
from memory_r1.bench.data import Dataset, Question

EVIDENCE = ("D1:1", "D1:2")


def record(
    f1: float, retrieved: str, used: tuple[int, ...] = (), known: bool = True, dropped: int = 0
) -> dict[str, Any]:
    """Of memories by their turns: "D1:1+D1:2" is one made of two."""
    memories = [one.split("+") for one in retrieved.split()]
    return {
        "scores": {"f1": f1},
        "retrieved": [{"turn": turns[0]} | ({"turns": turns} if len(turns) > 1 else {}) for turns in memories],
        "used": list(used),
        "known": known,
        "dropped": dropped,
    }


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        (record(0.5, "D9:9"), "right"),
        (record(0.4, "D9:9 D8:8", (0,)), "not found"),
        (record(0.0, "D9:9 D1:2", known=False), "said unknown"),
        (record(0.4, "D9:9 D1:2", (0,)), "not kept"),
        (record(0.4, "D9:9 D1:2", (0, 1)), "found in part"),
        (record(0.4, "D1:1 D1:2", (0,)), "answered wrong"),
        (record(0.4, "D9:9 D1:1", (0,), dropped=1), "not shown"),
        (record(0.4, "D1:1 D1:2", (0,), dropped=1), "found in part"),
        (record(0.4, "D0:1+D1:2 D1:1", (0,)), "answered wrong"),
    ],
)
def test_the_first_step_that_lost_the_answer_is_its_cause(answered: dict[str, Any], expected: Cause) -> None:
    assert cause(answered, EVIDENCE) == expected


def test_where_nothing_is_distilled_nothing_can_be_dropped() -> None:
    assert cause(record(0.4, "D1:1 D1:2"), EVIDENCE, distilled=False) == "answered wrong"


def test_what_was_never_written_down_is_told_from_what_was_not_found() -> None:
    missed = record(0.0, "D9:9")
    assert cause(missed, EVIDENCE, written=["D9:9", "D1:2"]) == "not found"
    assert cause(missed, EVIDENCE, written=["D9:9"]) == "not written"
    assert cause(missed, EVIDENCE, written=[]) == "not written"


def test_where_one_dialogue_does_not_tell_what_was_written_none_is_asked() -> None:
    questions = [Question(f"{d}/0", d, "What?", "that", "easy", EVIDENCE) for d in ("a", "b")]
    data = Dataset("tiny", (), tuple(questions), ("easy",), {})
    records = [record(0.0, "D9:9") | {"question": one.id, "dialogue": one.dialogue} for one in questions]
    told = {"a": {"written": ["D9:9"]}, "b": {"written": ["D1:1"]}}
    some = dict.fromkeys(CAUSES, 0)
    assert counted(records, data, told) == some | {"not written": 1, "not found": 1}
    assert counted(records, data, {"a": told["a"]}) == some | {"not written": None, "not found": 2}
    assert counted([one | {"retrieved": []} for one in records], data, told) is None
