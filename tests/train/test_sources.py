"""Samples and pairs from generated dialogues, from data sets, and from the log of a bank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dialogues import DATA, EMBEDDER, JUNE, MAY, teacher

from memory_r1.bank import MemoryBank
from memory_r1.bench import plain
from memory_r1.errors import InvalidInput
from memory_r1.flow import Roles, run
from memory_r1.manager import remember
from memory_r1.testing import ScriptedLLM
from memory_r1.train.config import LogoSettings, TrainConfig
from memory_r1.train.episodes import ManagerTask, play
from memory_r1.train.samples import ManagerSample, manager_samples
from memory_r1.train.segments import SegmentTask
from memory_r1.train.sources import Reciting, gold_pairs, logged_pairs, opened, samples_for, task_of
from memory_r1.types import Message, Prompt, Scope, Turn

MANAGER, ANSWER = TrainConfig(retrieved=10), TrainConfig(agent="answer", retrieved=10)
SEGMENTS = TrainConfig(retrieved=10, logo=LogoSettings(turns=20))


def test_generated_dialogues_are_read_by_their_own_gold() -> None:
    data, gold = opened("synthetic:2", MANAGER, EMBEDDER)
    assert len(data.dialogues) == 2
    assert isinstance(gold, Reciting)
    samples = list(manager_samples(data, gold, EMBEDDER, window=1_000))
    assert samples
    assert gold.missed.get("extract", 0) == 0
    task = ManagerTask(samples, EMBEDDER, retrieved=10)
    operations = [
        kind
        for place in range(len(samples))
        for kind in play(task.maker(place), 1, gold, "manage")[0].reward.operations
    ]
    assert {"ADD", "UPDATE"} <= set(operations)


def test_samples_are_made_once(tmp_path: Path) -> None:
    kept = tmp_path / "samples.jsonl"
    made = samples_for("synthetic:1", MANAGER, EMBEDDER, kept, teacher=None)
    assert samples_for("nothing:at all", MANAGER, EMBEDDER, kept, teacher=None) == made
    assert samples_for(f"jsonl:{kept}", MANAGER, EMBEDDER, tmp_path / "other", teacher=None) == made


def test_a_task_takes_the_samples_of_its_agent(tmp_path: Path) -> None:
    made = samples_for("synthetic:1", MANAGER, EMBEDDER, tmp_path / "samples.jsonl", teacher=None)
    assert len(task_of(made, MANAGER, EMBEDDER)) == len(made)
    assert all(isinstance(one, ManagerSample) for one in made)
    with pytest.raises(InvalidInput, match=f"no sample of the answer among the {len(made)}"):
        task_of(made, ANSWER, EMBEDDER)


def test_the_bank_before_a_turn_may_be_what_the_policy_made_of_the_dialogue(tmp_path: Path) -> None:
    """The gold still reads the turns; a policy that keeps nothing it is asked about leaves fewer memories."""
    by_gold = samples_for("synthetic:1", SEGMENTS, EMBEDDER, tmp_path / "gold", teacher=None)
    keeps_nothing = ScriptedLLM(lambda _: '{"operation": "NOOP"}')
    by_policy = samples_for("synthetic:1", SEGMENTS, EMBEDDER, tmp_path / "own", teacher=None, manager=keeps_nothing)
    assert [one.heard for one in by_policy] == [one.heard for one in by_gold]
    assert 0 < len(by_policy[-1].bank) < len(by_gold[-1].bank)


def test_segments_are_the_samples_of_a_run_with_long_episodes(tmp_path: Path) -> None:
    made = samples_for("synthetic:1", SEGMENTS, EMBEDDER, tmp_path / "samples.jsonl", teacher=None)
    assert isinstance(task_of(made, SEGMENTS, EMBEDDER), SegmentTask)
    with pytest.raises(InvalidInput, match="no sample of the manager among"):
        task_of(made, MANAGER, EMBEDDER)


def test_data_that_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    path, kept = tmp_path / "data.json", tmp_path / "kept"
    plain.save(replace(DATA, questions=()), path)
    for config in (MANAGER, ANSWER):
        with pytest.raises(InvalidInput, match=f"has no question that the {config.agent} could learn from"):
            samples_for(f"json:{path}", config, EMBEDDER, kept, teacher=teacher())
        assert not kept.exists()
    with pytest.raises(InvalidInput, match="needs a teacher"):
        samples_for(f"json:{path}", MANAGER, EMBEDDER, kept, teacher=None)
    with pytest.raises(InvalidInput, match=r"nowhere\.jsonl cannot be read .*; samples are what an earlier run wrote"):
        samples_for(f"jsonl:{tmp_path / 'nowhere.jsonl'}", MANAGER, EMBEDDER, kept, teacher=None)
    with pytest.raises(InvalidInput, match="must be synthetic or synthetic:NUMBER"):
        opened("synthetic:many", MANAGER, EMBEDDER)


def test_gold_pairs_are_of_the_agent_that_is_trained() -> None:
    steps = [{prompt.step for prompt, _ in gold_pairs("synthetic:1", config, EMBEDDER)} for config in (MANAGER, ANSWER)]
    assert steps == [{"manage"}, {"answer"}]
    with pytest.raises(InvalidInput, match="the Answer Agent learns from questions"):
        list(gold_pairs("bank:x.db", replace(ANSWER), EMBEDDER))


def test_what_was_decided_in_a_bank_can_be_cloned() -> None:
    ann = Scope(user_id="ann")
    update = '{"operation": "UPDATE", "index": 1, "text": "Ann has two dogs."}'
    script = {"Ann has a dog.": "", "Ann has a second dog.": update, "Ann has a dog Rex.": '{"operation": "ADD"}'}
    with MemoryBank(embedder=EMBEDDER) as bank:
        for number, (fact, reply) in enumerate(script.items()):
            llm = Roles(by_step={"extract": ScriptedLLM([f'{{"facts": ["{fact}"]}}']), "manage": ScriptedLLM([reply])})
            run(remember(Turn("Ann", fact, (MAY, JUNE)[number % 2], str(number)), bank, ann), llm)
        pairs = list(logged_pairs(bank, 3))
        assert [reply for _, reply in pairs] == [update, '{"operation": "ADD"}']
        assert pairs[0][0].messages[-1].content == "Memories:\n1. Ann has a dog.\nNew fact: Ann has a second dog."
        bank.undo(bank.log()[-1].id)
        assert [reply for _, reply in logged_pairs(bank, 3)] == [update]


def test_a_prompt_that_the_gold_does_not_know_is_counted() -> None:
    gold = Reciting([])
    [reply] = gold.complete([Prompt("manage", (Message("user", "?"),))])
    assert (reply.text, gold.missed) == ('{"operation": "ADD"}', {"manage": 1})
