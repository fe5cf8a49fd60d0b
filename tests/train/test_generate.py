"""Generated dialogues: the gold is right, whatever the seed."""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from memory_r1.bench import plain
from memory_r1.bench.metrics import f1_locomo
from memory_r1.dates import annotate, event_time, find_dates
from memory_r1.errors import InvalidInput
from memory_r1.manager import most_facts
from memory_r1.train.generate import Generated, dataset, dialogues, generate, gold
from memory_r1.train.remarks import remarks
from memory_r1.train.wording import SPLITS, Split, filled, wording
from memory_r1.train.world import CATEGORIES, FAMILIES, UNANSWERABLE, Family

ASKS = {family.name: {ask.name: ask for ask in family.asks} for family in FAMILIES}


@pytest.fixture(scope="module")
def made() -> list[Generated]:
    """200 seeds: 80 for training and test each, 40 for validation."""
    seeds: list[tuple[Split, int]] = [("train", 80), ("validation", 40), ("test", 80)]
    return [generate(split, seed) for split, count in seeds for seed in range(count)]


def test_a_seed_makes_the_same_dialogue_again_and_another_seed_another() -> None:
    assert generate("train", 3, 1) == generate("train", 3, 1) == list(dialogues("train", 3, 2))[1]
    assert generate("train", 3, 1).dialogue != generate("train", 4, 1).dialogue


@pytest.mark.parametrize("sessions", [1, 2, 30])
@pytest.mark.parametrize("split", SPLITS)
def test_a_dialogue_may_have_few_or_many_sessions(split: Split, sessions: int) -> None:
    generated = generate(split, 0, sessions=sessions)
    assert len(generated.dialogue.sessions) == sessions
    assert generated.questions


def test_gold_operations_replayed_give_the_gold_bank(made: list[Generated]) -> None:
    for generated in made:
        entries: dict[str, str] = {}
        for turn in generated.dialogue.turns:
            assert turn.id
            assert generated.bank(before=turn.id) == entries
            for told in generated.told.get(turn.id, ()):
                if told.kind == "ADD":
                    assert told.entry not in entries
                    assert told.text == told.fact.text
                elif told.kind == "UPDATE":
                    assert told.text not in (entries[told.entry], told.fact.text, None)
                elif told.kind == "NOOP":
                    assert told.text == entries[told.entry]
                else:
                    assert told.text is None
                if told.text is None:
                    del entries[told.entry]
                else:
                    entries[told.entry] = told.text
        assert generated.bank() == entries


