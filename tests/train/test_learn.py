"""Whole runs of seconds: manager and Answer Agent, by GRPO and PPO, on the product's own flows."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from dialogues import DATA, EMBEDDER, answer, teacher
from disk import full_disk
from safetensors.torch import load_file
from tiny_models import ANSWERS, OPERATIONS, byte_tokenizer, deciding_model, tiny_model
from toy import CONFIG, Early, train

from memory_r1.errors import AdapterMismatch, CheckpointFailed, InvalidInput
from memory_r1.testing import ScriptedLLM
from memory_r1.train.episodes import AnswerTask, ManagerTask
from memory_r1.train.learn import learn, prepared
from memory_r1.train.policy import Policy
from memory_r1.train.rewards import RewardConfig
from memory_r1.train.runs import Run
from memory_r1.train.samples import answer_samples, manager_samples

SHAPED = RewardConfig(metric="f1", format=0.1)
WHOLE = replace(CONFIG, steps=2, groups=1, save_every=1)


def tasks() -> dict[str, Any]:
    return {
        "manager": ManagerTask(list(manager_samples(DATA, teacher(), EMBEDDER)), EMBEDDER, SHAPED),
        "answer": AnswerTask(list(answer_samples(DATA, teacher(), EMBEDDER)), SHAPED),
    }


def test_a_run_that_began_from_an_adapter_goes_on_from_its_own_checkpoint(tmp_path: Path) -> None:
    """With KL a checkpoint also holds the adapter that the run began from, in a folder beside its own."""
    begun = train(tmp_path / "begun").adapter

    def trained(name: str, steps: int) -> dict[str, Any]:
        run, config = Run(tmp_path / name), replace(CONFIG, steps=steps, kl=0.01)
        run.claim(config, {})
        model, _ = prepared(tiny_model(), config, begun)
        learn(config, run, model, byte_tokenizer(), Early(), {}, use_cpu=True)
        return dict(load_file(run.adapter / "adapter_model.safetensors"))

    whole, start = trained("whole", 4), load_file(begun / "adapter_model.safetensors")
    assert list((tmp_path / "whole" / "checkpoints" / "checkpoint-4").glob("*/adapter_model.safetensors"))
    trained("resumed", 2)
    for again in (trained("resumed", 4), trained("whole", 4)):  # the second asks for what is done
        assert all(torch.equal(again[name], whole[name]) for name in whole)
        assert not all(torch.equal(again[name], start[name]) for name in start)


@pytest.mark.parametrize("algo", ["grpo", "ppo"])
@pytest.mark.parametrize("agent", ["manager", "answer"])
def test_a_whole_run_learns_and_goes_on_to_the_same_bits(tmp_path: Path, agent: str, algo: str) -> None:
    config = replace(WHOLE, agent=agent, algo=algo, group_size=8)
    frozen: dict[Any, Any] = {"answer": ScriptedLLM(answer)} if agent == "manager" else {}

    def run_to_the_end(name: str, **options: Any) -> Run:
        said = {"manager": OPERATIONS, "answer": ANSWERS}[agent]
        return train(tmp_path / name, config, tasks()[agent], played=deciding_model(said), frozen=frozen, **options)

    whole = run_to_the_end("whole")
    rows = whole.metrics()
    assert [row["step"] for row in rows] == [1, 2]
    assert [row["groups/without_variance"] for row in rows] == [0.0, 0.0]
    assert all(0.0 < row["replies/valid"] <= 1.0 for row in rows)
    assert any(row["reward/metric"] > 0 for row in rows)
    assert all((row["operations/NOOP"] is not None) == (agent == "manager") for row in rows)
    assert all(("critic/loss" in row) == (algo == "ppo") for row in rows)
    weights = load_file(whole.adapter / "adapter_model.safetensors")
    assert all(tensor.any() for name, tensor in weights.items() if "lora_B" in name)  # they began at 0
    told = [json.loads(line) for line in (whole.folder / "transcripts.jsonl").open(encoding="utf-8", newline="\n")]
    assert [(one["step"], len(one["asked"][0]["replies"])) for one in told] == [(1, 8), (2, 8)]
    heading = {"manager": "New fact: Ann adopted another dog, Scout.", "answer": "Question: "}[agent]
    assert all(heading in one["asked"][0]["prompt"] for one in told)
    assert {path.name for path in whole.adapter.iterdir()} >= {"adapter_model.safetensors", "tokenizer.json"}

    def kill(step: int, _: Mapping[str, Any]) -> None:
        if step == 2:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run_to_the_end("killed", progress=kill)
    assert Run(tmp_path / "killed").last_checkpoint() == tmp_path / "killed" / "checkpoints" / "checkpoint-1"
    again = load_file(run_to_the_end("killed").adapter / "adapter_model.safetensors")
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    said = [(tmp_path / name / "transcripts.jsonl").read_text(encoding="utf-8") for name in ("whole", "killed")]
    assert said[0] == said[1]


def test_a_judge_among_the_frozen_models_gives_the_reward(tmp_path: Path) -> None:
    judge = ScriptedLLM(lambda prompt: json.dumps({"correct": "Answer to grade: two" in prompt.messages[-1].content}))
    task = AnswerTask(list(answer_samples(DATA, teacher(), EMBEDDER))[:1], RewardConfig(metric="judge_lenient"))
    config = replace(WHOLE, agent="answer", group_size=8)
    run = train(tmp_path / "run", config, task, played=deciding_model(ANSWERS), frozen={"judge": judge})
    told = [json.loads(line) for line in (run.folder / "transcripts.jsonl").open(encoding="utf-8", newline="\n")]
    found = [
        (reply["answers"][0].startswith("two"), reply["reward"]) for one in told for reply in one["asked"][0]["replies"]
    ]
    assert {(True, 1.0), (False, 0.0)} == set(found)
    assert {prompt.step for prompt in judge.prompts} == {"judge"}


def test_the_frozen_agent_may_be_the_same_model_without_its_adapter(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.claim(WHOLE, {})
    model, _ = prepared(tiny_model(), WHOLE)
    frozen = Policy(model, byte_tokenizer(), temperature=0, adapter="", name="base")
    learn(WHOLE, run, model, byte_tokenizer(), tasks()["manager"], {"answer": frozen}, use_cpu=True)
    assert len(run.metrics()) == 2


def test_a_run_begins_from_the_adapter_of_another(tmp_path: Path) -> None:
    first = train(tmp_path / "first", WHOLE)
    model, _ = prepared(tiny_model(), WHOLE, first.adapter)
    saved = load_file(first.adapter / "adapter_model.safetensors")
    now = {name.replace(".default", ""): p for name, p in model.named_parameters() if "lora_" in name}
    assert dict.fromkeys(saved, True) == {name: torch.equal(now[name], saved[name]) for name in saved}
    assert all(parameter.requires_grad for parameter in now.values())


def test_an_adapter_to_begin_from_with_other_settings_than_the_runs_is_refused(tmp_path: Path) -> None:
    first = train(tmp_path / "first", WHOLE)
    for lora in (replace(WHOLE.lora, rank=WHOLE.lora.rank + 1), replace(WHOLE.lora, rank=0)):
        with pytest.raises(
            InvalidInput, match=f"--set lora.rank={WHOLE.lora.rank} --set lora.alpha={WHOLE.lora.alpha}"
        ):
            prepared(tiny_model(), replace(WHOLE, lora=lora), first.adapter)


def test_a_whole_model_is_no_adapter_to_begin_from(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="begins from no adapter: give the folder as --model"):
        prepared(tiny_model(), replace(WHOLE, lora=replace(WHOLE.lora, rank=0)), tmp_path)


def test_a_run_that_goes_on_saves_as_often_as_it_says_now(tmp_path: Path) -> None:
    train(tmp_path / "run", replace(WHOLE, steps=2, save_every=2, keep=9))
    run = train(tmp_path / "run", replace(WHOLE, steps=5, save_every=1, keep=9))
    assert sorted(path.name for path in run.checkpoints.glob("checkpoint-*")) == [
        f"checkpoint-{n}" for n in (2, 3, 4, 5)
    ]


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    first = train(tmp_path / "first", WHOLE)
    with pytest.raises(AdapterMismatch, match="cannot be trained on tiny"):
        prepared(tiny_model("gpt2"), WHOLE, first.adapter)


def test_ctrl_c_ends_the_step_saves_and_the_run_goes_on(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")

    def press(step: int, _: Mapping[str, Any]) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", progress=press)
    stopped = Run(tmp_path / "stopped")
    checkpoint = stopped.last_checkpoint()
    assert checkpoint is not None
    assert checkpoint.name in ("checkpoint-1", "checkpoint-2")
    train(tmp_path / "stopped")
    one, other = (load_file(run.adapter / "adapter_model.safetensors") for run in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)


def contents(run: Run) -> dict[str, bytes]:
    checkpoint = run.last_checkpoint()
    assert checkpoint is not None
    return {str(path): path.read_bytes() for path in checkpoint.rglob("*") if path.is_file()}


def test_a_full_disk_leaves_the_last_checkpoint_intact(tmp_path: Path) -> None:
    run = train(tmp_path / "run", replace(WHOLE, steps=1))
    before = contents(run)
    with (  # smaller than the optimiser's state
        full_disk(20_000),
        pytest.raises(CheckpointFailed, match="make room on the disk and run the same command again"),
    ):
        train(tmp_path / "run", replace(WHOLE, steps=2), Early())
    assert [path.name for path in run.checkpoints.glob("checkpoint-*")] == ["checkpoint-1"]
    assert contents(run) == before


def test_an_adapter_that_does_not_fit_on_the_disk_is_none_and_the_run_can_end_again(tmp_path: Path) -> None:
    run = train(tmp_path / "run", replace(WHOLE, steps=1))
    before, trained = contents(run), (run.adapter / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(run.adapter)
    with full_disk(8_000), pytest.raises(CheckpointFailed, match="training is done, and its last checkpoint whole"):
        train(tmp_path / "run", replace(WHOLE, steps=1))
    assert not [path.name for path in run.folder.iterdir() if path.name.startswith("adapter")]
    assert contents(run) == before
    train(tmp_path / "run", replace(WHOLE, steps=1))
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == trained
