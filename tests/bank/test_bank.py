"""The bank: what operations do, what is kept, and what is erased."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bank import MemoryBank, NewEntry, schema
from memory_r1.bank.turns import TurnProgress
from memory_r1.errors import (
    BankBusy,
    BankCorrupt,
    BankTooNew,
    Conflict,
    EmbedderMismatch,
    EntryNotFound,
    InvalidInput,
    ModelUnavailable,
)
from memory_r1.flow import run
from memory_r1.manager import remember
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Fact, Operation, Provenance, Reply, Scope, Turn

ANN, BOB = Scope(user_id="ann"), Scope(user_id="bob")
MAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def add(bank: MemoryBank, text: str, scope: Scope = ANN, **fields: Any) -> str:
    (logged,) = bank.add_many([NewEntry(text, scope, **fields)])
    return str(logged.entry_id)


def texts(bank: MemoryBank, scope: Scope | None = ANN, **options: Any) -> list[str]:
    return [entry.text for entry in bank.all(scope, **options)]


def found(bank: MemoryBank, query: str, scope: Scope = ANN, k: int = 10, **options: Any) -> list[str]:
    return [hit.entry.text for hit in bank.search(query, scope, k, **options)]


# --- Operations ---


def test_a_second_dog_updates_the_memory_of_the_first_as_in_the_paper(bank: MemoryBank) -> None:
    buddy = add(bank, "Andrew adopted a dog named Buddy", speaker="Andrew")
    llm = ScriptedLLM(
        [
            '{"facts": ["Andrew adopted another dog named Scout"]}',
            '{"operation": "UPDATE", "index": 1, "text": "Andrew adopted two dogs, Buddy and Scout"}',
        ]
    )
    (logged,) = run(remember(Turn("Andrew", "I adopted another dog named Scout"), bank, ANN), llm)
    assert [prompt.step for prompt in llm.prompts] == ["extract", "manage"]
    assert (logged.kind, logged.entry_id) == ("UPDATE", buddy)
    assert logged.before is not None
    assert logged.before["text"] == "Andrew adopted a dog named Buddy"
    assert texts(bank) == ["Andrew adopted two dogs, Buddy and Scout"]
    assert found(bank, "Scout") == ["Andrew adopted two dogs, Buddy and Scout"]


def test_history_tells_every_change_and_undo_reverses_them_one_by_one(bank: MemoryBank) -> None:
    entry = add(bank, "tea", metadata={"n": 1})
    updated = bank.update(entry, text="green tea", metadata={"n": 2})
    deleted = bank.delete(entry)
    with pytest.raises(Conflict, match=f"undo first: {deleted.id}"):
        bank.undo(updated.id)
    assert bank.undo(deleted.id).kind == "ADD"
    assert texts(bank) == ["green tea"]
    undone = bank.undo(bank.history(entry)[-1].id)  # redo: an undo is an operation that can be undone
    assert (undone.kind, texts(bank)) == ("DELETE", [])
    bank.undo(undone.id)
    assert [(logged.kind, logged.undoes) for logged in bank.history(entry)] == [
        ("ADD", None),
        ("UPDATE", None),
        ("DELETE", None),
        ("ADD", 3),
        ("DELETE", 4),
        ("ADD", 5),
    ]
    assert (bank.get(entry).text, bank.get(entry).metadata) == ("green tea", {"n": 2})
    assert bank.undo(updated.id).undoes == 2  # what stands between has been undone
    assert (bank.get(entry).text, bank.get(entry).metadata) == ("tea", {"n": 1})
    with pytest.raises(Conflict, match="undo first: 7"):
        bank.undo(updated.id)
    bank.undo(1)
    assert texts(bank) == []


def test_undo_of_an_add_removes_the_entry_and_undo_of_an_update_brings_its_words_and_vector_back(
    bank: MemoryBank,
) -> None:
    entry = add(bank, "tea from China")
    update = bank.update(entry, text="coffee from Brazil", event_time=MAY, expires_at=MAY + timedelta(days=9999))
    bank.undo(update.id)
    again = bank.get(entry)
    assert (again.text, again.event_time, again.expires_at) == ("tea from China", None, None)
    ((hit),) = bank.search("tea from China", ANN)
    assert (hit.entry, round(hit.similarity, 5)) == (again, 1.0)
    other = bank.add_many([NewEntry("milk", ANN)])[0]
    bank.undo(other.id)
    assert texts(bank) == ["tea from China"]


def test_what_changed_nothing_cannot_be_undone(bank: MemoryBank) -> None:
    noop = bank.apply(Operation("NOOP", Fact("tea")), ANN)
    with pytest.raises(InvalidInput, match="NOOP"):
        bank.undo(noop.id)
    with pytest.raises(EntryNotFound, match="no operation 99"):
        bank.undo(99)


def test_an_operation_on_an_entry_that_changed_meanwhile_is_a_conflict_and_writes_nothing(bank: MemoryBank) -> None:
    entry = bank.get(add(bank, "tea"))
    bank.update(entry.id, text="green tea")
    before = bank.log()
    for kind in ("UPDATE", "DELETE"):
        with pytest.raises(Conflict, match="read it again"):
            bank.apply(Operation(kind, Fact("x"), entry, "x"), ANN)  # type: ignore[arg-type]
    assert (texts(bank), bank.log()) == (["green tea"], before)


def test_an_update_takes_its_facts_event_time_where_it_has_one_and_adds_to_the_metadata(bank: MemoryBank) -> None:
    entry = bank.get(add(bank, "tea", event_time=MAY, metadata={"a": 1, "b": 1}))
    bank.apply(Operation("UPDATE", Fact("x"), entry, "green tea"), ANN, metadata={"b": 2})
    entry = bank.get(entry.id)
    assert (entry.event_time, entry.metadata) == (MAY, {"a": 1, "b": 2})
    june = MAY + timedelta(days=30)
    bank.apply(Operation("UPDATE", Fact("x", event_time=june), entry, "black tea"), ANN)
    assert bank.get(entry.id).event_time == june


@pytest.mark.parametrize(
    ("known", "told", "then"), [(1, 2, 2), (2, 1, 2), (1, None, None), (None, 1, None), (None, None, None)]
)
def test_an_updated_entry_lasts_as_long_as_what_it_told_and_what_it_is_told(
    bank: MemoryBank, known: int | None, told: int | None, then: int | None
) -> None:
    def end(days: int | None) -> datetime | None:
        return None if days is None else MAY + timedelta(days=9_000 + days)

    entry = bank.get(add(bank, "a cat", expires_at=end(known)))
    bank.apply(Operation("UPDATE", Fact("a dog"), entry, "a cat and a dog"), ANN, expires_at=end(told))
    assert bank.get(entry.id).expires_at == end(then)


def test_the_log_keeps_who_decided_and_why(bank: MemoryBank) -> None:
    how = Provenance("turn-1", "smollm2", "manage.gguf", "manage@1", -0.25, "because", ("override",))
    fact = Fact("tea", "Ann", MAY, True)
    logged = bank.apply(Operation("ADD", fact, provenance=how), ANN)
    assert bank.log() == [logged]
    assert (logged.kind, logged.scope, logged.fact, logged.provenance) == ("ADD", ANN, fact, how)


def test_the_log_is_read_in_pages_from_its_end(bank: MemoryBank) -> None:
    for text in ("tea", "milk", "rice", "jazz"):
        add(bank, text)
    whole = bank.log()
    assert bank.log(last=2) == whole[2:]
    assert bank.log(before=whole[2].id, last=1) == whole[1:2]
    assert bank.log(before=whole[2].id) == whole[:2]
    assert bank.log(BOB, last=2) == []


# --- Time ---


def test_the_bank_as_of_a_time_is_what_it_was_then(bank: MemoryBank) -> None:
    entry = add(bank, "tea")
    first = bank.now()
    bank.update(entry, text="green tea")
    second = bank.now()
    bank.delete(entry)
    add(bank, "coffee", BOB)
    with bank.as_of(first) as then:
        assert (texts(then), found(then, "tea")) == (["tea"], ["tea"])
    with bank.as_of(second) as then:
        assert texts(then) == ["green tea"]
    with bank.as_of(bank.now()) as then:
        assert (texts(then), texts(then, BOB)) == ([], ["coffee"])
    with bank.as_of(datetime(1999, 1, 1)) as then:
        assert texts(then, None) == []


def test_an_entry_that_expired_since_is_there_as_of_a_time_before() -> None:
    time = [MAY]
    with MemoryBank(embedder=HashEmbedder(), now=lambda: time[0]) as bank:
        add(bank, "parking place 7", expires_at=MAY + timedelta(hours=1))
        assert found(bank, "parking") == ["parking place 7"]
        time[0] += timedelta(hours=2)
        assert (found(bank, "parking"), texts(bank)) == ([], [])
        assert found(bank, "parking", show_expired=True) == ["parking place 7"]
        assert texts(bank, show_expired=True) == ["parking place 7"]
        with bank.as_of(MAY + timedelta(minutes=1)) as then:
            assert found(then, "parking") == ["parking place 7"]
        assert bank.count() == 1


@pytest.mark.parametrize("again", ["Ann parks at lot seven.", "Ann parks at lot eight."])
def test_a_lasting_fact_does_not_go_with_the_temporary_one_that_it_repeats_or_updates(again: str) -> None:
    time = [MAY]
    tomorrow = MAY + timedelta(days=1)
    first, update = "Ann parks at lot seven.", '{"operation": "UPDATE", "index": 1, "text": "Ann parks at lot eight."}'
    with MemoryBank(embedder=HashEmbedder(), now=lambda: time[0]) as bank:
        for text, expires_at in ((first, tomorrow), (again, None)):
            llm = ScriptedLLM([json.dumps({"facts": [text]}), update])
            run(remember(Turn("Ann", text), bank, ANN, expires_at=expires_at), llm)
            time[0] += timedelta(hours=1)
        assert [(one.kind, one.after and one.after["expires_at"]) for one in bank.log()] == [
            ("ADD", tomorrow.timestamp()),
            ("UPDATE", None),
        ]
        time[0] = MAY + timedelta(days=2)
        assert texts(bank) == found(bank, "parks") == [again]
        with MemoryBank.replay(bank.log(), HashEmbedder()) as rebuilt, bank.as_of(MAY) as then:
            assert rebuilt.all(show_expired=True)[0].expires_at is None
            assert [(entry.text, entry.expires_at) for entry in then.all()] == [(first, tomorrow)]
        bank.undo(2)
        assert texts(bank) == []
        assert [(entry.text, entry.expires_at) for entry in bank.all(show_expired=True)] == [(first, tomorrow)]


def test_expired_entries_are_not_related_to_a_new_fact(bank: MemoryBank) -> None:
    add(bank, "parking place 7", expires_at=MAY)
    assert bank.related(Fact("parking place 8"), ANN) == []


# --- Search ---


def test_what_a_program_put_as_it_is_is_found_and_not_decided_about(bank: MemoryBank) -> None:
    for number, metadata in enumerate(
        (
            {"message": {"role": "user"}},
            {"namespace": '["a"]', "namespaces": ['["a"]'], "key": "k"},
            {"message": "a word of a user's own", "namespaces": "another", "key": 3},
            {},
        )
    ):
        add(bank, f"tea number {number}", metadata=metadata)
    assert [entry.text for entry in bank.related(Fact("tea number"), ANN)] == ["tea number 2", "tea number 3"]
    assert sorted(found(bank, "tea number")) == [f"tea number {number}" for number in range(4)]
    bank.update(bank.all(ANN)[3].id, metadata={"message": {}})
    bank.update(bank.all(ANN)[0].id, metadata={})
    assert [entry.text for entry in bank.related(Fact("tea number"), ANN)] == ["tea number 2", "tea number 0"]


def test_filters_narrow_a_search_within_its_scope(bank: MemoryBank) -> None:
    add(bank, "tea in Kyoto", metadata={"topic": "travel", "n": 1})
    add(bank, "tea at home", metadata={"topic": "home", "n": 2})
    add(bank, "tea of Bob", BOB, metadata={"topic": "travel"})
    assert found(bank, "tea", filters={"topic": "travel"}) == ["tea in Kyoto"]
    assert found(bank, "tea", filters={"n": {"gt": 1}}) == ["tea at home"]
    assert found(bank, "tea", filters={"OR": [{"topic": "travel"}, {"n": 2}]}, k=1) in (
        ["tea in Kyoto"],
        ["tea at home"],
    )
    assert texts(bank, filters={"NOT": {"topic": "travel"}}) == ["tea at home"]


def test_half_of_the_hits_are_of_each_of_two_speakers(bank: MemoryBank) -> None:
    bank.add_many(
        [NewEntry(f"tea number {number}", ANN, "Ann") for number in range(20)]
        + [NewEntry(f"a word about tea and much else {number}", ANN, "Bo") for number in range(5)]
    )
    speakers = [hit.entry.speaker for hit in bank.search("tea number", ANN, 6, per_speaker=True)]
    assert sorted(map(str, speakers)) == ["Ann", "Ann", "Ann", "Bo", "Bo", "Bo"]
    assert {hit.entry.speaker for hit in bank.search("tea number", ANN, 6)} == {"Ann"}


def test_an_agent_finds_its_entries_in_every_users_home_and_no_others(bank: MemoryBank) -> None:
    add(bank, "tea one", Scope(agent_id="a"))
    add(bank, "tea two", Scope(user_id="ann", agent_id="a"))
    add(bank, "tea three", Scope(user_id="bob", agent_id="a", run_id="r"))
    add(bank, "tea four", Scope(user_id="bob", agent_id="b"))
    assert sorted(found(bank, "tea", Scope(agent_id="a"))) == ["tea one", "tea three", "tea two"]
    assert found(bank, "tea", Scope(run_id="r")) == ["tea three"]
    assert found(bank, "tea", Scope(user_id="ann")) == ["tea two"]


def test_what_an_agent_finds_is_the_best_of_all_users_and_not_the_best_of_each(bank: MemoryBank) -> None:
    said = [(f"u{number}", f"The dog number {number} was fed{' again' * number}") for number in range(30)]
    said += [("mia", f"The dog Pepper has toy number {number}{' Pepper' * number}") for number in range(5)]
    bank.add_many(NewEntry(text, Scope(user_id=user, agent_id="h"), user) for user, text in said)
    bank.add_many(NewEntry(text, Scope(agent_id="one"), user) for user, text in said)
    query = "which toy has the dog Pepper"
    for options in ({}, {"mode": "vector"}, {"mode": "text"}, {"per_speaker": True}, {"filters": {"speaker": "mia"}}):
        for k in (6, 60):
            many, one = (bank.search(query, Scope(agent_id=agent), k, **options) for agent in ("h", "one"))
            assert [(hit.entry.text, hit.score, round(hit.similarity, 5)) for hit in many] == [
                (hit.entry.text, hit.score, round(hit.similarity, 5)) for hit in one
            ]
            assert many[0].entry.speaker == "mia"
            assert [0 < hit.score <= 1 for hit in many] == [True] * len(many)
    assert {hit.entry.speaker for hit in bank.search(query, Scope(agent_id="h"), 5)} == {"mia"}


def test_an_agents_search_needs_no_more_room_than_there_is() -> None:
    with MemoryBank(embedder=HashEmbedder(), index_bytes=1) as bank:
        bank.add_many(NewEntry(f"tea of {user}", Scope(user_id=user, agent_id="h")) for user in "abcdef")
        assert sorted(found(bank, "tea", Scope(agent_id="h"), 4)) == [f"tea of {user}" for user in "abcd"]
        assert found(bank, "tea of e", Scope(user_id="e")) == ["tea of e"]


def test_searches_are_counted_as_recalls_and_looking_for_related_entries_is_not(bank: MemoryBank) -> None:
    entry = add(bank, "tea")
    bank.search("tea", ANN)
    bank.search("tea", ANN)
    bank.related(Fact("tea"), ANN)
    ((recalled, (times, _)),) = bank.recalls(ANN).items()
    assert (recalled, times) == (entry, 2)


# --- Turns ---


def test_an_interrupted_turn_goes_on_where_it_was_and_a_finished_one_does_nothing(bank: MemoryBank) -> None:
    add(bank, "Ann has a cat", speaker="Ann")
    turn = Turn("Ann", "I have a dog, I have a bird and I have a cow", id="t1")
    facts = '{"facts": ["Ann has a dog", "Ann has a bird", "Ann has a cow"]}'
    with pytest.raises(ModelUnavailable):
        run(remember(turn, bank, ANN), ScriptedLLM([facts, '{"operation": "ADD"}']))
    assert texts(bank) == ["Ann has a cat", "Ann has a dog"]
    rest = ScriptedLLM(['{"operation": "NOOP"}', '{"operation": "ADD"}'])
    logged = run(remember(turn, bank, ANN), rest)
    assert [(each.kind, each.fact and each.fact.text) for each in logged] == [
        ("NOOP", "Ann has a bird"),
        ("ADD", "Ann has a cow"),
    ]
    assert [prompt.step for prompt in rest.prompts] == ["manage", "manage"]
    before = bank.log()
    assert run(remember(turn, bank, ANN), ScriptedLLM([])) == []
    assert bank.log() == before


def test_a_turn_whose_extraction_failed_is_extracted_when_it_comes_again(bank: MemoryBank) -> None:
    turn = Turn("Ann", "I have a dog", id="t1")
    with pytest.raises(ModelUnavailable):
        run(remember(turn, bank, ANN), ScriptedLLM([]))
    run(remember(turn, bank, ANN), ScriptedLLM(['{"facts": ["Ann has a dog"]}']))
    assert texts(bank) == ["Ann has a dog"]


def test_a_turn_id_belongs_to_its_scope(bank: MemoryBank) -> None:
    turn = Turn("Ann", "I have a dog", id="t1")
    for scope in (ANN, BOB):
        run(remember(turn, bank, scope), ScriptedLLM(['{"facts": ["Ann has a dog"]}']))
    assert (texts(bank, ANN), texts(bank, BOB)) == (["Ann has a dog"], ["Ann has a dog"])


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (Scope(agent_id="a"), Scope(user_id="ann", agent_id="a")),
        (Scope(user_id="ann"), Scope(user_id="ann", agent_id="a")),
        (Scope(user_id="ann"), Scope(user_id="ann", run_id="r")),
        (Scope(run_id="r"), Scope(user_id="ann", agent_id="a", run_id="r")),
    ],
)
def test_what_is_told_in_a_wide_scope_is_not_written_into_a_narrower_one_that_others_read_and_purge(
    bank: MemoryBank, wide: Scope, narrow: Scope
) -> None:
    add(bank, "Ann has a cat", narrow, speaker="Ann")
    told = ScriptedLLM(['{"facts": ["Ann has a cat", "Ann has a dog"]}', '{"operation": "ADD"}'])
    logged = run(remember(Turn("Ann", "I have a cat and a dog"), bank, wide), told)
    assert [(one.kind, one.scope) for one in logged] == [("ADD", wide), ("ADD", wide)]
    assert [entry.text for entry in bank.related(Fact("Ann has a cat", "Ann"), narrow)] == ["Ann has a cat"]
    bank.purge(scope=narrow)
    assert texts(bank, wide) == ["Ann has a cat", "Ann has a dog"]


@pytest.mark.parametrize("kind", ["UPDATE", "DELETE"])
def test_a_turn_that_changed_an_entry_of_a_narrower_scope_is_done_and_no_other_turn_is(
    bank: MemoryBank, kind: Any
) -> None:
    wide, narrow = Scope(agent_id="a"), Scope(user_id="ann", agent_id="a")
    add(bank, "Ann has a cat", narrow, speaker="Ann")
    (entry,), fact = bank.all(narrow), Fact("Ann has a dog now", "Ann")
    bank.begin_turn(narrow, Turn("Ann", "x", id="t1"), [Fact("Ann has a bird", "Ann")])
    bank.begin_turn(wide, Turn("Ann", "I have a dog now", id="t1"), [fact])
    logged = bank.apply(Operation(kind, fact, entry, "Ann has a cat and a dog", Provenance(turn_id="t1")), wide)
    assert (logged.kind, logged.scope) == (kind, narrow)
    assert bank.turn_progress(wide, "t1") == TurnProgress((), 1, True)
    assert bank.turn_progress(narrow, "t1") == TurnProgress((Fact("Ann has a bird", "Ann"),), 0, False)


def test_a_decision_that_meets_a_faster_writer_is_made_again(bank: MemoryBank) -> None:
    entry = add(bank, "Ann has a cat", speaker="Ann")
    calls = 0

    def decide(prompt: Any) -> str | Reply:
        nonlocal calls
        if prompt.step == "extract":
            return '{"facts": ["Ann has a dog"]}'
        calls += 1
        if calls == 1:
            bank.update(entry, text="Ann has a black cat")
        return json.dumps({"operation": "UPDATE", "index": 1, "text": f"Ann has a cat and a dog{'!' * calls}"})

    run(remember(Turn("Ann", "I have a dog"), bank, ANN), ScriptedLLM(decide))
    assert (texts(bank), calls) == (["Ann has a cat and a dog!!"], 2)


def test_a_decision_that_never_wins_just_adds_and_says_so(bank: MemoryBank) -> None:
    entry = add(bank, "Ann has a cat", speaker="Ann")

    def decide(prompt: Any) -> str:
        if prompt.step == "extract":
            return '{"facts": ["Ann has a dog"]}'
        bank.update(entry, metadata={})
        return '{"operation": "DELETE", "index": 1}'

    (logged,) = run(remember(Turn("Ann", "I have a dog"), bank, ANN), ScriptedLLM(decide))
    assert (logged.kind, logged.provenance.reason, texts(bank)) == (
        "ADD",
        "conflict",
        ["Ann has a cat", "Ann has a dog"],
    )


# --- The file ---


def test_another_embedder_is_refused_with_the_command_that_converts_and_reembed_converts(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with MemoryBank(path, embedder=HashEmbedder(64)) as bank:
        add(bank, "tea from China")
        add(bank, "tea of Bob", BOB)
    with pytest.raises(EmbedderMismatch, match=r"hash-64 \(64 dimensions\).*hash-16.*memory-r1 reembed --db"):
        MemoryBank(path, embedder=HashEmbedder(16))
    steps: list[tuple[int, int]] = []
    with MemoryBank(path, embedder=HashEmbedder(64)) as bank:
        assert bank.reembed(HashEmbedder(16), batch=1, progress=lambda *step: steps.append(step)) == 2
        assert found(bank, "tea from China") == ["tea from China"]
        assert (bank.log()[-1].kind, bank.log()[-1].provenance.reason) == ("REEMBED", "hash-64 -> hash-16")
    assert steps == [(1, 2), (2, 2)]
    with MemoryBank(path, embedder=HashEmbedder(16)) as bank:
        ((hit),) = bank.search("tea from China", ANN)
        assert round(hit.similarity, 5) == 1.0


def test_a_file_of_version_1_is_migrated_and_keeps_everything(tmp_path: Path) -> None:
    new, old = tmp_path / "new.db", tmp_path / "old.db"
    with MemoryBank(new, embedder=HashEmbedder()) as bank:
        add(bank, "tea", metadata={"n": 1}, event_time=MAY)
        bank.delete(add(bank, "coffee"))
        log = bank.log()
    db = sqlite3.connect(old, isolation_level=None)
    schema.migrate(db, str(old), target=1)
    db.execute("ATTACH ? AS new", (str(new),))
    for table in ("meta", "home", "entry", "vector", "operation"):
        columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
        db.execute(f"INSERT INTO {table} SELECT {columns} FROM new.{table}")
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
    with MemoryBank(old, embedder=HashEmbedder()) as bank:
        assert (texts(bank), found(bank, "tea"), bank.log()) == (["tea"], ["tea"], log)
        assert bank.turn_progress(ANN, "t1") is None
        assert bank._db.execute("PRAGMA user_version").fetchone()[0] == len(schema.MIGRATIONS)
        assert len(bank.recalls()) == 1


def test_a_file_of_a_later_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    MemoryBank(path, embedder=HashEmbedder()).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(BankTooNew, match=r"format 99.*upgrade"):
        MemoryBank(path, embedder=HashEmbedder())
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE bookmark (url TEXT)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(BankCorrupt, match="another program"):
        MemoryBank(path, embedder=HashEmbedder())
    assert path.read_bytes() == before


def test_a_text_file_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n" * 1000)
    with pytest.raises(BankCorrupt, match="not a memory bank"):
        MemoryBank(path, embedder=HashEmbedder())
    assert path.read_text() == "my notes\n" * 1000


def test_an_empty_file_becomes_a_bank(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    path.touch()
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        assert bank.all() == []


# --- Erasure ---

MARKER = "Zanzibar-4711"


def bytes_of(path: Path) -> bytes:
    return b"".join(part.read_bytes() for part in sorted(path.parent.glob(path.name + "*")))


def full_of(bank: MemoryBank, scope: Scope) -> str:
    """An entry whose words went through every road by which text enters the file; returns its id."""
    entry = add(bank, f"tea from {MARKER}", scope, metadata={"secret": MARKER}, speaker="Ann")
    bank.update(entry, text=f"coffee from {MARKER}")
    bank.update(entry, text=f"milk from {MARKER}")
    bank.apply(Operation("NOOP", Fact(f"tea from {MARKER}"), bank.get(entry)), scope)
    bank.apply(Operation("NOOP", Fact(f"coffee from {MARKER}", "Ann")), scope)
    bank.begin_turn(scope, Turn("Ann", "x", id="pending"), [Fact(f"rice from {MARKER}")])
    bank.search(MARKER, scope)
    bank.delete(entry)
    return entry


@pytest.mark.parametrize("whole_scope", [False, True])
def test_purge_erases_every_byte_of_what_it_purges_and_leaves_the_rest(tmp_path: Path, whole_scope: bool) -> None:
    path, embedder = tmp_path / "memory.db", HashEmbedder()
    with MemoryBank(path, embedder=embedder) as bank:
        kept = add(bank, "Bob likes tea", BOB)
        entry = full_of(bank, ANN)
        vectors = [embedder.embed([f"Ann: {drink} from {MARKER}"])[0].tobytes() for drink in ("tea", "coffee", "milk")]
        assert MARKER.encode() in bytes_of(path)
        assert vectors[2] in bytes_of(path)
        assert bank.purge(**({"scope": ANN} if whole_scope else {"entry_id": entry})) == 1
        for _ in range(2):  # at once, and after closing
            content = bytes_of(path)
            assert MARKER.encode() not in content
            assert [vector in content for vector in vectors] == [False, False, False]
            bank.close()
    with MemoryBank(path, embedder=embedder) as bank:
        assert bank.check() == []
        assert [entry.id for entry in bank.all()] == [kept]
        assert found(bank, "tea", BOB) == ["Bob likes tea"]
        assert bank.log()[-1].kind == "PURGE"
        assert bank.history(entry)[-1].kind == "PURGE"
        for logged in bank.history(entry):
            with pytest.raises(InvalidInput, match=r"purged|PURGE|NOOP"):
                bank.undo(logged.id)


def test_purging_a_user_erases_the_undecided_facts_of_their_runs_too(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        bank.begin_turn(Scope(user_id="ann", run_id="r"), Turn("Ann", "x", id="t"), [Fact(f"rice from {MARKER}")])
        bank.begin_turn(BOB, Turn("Bob", "x", id="t"), [Fact("Bob likes rice")])
        assert bank.purge(scope=ANN) == 0
        assert MARKER.encode() not in bytes_of(path)
        assert bank.turn_progress(BOB, "t") is not None


@pytest.mark.parametrize("whole_scope", [False, True])
@pytest.mark.parametrize(
    ("own", "wider"),
    [
        (Scope(user_id="mia", agent_id="helper"), Scope(agent_id="helper")),
        (Scope(user_id="mia", run_id="r"), Scope(user_id="mia")),
        (Scope(user_id="mia", run_id="r"), Scope(run_id="r")),
    ],
)
def test_a_purge_erases_the_words_of_an_entry_where_a_wider_scope_said_them(
    tmp_path: Path, own: Scope, wider: Scope, whole_scope: bool
) -> None:
    path = tmp_path / "memory.db"
    said = f"I have epilepsy {MARKER}"
    facts = [f"Mia has epilepsy {MARKER}", f"Mia knows {MARKER}"]

    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        llm = ScriptedLLM([json.dumps({"facts": facts[:1]})])
        run(remember(Turn("Mia", said, id="t1"), bank, own), llm)
        (entry,) = bank.all()
        # Banks of before hold decisions in a wider scope about an entry of a narrower one.
        for number, told in ((2, facts[:1]), (3, facts)):
            turn = Turn("Mia", said, id=f"t{number}")
            bank.begin_turn(wider, turn, [Fact(one, "Mia") for one in told])
            how = Provenance(turn_id=turn.id, reason="duplicate")
            bank.apply(Operation("NOOP", Fact(told[0], "Mia"), entry, provenance=how), wider)
        assert [(one.kind, one.scope, one.entry_id) for one in bank.log()] == [
            ("ADD", own, entry.id),
            ("NOOP", wider, entry.id),
            ("NOOP", wider, entry.id),
        ]
        assert bank.purge(**({"scope": own} if whole_scope else {"entry_id": entry.id})) == 1
        bank.close()
        assert MARKER.encode() not in bytes_of(path)
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        assert bank.check() == []
        assert [(one.kind, one.scope, one.fact, one.provenance.reason) for one in bank.log()] == [
            ("ADD", own, None, "purged"),
            ("NOOP", wider, None, "purged"),
            ("NOOP", wider, None, "purged"),
            ("PURGE", own, None, "by hand"),
        ]
        assert run(remember(Turn("Mia", said, id="t2"), bank, wider), ScriptedLLM([])) == []


def test_purging_one_of_two_entries_with_the_same_words_leaves_the_other_and_its_history(bank: MemoryBank) -> None:
    fact = Fact("Ann likes tea", "Ann")
    first, second = (bank.apply(Operation("ADD", fact), ANN) for _ in range(2))
    bank.purge(entry_id=str(first.entry_id))
    ((kept),) = bank.history(str(second.entry_id))
    assert (kept.after, kept.fact) == (second.after, None)
    with MemoryBank.replay(bank.log(), HashEmbedder()) as again:
        assert texts(again) == texts(bank) == ["Ann likes tea"]


def test_purge_wants_one_entry_or_one_scope(bank: MemoryBank) -> None:
    entry = add(bank, "tea")
    for wrong in ({}, {"entry_id": entry, "scope": ANN}):
        with pytest.raises(InvalidInput, match=r"one entry .* or one scope"):
            bank.purge(**wrong)
    with pytest.raises(EntryNotFound):
        bank.purge(entry_id="nobody")
    assert texts(bank) == ["tea"]


def test_purging_a_large_scope_takes_no_time_a_user_would_notice(bank: MemoryBank) -> None:
    bank.add_many(NewEntry(f"line {number}", ANN) for number in range(3000))
    assert bank.purge(scope=ANN) == 3000
    assert (texts(bank), found(bank, "line")) == ([], [])


def test_reset_erases_everything_and_the_bank_works_on(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        full_of(bank, ANN)
        add(bank, f"tea from {MARKER}", BOB)
        bank.reset()
        assert MARKER.encode() not in bytes_of(path)
        assert (bank.all(show_expired=True), bank.log(), bank.recalls()) == ([], [], {})
        add(bank, "tea")
        assert found(bank, "tea") == ["tea"]


@pytest.mark.parametrize("last", [datetime.max, datetime.max.replace(tzinfo=UTC)])
def test_the_last_moment_of_the_calendar_can_be_read_back(bank: MemoryBank, last: datetime) -> None:
    add(bank, "Ann's contract has no end", expires_at=last, event_time=last)
    (entry,) = bank.all(ANN)
    assert entry.expires_at is not None
    assert entry.expires_at.year == 9999
    bank._db.execute("UPDATE entry SET expires_at = 253402300800.0, event_time = 253402300800.0")  # as of before
    (entry,) = bank.all(ANN)
    assert entry.event_time == entry.expires_at


def test_a_text_may_spell_an_escape(bank: MemoryBank) -> None:
    told = r"In JSON write \u0000 for NUL, \\u0000 for that"
    add(bank, told, metadata={"note": r"\u0000"})
    assert texts(bank) == [told]
    with pytest.raises(InvalidInput, match=r"U\+0000"):
        add(bank, "tea", metadata={"note": "\0"})


def test_a_purge_whose_traces_could_not_be_erased_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        (entry_id, *_) = (add(bank, f"Ann knows {MARKER}"), add(bank, "Ann has a cat"))
        bank._db.execute("PRAGMA busy_timeout=50")  # not a minute
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entry").fetchone()
        with pytest.raises(BankBusy, match="purge again"):
            bank.purge(entry_id=entry_id)
        reader.close()
        assert bank.purge(entry_id=entry_id) == 0
        assert MARKER.encode() not in bytes_of(path)
        assert [one.kind for one in bank.log()] == ["ADD", "ADD", "PURGE"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such rights")
def test_a_new_bank_and_its_log_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        add(bank, "tea")
        assert {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == dict.fromkeys(
            ("m.db", "m.db-wal", "m.db-shm"), 0o600
        )
    path.chmod(0o640)
    MemoryBank(path, embedder=HashEmbedder()).close()
    assert path.stat().st_mode & 0o777 == 0o640  # what its owner chose stays


KILLED_PURGE = """
import os, sys
from memory_r1.bank import MemoryBank
from memory_r1.testing import HashEmbedder
from memory_r1.types import Scope
path, moment = sys.argv[1:]
bank = MemoryBank(path, embedder=HashEmbedder())
bank._db.set_trace_callback(lambda sql: os._exit(9) if sql.startswith(moment) else None)
bank.purge(scope=Scope(user_id="ann"))
"""


@pytest.mark.parametrize("moment", ["VACUUM", "PRAGMA wal_checkpoint", "DELETE FROM meta"])
def test_opening_the_bank_finishes_a_purge_that_was_killed(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "m.db"
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        add(bank, f"Ann knows {MARKER}")
    assert subprocess.run([sys.executable, "-c", KILLED_PURGE, path, moment], check=False).returncode == 9
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        assert MARKER.encode() not in bytes_of(path)
        assert [one.kind for one in bank.log()] == ["ADD", "PURGE"]
        assert not schema.is_erasing(bank._db)


def test_traces_that_another_process_still_reads_are_erased_when_the_bank_is_opened_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.db"
    reader = sqlite3.connect(path, isolation_level=None)
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        entry_id = add(bank, f"Ann knows {MARKER}")
        bank._db.execute("PRAGMA busy_timeout=50")  # not a minute
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entry").fetchone()
        with pytest.raises(BankBusy):
            bank.purge(entry_id=entry_id)
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        assert "traces of what was purged are still in the file" in caplog.text
        assert bank.count() == 0
        assert schema.is_erasing(bank._db)
    reader.close()
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        assert not schema.is_erasing(bank._db)
        assert MARKER.encode() not in bytes_of(path)


def test_an_import_decides_nothing_of_a_turn_that_is_waiting_here(bank: MemoryBank) -> None:
    with MemoryBank(embedder=HashEmbedder()) as other:
        run(remember(Turn("Ann", "I have a dog", id="m1"), other, ANN), ScriptedLLM(['{"facts": ["Ann has a dog"]}']))
        lines = list(other.log())
    bank.begin_turn(ANN, Turn("Ann", "I like tea", id="m1"), [Fact("Ann likes tea", "Ann")])
    bank.restore(lines)
    assert bank.turn_progress(ANN, "m1") == TurnProgress((Fact("Ann likes tea", "Ann"),), 0, False)
