from __future__ import annotations

import json
import os
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bench.data import Dialogue, Question, Session, describe
from memory_r1.bench.locomo import PRINTED, load, observations
from memory_r1.errors import InvalidInput
from memory_r1.types import Turn

MAY, JUNE = datetime(2023, 5, 8, 13, 56, tzinfo=UTC), datetime(2023, 6, 9, 19, 55, tzinfo=UTC)


def sample(name: str = "conv-1") -> dict[str, Any]:
    """One conversation with every trap of the official file in it."""
    return {
        "sample_id": name,
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
            {"question": "Why?", "answer": "Likely; she likes dogs", "category": 3},
            {"question": "What cat?", "adversarial_answer": "Tom", "evidence": ["D1:1"], "category": 5},
            {"question": "And when?", "answer": "The week before 14September, 2022", "evidence": [], "category": 2},
            {"question": "Is it?", "answer": "No", "adversarial_answer": "Yes", "category": 5},
        ],
    }


def written(tmp_path: Path, value: Any, name: str = "locomo10.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(value), encoding="utf-8")
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


def test_notes_are_those_about_the_one_who_spoke(tmp_path: Path) -> None:
    notes: dict[str, Any] = {
        "session_1_observation": {"Ann": [["Ann adopted a dog.", "D1:1"], ["Ann has a dog.", ["D1:1", "D9:9"]]]},
        "session_2_observation": {"Ann": [["Ann likes bears.", "D2:1"]], "Bob": [["Bob lives in Bern.", "D2:1"]]},
    }
    path = written(tmp_path, [sample() | {"observation": notes}])
    assert observations(path) == {
        "conv-1": {"D1:1": ["Ann adopted a dog.", "Ann has a dog."], "D2:1": ["Bob lives in Bern."]}
    }
    with pytest.raises(InvalidInput, match=r'is not in LoCoMo\'s format: conversation 1: "observation" is missing'):
        observations(written(tmp_path, [sample()]))
    notes["session_1_observation"] = {"Ann": ["D1:1"]}
    with pytest.raises(InvalidInput, match="session_1_observation of Ann holds 'D1:1', which is not a note with its"):
        observations(written(tmp_path, [sample() | {"observation": notes}]))


def test_labels_are_raw_but_readable_and_adversarial_questions_do_not_carry_the_wrong_answer(tmp_path: Path) -> None:
    data = load(written(tmp_path, [sample()]))
    assert data.questions == (
        Question("conv-1/0", "conv-1", "When?", "2022", "temporal", ("D1:1",)),
        Question("conv-1/1", "conv-1", "Where?", "Bern", "multi-hop", ("D1:1", "D2:1", "D2:2")),
        Question("conv-1/2", "conv-1", "Where?", "Bern", "multi-hop", ("D1:1", "D2:1", "D2:2")),
        Question("conv-1/3", "conv-1", "Who?", "Bob", "single-hop", ("D2:1",)),
        Question("conv-1/4", "conv-1", "Why?", "Likely; she likes dogs", "open-domain", ()),
        Question("conv-1/5", "conv-1", "What cat?", "", "adversarial", ("D1:1",), answerable=False),
        Question("conv-1/6", "conv-1", "And when?", "The week before 14September, 2022", "temporal", ()),
        Question("conv-1/7", "conv-1", "Is it?", "", "adversarial", (), answerable=False),
    )
    assert data.notes == {"evidence_repaired": 4, "evidence_dropped": 2}


def test_the_split_goes_by_position(tmp_path: Path) -> None:
    data = load(written(tmp_path, [sample(name) for name in "dabc"]))
    assert data.splits == {"train": ("d",), "validation": ("a",), "test": ("b", "c"), "all": ("d", "a", "b", "c")}


def test_the_printed_names_are_permuted_as_in_the_paper() -> None:
    assert PRINTED == {
        "multi-hop": "Single Hop",
        "temporal": "Temporal",
        "open-domain": "Multi-Hop",
        "single-hop": "Open Domain",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "locomo10.json is not JSON: "),
        ("{}", "its top level must be a list, not {}"),
        ("[]", "it holds no conversation"),
        ("[1]", "conversation 1: this must be an object, not 1"),
        ('[{"sample_id": "x", "conversation": {}}]', "conversation 1: 'x' has no session"),
        ('[{"sample_id": "x", "conversation": {"session_1": [{}]}, "qa": []}]', '"speaker_a" is missing'),
    ],
)
def test_what_is_not_locomo_is_said_so_with_where_to_get_it(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "locomo10.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        load(path)
    assert "memory-r1 data fetch locomo" in str(caught.value)


@pytest.mark.parametrize(
    ("qa", "message"),
    [
        ({"question": "x", "answer": "y", "category": 7}, "question 0: there is no category 7"),
        ({"question": "x", "answer": "y", "category": "1"}, 'question 0: "category" must be a whole number, not "1"'),
        ({"question": "x", "category": 1}, 'question 0: "answer" is missing'),
        ({"question": "x", "answer": "y", "category": 1, "evidence": "D1:1"}, '"evidence" must be a list, not "D1:1"'),
    ],
)
def test_a_question_that_cannot_be_read_is_named(tmp_path: Path, qa: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        load(written(tmp_path, [sample() | {"qa": [qa]}]))


def test_an_absent_file_is_said_so_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.json cannot be read \(No such file.*memory-r1 data fetch locomo"):
        load(tmp_path / "none.json")


# -- repairs ------------------------------------------------------------------------------------------------------


def repair(place: int, **change: Any) -> dict[str, Any]:
    return {"sample_id": "conv-1", "qa_index": place, "question": "not read", **change}


def audit(kind: str, answer: str, *evidence: str) -> dict[str, Any]:
    return {"audit": {"error_type": kind, "correct_answer": answer, "correct_evidence": list(evidence)}}


def test_repairs_change_labels_and_are_counted(tmp_path: Path) -> None:
    repairs = [
        repair(0, **audit("TEMPORAL_ERROR", "2023 (she says so)", "D2:1")),
        repair(1, answer="in Bern", evidence=["D2:1", "D2:1"]),
        repair(2, duplicate_of="conv-1/1"),
        repair(3, **audit("WRONG_CITATION", "Bob (the answer is right)", "D2:2")),
    ]
    data = load(written(tmp_path, [sample()]), repairs=written(tmp_path, repairs, "overlay.json"))
    assert data.questions == (
        Question("conv-1/0", "conv-1", "When?", "2023", "temporal", ("D2:1",)),
        Question("conv-1/1", "conv-1", "Where?", "in Bern", "multi-hop", ("D2:1",)),
        Question("conv-1/3", "conv-1", "Who?", "Bob", "single-hop", ("D2:2",)),
        Question("conv-1/4", "conv-1", "Why?", "Likely", "open-domain", ()),
        Question("conv-1/5", "conv-1", "What cat?", "", "adversarial", ("D1:1",), answerable=False),
        Question("conv-1/6", "conv-1", "And when?", "The week before 14 September, 2022", "temporal", ()),
        Question("conv-1/7", "conv-1", "Is it?", "", "adversarial", (), answerable=False),
    )
    assert data.notes == {
        "evidence_repaired": 4,
        "evidence_dropped": 2,
        "duplicates_left_out": 1,
        "unclear_left_out": 0,
        "answers_changed": 4,
        "evidence_changed": 3,
        "repairs": "overlay.json",
    }


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("ATTRIBUTION_ERROR", "Ann said this"),
        ("AMBIGUOUS", "Bern or Basel"),
        ("HALLUCINATION", "The dialogue never tells who it was. Ann only says that there was somebody."),
    ],
)
def test_a_question_that_an_audit_finds_no_short_answer_to_is_left_out(tmp_path: Path, kind: str, answer: str) -> None:
    repairs = written(tmp_path, [repair(3, **audit(kind, answer, "D2:1"))], "overlay.json")
    data = load(written(tmp_path, [sample()]), repairs=repairs)
    assert "conv-1/3" not in {question.id for question in data.questions}
    assert data.notes["unclear_left_out"] == 1


@pytest.mark.parametrize(
    ("repairs", "message"),
    [
        ({}, "the top level of overlay.json must be a list, not {}; `repairs` is a list"),
        ([repair(99)], "overlay.json, repair 1: there is no question conv-1/99"),
        ([{"sample_id": "conv-1"}], 'overlay.json, repair 1: "qa_index" is missing'),
        ([repair(1, evidence=["D9:9"])], "overlay.json, conv-1/1: there is no turn D9:9"),
        ([repair(1, answer=2)], 'overlay.json, conv-1/1: "answer" must be a string, not 2'),
    ],
)
def test_repairs_that_do_not_fit_the_data_are_refused(tmp_path: Path, repairs: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        load(written(tmp_path, [sample()]), repairs=written(tmp_path, repairs, "overlay.json"))


# -- the real files -----------------------------------------------------------------------------------------------

needs_locomo = pytest.mark.skipif(
    "MEMORY_R1_LOCOMO" not in os.environ, reason="set MEMORY_R1_LOCOMO to the path of locomo10.json"
)


@pytest.mark.locomo
@needs_locomo
def test_the_official_file_has_the_published_counts() -> None:
    data = load(os.environ["MEMORY_R1_LOCOMO"])
    assert describe(data) == {
        "name": "locomo",
        "dialogues": 10,
        "sessions": 272,
        "turns": 5882,
        "questions": {"multi-hop": 282, "temporal": 321, "open-domain": 96, "single-hop": 841},
        "unanswerable": 446,
        "notes": {"evidence_repaired": 6, "evidence_dropped": 3},
    }
    assert [len(data.split(name).answerable) for name in ("train", "validation", "test")] == [152, 81, 1307]
    assert describe(data.split("test"))["questions"] == {
        "multi-hop": 239,
        "temporal": 258,
        "open-domain": 83,
        "single-hop": 727,
    }
    assert len(data.splits["train"]) == 1
    assert data.splits["validation"] == ("conv-30",)
    assert sum(not question.evidence for question in data.answerable) == 4


@pytest.mark.locomo
@needs_locomo
def test_the_traps_of_the_official_file_are_where_they_were() -> None:
    data = load(os.environ["MEMORY_R1_LOCOMO"])
    answers = {question.id: question.answer for question in data.answerable}
    assert all(answers[f"conv-26/{place}"].isdigit() for place in (1, 26, 40, 49, 72, 75))
    spaces = [question for question in data.answerable if re.search(r"\d[A-Z][a-z]{2}", question.answer)]
    assert Counter((q.dialogue, q.category) for q in spaces) == {("conv-42", "temporal"): 19}
    explained = [q for q in data.answerable if q.category == "open-domain" and ";" in q.answer]
    assert len(explained) == 11
    seen = Counter((q.dialogue, q.text, q.answer) for q in data.answerable)
    assert Counter({key[0]: sum(c - 1 for k, c in seen.items() if k[0] == key[0]) for key in seen}) == {
        **dict.fromkeys(data.splits["all"], 0),
        "conv-48": 11,
    }


@pytest.mark.locomo
@needs_locomo
def test_the_repairs_beside_the_official_file_fit_it() -> None:
    path = Path(os.environ["MEMORY_R1_LOCOMO"])
    repairs = path.with_name("locomo_overlay.json")
    if not repairs.exists():
        pytest.skip(f"{repairs.name} does not lie beside {path.name}")
    data = load(path, repairs=repairs)
    assert data.notes == {
        "evidence_repaired": 6,
        "evidence_dropped": 3,
        "duplicates_left_out": 11,
        "unclear_left_out": 56,
        "answers_changed": 66,
        "evidence_changed": 68,
        "repairs": "locomo_overlay.json",
    }
    assert not any(re.search(r"\d[A-Z][a-z]{2}", question.answer) for question in data.answerable)
    assert [len(data.split(name).answerable) for name in ("train", "validation", "test")] == [144, 78, 1251]
