"""What may stand in a memory's place: both told, nothing made up."""

from __future__ import annotations

import pytest

from memory_r1.joining import flaw
from memory_r1.train.generate import dialogues


@pytest.mark.parametrize(
    ("memory", "fact", "text"),
    [
        ("Ann has a dog, Buddy.", "Ann has a second dog, Scout.", "Ann has two dogs, Buddy and Scout."),
        ("Ann has a dog, Buddy.", "Ann has a second dog, Scout.", "Ann has 2 dogs, Buddy and Scout."),
        ("Ann lives in Rome.", "Ann moved to Oslo (May 2026).", "Ann moved from Rome to Oslo in May 2026."),
        ("Ann is a nurse at the harbour clinic.", "Ann teaches first aid.", "Ann teaches first aid; she was a nurse."),
        ("Ann's rent is 900.", "Ann's rent went up to 950.", "Ann's rent is 950."),
        ("Ann läuft jeden Montag.", "Ann läuft nun auch sonntags.", "Ann läuft montags und sonntags."),
        ("安は犬を飼っている。", "安は二匹目の犬を飼った。", "安は犬を二匹飼っている。"),
        ("She is who she was.", "Ann has a dog.", "Ann has a dog."),  # the memory told nothing
    ],
)
def test_a_text_that_tells_of_both_joins_them(memory: str, fact: str, text: str) -> None:
    assert flaw(text, memory, fact, "Ann") is None


@pytest.mark.parametrize(
    ("memory", "fact", "text", "wrong"),
    [
        ("Ann rides a bike.", "Ann baked a plum cake.", "Ann baked a plum cake.", "loses"),
        ("Ann rides a bike.", "Ann baked a plum cake.", "Ann rides a bike.", "loses"),
        ("Ann rides a bike.", "Ann rides a horse.", "Ann rides a bike and a horse since 2019.", "invents"),
        ("Ann rides a bike.", "Ann rides a horse.", "Ann rides a bike and a horse for 3 years.", "invents"),
        ("Ann rides a bike.", "Ann rides a horse.", "Ann rides a bike and a horse, Shadow.", "invents"),
        ("Ann rides a bike.", "Ann rides a horse.", "Ann rides, paints, cooks, sings and dances well.", "invents"),
        ("Ann has a dog.", "Ann bought seed.", "Ann's dog Ann bought seed, Rex.", "invents"),
    ],
)
def test_a_text_that_loses_one_or_makes_up_a_number_a_name_or_the_most_of_it_does_not(
    memory: str, fact: str, text: str, wrong: str
) -> None:
    assert flaw(text, memory, fact, "Ann") == wrong


def test_every_update_of_a_perfect_manager_joins() -> None:
    memories: dict[tuple[str, str], str] = {}
    joined = 0
    for generated in dialogues("test", 3, 6):
        for turn in generated.dialogue.turns:
            for told in generated.told.get(turn.id or "", ()):
                entry = (generated.dialogue.id, told.entry)
                if told.kind == "UPDATE":
                    assert told.text is not None
                    assert flaw(told.text, memories[entry], told.fact.text, told.fact.speaker) is None
                    joined += 1
                memories[entry] = told.text or memories.get(entry, told.fact.text)
    assert joined > 20
