"""The Memory Manager: facts of a turn, one decision for each, and no decision that the reply did not name."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.bank.turns import TurnProgress
from memory_r1.errors import ModelUnavailable
from memory_r1.flow import Flow, run
from memory_r1.manager import (
    MAX_FACTS,
    decide,
    duplicate,
    extract,
    operation_schema,
    parse_facts,
    parse_operation,
    remember,
    with_name,
)
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Fact, Logged, MemoryEntry, Operation, Provenance, Reply, Scope, Turn

ANN = Scope(user_id="ann")
MAY_8 = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
MAY_7 = datetime(2023, 5, 7, tzinfo=UTC)


def entry(
    text: str,
    number: int = 1,
    speaker: str | None = "Ann",
    when: datetime | None = None,
    expires_at: datetime | None = None,
) -> MemoryEntry:
    return MemoryEntry(f"id{number}", text, ANN, MAY_8, MAY_8, number, speaker, when, expires_at)


def facts(*texts: str) -> str:
    return json.dumps({"facts": texts})


# --- Reading replies ---


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"facts": []}', ([], True)),
        ('{"facts": ["Ann has a dog"]}', (["Ann has a dog"], True)),
        ('{"facts": ["Ann has a dog", "Ann  has a dog ", "Bo"]}', (["Ann has a dog", "Bo"], True)),
        ('{"facts": [" ", "", null, 5, ["x"], "\\ud83d", {"a": "b"}, "tea"]}', (["tea"], True)),
        (facts(*"abcdefgh"), (list("abcdefgh")[:MAX_FACTS], True)),
        ('Here:\n```json\n{"facts": ["tea"]}\n```', (["tea"], True)),
        ('{"facts": ["tea", "cof', (["tea"], True)),
        ('{"facts": ["te', ([], False)),
        ('{"facts": "tea"}', ([], False)),
        ('{"fact": ["tea"]}', ([], False)),
        ("- Ann likes tea", ([], False)),
        ("", ([], False)),
    ],
)
def test_facts_are_read_from_a_reply(reply: str, expected: tuple[list[str], bool]) -> None:
    assert parse_facts(reply) == expected


DOG = Fact("Andrew adopted another dog named Scout", "Andrew")
TWO_DOGS = '{"operation": "UPDATE", "index": %s, "text": "Andrew has two dogs, \\n Buddy and Scout"}'
RELATED = [entry("Andrew adopted a dog named Buddy", 1, "Andrew"), entry("Andrew likes tea", 2, "Andrew")]


@pytest.mark.parametrize(
    ("reply", "kind", "place", "text", "reason"),
    [
        ('{"operation": "ADD"}', "ADD", None, None, None),
        ('{"operation": "NOOP"}', "NOOP", None, None, None),
        ('{"operation": "NONE"}', "NOOP", None, None, None),
        ('{"operation": " add "}', "ADD", None, None, None),
        ('{"operation": "ADD", "index": 99, "text": "invented"}', "ADD", None, None, None),
        # The paper's case: two dogs do not contradict each other.
        (TWO_DOGS % 1, "UPDATE", 0, "Andrew has two dogs, Buddy and Scout", None),
        (TWO_DOGS % '"1"', "UPDATE", 0, "Andrew has two dogs, Buddy and Scout", None),
        (TWO_DOGS % 2, "ADD", None, None, "its update invents"),
        ('{"operation": "UPDATE", "index": 2, "text": "Andrew adopted Scout"}', "ADD", None, None, "its update loses"),
        (
            '{"operation": "UPDATE", "index": 2, "text": "Andrew likes tea and Rex"}',
            "ADD",
            None,
            None,
            "its update invents",
        ),
        ('{"operation": "DELETE", "index": 2}', "DELETE", 1, None, None),
        ('{"operation": "UPDATE", "index": 2, "text": "Andrew likes tea"}', "NOOP", 1, None, "unchanged"),
        ('{"operation": "UPDATE", "index": 1}', "NOOP", None, None, "unreadable"),
        ('{"operation": "UPDATE", "index": 1, "text": " "}', "NOOP", None, None, "unreadable"),
        ('{"operation": "UPDATE", "index": 1, "text": "\\ud83d"}', "NOOP", None, None, "unreadable"),
        ('{"operation": "UPDATE", "index": 1, "text": ["x"]}', "NOOP", None, None, "unreadable"),
        ('{"operation": "DELETE"}', "NOOP", None, None, "invented position"),
        ('{"operation": "DELETE", "index": 0}', "NOOP", None, None, "invented position"),
        ('{"operation": "DELETE", "index": 3}', "NOOP", None, None, "invented position"),
        ('{"operation": "DELETE", "index": -1}', "NOOP", None, None, "invented position"),
        ('{"operation": "DELETE", "index": 1.0}', "NOOP", None, None, "invented position"),
        ('{"operation": "DELETE", "index": true}', "NOOP", None, None, "invented position"),
        ('{"operation": "DELETE", "index": [1]}', "NOOP", None, None, "invented position"),
        ('{"operation": "DELETE", "index": "id1"}', "NOOP", None, None, "invented position"),
        ('{"operation": "PURGE", "index": 1}', "NOOP", None, None, "unreadable"),
        ('{"operation": ["DELETE"], "index": 1}', "NOOP", None, None, "unreadable"),
        ('{"operation": null}', "NOOP", None, None, "unreadable"),
        ('{"op": "DELETE", "index": 1}', "NOOP", None, None, "unreadable"),
        ('{"operation": "DELETE", "index": 1', "NOOP", None, None, "unreadable"),
        ("DELETE 1", "NOOP", None, None, "unreadable"),
        ("[]", "NOOP", None, None, "unreadable"),
        ("", "NOOP", None, None, "unreadable"),
    ],
)
def test_only_a_valid_reply_names_an_operation(
    reply: str, kind: Any, place: int | None, text: str | None, reason: str | None
) -> None:
    operation = parse_operation(Reply(reply, model="m", adapter="a", logprobs=[-0.5, -0.25]), DOG, RELATED)
    how = operation.provenance
    assert replace(operation, provenance=how) == Operation(
        kind, DOG, None if place is None else RELATED[place], text, provenance=how
    )
    assert (how.model, how.adapter, how.logprob, how.reason) == ("m", "a", -0.75, reason)
    assert str(how.prompt_version).startswith("manage@")


def test_the_schema_allows_the_four_operations_and_only_positions_that_are_there() -> None:
    schema = operation_schema(2)
    allowed = {
        each["properties"]["operation"]["const"]: each["properties"].get("index", {}).get("enum")
        for each in schema["anyOf"]
    }
    assert allowed == {"ADD": None, "NOOP": None, "UPDATE": [1, 2], "DELETE": [1, 2]}
    assert all(each["additionalProperties"] is False for each in schema["anyOf"])
    assert all(each["required"] == list(each["properties"]) for each in schema["anyOf"])


# --- Deciding ---


@pytest.mark.parametrize(
    ("fact", "text", "same"),
    [
        ("Ann has a dog", "Ann has a dog", True),
        ("ann has the dog!", "Ann has a dog.", True),
        ("Ann has dog", "Ann has an dog", True),
        ("Ann has two dogs", "Ann has a dog", False),
        ("dog has Ann", "Ann has dog", False),
        ("Ann has a dog", "Ann has a dog and a cat", False),
        ("京都に住む", "京都に住む。", True),
        ("ＡＮＮ has a dog", "Ann has a dog", True),
        ("Straße", "STRASSE", True),
    ],
)
def test_the_same_words_but_for_case_punctuation_and_articles_are_a_duplicate(fact: str, text: str, same: bool) -> None:
    related = [entry("Something else", 1), entry(text, 2)]
    assert duplicate(Fact(fact, "Ann"), related) == (related[1] if same else None)


def test_the_same_words_of_another_speaker_or_about_another_day_are_no_duplicate() -> None:
    said = entry("Ann ran a race", when=MAY_7)
    assert duplicate(Fact("Ann ran a race", "Bo"), [said]) is None
    assert duplicate(Fact("Ann ran a race", "Ann", MAY_8, dated=True), [said]) is None
    assert duplicate(Fact("Ann ran a race", "Ann", MAY_7, dated=True), [said]) == said
    assert duplicate(Fact("Ann ran a race", "Ann", MAY_8, dated=False), [said]) == said
    assert duplicate(Fact("Ann ran a race", "Ann", dated=True), [said]) == said


def test_no_model_is_asked_when_nothing_is_related_or_it_is_known_already() -> None:
    fact, known = Fact("Ann has a dog", "Ann"), entry("Ann has the dog")
    added = run(decide(fact, []), ScriptedLLM([]))
    assert (added.kind, added.entry, added.provenance.reason) == ("ADD", None, "nothing related")
    nothing = run(decide(fact, [known]), ScriptedLLM([]))
    assert (nothing.kind, nothing.entry, nothing.provenance.reason) == ("NOOP", known, "duplicate")
    with pytest.raises(ModelUnavailable):
        run(decide(Fact("Ann has a cat", "Ann"), [known]), ScriptedLLM([]))


@pytest.mark.parametrize(
    ("expires_at", "known", "kind"),
    [
        (None, None, "NOOP"),
        (None, MAY_8, "UPDATE"),
        (MAY_8, MAY_7, "UPDATE"),
        (MAY_8, MAY_8, "NOOP"),
        (MAY_7, MAY_8, "NOOP"),
        (MAY_8, None, "NOOP"),
    ],
)
def test_what_is_known_already_comes_to_last_as_long_as_the_fact(
    expires_at: datetime | None, known: datetime | None, kind: Any
) -> None:
    fact, same = Fact("Ann has a dog", "Ann"), entry("Ann has the dog", expires_at=known)
    text, reason = (same.text, "lasts longer") if kind == "UPDATE" else (None, "duplicate")
    decided = run(decide(fact, [same], expires_at), ScriptedLLM([]))
    assert decided == Operation(kind, fact, same, text, Provenance(reason=reason))
    told = Reply('{"operation": "UPDATE", "index": 1, "text": "Ann has the dog"}')
    by_model = parse_operation(told, fact, [same], expires_at)
    assert (by_model.kind, by_model.entry, by_model.text) == (kind, same, text)


def test_of_several_duplicates_the_one_that_lasts_longest_counts() -> None:
    fact = Fact("Ann has a dog", "Ann")
    soon, later, lasting = (entry("Ann has a dog", n, expires_at=at) for n, at in enumerate((MAY_7, MAY_8, None)))
    assert [duplicate(fact, each) for each in ([soon, later], [later, soon], [soon, lasting, later])] == [
        later,
        later,
        lasting,
    ]


def test_a_manager_sees_positions_and_never_an_id() -> None:
    llm = ScriptedLLM(['{"operation": "ADD"}'])
    run(decide(Fact("Ann has a cat", "Ann", MAY_8), [entry("Ann has a dog", when=MAY_7), entry("Ann runs", 2)]), llm)
    assert [message.content for message in llm.prompts[0].messages[1:]] == [
        "Memories:\n1. Ann has a dog\n2. Ann runs\nNew fact: Ann has a cat"
    ]


# --- Extracting ---


def extracted(turn: Turn, reply: str) -> tuple[list[Fact], list[tuple[str, str | None]]]:
    found, unusable = run(extract(turn), ScriptedLLM([reply]))
    assert {operation.kind for operation in unusable} <= {"NOOP"}
    return found, [(operation.fact.text, operation.provenance.reason) for operation in unusable]


def test_relative_dates_are_written_out_before_the_model_reads_them() -> None:
    llm = ScriptedLLM([facts("Ann went to a support group yesterday (7 May 2023)")])
    found, _ = run(extract(Turn("Ann", "I went to a support group yesterday", MAY_8)), llm)
    asked = llm.prompts[0].messages[-1].content
    assert asked == "(8 May 2023) Ann: I went to a support group yesterday (7 May 2023)"
    assert found == [Fact("Ann went to a support group yesterday (7 May 2023)", "Ann", MAY_7, True)]


def test_a_fact_without_a_date_happened_when_it_was_said_and_without_a_time_nobody_knows() -> None:
    assert extracted(Turn("Ann", "I like tea", MAY_8), facts("Ann likes tea")) == (
        [Fact("Ann likes tea", "Ann", MAY_8, False)],
        [],
    )
    assert extracted(Turn("Ann", "I liked it yesterday"), facts("Ann liked it")) == ([Fact("Ann liked it", "Ann")], [])


def test_a_relative_date_that_a_model_repeats_without_its_meaning_is_written_out() -> None:
    found, _ = extracted(Turn("Ann", "I ran yesterday", MAY_8), facts("Ann ran yesterday"))
    assert found == [Fact("Ann ran yesterday (7 May 2023)", "Ann", MAY_7, True)]


def test_a_fact_that_shares_no_word_with_the_turn_is_counted_and_not_kept() -> None:
    assert extracted(Turn("Ann", "I like tea"), facts("Ann likes tea", "Bob owns seven castles")) == (
        [Fact("Ann likes tea", "Ann")],
        [("Bob owns seven castles", "not in the turn")],
    )
    assert extracted(Turn("Ann", "I like tea"), facts("Ann smokes"))[1] == [("Ann smokes", "not in the turn")]


@pytest.mark.parametrize(
    ("speaker", "said", "found", "kept"),
    [
        ("Winona", "I swim", "Winnona swims with Wonona's club", "Winona swims with Winona's club"),
        ("Winona", "Winnona swims, not I", "Winnona swims", "Winnona swims"),  # somebody else, by the turn
        ("Winona", "I went to Winnipeg", "Winona was in Winnipeg", "Winona was in Winnipeg"),
        ("Marta Lind", "I sail", "Martha Lind sails", "Marta Lind sails"),
        (
            "Christina",
            "I pray with christians",
            "Christina is in a Christian group",
            "Christina is in a Christian group",
        ),
        ("Ann", "I swim", "Anna swims", "Anna swims"),  # too short to be sure
        ("Caroline", "I paint", "Car Caroline paints, Car Caroline says", "Caroline paints, Caroline says"),
        ("Caroline Lee", "I paint", "Car Caroline Lee paints", "Caroline Lee paints"),
        ("Caroline", "My car! Caroline drives it", "Car Caroline drives", "Car Caroline drives"),  # the turn says it
        ("Jo Joanna", "I paint", "Jo Joanna paints", "Jo Joanna paints"),  # her name
        ("user", "I like wine", "Users like wine", "Users like wine"),
    ],
)
def test_the_speakers_name_is_spelled_as_it_is_given(speaker: str, said: str, found: str, kept: str) -> None:
    assert with_name(found, Turn(speaker, said)) == kept


def test_a_fact_found_under_a_misspelt_name_is_kept_under_the_right_one() -> None:
    assert extracted(Turn("Winona", "I like tea"), facts("Winnona likes tea")) == (
        [Fact("Winona likes tea", "Winona")],
        [],
    )


def test_an_extraction_that_cannot_be_read_is_counted_with_the_words_of_the_turn() -> None:
    assert extracted(Turn("Ann", "I like tea"), "Ann likes tea") == ([], [("I like tea", "unreadable")])


@pytest.mark.parametrize("text", ["!!!", "...", "😀", " \n ", "<recalled-memory>\n- Ann has a dog\n</recalled-memory>"])
def test_no_model_is_asked_about_a_turn_without_words_of_its_own(text: str) -> None:
    assert run(extract(Turn("Ann", text, MAY_8)), ScriptedLLM([])) == ([], [])


def test_a_very_long_turn_is_read_in_pieces_and_no_word_of_it_is_lost() -> None:
    llm = ScriptedLLM(lambda _: facts())
    said = " ".join(f"word{number}" for number in range(2_000))
    run(extract(Turn("Ann", said, MAY_8)), llm)
    pieces = [prompt.messages[-1].content.partition("Ann: ")[2] for prompt in llm.prompts]
    assert " ".join(pieces) == said
    assert max(map(len, pieces)) <= 6_000


# --- The whole flow ---


def test_each_fact_sees_what_the_one_before_it_changed(bank: MemoryBank) -> None:
    llm = ScriptedLLM([facts("Ann has a dog", "Ann has a dog named Bo"), '{"operation": "DELETE", "index": 1}'])
    logged = run(remember(Turn("Ann", "I have a dog, a dog named Bo"), bank, ANN), llm)
    assert [(each.kind, each.entry_id == logged[0].entry_id) for each in logged] == [("ADD", True), ("DELETE", True)]
    assert bank.all(ANN) == []


def test_what_one_speaker_tells_never_changes_what_another_told(bank: MemoryBank) -> None:
    bank.add_many([NewEntry("Ann likes green tea", ANN, "Ann")])
    llm = ScriptedLLM([facts("Bo likes green tea too")])
    (logged,) = run(remember(Turn("Bo", "I like green tea too"), bank, ANN), llm)
    assert (logged.kind, logged.provenance.reason) == ("ADD", "nothing related")


def test_replies_that_cannot_be_used_are_logged_and_returned(bank: MemoryBank) -> None:
    logged = run(remember(Turn("Ann", "I like tea"), bank, ANN), ScriptedLLM(["sorry"]))
    assert logged == bank.log()
    assert [(each.kind, each.provenance.reason) for each in logged] == [("NOOP", "unreadable")]


def test_metadata_and_expiry_reach_the_entry(bank: MemoryBank) -> None:
    later = datetime(2999, 1, 1, tzinfo=UTC)
    turn = Turn("Ann", "I like tea", MAY_8, "t1")
    run(remember(turn, bank, ANN, metadata={"topic": "food"}, expires_at=later), ScriptedLLM([facts("Ann likes tea")]))
    (kept,) = bank.all(ANN)
    assert (kept.metadata, kept.expires_at, kept.speaker, kept.event_time) == ({"topic": "food"}, later, "Ann", MAY_8)
    assert bank.log()[0].provenance.turn_id == "t1"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("Ann's blood group is O+", "Ann's blood group is O-"),
        ("Ann writes C", "Ann writes C++"),
        ("Ann owes 500 euros", "Ann owes -500 euros"),
        ("Ann takes vitamin", "Ann takes vitamin A"),
        ("Ann meets Bo on 12/3", "Ann meets Bo on 12-3"),
        ("Ann feels \N{GRINNING FACE}", "Ann feels \N{CRYING FACE}"),
        ("\u0926\u093e\u0932", "\u0926\u093f\u0932"),  # lentils, heart
    ],
)
def test_a_sign_or_a_mark_makes_another_fact(before: str, now: str) -> None:
    assert duplicate(Fact(now, "Ann"), [entry(before)]) is None
    assert duplicate(Fact(before, "Ann"), [entry(now)]) is None


def fits(limit: int, reply: str) -> ScriptedLLM:
    """A model with a context of so many characters of the last message."""
    return ScriptedLLM(
        lambda prompt: Reply("", stop="overflow") if len(prompt.messages[-1].content) > limit else Reply(reply)
    )


def test_related_memories_that_do_not_fit_are_not_shown_and_the_fact_is_never_lost() -> None:
    related = [entry("Ann has a cat", 1), entry("Ann " + "walked and " * 100, 2)]
    llm = fits(300, '{"operation": "NOOP"}')
    assert run(decide(Fact("Ann has a dog", "Ann"), related), llm).kind == "NOOP"
    assert len(llm.prompts) == 2
    added = run(decide(Fact("Ann has a dog", "Ann"), related[1:]), fits(300, "?"))
    assert (added.kind, added.provenance.reason) == ("ADD", "too long to decide")


def test_a_message_that_does_not_fit_is_read_in_smaller_pieces() -> None:
    text = " ".join(f"word{number}" for number in range(300))
    llm = fits(600, '{"facts": ["Ann said word1"]}')
    found, unusable = run(extract(Turn("Ann", text)), llm)
    read = [prompt.messages[-1].content for prompt in llm.prompts if len(prompt.messages[-1].content) <= 600]
    assert " ".join(one.removeprefix("Ann: ") for one in read) == text
    assert len(found) + len(unusable) == len(read)


# --- The same turn, remembered by two processes at once ---

TWO_PETS = Turn("Ann", "I have a dog called Rex and a cat called Mia.", MAY_8, "m1")
DECIDED = ScriptedLLM(lambda _: '{"operation": "ADD"}')


def begun(turn: Turn, bank: MemoryBank, *told: str) -> Flow[list[Logged]]:
    """`remember`, once these facts are found, and before any is decided."""
    flow = remember(turn, bank, ANN)
    assert next(flow).step == "extract"
    found = Reply(facts(*told))

    def going_on() -> Flow[list[Logged]]:
        try:
            prompt = flow.send(found)
            while True:
                prompt = flow.send((yield prompt))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    return going_on()


def test_of_two_processes_that_found_the_facts_of_a_turn_the_first_decides_about_its_own(tmp_path: Path) -> None:
    with bank_at(tmp_path) as one, bank_at(tmp_path) as other:
        first = begun(TWO_PETS, one, "Ann has a dog called Rex", "Ann has a cat called Mia")
        second = begun(TWO_PETS, other, "Rex is Ann's dog", "Mia is Ann's cat")
        assert [logged.kind for logged in run(first, DECIDED)] == ["ADD", "ADD"]
        assert run(second, DECIDED) == []
        texts = ["Ann has a dog called Rex", "Ann has a cat called Mia"]
        assert [entry.text for entry in one.all(ANN)] == texts


def test_a_fact_that_another_process_decides_meanwhile_is_decided_once(tmp_path: Path) -> None:
    with bank_at(tmp_path) as one, bank_at(tmp_path) as other:
        first = begun(TWO_PETS, one, "Ann has a dog called Rex", "Ann has a cat called Mia")
        asked = next(first)  # the dog is kept, and the cat to be decided
        assert [logged.fact for logged in run(remember(TWO_PETS, other, ANN), DECIDED)] == [
            Fact("Ann has a cat called Mia", "Ann", MAY_8)
        ]
        with pytest.raises(StopIteration) as ended:
            first.send(DECIDED.complete([asked])[0])
        assert [logged.fact for logged in ended.value.value] == [Fact("Ann has a dog called Rex", "Ann", MAY_8)]
        assert one.count(ANN) == 2
        assert one.turn_progress(ANN, "m1") == TurnProgress((), 2, True)


def test_facts_of_a_turn_are_kept_although_a_memory_of_its_user_is_purged_meanwhile(tmp_path: Path) -> None:
    with bank_at(tmp_path) as one, bank_at(tmp_path) as other:
        [old] = other.add_many([NewEntry("Ann had a parrot", ANN, "Ann")])
        first = begun(TWO_PETS, one, "Ann has a dog called Rex", "Ann has a cat called Mia")
        asked = next(first)
        other.purge(entry_id=old.entry_id)
        with pytest.raises(StopIteration):
            first.send(DECIDED.complete([first.send(DECIDED.complete([asked])[0])])[0])
        assert [entry.text for entry in one.all(ANN)] == ["Ann has a dog called Rex", "Ann has a cat called Mia"]


def bank_at(folder: Path) -> MemoryBank:
    return MemoryBank(folder / "bank.db", embedder=HashEmbedder())
