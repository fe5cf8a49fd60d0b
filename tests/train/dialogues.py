"""A dialogue of four turns, a teacher that reads it by rule, and samples of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Prompt, Turn

MAY, JUNE = datetime(2026, 5, 8, tzinfo=UTC), datetime(2026, 6, 9, tzinfo=UTC)
EMBEDDER = HashEmbedder()

DATA = Dataset(
    "two-dogs",
    (
        Dialogue(
            "d1",
            ("Ann", "Bob"),
            (
                Session(
                    1, MAY, (Turn("Ann", "I adopted a dog, Buddy.", MAY, "1:1"), Turn("Bob", "Hello!", MAY, "1:2"))
                ),
                Session(
                    2,
                    JUNE,
                    (
                        Turn("Bob", "I live in Rome.", JUNE, "2:1"),
                        Turn("Ann", "I adopted another dog, Scout.", JUNE, "2:2"),
                    ),
                ),
            ),
        ),
    ),
    (
        Question("q1", "d1", "How many dogs has Ann?", "two", "multi-hop", ("2:2", "1:1")),
        Question("q2", "d1", "Where does Bob live?", "Rome", "single-hop", ("2:1",)),
        Question("q3", "d1", "What is Bob's cat called?", "", "adversarial", (), answerable=False),
    ),
    ("multi-hop", "single-hop"),
    {"all": ("d1",)},
)

UPDATE = json.dumps({"operation": "UPDATE", "index": 1, "text": "Ann adopted two dogs, Buddy and Scout."})
ADD = json.dumps({"operation": "ADD"})


def teach(prompt: Prompt) -> str:
    """Facts as they are said, in the third person; a second dog is an UPDATE; answers by the words in memories."""
    text = prompt.messages[-1].content
    if prompt.step == "extract":
        speaker, _, said = re.sub(r"^\([^)]*\) ", "", text).partition(": ")
        return json.dumps({"facts": [said.replace("I ", f"{speaker} ", 1)] if said.startswith("I ") else []})
    if prompt.step == "manage":
        return UPDATE if "another dog" in text else ADD
    return answer(prompt)


def answer(prompt: Prompt) -> str:
    """Knows two dogs when one memory tells of both, and where Bob lives."""
    memories, _, question = prompt.messages[-1].content.partition("\nQuestion: ")
    lines = memories.splitlines()[1:]
    wanted, said = ("Buddy and Scout", "two") if "dogs" in question else ("Rome", "Rome")
    keep = [place for place, line in enumerate(lines, 1) if wanted in line]
    return json.dumps({"keep": keep, "answer": said if keep else "unknown"})


def teacher() -> ScriptedLLM:
    return ScriptedLLM(teach)


# One speaker of whose two facts the second is shown the first: what is done about the bike may cost the cat.
PETS = Dataset(
    "pets",
    (
        Dialogue(
            "d2",
            ("Ann", "Bob"),
            (
                Session(1, MAY, (Turn("Ann", "I have a cat, Tom.", MAY, "1:1"), Turn("Bob", "Nice!", MAY, "1:2"))),
                Session(2, JUNE, (Turn("Ann", "I have a red bike.", JUNE, "2:1"),)),
            ),
        ),
    ),
    (
        Question("cat", "d2", "What is Ann's cat called?", "Tom", "single-hop", ("1:1",)),
        Question("bike", "d2", "Which colour is Ann's bike?", "red", "single-hop", ("2:1",)),
    ),
    ("single-hop",),
    {"all": ("d2",)},
)


def pets_teach(prompt: Prompt) -> str:
    """As `teach`, but every fact is added, and the answers are Tom and red where a memory has the word."""
    if prompt.step != "answer":
        return ADD if prompt.step == "manage" else teach(prompt)
    memories, _, question = prompt.messages[-1].content.partition("\nQuestion: ")
    wanted = "Tom" if "cat" in question else "red"
    return json.dumps({"keep": [], "answer": wanted if wanted in memories else "unknown"})


def pets_teacher() -> ScriptedLLM:
    return ScriptedLLM(pets_teach)


# One speaker, three decisions: each fact is shown those before it, and the second dog belongs to the first.
HOUSE = Dataset(
    "house",
    (
        Dialogue(
            "d3",
            ("Ann", "Bob"),
            (
                Session(
                    1,
                    MAY,
                    (Turn("Ann", "I adopted a dog, Buddy.", MAY, "1:1"), Turn("Ann", "I have a cat, Tom.", MAY, "1:2")),
                ),
                Session(
                    2,
                    JUNE,
                    (
                        Turn("Ann", "I adopted another dog, Scout.", JUNE, "2:1"),
                        Turn("Ann", "I have a red bike.", JUNE, "2:2"),
                    ),
                ),
            ),
        ),
    ),
    (
        Question("dogs", "d3", "How many dogs has Ann?", "two", "multi-hop", ("1:1", "2:1")),
        Question("cat", "d3", "What is Ann's cat called?", "Tom", "single-hop", ("1:2",)),
        Question("bike", "d3", "Which colour is Ann's bike?", "red", "single-hop", ("2:2",)),
    ),
    ("multi-hop", "single-hop"),
    {"all": ("d3",)},
)


def house_teach(prompt: Prompt) -> str:
    """The second dog is an UPDATE of the first, wherever it is shown; the rest as `teach` and `pets_teach`."""
    text = prompt.messages[-1].content
    if prompt.step == "answer":
        return answer(prompt) if "dogs" in text.partition("\nQuestion: ")[2] else pets_teach(prompt)
    if prompt.step == "manage" and "another dog" in text:
        place = next(number for number, line in enumerate(text.splitlines()) if line.endswith("a dog, Buddy."))
        return UPDATE.replace('"index": 1', f'"index": {place}')
    return pets_teach(prompt)
