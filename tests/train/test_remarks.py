"""Remarks: lines of data become families of one beat, and the splits share none."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Mapping, Sequence

import pytest

from memory_r1.manager import MAX_FACT
from memory_r1.train.generate import Generated, Told, generate
from memory_r1.train.remarks import read, remarks
from memory_r1.train.wording import SPLITS, Split, filled, wording
from memory_r1.train.world import Ask, Beat, Family

LINE = "I tuned my {x:cello/harp} {when}. Bliss! | {n} tuned the {x} ({on}). | When did {n} tune the {x}? | {on}"


NUMBER = re.compile(
    r"(an? )?(\w+ty|\w+teen|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred)([- ].*)?"
)


def slots(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_a_line_is_a_family_of_one_beat_and_one_question() -> None:
    assert read("glad-1", LINE, sad=False) == (
        Family(
            "glad-1",
            {"x": "glad-1.x"},
            (Beat("told", "ADD", "past"),),
            (("told",),),
            (Ask("it", "temporal", "{told_on}", ("told",)),),
            "glad-1",
            "remarks",
        ),
        {
            "pools.glad-1.x": ("cello", "harp"),
            "glad-1.told.say": ("I tuned my {x} {when}. Bliss!",),
            "glad-1.told.fact": ("{n} tuned the {x} ({on}).",),
            "glad-1.ask.it": ("When did {n} tune the {x}?",),
        },
    )


@pytest.mark.parametrize("split", SPLITS)
def test_every_word_of_a_remark_has_its_value(split: Split) -> None:
    made = remarks(split)
    assert len(made.families) >= 20
    for family in made.families:
        [beat], [ask] = family.beats, family.asks
        known = {"n", "friend", *family.slots}
        say, fact, question = (made.words[f"{family.name}.{key}"][0] for key in ("told.say", "told.fact", "ask.it"))
        assert slots(say) <= known | {"when"}, say
        assert slots(fact) <= known | {"on"}, fact
        assert slots(question) <= known, question
        assert slots(ask.answer or "") <= known | {"told_on"}, ask.answer
        assert ("{when}" in say, "{on}" in fact) == (beat.when is not None,) * 2, say


@pytest.mark.parametrize("split", SPLITS)
def test_a_fact_is_never_longer_than_one_may_be(split: Split) -> None:
    names = {"n": "Rosalind", "friend": "Rosalind", "on": "the week of 25 September 2023"}
    made = remarks(split)
    for family in made.families:
        for drawn in itertools.product(*(made.words[f"pools.{pool}"] for pool in family.slots.values())):
            fact = filled(
                made.words[f"{family.name}.told.fact"][0], names | dict(zip(family.slots, drawn, strict=True))
            )
            assert len(fact) <= MAX_FACT, fact


@pytest.mark.parametrize("split", SPLITS)
def test_an_answer_is_in_its_fact_or_question(split: Split) -> None:
    made = remarks(split)
    for family in made.families:
        [ask] = family.asks
        fact, question = (made.words[f"{family.name}.{key}"][0] for key in ("told.fact", "ask.it"))
        for part in str(ask.answer).replace("told_on", "on").split(", "):
            assert part in f"{fact} {question}" or part.removeprefix("a ") in fact, (fact, ask.answer)


def test_the_splits_share_no_remark_and_the_test_no_value() -> None:
    def first(words: Mapping[str, Sequence[str]]) -> set[str]:
        return {one.split("|")[0].casefold() for key, pool in words.items() if key.startswith("pools.") for one in pool}

    lines = {
        split: {line for mood in ("glad", "sad") for line in wording(split)[f"remarks.{mood}"]} for split in SPLITS
    }
    values = {split: first(wording(split)) | first(remarks(split).words) for split in SPLITS}
    assert not lines["train"] & lines["validation"]
    assert not lines["test"] & (lines["train"] | lines["validation"])
    both = values["test"] & (values["train"] | values["validation"])
    assert {one for one in both if not NUMBER.fullmatch(one)} == set()


def test_a_dialogue_mentions_what_its_families_do_not_tell_and_no_two_people_the_same() -> None:
    def mentioned(generated: Generated) -> list[Told]:
        return [one for facts in generated.told.values() for one in facts if one.attribute == "remarks.told"]

    made = mentioned(generate("test", 1))
    assert len(made) == 24  # two in each of six sessions, by each speaker
    assert len({one.entry.partition("/")[2] for one in made}) == 24
    assert {one.kind for one in made} == {"ADD"}
    assert mentioned(generate("test", 1, families=["dogs"])) == []
