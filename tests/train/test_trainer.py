"""GRPO and PPO on tiny models: what they learn, that they resume to the same bits, and what they take from TRL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from safetensors.torch import load_file
from tiny_models import byte_tokenizer, tiny_model
from toy import CONFIG, Early, train
from trl import GRPOTrainer

from memory_r1.errors import Diverged, InvalidInput
from memory_r1.flow import Roles
from memory_r1.train.config import changed
from memory_r1.train.episodes import Group, Rollout
from memory_r1.train.learn import learn, prepared
from memory_r1.train.objectives import clipped_policy_loss, kl_k3_BT, masked_mean
from memory_r1.train.policy import Policy
from memory_r1.train.rewards import Reward
from memory_r1.train.runs import Run
from memory_r1.train.trainer import GroupGRPOTrainer, PPOTrainer, Seat, WithCritic

PPO = replace(CONFIG, algo="ppo")


def weights(run: Run) -> dict[str, Any]:
    return load_file(run.adapter / "adapter_model.safetensors")


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def rewards(run: Run) -> list[float]:
    return [row["reward"] for row in run.metrics() if "reward" in row]


@pytest.mark.parametrize("config", [CONFIG, PPO], ids=["grpo", "ppo"])
def test_the_reward_rises(tmp_path: Path, config: Any) -> None:
    got = rewards(train(tmp_path / "run", replace(config, steps=25, group_size=16, save_every=25)))
    assert len(got) == 25
    assert sum(got[-5:]) / 5 > sum(got[:3]) / 3 + 0.2


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, kl_in="reward"), PPO], ids=["grpo", "grpo-kl", "ppo"])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path, config: Any) -> None:
    whole = train(tmp_path / "whole", config)

    def kill(step: int, _: Mapping[str, Any]) -> None:
        if step == 3:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "killed", config, progress=kill)
    half_written = tmp_path / "killed" / "checkpoints" / "checkpoint-4"
    half_written.mkdir()
    (half_written / "adapter_model.safetensors").write_bytes(b"half")
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    killed = train(tmp_path / "killed", config)
    assert same(weights(whole), weights(killed))
    timeless = [
        [{k: v for k, v in row.items() if "time" not in k and "second" not in k} for row in run.metrics()]
        for run in (whole, killed)
    ]
    assert timeless[0] == timeless[1]
    said = [(run.folder / "transcripts.jsonl").read_text() for run in (whole, killed)]
    assert said[0] == said[1]
    if config.algo == "ppo":
        last = [
            torch.load(run.checkpoints / "checkpoint-4" / "critic.pt", weights_only=True) for run in (whole, killed)
        ]
        assert same(last[0]["critic"], last[1]["critic"])


def test_a_finished_run_is_not_trained_again_and_may_be_made_longer(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    before = weights(run)
    assert same(weights(train(tmp_path / "run")), before)
    longer = train(tmp_path / "run", replace(CONFIG, steps=6))
    assert [row["step"] for row in longer.metrics()] == [1, 2, 3, 4, 5, 6]
    assert not same(weights(longer), before)


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run", replace(CONFIG, steps=1))
    with pytest.raises(InvalidInput, match="holds a run with another seed"):
        train(tmp_path / "run", replace(CONFIG, seed=1))


class Watched(dict[str, Any]):
    """The last gradients of a model, by parameter, and how often its last layer was computed for some."""

    def __init__(self, model: Any) -> None:
        self.computed = 0
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(
                    lambda one, name=name: self.__setitem__(name, one.grad.clone())
                )
        layer = next(one for name, one in model.named_modules() if name.endswith("layers.1.mlp"))
        layer.register_forward_pre_hook(self.count)

    def count(self, *_: Any) -> None:
        self.computed += torch.is_grad_enabled()


@pytest.mark.parametrize(("flat", "passes"), [((0, 1), 0), ((0,), 4)])
def test_groups_without_variance_are_counted_and_cost_no_pass_through_the_model(
    tmp_path: Path, flat: tuple[int, ...], passes: int
) -> None:
    run, task = Run(tmp_path / "run"), Early(samples=2, flat=flat)
    run.claim(CONFIG, {})
    model, _ = prepared(tiny_model(), CONFIG)
    watched = Watched(model)
    learn(CONFIG, run, model, byte_tokenizer(), task, {}, use_cpu=True)
    assert [row["groups/without_variance"] for row in run.metrics()] == [len(flat)] * 4
    assert watched.computed == passes
    assert any(gradient.any() for gradient in watched.values()) == (passes > 0)
    assert any(tensor.any() for name, tensor in weights(run).items() if "lora_B" in name) == (passes > 0)


def test_the_divergence_taken_from_a_reward_does_not_make_a_group_without_variance_teach() -> None:
    trainer = SimpleNamespace(args=SimpleNamespace(device="cpu"), kl_in_reward=0.1, config=CONFIG)
    for rewards, teaches in (((1.0, 1.0), False), ((1.0, 0.0), True)):
        group = Group("a sample", [Rollout(Reward(reward, {}), []) for reward in rewards])
        batch = {
            "episode": torch.tensor([0, 1]),
            "old_per_token_logps": torch.tensor([[-1.0], [-2.0]]),
            "ref_per_token_logps": torch.tensor([[-1.5], [-1.0]]),
            "completion_mask": torch.ones(2, 1),
        }
        GroupGRPOTrainer._advantages(trainer, [group], [batch])
        assert bool((batch["advantages"] != 0).any()) is teaches


@pytest.mark.parametrize("algo", ["grpo", "ppo"])
@pytest.mark.parametrize("kl_in", ["loss", "reward"])
def test_the_divergence_is_measured_wherever_it_is_taken_from(tmp_path: Path, algo: Any, kl_in: Any) -> None:
    first, *later = train(tmp_path / "run", replace(CONFIG, algo=algo, kl=0.1, kl_in=kl_in)).metrics()
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert all(row["kl"] > 1e-4 for row in later)


def trainer_of(folder: Path, **settings: Any) -> GroupGRPOTrainer:
    config = changed(CONFIG, settings)
    model, _ = prepared(tiny_model(), config)
    policy = Policy(model, byte_tokenizer(), temperature=config.temperature)
    seat = Seat(policy, Roles(by_step={"manage": policy}))
    made = GroupGRPOTrainer(model, byte_tokenizer(), Early(turns=2), seat, config, folder, use_cpu=True)
    made.current_gradient_accumulation_steps = 1
    return made


def beside(trainer: GroupGRPOTrainer, batch: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The batch as it is learned from where another process has so many rows in this micro-batch, and learns."""
    aligned, gather = dict(batch), trainer.accelerator.gather
    trainer.accelerator.gather = lambda facts: torch.cat([facts, torch.tensor([[[rows, 1]]])])
    trainer._align([aligned])
    trainer.accelerator.gather = gather
    return aligned


