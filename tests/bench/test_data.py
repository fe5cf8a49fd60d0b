from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from memory_r1.bench.data import Dataset, Dialogue, Question, Session, describe
from memory_r1.bench.locomo import load
from memory_r1.errors import InvalidInput
from memory_r1.types import Turn

MAY = datetime(2026, 5, 8, tzinfo=UTC)


def dialogue(name: str) -> Dialogue:
    sessions = [Session(i, MAY, (Turn("Ann", "Hi", MAY, f"D{i}:1"), Turn("Bob", "Hi", MAY, f"D{i}:2"))) for i in (1, 2)]
    return Dialogue(name, ("Ann", "Bob"), tuple(sessions))


def question(name: str, *evidence: str, answerable: bool = True) -> Question:
    kind = "easy" if answerable else "trick"
    return Question(name, name[0], "What?", "that" if answerable else "", kind, evidence, answerable)


DATA = Dataset(
    "tiny",
    (dialogue("a"), dialogue("b")),
    (
        question("a/0", "D1:1"),
        question("a/1", "D1:2", "D2:1"),
        question("a/2"),
        question("a/3", "D1:1", answerable=False),
        question("b/0", "D2:2"),
    ),
    ("easy", "hard"),
    {"train": ("a",), "test": ("b",), "all": ("a", "b")},
    notes={"repaired": 2},
)


def ids(data: Dataset) -> list[str]:
    return [question.id for question in data.questions]


def test_a_split_has_its_dialogues_and_their_questions() -> None:
    train = DATA.split("train")
    assert (train.dialogues, ids(train)) == ((dialogue("a"),), ["a/0", "a/1", "a/2", "a/3"])
    assert [question.id for question in train.answerable] == ["a/0", "a/1", "a/2"]
    assert ids(DATA.split("all")) == ids(DATA)


def test_what_is_left_of_a_data_set_can_be_split_again() -> None:
    test = DATA.split("test")
    assert test.splits == {"train": (), "test": ("b",), "all": ("b",)}
    assert test.split("all") == test


def test_a_split_or_a_dialogue_that_is_not_there_is_answered_with_what_is() -> None:
    with pytest.raises(InvalidInput, match=r"^tiny has no split 'dev'; it has train, test, all$"):
        DATA.split("dev")
    with pytest.raises(InvalidInput, match=r"^no dialogue c, d in this part of tiny; it has a, b$"):
        DATA.of(["d", "a", "c"])


def test_fewer_questions_of_one_seed_are_among_more() -> None:
    drawn = [set(ids(DATA.some(count, seed=3))) for count in (1, 2, 4, 9)]
    assert [len(some) for some in drawn] == [1, 2, 4, 5]
    assert all(fewer < more for fewer, more in pairwise(drawn))
    assert DATA.some(4, seed=3).dialogues == DATA.dialogues
    assert len({tuple(ids(DATA.some(2, seed))) for seed in range(9)}) > 1


def test_the_first_sessions_keep_the_questions_that_they_tell_whole() -> None:
    first = DATA.first_sessions(1)
    assert [len(one.sessions) for one in first.dialogues] == [1, 1]
    assert ids(first) == ["a/0", "a/3"]  # a/1 needs the second session, and nobody knows what a/2 needs
    assert ids(DATA.first_sessions(9)) == ["a/0", "a/1", "a/3", "b/0"]


def test_a_description_counts_and_quotes_nothing() -> None:
    assert describe(DATA) == {
        "name": "tiny",
        "dialogues": 2,
        "sessions": 4,
        "turns": 8,
        "questions": {"easy": 4, "hard": 0},
        "unanswerable": 1,
        "notes": {"repaired": 2},
    }


@pytest.mark.locomo
@pytest.mark.skipif("MEMORY_R1_LOCOMO" not in os.environ, reason="set MEMORY_R1_LOCOMO to the path of locomo10.json")
def test_the_first_four_sessions_of_locomos_validation_dialogue_tell_25_answers() -> None:
    first = load(os.environ["MEMORY_R1_LOCOMO"]).split("validation").first_sessions(4)
    (talk,) = first.dialogues
    counts = (talk.id, len(talk.sessions), len(talk.turns), len(first.answerable), len(first.questions))
    assert counts == ("conv-30", 4, 77, 25, 35)
    assert Counter(question.category for question in first.answerable) == {
        "single-hop": 18,
        "temporal": 5,
        "multi-hop": 2,
    }
