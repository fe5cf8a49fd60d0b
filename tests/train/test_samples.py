"""Samples of a dialogue: what the bank held before a turn, and which questions it tells about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dialogues import DATA, EMBEDDER, JUNE, MAY, PETS, pets_teacher, teacher
from disk import full_disk

from memory_r1.bench.data import Question
from memory_r1.errors import CheckpointFailed, InvalidInput
from memory_r1.testing import ScriptedLLM
from memory_r1.train.config import TrainConfig
from memory_r1.train.samples import (
    AnswerSample,
    Asked,
    Known,
    ManagerSample,
    Remembering,
    answer_samples,
    asked_of,
    bank_of,
    contents,
    manager_samples,
    read_samples,
    replayed,
    write_samples,
)
from memory_r1.train.sources import opened
from memory_r1.types import Fact, Message, Prompt, Turn

BUDDY = Known("Ann adopted a dog, Buddy.", "Ann", MAY, ("1:1",))
ROME = Known("Bob live in Rome.", "Bob", JUNE, ("2:1",))
DOGS = Asked("q1", "How many dogs has Ann?", "two", "multi-hop", evidence=("2:2", "1:1"))
SCOUT = Fact("Ann adopted another dog, Scout.", "Ann", JUNE)
SECOND_DOG = ManagerSample(
    "d1/2:2", Turn("Ann", "I adopted another dog, Scout.", JUNE, "2:2"), (SCOUT,), (BUDDY, ROME), (DOGS,)
)


def test_a_question_is_asked_after_the_last_turn_of_its_evidence() -> None:
    assert list(manager_samples(DATA, teacher(), EMBEDDER)) == [SECOND_DOG]


def test_turns_that_need_no_decision_are_left_out() -> None:
    """With "every", the turns 1:1 and 2:1 have questions too, but nothing is related to them in the bank before."""
    assert [sample.id for sample in manager_samples(DATA, teacher(), EMBEDDER, link="every")] == ["d1/2:2"]


def test_a_turn_that_nothing_asks_about_is_played_for_what_it_may_cost() -> None:
    """The bike is asked about after its turn; without that question what is left is whether the cat is still known."""
    cat, bike = PETS.questions
    unasked = replace(PETS, questions=(cat,))
    assert [one.questions for one in manager_samples(PETS, pets_teacher(), EMBEDDER)] == [
        (asked_of(bike), asked_of(cat))
    ]
    assert [one.questions for one in manager_samples(unasked, pets_teacher(), EMBEDDER)] == [(asked_of(cat),)]
    assert list(manager_samples(unasked, pets_teacher(), EMBEDDER, guarded=0)) == []


def test_what_a_turn_takes_back_may_be_asked_about_after_it() -> None:
    gone = Question("gone", "d2", "Which colour is Ann's bike?", "", "adversarial", ("2:1",), answerable=False)
    sold = replace(PETS, questions=(gone,))
    assert list(manager_samples(sold, pets_teacher(), EMBEDDER)) == []
    [bike] = manager_samples(sold, pets_teacher(), EMBEDDER, unanswerable=True)
    assert bike.questions == (asked_of(gone),)


def test_the_window_is_what_the_bank_is_built_from() -> None:
    assert list(manager_samples(DATA, teacher(), EMBEDDER, window=2)) == []  # Buddy was three turns before
    assert [sample.bank for sample in manager_samples(DATA, teacher(), EMBEDDER, window=3)] == [(BUDDY, ROME)]


@pytest.mark.parametrize("window", [1_000_000, 20])
def test_the_bank_before_a_turn_is_what_the_turns_before_it_leave_in_an_empty_one(window: int) -> None:
    data, gold = opened("synthetic:1", TrainConfig(), EMBEDDER)
    assert gold is not None
    turns = data.dialogues[0].turns
    places = {turn.id: place for place, turn in enumerate(turns)}
    samples = list(manager_samples(data, gold, EMBEDDER, window=window))
    assert len(samples) > 20
    for sample in samples[::5]:
        place = places[sample.turn.id]
        with replayed(turns[max(0, place - window) : place], gold, EMBEDDER) as bank:
            assert sample.bank == contents(bank)


def test_an_answer_sample_has_the_memories_of_the_whole_dialogue_and_which_of_them_tell() -> None:
    both = Known("Ann adopted two dogs, Buddy and Scout.", "Ann", JUNE, ("1:1", "2:2"))
    dogs, rome = answer_samples(DATA, teacher(), EMBEDDER)
    assert dogs == AnswerSample("q1", DOGS, (both, ROME), (0,))
    assert (rome.memories, rome.supporting) == ((ROME, both), (0,))
    cat = list(answer_samples(DATA, teacher(), EMBEDDER, unanswerable=True))[2]
    assert cat.question == Asked("q3", "What is Bob's cat called?", "", "adversarial", answerable=False)
    assert cat.supporting == ()


def test_kept_turns_stand_among_the_memories_and_tell_for_themselves() -> None:
    dogs, _ = answer_samples(DATA, teacher(), EMBEDDER, keep_turns=True)
    assert [(one.text, one.turns) for one in dogs.memories] == [
        ("Ann adopted two dogs, Buddy and Scout.", ("1:1", "2:2")),
        ("Ann: I adopted another dog, Scout.", ("2:2",)),
        ("Ann: I adopted a dog, Buddy.", ("1:1",)),
        ("Bob: Hello!", ("1:2",)),
        ("Bob: I live in Rome.", ("2:1",)),
        ("Bob live in Rome.", ("2:1",)),
    ]
    assert dogs.supporting == (0, 1, 2)


def test_what_nothing_answers_has_no_memory_that_supports_it() -> None:
    """Its evidence, where it has some, tells of something alike; keeping that is not right."""
    alike = Question("q9", "d1", "What is Bob's dog called?", "", "adversarial", ("1:1",), answerable=False)
    [sample] = answer_samples(replace(DATA, questions=(alike,)), teacher(), EMBEDDER, unanswerable=True)
    assert (sample.question.evidence, sample.supporting) == (("1:1",), ())


def test_a_question_about_an_empty_bank_asks_no_model_and_so_teaches_nothing() -> None:
    silent = ScriptedLLM(lambda _: '{"facts": []}')
    assert list(answer_samples(DATA, silent, EMBEDDER, unanswerable=True)) == []


def test_a_bank_is_rebuilt_from_what_a_sample_knows() -> None:
    with bank_of((BUDDY, ROME), EMBEDDER) as bank:
        assert contents(bank) == (BUDDY, ROME)


def test_a_prompt_is_asked_once() -> None:
    llm = ScriptedLLM(["one", "two"])
    first, second = (Prompt("manage", (Message("user", text),)) for text in "ab")
    remembering = Remembering(llm)
    assert [reply.text for reply in remembering.complete([first, second, first])] == ["one", "two", "one"]
    assert [reply.text for reply in remembering.complete([second])] == ["two"]
    assert len(llm.prompts) == 2


def test_samples_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    samples = [*manager_samples(DATA, teacher(), EMBEDDER), *answer_samples(DATA, teacher(), EMBEDDER)]
    assert write_samples(tmp_path / "made" / "samples.jsonl", samples) == 3
    assert read_samples(tmp_path / "made" / "samples.jsonl") == samples
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["samples.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "holds no sample"), ("[1]", "line 1 is not a sample object"), ('{"id": "a"}', "line 1 is not a sample: ")],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=message):
        read_samples(path)


def test_samples_that_cannot_be_written_leave_no_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointFailed, match=r"could not be written .*; make room"):
        write_samples(tmp_path / "taken" / "samples.jsonl", iter(()))
    with (
        full_disk(100),
        pytest.raises(CheckpointFailed, match=r"samples\.jsonl could not be written \(.*File too large"),
    ):
        write_samples(tmp_path / "samples.jsonl", manager_samples(DATA, teacher(), EMBEDDER))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
