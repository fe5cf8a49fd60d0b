from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.bench.longmemeval import CATEGORIES, load
from memory_r1.errors import InvalidInput
from memory_r1.types import Turn

EARLY, LATE = datetime(2023, 5, 20, 2, 21, tzinfo=UTC), datetime(2023, 5, 29, 23, 5, tzinfo=UTC)
ASKED = datetime(2023, 5, 30, 9, 0, tzinfo=UTC)


def sample(**more: Any) -> dict[str, Any]:
    """A question whose sessions are not in the order of time, as in the oracle file."""
    late = [{"role": "user", "content": "I ran 5 km."}, {"role": "assistant", "content": "Well done!"}]
    early = [
        {"role": "assistant", "content": " "},
        {"role": "user", "content": "I run 3 km a day.", "has_answer": True},
        {"role": "assistant", "content": "Keep going.", "has_answer": False},
    ]
    return {
        "question_id": "6ade9755",
        "question_type": "knowledge-update",
        "question": "How far do I run?",
        "answer": 3,
        "question_date": "2023/05/30 (Tue) 09:00",
        "haystack_session_ids": ["answer_1", "sharegpt_2"],
        "haystack_dates": ["2023/05/29 (Mon) 23:05", "2023/05/20 (Sat) 02:21"],
        "haystack_sessions": [late, early],
        "answer_session_ids": ["answer_1"],
        **more,
    }


def written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "longmemeval_s.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_a_history_is_a_dialogue_in_the_order_of_time_with_one_question(tmp_path: Path) -> None:
    first = (
        Turn("user", "I run 3 km a day.", EARLY, "S1:2"),
        Turn("assistant", "Keep going.", EARLY, "S1:3"),
    )
    second = (Turn("user", "I ran 5 km.", LATE, "S2:1"), Turn("assistant", "Well done!", LATE, "S2:2"))
    assert load(written(tmp_path, [sample()])) == Dataset(
        name="longmemeval",
        dialogues=(Dialogue("6ade9755", ("user", "assistant"), (Session(1, EARLY, first), Session(2, LATE, second))),),
        questions=(
            Question("6ade9755", "6ade9755", "How far do I run?", "3", "knowledge-update", ("S1:2",), True, ASKED),
        ),
        categories=CATEGORIES,
        splits={"all": ("6ade9755",)},
        notes={"empty_turns": 1, "without_evidence": 0},
    )


def test_an_abstention_question_is_unanswerable_and_its_explanation_is_not_read(tmp_path: Path) -> None:
    no_label = [[{"role": "user", "content": "Hi"}], []]
    data = load(
        written(
            tmp_path,
            [
                sample(question_id="a_abs", answer="You never said.", haystack_sessions=no_label),
                sample(question_id="b", haystack_sessions=no_label),
            ],
        )
    )
    assert data.questions == (
        Question("a_abs", "a_abs", "How far do I run?", "", "abstention", (), False, ASKED),
        Question("b", "b", "How far do I run?", "3", "knowledge-update", (), True, ASKED),
    )
    assert data.notes == {"empty_turns": 0, "without_evidence": 1}
    assert [len(session.turns) for session in data.dialogues[0].sessions] == [0, 1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[", "longmemeval_s.json is not JSON"),
        ({}, "not in LongMemEval's format: its top level must be a list"),
        ([sample(), {}], 'question 2: "question_id" is missing'),
        ([sample(question_type="trivia")], "question 1: 'trivia' is none of single-session-user,"),
        ([sample(haystack_dates=[])], "question 1: it has 2 sessions and 0 dates"),
        ([sample(question_date="30 May 2023")], "'30 May 2023' is no date such as"),
        ([sample(question_date="2023/02/30 (Tue) 09:00")], "'2023/02/30 (Tue) 09:00' is no date such as"),
        ([sample(haystack_dates="['2023/05/20 (Sat) 02:21']")], '"haystack_dates" must be a list'),
        ([sample(haystack_sessions=[[{"role": "user"}], []])], 'question 1: "content" is missing'),
    ],
)
def test_what_is_not_longmemeval_is_said_so_with_the_place(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        load(written(tmp_path, value))
    assert "huggingface.co/datasets/xiaowu0162/longmemeval-cleaned" in str(caught.value)