def slots(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def numbers_and_names(text: str) -> set[str]:
    """What a merged sentence may not make up: names, dates, prices."""
    return set(re.findall(r"[A-Z]\w+|\d+(?:,\d+)*", text))


def test_a_merged_entry_says_only_what_the_entry_or_the_fact_said(made: list[Generated]) -> None:
    for generated in made:
        for turn in generated.dialogue.turns:
            bank = generated.bank(before=turn.id)
            for told in generated.told.get(turn.id or "", ()):
                if told.kind == "UPDATE":
                    assert told.text
                    assert numbers_and_names(told.text) <= numbers_and_names(f"{bank[told.entry]} {told.fact.text}")


def test_the_product_reads_the_dates_as_the_world_means_them(made: list[Generated]) -> None:
    for generated in made:
        for turn in generated.dialogue.turns:
            assert turn.time
            told = generated.told.get(turn.id or "", ())
            meant = [(one.moment.time, one.moment.precision) for one in told if one.moment]
            found = [(one.time, one.precision) for one in find_dates(turn.text, turn.time)]
            assert found == meant
            shown = annotate(turn.text, turn.time)
            for one in told:
                if one.moment:
                    assert f"({one.moment.text})" in shown
                    assert f"({one.moment.text})" in one.fact.text
                    assert one.fact.event_time == one.moment.time
                    assert event_time(one.fact.text, turn.time) == (one.moment.time, True)
                else:
                    assert one.fact.event_time == turn.time
                    assert not one.fact.dated


def test_a_fact_is_what_the_extractor_may_write(made: list[Generated]) -> None:
    for generated in made:
        for turn in generated.dialogue.turns:
            told = generated.told.get(turn.id or "", ())
            assert len(told) <= most_facts(turn.text)
            for one in told:
                text = one.fact.text
                assert 6 <= len(text) <= 120, text
                assert one.fact.speaker == one.subject == turn.speaker
                assert turn.speaker in text
                assert text[0].isupper()
                assert text.endswith(".")
                assert "  " not in text + turn.text
                assert "{" not in text + turn.text


def test_what_happens_first_is_told_first(made: list[Generated]) -> None:
    for generated in made:
        last: dict[str, object] = {}
        for turn in generated.dialogue.turns:
            for told in generated.told.get(turn.id or "", ()):
                family, beat = told.attribute.split(".")
                if told.moment and (before := last.get(told.entry)):
                    assert told.moment.time > before, (told.attribute, turn.text)  # type: ignore[operator]
                if told.moment and beat != "again" and family not in ("book",):
                    last[told.entry] = told.moment.time


def test_every_answer_is_in_the_gold_bank_or_follows_from_it(made: list[Generated]) -> None:
    for generated in made:
        bank = generated.bank()
        turns = {turn.id: turn for turn in generated.dialogue.turns}
        assert len({question.text for question in generated.questions}) == len(generated.questions)
        for question in generated.questions:
            entries = generated.support[question.id]
            assert turns.keys() >= set(question.evidence)
            assert question.text.endswith("?")
            if not question.answerable:
                assert (question.category, question.answer, entries) == (UNANSWERABLE, "", ())
                continue
            assert 1 <= len(question.answer.split()) <= 9, question.answer
            assert question.evidence
            assert entries
            known = " ".join(bank[entry] for entry in entries)
            if question.category != "open-domain":
                for part in question.answer.split(", "):
                    assert (
                        part in f"{known} {question.text}"
                        or part == "two"
                        or part.removeprefix("a ").removeprefix("an ") in known
                    ), (
                        question,
                        known,
                    )
            said = " ".join(annotate(turns[turn].text, turns[turn].time) for turn in question.evidence)  # type: ignore[arg-type]
            if question.category == "temporal":
                assert f"({question.answer})" in said


def lives(generated: Generated, split: Split) -> dict[str, list[Family]]:
    """The families and remarks of each speaker."""
    families = {family.name: family for family in (*FAMILIES, *remarks(split).families)}
    names = {tuple(one.entry.split("/")[:2]) for told in generated.told.values() for one in told}
    found: dict[str, list[Family]] = {speaker: [] for speaker in generated.dialogue.speakers}
    for speaker, name in sorted(names):
        found[speaker].append(families[name])
    return found


@pytest.mark.parametrize("split", SPLITS)
def test_nobody_has_two_corners_of_a_life_that_clash(split: Split) -> None:
    for generated in dialogues(split, 5, 30):
        for families in lives(generated, split).values():
            for one, other in itertools.combinations(families, 2):
                assert not one.clashes(other), (generated.dialogue.id, one.topics, other.topics)


@pytest.mark.parametrize("split", SPLITS)
def test_nobody_told_what_an_unanswerable_question_is_about(split: Split) -> None:
    """Unless it is gone: the same person told that, too."""
    words = {**wording(split), **remarks(split).words}
    families = {family.name: family for family in (*FAMILIES, *remarks(split).families)}

    def asks(family: Family, values: Mapping[str, str], text: str) -> bool:
        templates = [line for ask in family.asks for line in words[f"{family.name}.ask.{ask.name}"]]
        return any(filled(line, values) == text for line in templates if slots(line) <= values.keys())

    for generated in dialogues(split, 5, 30):
        lived = lives(generated, split)
        for question in generated.questions:
            if question.answerable:
                continue
            told = [one for turn in question.evidence for one in generated.told[turn]]
            about = [(families[one.entry.split("/")[1]], dict(one.values)) for one in told]
            about = about or [(family, {}) for family in families.values()]
            asked = [
                (person, family)
                for person in lived
                for family, values in about
                if asks(family, values | {"n": person}, question.text)
            ]
            assert asked, question
            for person, family in asked:
                if not any(one.kind == "DELETE" and one.entry.startswith(f"{person}/{family.name}/") for one in told):
                    assert not any(family.clashes(one) for one in lived[person]), question


def test_nobody_speaks_to_themselves_by_name(made: list[Generated]) -> None:
    for generated in made:
        for turn in generated.dialogue.turns:
            assert not re.search(rf"\b{turn.speaker}\b", turn.text), turn


def test_every_operation_and_category_has_its_share(made: list[Generated]) -> None:
    kinds = Counter(one.kind for generated in made for told in generated.told.values() for one in told)
    shares = {kind: round(count / kinds.total(), 2) for kind, count in kinds.items()}
    assert shares == pytest.approx({"ADD": 0.75, "NOOP": 0.13, "UPDATE": 0.09, "DELETE": 0.04}, abs=0.03)
    asked = Counter(question.category for generated in made for question in generated.questions)
    shares = {name: round(count / asked.total(), 2) for name, count in asked.items()}
    wanted = {"single-hop": 0.46, "temporal": 0.24, "adversarial": 0.2, "multi-hop": 0.08, "open-domain": 0.05}
    assert shares == pytest.approx(wanted, abs=0.03)
    assert {one.attribute for generated in made for told in generated.told.values() for one in told} == {
        "remarks.told",
        *(f"{family.name}.{beat.name}" for family in FAMILIES for beat in family.beats),
    }


def test_two_dogs_one_after_the_other_become_one_memory_with_both_names() -> None:
    for generated in dialogues("test", 0, 100, families=["dogs"]):
        for turn in generated.dialogue.turns:
            for told in generated.told.get(turn.id or "", ()):
                if told.attribute == "dogs.second":
                    assert told.kind == "UPDATE"
                    assert told.text
                    for known in ("pet", "pet2", "adopt_on", "second_on"):
                        assert told.values[known] in told.text


def test_generated_dialogues_are_a_data_set_that_can_be_saved_and_read(tmp_path: Path) -> None:
    data = dataset(dialogues("test", 1, 2), "made up")
    assert data.categories == CATEGORIES
    plain.save(data, tmp_path / "made.json")
    read = plain.load(tmp_path / "made.json")
    assert (read.dialogues, read.questions) == (data.dialogues, data.questions)
    for question in read.answerable:
        assert f1_locomo(question.answer, question.answer, question.category) == 1.0


def test_the_gold_tells_of_each_turn_what_is_done() -> None:
    generated = next(dialogues("train", 2, 1, sessions=2, families=["drink"]))
    (value,) = gold([generated]).values()
    assert value["bank"] == generated.bank()
    assert set(value["support"]) == {question.id for question in generated.questions}
    told = [one for turn in value["turns"].values() for one in turn]
    assert [one["operation"] for one in told].count("ADD") == 2
    assert all(one["attribute"].startswith("drink.") for one in told)


def test_no_session_and_an_unknown_family_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one session, not 0"):
        generate("train", 0, sessions=0)
    with pytest.raises(InvalidInput, match="no family 'cows'; there are dogs, pets"):
        generate("train", 0, families=["cows"])
