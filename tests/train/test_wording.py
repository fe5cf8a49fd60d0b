"""The words of the splits: they share nothing that could be learnt by heart."""

from __future__ import annotations

import itertools
import re
import string

import pytest

from memory_r1.errors import InvalidInput
from memory_r1.train.remarks import remarks
from memory_r1.train.wording import SPLITS, Split, filled, phrase, wording
from memory_r1.train.world import FAMILIES, Family

# Inference answers of a closed class ("a beach" or "the mountains") stand behind the first column of a value.
DATES = {"when", "on"}
SLOT = re.compile(r"\{\w+\}")


def first(value: str) -> str:
    return value.split("|")[0].casefold()


def slots(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def known_slots(family: Family) -> set[str]:
    values = {"n", "friend", *(f"{beat.name}_on" for beat in family.beats if beat.when)}
    for slot, pool in family.slots.items():
        columns = wording("test")[f"pools.{pool}"][0].count("|")
        values |= {slot, *(f"{slot}_{place}" for place in range(1, columns + 1))}
    return values


def remarked(split: Split) -> set[str]:
    """What remarks say, note and ask, with every slot alike."""
    own = {family.name for family in remarks(split).families}
    texts = [f"{name}.{part}" for name in own for part in ("told.say", "told.fact", "ask.it")]
    return {alike(line) for key in texts for line in remarks(split).words[key]}


def sentences(split: Split) -> set[str]:
    """That of remarks, and all that families and talk have."""
    lists = wording(split).items()
    return remarked(split) | {
        alike(line) for key, lines in lists if not key.startswith(("pools.", "remarks.")) for line in lines
    }


def alike(template: str) -> str:
    return SLOT.sub("{}", template).casefold()


def values(split: Split) -> set[str]:
    """What is drawn, and the answers of remarks that are nothing drawn."""
    words = {**wording(split), **remarks(split).words}
    answers = {str(ask.answer).casefold() for family in remarks(split).families for ask in family.asks}
    return {first(line) for key, lines in words.items() if key.startswith("pools.") for line in lines} | {
        answer for answer in answers if not SLOT.search(answer)
    }


@pytest.mark.parametrize("other", ["train", "validation"])
def test_no_sentence_of_the_test_is_in_training_or_validation(other: Split) -> None:
    # Facts and questions that are nothing but values ("{n} {trait_1}.") differ by their values.
    assert {line for line in sentences("test") & sentences(other) if re.search(r"[a-z]", line)} == set()


def test_no_sentence_of_a_remark_of_validation_is_in_training() -> None:
    assert remarked("validation") & sentences("train") == set()


@pytest.mark.parametrize(("split", "other"), [*itertools.combinations(SPLITS, 2)])
def test_no_name_or_value_or_answer_is_in_two_splits(split: Split, other: Split) -> None:
    assert values(split) & values(other) == set()


def test_training_and_validation_share_no_value_and_no_sentence_but_of_short_lists() -> None:
    train, validation = wording("train"), wording("validation")
    assert train.keys() == validation.keys()
    for key in train:
        shared = set(train[key]) & set(validation[key])
        assert not shared or len(train[key]) < 4, key
        assert not (shared and key.startswith("pools.")), key


@pytest.mark.parametrize("split", SPLITS)
def test_every_beat_and_question_has_words_and_every_word_its_value(split: Split) -> None:
    words = wording(split)
    needed = set()
    for family in FAMILIES:
        known = known_slots(family)
        for beat in family.beats:
            own = DATES if beat.when else set()
            for form in ("say", "fact", *(("entry",) if beat.kind == "UPDATE" else ())):
                key = f"{family.name}.{beat.name}.{form}"
                needed.add(key)
                assert all(slots(line) <= known | own for line in words[key]), key
                if beat.when and form != "entry":
                    assert all(("{when}" if form == "say" else "{on}") in line for line in words[key]), key
        for ask in family.asks:
            key = f"{family.name}.ask.{ask.name}"
            needed.add(key)
            assert all(slots(line) <= known for line in words[key]), key
        needed.add(f"{family.name}.react")
    assert {key for key in words if not key.startswith(("pools.", "talk.", "remarks."))} == needed


@pytest.mark.parametrize("split", SPLITS)
def test_columns_of_a_pool_are_as_many_in_each_line(split: Split) -> None:
    for key, lines in wording(split).items():
        if key.startswith("pools."):
            assert len({line.count("|") for line in lines}) == 1, key
            assert len({first(line) for line in lines}) == len(lines), key


def test_a_filled_sentence_has_capitals_and_the_right_article() -> None:
    values = {"when": "last Friday", "item": "oven", "pet": "Rex"}
    assert filled("{when} I got a {item}. my {pet} hid!", values) == "Last Friday I got an oven. My Rex hid!"
    assert phrase("a {item}", values) == "an oven"


def test_a_split_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidInput, match="'dev' is no split; there are train, validation, test"):
        wording("dev")  # type: ignore[arg-type]
