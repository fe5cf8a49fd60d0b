from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bench import plain
from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.errors import InvalidInput
from memory_r1.types import Turn

MAY = datetime(2026, 5, 8, 13, 56, tzinfo=UTC)
FAMILY: dict[str, Any] = {
    "name": "family",
    "dialogues": [
        {
            "id": "talk",
            "speakers": ["Ann", "Bob"],
            "sessions": [
                {"time": "2026-05-08T13:56:00Z", "turns": [{"speaker": "Ann", "text": "I got a cat.", "id": "cat"}]},
                {"time": None, "turns": [{"speaker": "Ann", "text": "Hi"}, {"speaker": "Bob", "text": "Hi"}]},
            ],
            "questions": [
                {"question": "What?", "answer": "a cat", "category": "easy", "evidence": ["cat", "D2:2", "cat"]},
                {"question": "Who?", "answer": "Bob"},
                {"question": "Whose dog?", "answer": None, "category": "trick"},
            ],
        }
    ],
}


def load(tmp_path: Path, value: Any) -> Dataset:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return plain.load(path)


def test_every_field_arrives_and_what_was_left_out_is_filled_in(tmp_path: Path) -> None:
    first = (Turn("Ann", "I got a cat.", MAY, "cat"),)
    second = (Turn("Ann", "Hi", None, "D2:1"), Turn("Bob", "Hi", None, "D2:2"))
    assert load(tmp_path, FAMILY) == Dataset(
        name="family",
        dialogues=(Dialogue("talk", ("Ann", "Bob"), (Session(1, MAY, first), Session(2, None, second))),),
        questions=(
            Question("talk/0", "talk", "What?", "a cat", "easy", ("cat", "D2:2")),
            Question("talk/1", "talk", "Who?", "Bob", "other"),
            Question("talk/2", "talk", "Whose dog?", "", "trick", answerable=False),
        ),
        categories=("easy", "other"),
        splits={"all": ("talk",)},
    )


def test_the_form_that_the_docstring_shows_is_read(tmp_path: Path) -> None:
    shown = (plain.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]
    (question,) = load(tmp_path, json.loads(shown)).questions
    assert question == Question("ann-and-bob/0", "ann-and-bob", "What did Ann get?", "a cat", "single-hop", ("D1:1",))


def talk(value: dict[str, Any]) -> Any:
    return value["dialogues"][0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v.pop("name"), 'mine.json: "name" is missing'),
        (lambda v: v.update(dialogues={}), 'mine.json: "dialogues" must be a list, not {}'),
        (lambda v: v["dialogues"].append(talk(v)), "mine.json: dialogue 2: there is a dialogue 'talk' before it"),
        (lambda v: talk(v).update(question=[]), "dialogue 1: 'question' means nothing here; there may be id, speakers"),
        (lambda v: talk(v)["sessions"][0].update(time="soon"), "dialogue 1: session 1: not a time: 'soon'"),
        (
            lambda v: talk(v)["sessions"][1]["turns"][1].update(speaker="Eve"),
            "dialogue 1: session 2: turn 2: 'Eve' is none of \"speakers\"",
        ),
        (
            lambda v: talk(v)["sessions"][1]["turns"][1].update(id="cat"),
            "session 2: turn 2: there is a turn 'cat' before it",
        ),
        (lambda v: talk(v)["sessions"][1]["turns"][0].pop("text"), 'session 2: turn 1: "text" is missing'),
        (lambda v: talk(v)["sessions"][1]["turns"][0].update(text=" "), 'session 2: turn 1: "text" is empty'),
        (
            lambda v: talk(v)["questions"][0].update(evidence=["D9:1"]),
            "dialogue 1: question 0: its evidence 'D9:1' is no turn of the dialogue",
        ),
        (lambda v: talk(v)["questions"][0].update(evidence=[["D1:1"]]), 'evidence must be a string, not ["D1:1"]'),
        (lambda v: talk(v)["questions"][1].pop("answer"), 'question 1: "answer" is missing; null says that'),
        (lambda v: talk(v)["questions"][1].update(answer=3), 'question 1: "answer" must be a string, not 3'),
        (lambda v: talk(v)["questions"][1].update(evidense=[]), "question 1: 'evidense' means nothing here"),
    ],
)
def test_an_error_names_the_place(tmp_path: Path, spoil: Callable[[Any], Any], message: str) -> None:
    value = copy.deepcopy(FAMILY)
    spoil(value)
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        load(tmp_path, value)
    assert str(caught.value).endswith("memory_r1/bench/plain.py describes the form")
