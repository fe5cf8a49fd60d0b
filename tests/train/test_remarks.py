"""Remarks: lines of data become families of one beat, and say what else they touch."""

from __future__ import annotations

import itertools
import re
import string

import pytest

from memory_r1.manager import MAX_FACT
from memory_r1.train.generate import Generated, Told, generate
from memory_r1.train.remarks import read, remarks
from memory_r1.train.wording import SPLITS, Split, filled
from memory_r1.train.world import FAMILIES, Ask, Beat, Family

LINE = "I tuned my {x:cello/harp} {when}. Bliss! | {n} tuned the {x} ({on}). | When did {n} tune the {x}? | {on}"
# What a fact or a question may not say unless its line has the topic: a family of one speaker would contradict it.
TELLING = {
    "car": r"\bcar\b",
    "injury": r"\{n\} tore|\bcast\b|surgery",
    "job": r"promot|laid off|lost the job|\bquit the|employee",
    "kids": r"\{n\}'s (kids|daughter|son|stepson|teenager)\b",
    "language": r"is learning",
    "partner": r"\{n\}'s (partner|husband|wife|girlfriend)\b|the partner\b|in-law|got engaged \(|marriage of \{n\}",
    "pets": r"\{n\}'s (old )?(cat|dog|hens|puppy|rabbit)\b|adopted|put to sleep",
    "trait": r"\bsav(es|ing)\b|\bdreams?\b|scared of|afraid of|(to become|becoming) a",
}


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
            ("glad-1",),
            "remarks",
        ),
        {
            "pools.glad-1.x": ("cello", "harp"),
            "glad-1.told.say": ("I tuned my {x} {when}. Bliss!",),
            "glad-1.told.fact": ("{n} tuned the {x} ({on}).",),
            "glad-1.ask.it": ("When did {n} tune the {x}?",),
        },
    )


def test_a_line_may_say_which_topics_it_touches() -> None:
    family, words = read("glad-1", f"{LINE} | craft trait.calm", sad=False)
    assert family.topics == ("craft", "trait.calm")
    assert words == read("glad-1", LINE, sad=False)[1]


def test_a_part_of_a_topic_clashes_with_the_whole_and_with_itself() -> None:
    def about(topics: str) -> Family:
        return read("glad-1", f"{LINE} | {topics}", sad=False)[0]

    assert about("craft trait.calm").clashes(about("trait"))
    assert about("trait").clashes(about("craft trait.calm"))
    assert about("trait.calm").clashes(about("trait.calm"))
    assert not about("trait.calm").clashes(about("trait.fear"))
    assert not about("craft").clashes(about("crafts"))


def test_every_topic_is_one_of_a_family_or_of_another_remark() -> None:
    """One that is neither was misspelt."""
    named = [topic for split in SPLITS for one in remarks(split).families for topic in one.topics if topic != one.name]
    known = {topic for family in FAMILIES for topic in family.topics}
    assert {topic for topic in named if topic.split(".")[0] not in known and named.count(topic) < 2} == set()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("topic", TELLING)
def test_a_remark_on_what_a_family_tells_has_its_topic(split: Split, topic: str) -> None:
    made = remarks(split)
    for family in made.families:
        told = " ".join(made.words[f"{family.name}.{key}"][0] for key in ("told.fact", "ask.it"))
        if re.search(TELLING[topic], told):
            assert topic in {one.split(".")[0] for one in family.topics}, told


@pytest.mark.parametrize("split", SPLITS)
def test_every_word_of_a_remark_has_its_value(split: Split) -> None:
    made = remarks(split)
    assert len(made.families) >= 20
    for family in made.families:
        [beat], [ask] = family.beats, family.asks
        known = {"n", "friend", *family.slots}
        say, fact, question = (made.words[f"{family.name}.{key}"][0] for key in ("told.say", "told.fact", "ask.it"))
        assert slots(say) <= known | {"when"}, say
        assert "friend" in slots(say) or "friend" not in slots(fact), fact  # nobody could know the name
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


def test_a_dialogue_mentions_what_its_families_do_not_tell_and_no_two_people_the_same() -> None:
    def mentioned(generated: Generated) -> list[Told]:
        return [one for facts in generated.told.values() for one in facts if one.attribute == "remarks.told"]

    made = mentioned(generate("test", 1))
    assert len(made) == 24  # two in each of six sessions, by each speaker
    assert len({one.entry.partition("/")[2] for one in made}) == 24
    assert {one.kind for one in made} == {"ADD"}
    assert mentioned(generate("test", 1, families=["dogs"])) == []
