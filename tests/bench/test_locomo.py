from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bench.locomo import Dialogue, Question, Session, describe, load, split
from memory_r1.errors import InvalidInput
from memory_r1.types import Turn

MAY, JUNE = datetime(2023, 5, 8, 13, 56, tzinfo=UTC), datetime(2023, 6, 9, 19, 55, tzinfo=UTC)


def sample() -> dict[str, Any]:
    """One conversation with every trap of the official file in it."""
    return {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bob",
            "session_2_date_time": "7:55 pm on 9 June, 2023",
            "session_2": [
                {"speaker": "Bob", "dia_id": "D2:1", "text": "I moved to Bern.", "blip_caption": "a photo of a bear"},
                {"speaker": "Ann", "dia_id": "D2:2", "text": "Nice!", "img_url": ["x"], "query": "label leak"},
            ],
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [{"speaker": "Ann", "dia_id": "D1:1", "text": "I adopted a dog."}],
            "session_3_date_time": "1:00 pm on 1 July, 2023",  # a date without a session
            "session_4_date_time": "1:00 pm on 2 July, 2023",
            "session_4": [],
        },
        "qa": [
            {"question": "When?", "answer": 2022, "evidence": ["D1:1"], "category": 2},
            {"question": "Where?", "answer": "Bern", "evidence": ["D1:1; D2:1", "D:2:02"], "category": 1},
            {"question": "Where?", "answer": "Bern", "evidence": ["D1:1; D2:1", "D:2:02"], "category": 1},
            {"question": "Who?", "answer": "Bob", "evidence": ["D", "D9:9", "D2:1", "D2:1"], "category": 4},
            {"question": "Why?", "answer": "unknown", "category": 3},
            {"question": "What cat?", "adversarial_answer": "Tom", "evidence": ["D1:1"], "category": 5},
        ],
    }


def written(tmp_path: Path, samples: Any) -> Path:
    path = tmp_path / "locomo10.json"
    path.write_text(json.dumps(samples), encoding="utf-8")
    return path


def test_sessions_are_those_that_hold_turns_in_order_with_captions_but_never_the_query(tmp_path: Path) -> None:
    assert load(written(tmp_path, [sample()])).dialogues == (
        Dialogue(
            "conv-1",
            ("Ann", "Bob"),
            (
                Session(1, MAY, (Turn("Ann", "I adopted a dog.", MAY, "D1:1"),)),
                Session(
                    2,
                    JUNE,
                    (
                        Turn("Bob", "I moved to Bern. [shares a photo: a photo of a bear]", JUNE, "D2:1"),
                        Turn("Ann", "Nice!", JUNE, "D2:2"),
                    ),
                ),
            ),
        ),
    )


def test_answers_are_texts_evidence_is_repaired_and_duplicates_are_kept(tmp_path: Path) -> None:
    data = load(written(tmp_path, [sample()]))
    assert data.questions == (
        Question("conv-1/0", "conv-1", "When?", "2022", 2, ("D1:1",)),
        Question("conv-1/1", "conv-1", "Where?", "Bern", 1, ("D1:1", "D2:1", "D2:2")),
        Question("conv-1/2", "conv-1", "Where?", "Bern", 1, ("D1:1", "D2:1", "D2:2")),
        Question("conv-1/3", "conv-1", "Who?", "Bob", 4, ("D2:1",)),
        Question("conv-1/4", "conv-1", "Why?", "unknown", 3, ()),
    )
    assert (data.repaired, data.dropped) == (4, 2)


def test_adversarial_questions_stand_apart_and_do_not_carry_the_wrong_answer(tmp_path: Path) -> None:
    data = load(written(tmp_path, [sample()]))
    assert data.adversarial == (Question("conv-1/5", "conv-1", "What cat?", "", 5, ("D1:1",)),)
    assert data.adversarial[0].adversarial
    assert not any(question.adversarial for question in data.questions)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "not in LoCoMo's format"),
        ("[]", "not in LoCoMo's format"),
        ("[1]", "not in LoCoMo's format"),
        ('[{"conversation": {}}]', "the key 'speaker_a' is missing|has no session|'sample_id' is missing"),
        ('[{"sample_id": "x", "conversation": {"session_1": [{}]}, "qa": []}]', "is missing"),
    ],
)
def test_what_is_not_locomo_is_said_so_with_where_to_get_it(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match=message) as caught:
        load(path)
    assert "snap-research/locomo" in str(caught.value)


def test_an_absent_file_is_said_so_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be read .*snap-research/locomo"):
        load(tmp_path / "none.json")


def test_the_split_goes_by_position() -> None:
    assert split("abcd") == ("a", "b", "cd")


@pytest.mark.locomo
@pytest.mark.skipif("MEMORY_R1_LOCOMO" not in os.environ, reason="set MEMORY_R1_LOCOMO to the path of locomo10.json")
def test_the_official_file_has_the_published_counts() -> None:
    data = load(os.environ["MEMORY_R1_LOCOMO"])
    told = describe(data)
    assert (told["dialogues"], told["sessions"], told["turns"]) == (10, 272, 5882)
    assert len(data.questions) + len(data.adversarial) == 1986
    assert [len(data.questions_of(part)) for part in split(data.dialogues)] == [152, 81, 1307]
    test = Counter(question.category for question in data.questions_of(split(data.dialogues)[2]))
    assert test == {1: 239, 2: 258, 3: 83, 4: 727}
    assert (told["adversarial"], data.repaired + data.dropped) == (446, 9)
    assert sum(not question.evidence for question in data.questions) == 4
    assert all(isinstance(question.answer, str) for question in data.questions)