@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo"])
def test_rows_added_for_another_processs_sake_change_no_gradient(tmp_path: Path, loss: str) -> None:
    trainer = trainer_of(tmp_path, loss=loss)
    alone = trainer._play([0, 1])[0]
    norms = []
    for batch in (alone, beside(trainer, alone, 3 * len(alone["episode"]))):
        trainer.model.zero_grad()
        trainer._compute_loss(trainer.model, dict(batch)).backward()
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
    assert norms[0] > 0
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


def test_a_group_without_replies_takes_part_in_what_another_process_learns(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, kl=0.1)
    silent = Group("a sample", [Rollout(Reward(0.0, {}), []) for _ in range(4)])
    batch = trainer._rows(silent)
    trainer._refer([batch])
    trainer._advantages([silent], [batch])
    batch["num_items_in_batch"] = torch.tensor(30.0)
    assert trainer._compute_loss(trainer.model, beside(trainer, batch, 5)).item() == 0.0


def test_advantages_that_differ_by_rounding_alone_are_none() -> None:
    trainer = SimpleNamespace(
        args=SimpleNamespace(device="cpu"), accelerator=SimpleNamespace(reduce=lambda tensor, _: tensor)
    )
    alike = {"advantages": torch.full((3, 7), -0.1), "completion_mask": torch.ones(3, 7)}
    alike["advantages"][0, 0] += 1e-8
    WithCritic._whiten(trainer, [alike])
    assert not alike["advantages"].any()
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    differing = {"advantages": torch.tensor([[3.0, 1.0, 0.0]]), "completion_mask": mask}
    WithCritic._whiten(trainer, [differing])
    assert differing["advantages"].tolist() == [[1.0, -1.0, 0.0]]


def test_another_sample_is_drawn_for_a_group_without_variance(tmp_path: Path) -> None:
    run = train(tmp_path / "run", replace(CONFIG, resample=8), Early(samples=4, flat=(0, 1)))
    assert [row["groups/without_variance"] for row in run.metrics()] == [0.0] * 4
    assert sum(row["resampled"] for row in run.metrics()) > 0


@pytest.mark.parametrize("config", [CONFIG, PPO], ids=["grpo", "ppo"])
def test_an_episode_may_have_several_replies(tmp_path: Path, config: Any) -> None:
    run = train(tmp_path / "run", replace(config, steps=2), Early(turns=3))
    assert all(row["replies/tokens"] <= 6 for row in run.metrics())
    rows = [json.loads(line) for line in (run.folder / "transcripts.jsonl").open(encoding="utf-8", newline="\n")]
    assert [len(one["replies"]) for one in rows[0]["asked"]] == [4, 4, 4]


