"""LoGo-GRPO on a model of two layers: the advantage of each decision, how it is learned from, and resuming."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from dialogues import EMBEDDER, HOUSE, house_teach
from safetensors.torch import load_file
from tiny_models import deciding_model
from toy import CONFIG

from memory_r1.errors import InvalidInput
from memory_r1.flow import Roles
from memory_r1.testing import ScriptedLLM
from memory_r1.train.config import TrainConfig, changed
from memory_r1.train.learn import learn, prepared
from memory_r1.train.logo import LoGoTrainer
from memory_r1.train.policy import Policy
from memory_r1.train.runs import Run
from memory_r1.train.segments import SegmentTask, segment_samples
from memory_r1.train.trainer import Seat

LOGO = changed(CONFIG, {"steps": 3, "save_every": 1, "groups": 1, "logo": {"turns": 10, "rows": 3}})


def task(config: TrainConfig) -> SegmentTask:
    samples = list(segment_samples(HOUSE, ScriptedLLM(house_teach), EMBEDDER, turns=config.logo.turns))
    return SegmentTask(samples, EMBEDDER, config.logo)


def train(folder: Path, config: TrainConfig = LOGO, **options: Any) -> Run:
    run = Run(folder)
    run.claim(config, {})
    base, tokenizer = deciding_model()
    model, _ = prepared(base, config)
    learn(config, run, model, tokenizer, task(config), {"answer": ScriptedLLM(house_teach)}, use_cpu=True, **options)
    return run


def trainer(folder: Path, **settings: Any) -> LoGoTrainer:
    config = changed(LOGO, settings)
    base, tokenizer = deciding_model()
    model, _ = prepared(base, config)
    policy = Policy(model, tokenizer)
    seat = Seat(policy, Roles(by_step={"manage": policy, "answer": ScriptedLLM(house_teach)}))
    return LoGoTrainer(model, tokenizer, task(config), seat, config, folder, use_cpu=True)


def weights(run: Run) -> dict[str, Any]:
    return load_file(run.adapter / "adapter_model.safetensors")


def test_a_whole_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    rows = whole.metrics()
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["local/groups"] == 2.0 for row in rows)
    assert len({row["reward"] for row in rows}) > 1  # what was decided made a difference
    assert any(tensor.any() for name, tensor in weights(whole).items() if "lora_B" in name)
    told = [json.loads(line) for line in (whole.folder / "transcripts.jsonl").open(encoding="utf-8", newline="\n")]
    assert [one["sample"].partition(" at ")[0] for one in told] == ["d3/1:1..2:2"] * 9  # a group and two of its own

    def kill(step: int, _: Mapping[str, Any]) -> None:
        if step == 2:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "killed", progress=kill)
    killed = train(tmp_path / "killed")
    one, other = weights(whole), weights(killed)
    assert all(torch.equal(one[name], other[name]) for name in one)
    said = [(run.folder / "transcripts.jsonl").read_text() for run in (whole, killed)]
    assert said[0] == said[1]


def test_every_decision_has_the_advantage_of_its_rollout_or_its_alternative(tmp_path: Path) -> None:
    made = trainer(tmp_path, scale=False, logo={"global_weight": 2.0, "local_weight": 0.5})
    made.seat.policy.seed(0)
    group = made._groups([0])[0]
    batch = made._rows(group)
    made._advantages([group], [batch])
    mean = sum(group.rewards) / 4
    expected = [2.0 * (one.reward.total - mean) for one in group.rollouts for _ in one.exchanges]
    for local in group.local:
        mean = sum(local.rewards) / 4
        expected += [0.5 * (reward - mean) for reward in local.rewards]
    assert len({round(value, 4) for value in expected}) > 2
    torch.testing.assert_close(batch["advantages"], torch.tensor(expected))


@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo"])
def test_passes_add_up_to_the_gradients_of_the_whole_micro_batch(tmp_path: Path, loss: str) -> None:
    found = []
    for rows in (3, 1_000):
        made = trainer(tmp_path, loss=loss, kl=0.1, logo={"rows": rows})
        made.current_gradient_accumulation_steps = 1
        [batch] = made._play([0])
        assert len(batch["episode"]) > 3
        value = made._compute_loss(made.model, batch)
        value.backward()
        found.append((value.detach(), {n: p.grad for n, p in made.model.named_parameters() if p.requires_grad}))
    (value, gradients), (whole, expected) = found
    torch.testing.assert_close(value, whole, atol=1e-6, rtol=1e-5)
    assert any(gradient.any() for gradient in expected.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def test_replies_without_an_advantage_are_left_out_and_equal_prompts_lie_together(tmp_path: Path) -> None:
    made = trainer(tmp_path, logo={"global_weight": 0.0, "alternatives": 6})
    [batch] = made._play([0])
    assert (batch["advantages"] != 0).all()
    assert (batch["episode"] >= 4).all()  # the rollouts weigh nothing
    prompts = [tuple(row) for row in batch["prompt_ids"].tolist()]
    assert sum(one != other for one, other in pairwise(prompts)) == len(set(prompts)) - 1


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo"])
def test_replies_that_are_left_out_still_count_where_a_loss_is_a_mean_over_replies(tmp_path: Path, loss: str) -> None:
    made = trainer(tmp_path, loss=loss, kl=0.1, logo={"global_weight": 0.0, "alternatives": 6})
    made.current_gradient_accumulation_steps = 1
    [batch] = made._play([0])
    left = len(batch["episode"])
    assert batch["rows"] > left > 0
    alone = made._compute_loss(made.model, {**batch, "rows": left})
    among = made._compute_loss(made.model, batch)
    torch.testing.assert_close(among, alone * left / batch["rows"])


def test_the_divergence_may_be_taken_from_the_reward(tmp_path: Path) -> None:
    run = train(tmp_path / "run", replace(LOGO, steps=2, kl=0.1, kl_in="reward"))
    assert len(run.metrics()) == 2


def test_settings_that_cannot_be_are_refused() -> None:
    for settings, message in (
        ({"algo": "ppo", "logo": {"turns": 8}}, "logo.turns needs algo=grpo"),
        ({"logo": {"alternatives": 1}}, "logo.alternatives must be at least 2"),
        ({"logo": {"global_weight": 0.0, "local_weight": 0.0}}, "nor both 0"),
    ):
        with pytest.raises(InvalidInput, match=message):
            changed(TrainConfig(), settings)
    assert not changed(TrainConfig(), {"agent": "answer", "algo": "ppo", "logo": {"turns": 8}}).segmented
