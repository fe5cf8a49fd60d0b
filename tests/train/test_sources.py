"""Samples and pairs from generated dialogues, from data sets, and from the log of a bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dialogues import DATA, EMBEDDER, JUNE, MAY, teacher
from numpy.typing import NDArray

from memory_r1.bank import MemoryBank
from memory_r1.bench import plain
from memory_r1.errors import InvalidInput
from memory_r1.flow import Roles, run
from memory_r1.manager import remember
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.train.config import LogoSettings, TrainConfig
from memory_r1.train.episodes import ManagerTask, play
from memory_r1.train.evaluate import placed_examples
from memory_r1.train.examples import write_examples
from memory_r1.train.samples import AnswerSample, ManagerSample, RememberedTexts, manager_samples
from memory_r1.train.segments import SegmentTask
from memory_r1.train.sources import Reciting, gold_pairs, logged_pairs, opened, samples_for, task_of
from memory_r1.types import Fact, Message, Operation, Prompt, Provenance, Scope, Turn

EXTRACTOR = TrainConfig(agent="extractor", algo="sft")
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
    agents = (EXTRACTOR, MANAGER, ANSWER)
    steps = [{prompt.step for prompt, _ in gold_pairs("synthetic:1", config, EMBEDDER)} for config in agents]
    assert steps == [{"extract"}, {"manage"}, {"answer"}]
    with pytest.raises(InvalidInput, match="nothing else can be learned from it"):
        list(gold_pairs("bank:x.db", replace(ANSWER), EMBEDDER))


def test_pairs_kept_in_a_file_are_those_that_would_be_generated(tmp_path: Path) -> None:
    file, made = tmp_path / "examples.jsonl", list(gold_pairs("synthetic:1", MANAGER, EMBEDDER))
    kept = placed_examples(EMBEDDER, ["extract", "manage"], count=1, seed=0, split="train", related=MANAGER.related)
    assert write_examples(file, kept) > len(made)
    assert list(gold_pairs(f"jsonl:{file}", MANAGER, EMBEDDER)) == made
    with pytest.raises(InvalidInput, match=r"examples.jsonl holds no example of answer; examples are what `memory-r1"):
        list(gold_pairs(f"jsonl:{file}", ANSWER, EMBEDDER))


def test_a_line_that_is_no_example_is_named(tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_text('{"step": "manage"}\n', encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"examples.jsonl line 1 is not an example: KeyError\('messages'\)"):
        list(gold_pairs(f"jsonl:{file}", MANAGER, EMBEDDER))


def test_no_text_is_embedded_twice() -> None:
    asked = list[tuple[list[str], bool]]()

    class Noting(HashEmbedder):
        def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
            asked.append((list(texts), query))
            return super().embed(texts, query=query)

    embedder = RememberedTexts(Noting(32))
    first = embedder.embed(["a dog", "a cat", "a dog"])
    np.testing.assert_array_equal(first, HashEmbedder(32).embed(["a dog", "a cat", "a dog"]))
    np.testing.assert_array_equal(embedder.embed(["a cat"]), first[1:2])
    embedder.embed(["a cat"], query=True)
    assert asked == [(["a dog", "a cat"], False), (["a cat"], True)]
    assert embedder.embed([]).shape == (0, 32)


@pytest.mark.parametrize("wanted", [False, True])
def test_questions_that_nothing_answers_are_asked_where_they_are_wanted(tmp_path: Path, wanted: bool) -> None:
    config = replace(ANSWER, unanswerable=wanted)
    made = samples_for("synthetic:1", config, EMBEDDER, tmp_path / "samples.jsonl", teacher=None)
    assert any(not one.question.answerable for one in made if isinstance(one, AnswerSample)) is wanted


def test_kept_turns_are_shown_where_they_are_wanted(tmp_path: Path) -> None:
    """Sampled from, and cloned: a kept turn begins with who said it."""
    config = replace(ANSWER, keep_turns=True)
    made = samples_for("synthetic:1", config, EMBEDDER, tmp_path / "samples.jsonl", teacher=None)
    pairs = list(gold_pairs("synthetic:1", config, EMBEDDER))
    shown = [one.text for sample in made if isinstance(sample, AnswerSample) for one in sample.memories]
    assert {"Oscar: ", "Tobias: "} <= {text[: text.find(": ") + 2] for text in shown}
    assert any("Oscar: " in prompt.messages[-1].content for prompt, _ in pairs)


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
        (entry,) = bank.all()
        same = Operation("UPDATE", Fact(entry.text, "Ann"), entry, entry.text, Provenance(reason="lasts longer"))
        bank.apply(same, ann)
        assert [reply for _, reply in logged_pairs(bank, 3)] == [update]


def test_what_no_manager_decided_is_not_cloned() -> None:
    """A duplicate, a reply that cannot be read, a fact that is not in the turn, an update that loses what was there."""
    ann = Scope(user_id="ann")
    lost = '{"operation": "UPDATE", "index": 1, "text": "Ann paints."}'
    told = [
        ("Ann has a dog.", "Ann has a dog.", ""),
        ("Ann has a dog.", "Ann has a dog.", ""),
        ("Ann has a bike.", "Ann has a bike.", "sorry"),
        ("Ann has a cow.", "Zebras juggle.", ""),
        ("Ann paints.", "Ann paints.", lost),
        ("Ann has a dog Rex.", "Ann has a dog Rex.", '{"operation": "NOOP"}'),
    ]
    with MemoryBank(embedder=EMBEDDER) as bank:
        for said, fact, reply in told:
            llm = Roles(by_step={"extract": ScriptedLLM([f'{{"facts": ["{fact}"]}}']), "manage": ScriptedLLM([reply])})
            run(remember(Turn("Ann", said, MAY), bank, ann), llm)
        assert [reply for _, reply in logged_pairs(bank, 3)] == ['{"operation": "NOOP"}']


def test_a_prompt_that_the_gold_does_not_know_is_counted() -> None:
    gold = Reciting([])
    [reply] = gold.complete([Prompt("manage", (Message("user", "?"),))])
    assert (reply.text, gold.missed) == ('{"operation": "ADD"}', {"manage": 1})