def test_a_loss_that_is_no_number_stops_the_run_with_its_checkpoints_intact(tmp_path: Path) -> None:
    train(tmp_path / "run", replace(CONFIG, steps=2))

    class Infinite(Early):
        def maker(self, place: int) -> Any:
            make, count = super().maker(place), iter(range(4))

            def episode() -> Any:
                reward = yield from make()
                return replace(reward, total=float("inf") if next(count) == 0 else 0.0)

            return episode

    with pytest.raises(Diverged) as raised:
        train(tmp_path / "run", task=Infinite())
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-2"
    assert Run(tmp_path / "run").last_checkpoint() == checkpoint
    assert str(raised.value) == (
        "the loss of step 3 is nan; nothing was changed by it: begin another run with "
        f"--start {checkpoint} --set learning_rate=LOWER --out ANOTHER; this one keeps its learning_rate"
    )


class Spoilt(Early):
    """From one step on to another, the gradient of one parameter is no number, while the loss is one."""

    def __init__(self, first: int = 3, last: int = 1000) -> None:
        super().__init__()
        self.first, self.last = first, last

    def spoil(self, model: Any) -> None:
        self.count = 0
        parameter = next(one for one in model.parameters() if one.requires_grad)
        parameter.register_hook(lambda gradient: gradient * (float("nan") if self.broken() else 1.0))

    def broken(self) -> bool:
        return 2 * self.first - 2 < self.count <= 2 * self.last

    def maker(self, place: int) -> Any:
        self.count += 1
        return super().maker(place)


@pytest.mark.parametrize(
    ("which", "first", "message"),
    [
        (
            "policy",
            2,
            "gradients of 3 steps in a row are no numbers, the last of step 4; .* with --start .*checkpoint-2 "
            "--set learning_rate=LOWER",
        ),
        ("critic", 3, "of the critic is no number in step 3: .* with --start .*checkpoint-2 --set critic_rate=LOWER"),
    ],
)
def test_a_gradient_that_is_no_number_is_not_applied(tmp_path: Path, which: str, first: int, message: str) -> None:
    run, task = Run(tmp_path / "run"), Spoilt(first)
    run.claim(PPO, {})
    model, critic = prepared(tiny_model(), PPO)
    task.spoil({"policy": model, "critic": critic}[which])
    with pytest.raises(Diverged, match=message):
        learn(PPO, run, model, byte_tokenizer(), task, {}, critic=critic, use_cpu=True)
    assert run.last_checkpoint() == run.checkpoints / "checkpoint-2"
    saved = load_file(run.checkpoints / "checkpoint-2" / "adapter_model.safetensors")
    learned = {n.replace(".default", ""): p for n, p in model.named_parameters() if p.requires_grad}
    assert all(torch.isfinite(tensor).all() for tensor in learned.values())
    assert learned.keys() == saved.keys()


def test_a_step_whose_gradient_is_no_number_changes_nothing_and_is_counted(tmp_path: Path) -> None:
    run, task = Run(tmp_path / "run"), Spoilt(first=3, last=3)
    config = changed(CONFIG, {"steps": 4, "save_every": 1, "keep": 9})
    run.claim(config, {})
    model, _ = prepared(tiny_model(), config)
    task.spoil(model)
    learn(config, run, model, byte_tokenizer(), task, {}, use_cpu=True)
    saved = [load_file(run.checkpoints / f"checkpoint-{step}" / "adapter_model.safetensors") for step in (2, 3, 4)]
    assert [same(one, other) for one, other in pairwise(saved)] == [True, False]
    assert [row.get("passed_over", 0) for row in run.metrics()] == [0, 0, 1, 1]


def test_data_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no sample to learn from"):
        train(tmp_path / "run", task=Early(samples=0))


# -- what is taken from TRL: these fail when a new version does it otherwise ------------------------------------------


def trainer(tmp_path: Path, **settings: Any) -> GroupGRPOTrainer:
    config = changed(CONFIG, settings)
    model, critic = prepared(tiny_model(), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(len(name)))
    policy = Policy(model, byte_tokenizer())
    seat = Seat(policy, Roles(by_step={"manage": policy}))
    kind = PPOTrainer if critic else GroupGRPOTrainer
    more = {"critic": critic} if critic else {}
    return kind(model, byte_tokenizer(), Early(turns=2), seat, config, tmp_path, use_cpu=True, **more)


def micro_batch(made: GroupGRPOTrainer) -> dict[str, Any]:
    made.current_gradient_accumulation_steps = 2
    return made._play([0, 1])[0]


