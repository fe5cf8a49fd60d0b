"""Examples from annotated talk: what is to be extracted, and what is to be answered from the memories made of it."""

from __future__ import annotations

from datetime import UTC, datetime

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.manager import extract_prompt
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.train.annotated import answered, noted
from memory_r1.train.samples import AnswerSample, answer_samples
from memory_r1.types import Prompt, Turn

MAY = datetime(2023, 5, 8, 13, tzinfo=UTC)
DOG = Turn("Ann", "I adopted a dog yesterday! Work is as it was, nothing new to tell about it.", MAY, "D1:1")
NICE = Turn("Bob", "How nice!", MAY, "D1:2")
DATA = Dataset(
    "toy",
    (Dialogue("conv-1", ("Ann", "Bob"), (Session(1, MAY, (DOG, NICE)),)),),
    (
        Question("conv-1/0", "conv-1", "When did Ann adopt a dog?", "7 May 2023", "temporal", ("D1:1",)),
        Question("conv-1/1", "conv-1", "What did Bob say?", "How nice", "single-hop", ("D1:2",)),
        Question("conv-1/2", "conv-1", "When did Bob adopt a dog?", "", "adversarial", ("D1:1",), answerable=False),
    ),
    ("temporal", "single-hop"),
    {"all": ("conv-1",)},
)


def test_what_was_noted_is_extracted_with_the_date_that_the_turn_tells() -> None:
    notes = {"conv-1": {"D1:1": ["Ann adopted a dog.", "Ann works."]}}
    [(dialogue, example)] = noted(DATA, notes)
    assert (dialogue, example.about) == ("conv-1", "facts")
    assert example.prompt == extract_prompt(DOG)
    assert example.reply == '{"facts": ["Ann adopted a dog (7 May 2023).", "Ann works."]}'


def test_a_turn_with_a_note_too_long_to_be_a_fact_teaches_nothing() -> None:
    notes = {"conv-1": {"D1:1": ["Ann adopted a dog.", "Ann owns " + "very " * 30 + "old socks."]}}
    assert list(noted(DATA, notes)) == []


def read(*, keep_turns: bool = False) -> list[AnswerSample]:
    """Samples of a reader that finds the dog."""

    def reads(prompt: Prompt) -> str:
        told = "I adopted" in prompt.messages[-1].content
        return '{"facts": ["Ann adopted a dog (7 May 2023)."]}' if told else '{"facts": []}'

    return list(answer_samples(DATA, ScriptedLLM(reads), HashEmbedder(), unanswerable=True, keep_turns=keep_turns))


def test_questions_are_answered_from_what_their_evidence_wrote() -> None:
    made = list(answered(read()))
    assert [(one.dialogue, one.example.about, one.example.reply) for one in made] == [
        ("conv-1", "temporal", '{"keep": [1], "answer": "7 May 2023"}'),
        ("conv-1", "adversarial", '{"keep": [], "answer": "unknown"}'),
    ]
    assert made[0].example.prompt.messages[-1].content.endswith("Question: When did Ann adopt a dog?")


def test_of_kept_turns_those_of_the_evidence_are_kept_beside_the_memory_that_they_wrote() -> None:
    made = list(answered(read(keep_turns=True)))
    assert [one.example.reply for one in made] == [
        '{"keep": [1, 2], "answer": "7 May 2023"}',
        '{"keep": [1], "answer": "How nice"}',  # no memory was made of it
        '{"keep": [], "answer": "unknown"}',
    ]
    assert made[0].example.prompt.messages[-1].content == (
        "Memories:\n1. (7 May 2023) Ann adopted a dog (7 May 2023).\n"
        "2. (8 May 2023) Ann: I adopted a dog yesterday (7 May 2023)! "
        "Work is as it was, nothing new to tell about it.\n"
        "3. (8 May 2023) Bob: How nice!\n"
        "Question: When did Ann adopt a dog?"
    )


def test_without_distillation_the_answer_alone_is_asked_for_and_taught() -> None:
    made = [one.example for one in answered(read(), distil=False)]
    assert [one.reply for one in made] == ['{"answer": "7 May 2023"}', '{"answer": "unknown"}']
    assert made[0].prompt.messages[0].content.endswith('Reply with JSON: {"answer": "..."}.')
