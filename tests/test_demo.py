"""The demo: its script, and what it shows when the model is perfect and when it is useless."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest

from memory_r1.dates import parse_time
from memory_r1.demo import SCOPE, Score, answered, as_expected, compare, script, show, title
from memory_r1.memory import Memory
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import KINDS, Answer, Logged, Prompt

# What a careful reader takes from each turn, by how it begins, ...
FACTS = {
    "Guess what": ["Mia adopted a puppy called Biscuit on 1 March 2026."],
    "How sweet": ["John lives two minutes from the beach and goes out surfing."],
    "I can't keep": ["John is allergic to reptiles and fur."],
    "Biscuit has company": ["Mia adopted a second dog, the spaniel Pepper, on 14 March 2026."],
    "Two dogs, wow": ["John spent a week in the mountains in February 2026."],
    "And I have": ["Mia works as a nurse at the children's hospital."],
    "I went to the aquarium": ["John's favourite animals are turtles, though he is allergic to them."],
    "As I told you": ["Mia is a nurse at the children's hospital."],
    "In August": ["Mia is going to fly to Lisbon with her mother in August 2026."],
    "I left the hospital": ["Mia teaches first aid at the fire station."],
    "The trip to Lisbon": ["Mia's trip to Lisbon is cancelled."],
}
# ... what the fact does, by a word of it, to the memory that holds another, ...
TWO_DOGS = "Mia has two dogs: Biscuit, adopted on 1 March 2026, and Pepper, adopted on 14 March 2026."
DECISIONS = {
    "second dog": ("UPDATE", "Biscuit", TWO_DOGS),
    "is a nurse": ("NOOP", "", ""),
    "fire station": ("UPDATE", "nurse", "Mia teaches first aid at the fire station; before that, she was a nurse."),
    "cancelled": ("DELETE", "Lisbon", ""),
}
# ... and what each question's answer is, with a word of the memory that tells.
ANSWERS = {
    "How many dogs": ("Two: Biscuit and Pepper", "Biscuit"),
    "Does John live": ("Close to a beach", "beach"),
    "Which animals": ("Turtles", "turtles"),
    "When did Mia": ("14 March 2026", "Pepper"),
    "Where does Mia": ("At the fire station", "fire station"),
}


def careful(prompt: Prompt) -> str:
    asked = prompt.messages[-1].content
    places = {text: int(number) for number, text in re.findall(r"^(\d+)\. (.*)$", asked, re.MULTILINE)}
    if prompt.step == "extract":
        return json.dumps({"facts": next((facts for said, facts in FACTS.items() if said in asked), [])})
    if prompt.step == "manage":
        fact = asked.partition("New fact: ")[2]
        kind, word, text = next((made for known, made in DECISIONS.items() if known in fact), ("ADD", "", ""))
        place = next((place for memory, place in places.items() if word and word in memory), None)
        return json.dumps({"operation": kind, **({"index": place} if word else {}), **({"text": text} if text else {})})
    question = asked.partition("Question: ")[2]
    answer, word = next((known for start, known in ANSWERS.items() if question.startswith(start)), ("unknown", "~"))
    return json.dumps({"keep": [place for memory, place in places.items() if word in memory], "answer": answer})


def plain(text: str, **_: object) -> str:
    return text


Play = Callable[..., tuple[Score, list[str], list[str]]]


@pytest.fixture
def play() -> Iterator[Play]:
    """Plays the demo with a model: (score, lines shown, texts that the bank holds at the end)."""
    memories: list[Memory] = []

    def played(reply: Callable[[Prompt], str], quick: bool = False) -> tuple[Score, list[str], list[str]]:
        memory = Memory(":memory:", llm=ScriptedLLM(reply), embedder=HashEmbedder())
        memories.append(memory)
        lines: list[str] = []
        score = show(memory, "a model", lambda text: lines.extend(text.split("\n")), plain, quick=quick)
        return score, lines, [entry.text for entry in memory.bank.all(SCOPE)]

    yield played
    for memory in memories:
        memory.close()


def test_the_script_is_one_that_can_be_played() -> None:
    told = script()
    times = [parse_time(session["time"]) for session in told["sessions"]]
    turns = [turn for session in told["sessions"] for turn in session["turns"]]
    assert times == sorted(times)
    said = {"speaker", "text", "expect"}
    assert [set(turn) for turn in turns] == [
        said | ({"of"} if {"UPDATE", "DELETE"} & set(turn["expect"]) else set()) for turn in turns
    ]
    assert len(turns) == 12
    assert {turn["speaker"] for turn in turns} == set(told["speakers"])
    assert all(set(turn["expect"]) <= set(KINDS) for turn in turns)
    assert {kind for turn in turns for kind in turn["expect"]} == set(KINDS), "every operation has its turn"
    for question in told["questions"]:
        assert question["text"].endswith("?")
        assert question["expect"]
        assert question.get("unknown") or question["words"]
        assert all(word == word.casefold() for word in [*question.get("words", []), *question.get("without", [])])


def test_the_expected_answers_pass_for_right_answers() -> None:
    for question in script()["questions"]:
        assert answered(Answer(question["expect"], (), (), known=not question.get("unknown")), question), question


def test_a_perfect_model_gets_all_right_and_joins_the_two_dogs_in_one_memory(play: Play) -> None:
    score, lines, held = play(careful)
    assert score == Score(decisions=12, of_decisions=12, answers=6, of_answers=6)
    assert held == [
        TWO_DOGS,
        "John lives two minutes from the beach and goes out surfing.",
        "John is allergic to reptiles and fur.",
        "John spent a week in the mountains in February 2026.",
        "Mia teaches first aid at the fire station; before that, she was a nurse.",
        "John's favourite animals are turtles, though he is allergic to them.",
        "Mia is going to fly to Lisbon with her mother in August 2026.",
    ], "the trip that was cancelled is back: the demo ends with an undo"
    assert "Two friends, Mia and John, talk on 4 days. a model decides what to keep." in lines
    assert not any("✗" in line for line in lines)
    assert lines[-1] == "  undo   Mia is going to fly to Lisbon with her mother in August 2026."


def test_quick_plays_two_days_and_two_questions(play: Play) -> None:
    score, lines, held = play(careful, quick=True)
    assert score == Score(decisions=7, of_decisions=7, answers=2, of_answers=2)
    assert [text for text in held if "Biscuit" in text] == ["Mia adopted a puppy called Biscuit on 1 March 2026."]
    assert "Two friends, Mia and John, talk on 2 days. a model decides what to keep." in lines
    assert lines[-1] == "  undo   Mia adopted a puppy called Biscuit on 1 March 2026."


def test_a_model_that_replies_nonsense_gets_a_low_score_and_the_demo_ends_properly(play: Play) -> None:
    score, lines, held = play(lambda _: "Hm.")
    assert score == Score(decisions=2, of_decisions=12, answers=1, of_answers=6)
    assert held == []
    assert sum("[unreadable]" in line for line in lines) == 12
    assert "    ✗ expected UPDATE or DELETE" in lines
    assert "  → I don't know.  ✗ expected: turtles" in lines
    assert lines[-1] == "  The bank is empty: there is nothing to undo."


def test_a_model_that_keeps_every_word_twice_can_have_its_last_memory_undone(play: Play) -> None:
    def parrot(prompt: Prompt) -> str:
        said = prompt.messages[-1].content.partition(": ")[2]
        replies = {"extract": {"facts": [said, f"{said}!"]}, "manage": {"operation": "ADD"}}
        return json.dumps(replies.get(prompt.step, {"keep": [1], "answer": "a beach in the mountains"}))

    score, lines, held = play(parrot, quick=True)
    assert score == Score(decisions=5, of_decisions=7, answers=0, of_answers=2)
    assert len(held) == 6, "each turn once, and the last one undone"
    assert [line.split()[0] for line in lines[-3:]] == ["ADD", "NOOP", "undo"]
    assert lines[-1] == "  undo   gone again"


def test_the_title_says_what_plays_and_what_it_was_trained_for() -> None:
    assert title(None, ()) == "SmolLM2-135M-Instruct, untrained"
    assert title(None, ("manage", "answer")) == "SmolLM2-135M-Instruct with trained adapters (manage, answer)"
    assert title("qwen3:4b", ()) == "qwen3:4b"
    assert title("other", ("manage",)) == "other with trained adapters (manage)"


@pytest.mark.parametrize(
    ("trained", "shipped", "expected"),
    [
        (True, True, ["The same model untrained, beside it:", "  memory-r1 demo --untrained"]),
        (True, False, ["The same model untrained, beside it:", "  memory-r1 demo --untrained"]),
        (False, True, ["The same model with its trained adapters, beside it:", "  memory-r1 demo"]),
        (False, False, ["To keep a memory is what memory-r1 trains such a model for: memory-r1 train --help"]),
    ],
)
def test_the_end_names_the_other_side_of_the_comparison(trained: bool, shipped: bool, expected: list[str]) -> None:
    right, wrong = Score(12, 12, 1, 6), Score(6, 12, 6, 6)
    assert compare(right, trained=trained, shipped=shipped) == expected
    assert compare(wrong, trained=trained, shipped=shipped) == [
        *expected,
        "A larger one, untrained (1.1 GB, or any GGUF file by its path):",
        "  memory-r1 demo --model qwen2.5-coder-1.5b",
    ]


@pytest.mark.parametrize(
    ("kinds", "expected", "right"),
    [
        (["ADD"], ["ADD"], True),
        (["ADD", "NOOP"], ["ADD"], True),
        (["UPDATE", "ADD"], ["UPDATE"], True),
        (["UPDATE", "DELETE"], ["UPDATE"], False),
        (["ADD", "UPDATE"], ["ADD"], False),
        (["DELETE"], ["UPDATE", "DELETE"], True),
        (["NOOP"], ["ADD"], False),
        ([], ["ADD"], False),
        ([], ["NOOP"], True),
        (["NOOP"], ["NOOP"], True),
        (["ADD", "NOOP"], ["NOOP"], False),
        ([], [], True),
        (["NOOP"], [], True),
        (["ADD"], [], False),
    ],
)
def test_a_turn_is_right_when_it_did_what_was_expected_and_lost_nothing(
    kinds: list[str], expected: list[str], right: bool
) -> None:
    time, before = parse_time("2026-01-01"), {"text": "Mia has a dog."}
    logged = [
        Logged(1, kind, None, time, None, before if kind in ("UPDATE", "DELETE") else None, None) for kind in kinds
    ]
    assert as_expected(logged, expected, "dog") is right
    assert as_expected(logged, expected, "trip") is (right and not {"UPDATE", "DELETE"} & set(kinds))


@pytest.mark.parametrize(
    ("text", "known", "question", "right"),
    [
        ("Biscuit and PEPPER", True, {"words": ["biscuit", "pepper"]}, True),
        ("Biscuit", True, {"words": ["biscuit", "pepper"]}, False),
        ("Near a beach in the mountains", True, {"words": ["beach"], "without": ["mountain"]}, False),
        ("I don't know.", False, {"unknown": True}, True),
        ("Tom", True, {"unknown": True}, False),
    ],
)
def test_an_answer_is_right_when_it_says_all_the_words_and_no_wrong_one(
    text: str, known: bool, question: dict[str, object], right: bool
) -> None:
    assert answered(Answer(text, (), (), known=known), question) is right