def test_scoring_on_the_shared_prefix_is_trls_scoring(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    batch = micro_batch(made)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    keep = batch["completion_ids"].shape[1]
    ours = made._get_per_token_logps_and_entropies(made.model, ids, mask, keep, compute_entropy=True)
    theirs = GRPOTrainer._get_per_token_logps_and_entropies(made, made.model, ids, mask, keep, compute_entropy=True)
    there = batch["completion_mask"].bool()
    torch.testing.assert_close(ours[0][there], theirs[0][there], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours[1][there], theirs[1][there].detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(batch["old_per_token_logps"][there], theirs[0][there].detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", ["dapo", "grpo"])
def test_trls_loss_is_the_clipped_surrogate_with_k3(tmp_path: Path, loss: str) -> None:
    made = trainer(tmp_path, loss=loss, kl=0.1)
    batch = micro_batch(made)
    batch["old_per_token_logps"] = batch["old_per_token_logps"] + 0.3 * torch.randn_like(batch["old_per_token_logps"])
    batch["num_items_in_batch"] = batch["completion_mask"].sum()  # as if the other group had said nothing
    found = made._compute_loss(made.model, batch)
    logp, mask = made._score(made.model, batch)[0], batch["completion_mask"]
    mean = "token" if loss == "dapo" else "sequence"
    expected = clipped_policy_loss(logp, batch["old_per_token_logps"], batch["advantages"][:, None], mask, mean=mean)
    expected = expected + 0.1 * masked_mean(kl_k3_BT(logp, batch["ref_per_token_logps"]), mask, mean)
    torch.testing.assert_close(found, expected if loss == "dapo" else expected / 2)


def test_a_steps_gradients_are_those_of_trls_own_path(tmp_path: Path) -> None:
    """In float64: what float32 rounds differs between both by more than the tolerance, most of it on TRL's side."""
    gradients = []
    for stock in (False, True):
        made = trainer(tmp_path)
        batch = {n: one.double() if _floats(one) else one for n, one in micro_batch(made).items()}
        made.model.double()
        if stock:
            made._get_per_token_logps_and_entropies = GRPOTrainer._get_per_token_logps_and_entropies.__get__(made)
        made._compute_loss(made.model, batch).backward()
        gradients.append({n: p.grad for n, p in made.model.named_parameters() if p.requires_grad})
    assert len(gradients[0]) == 2 * 2 * 7
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(
            gradient, gradients[1][name], atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


def _floats(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def test_the_reference_is_the_policy_that_training_began_with_and_is_not_trained(tmp_path: Path) -> None:
    made = trainer(tmp_path, kl=0.1)
    batch = micro_batch(made)
    kept = batch["completion_mask"].bool()
    torch.testing.assert_close(
        batch["ref_per_token_logps"][kept], batch["old_per_token_logps"][kept], atol=1e-5, rtol=1e-5
    )
    trained = {name for name, parameter in made.model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".default." in name for name in trained)


def test_ppo_without_a_learned_value_is_reinforce_with_whitening(tmp_path: Path) -> None:
    made = trainer(tmp_path, algo="ppo")
    batches = made._play([0, 1])
    rewards = torch.cat([one["returns"][one["completion_mask"].bool()] for one in batches])
    advantages = torch.cat([one["advantages"][one["completion_mask"].bool()] for one in batches])
    torch.testing.assert_close(advantages, (rewards - rewards.mean()) / rewards.std(correction=0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rank", [4, 0])
def test_checkpointing_computes_layers_again_and_changes_no_gradient(tmp_path: Path, rank: int) -> None:
    def stepped(checkpointing: bool) -> tuple[Watched, Watched]:
        config = changed(PPO, {"steps": 1, "kl": 0.0, "checkpointing": checkpointing, "lora": {"rank": rank}})
        run = Run(tmp_path / str(checkpointing))
        run.claim(config, {})
        model, critic = prepared(tiny_model(), config)
        watched = Watched(model), Watched(critic)
        learn(config, run, model, byte_tokenizer(), Early(), {}, critic=critic, use_cpu=True)
        return watched

    for once, again in zip(stepped(False), stepped(True), strict=True):  # the policy's, and the critic's
        assert again.computed == 2 * once.computed > 0
        assert any(gradient.any() for gradient in once.values())
        torch.testing.assert_close(dict(again), dict(once))


def test_the_critic_shares_the_frozen_weights() -> None:
    base = tiny_model()
    model, critic = prepared(base, PPO)
    mine = {id(p) for p in model.parameters() if not p.requires_grad}
    frozen = {id(p) for p in critic.backbone.parameters() if not p.requires_grad}
    assert frozen <= mine
    assert not {id(p) for p in critic.parameters() if p.requires_grad} & {id(p) for p in model.parameters()}
