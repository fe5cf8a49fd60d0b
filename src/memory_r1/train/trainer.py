"""GRPO and PPO on TRL's GRPOTrainer: our episodes for its generation, a prompt read once for its scoring.

    samples ─ play groups of episodes ─► rewards ─► advantages ─┬─ GRPO: against the group
                                                                └─ PPO: against a critic (GAE)
            ─ for each group, one micro-batch ─► TRL's loss on the shared prefix ─► step

What TRL does: configuration, sampling order, its loss, optimiser, accumulation, several processes, logging and
checkpoints. A row of a micro-batch is one exchange of the trained agent; an episode may have several or none.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from trl import GRPOConfig, GRPOTrainer

from memory_r1.errors import Diverged
from memory_r1.flow import LLM
from memory_r1.train.checkpoints import Guarded, order, shared_settings
from memory_r1.train.config import TrainConfig
from memory_r1.train.critic import Critic, group_values
from memory_r1.train.episodes import Group, Task, played
from memory_r1.train.objectives import clipped_value_loss, explained_variance, gae_BT, grpo_advantages_BG, kl_k3_BT
from memory_r1.train.policy import Policy, score_group, using_adapter
from memory_r1.train.runs import Run
from memory_r1.train.sharding import gathered, learned_weights
from memory_r1.train.vllm import Engine, engine_sampler, importance_BT, merged_weights
from memory_r1.types import KINDS

CRITIC = "critic.pt"
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
REPLY_TOKENS = 256  # what "dr_grpo" divides by; the prompts themselves say how long a reply may be


@dataclass(frozen=True, slots=True)
class Seat:
    """Who plays: the policy that learns, and an LLM in which it plays its step and frozen models the others."""

    policy: Policy
    roles: LLM


class GroupGRPOTrainer(Guarded, GRPOTrainer):  # type: ignore[misc]
    """GRPO over episodes. `on_rollouts` is told every step's groups, as (step, groups)."""

    _tag_names = ("trl", "grpo", "memory-r1")

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: Task,
        seat: Seat,
        config: TrainConfig,
        folder: Path,
        *,
        on_rollouts: Callable[[int, Sequence[Group]], None] = lambda _step, _groups: None,
        callbacks: Sequence[Any] = (),
        use_cpu: bool | None = None,
    ) -> None:
        self.config, self.task, self.seat, self.on_rollouts = config, task, seat, on_rollouts
        args = trl_config(config, folder, use_cpu)
        super().__init__(
            model=model,
            reward_funcs=_given_by_the_episode,
            args=args,
            train_dataset=Dataset.from_dict({"sample": order(len(task), config.steps * config.groups, config.seed)}),
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        self.kl_in_reward = 0.0
        self.engine: Engine | None = None
        if self.use_vllm:
            engine = self.vllm_generation
            if config.lora.rank and not self.is_fsdp_enabled:  # TRL's own rounds the weights that it merges and parts
                engine._iter_named_params = lambda: merged_weights(engine.model)
            self.use_engine(engine)
        self._micro_batches: list[dict[str, Any]] = []
        self._passes = 0  # how often the model is gone through for a micro-batch at least: see _most
        self._chance = random.Random()  # seeded anew for every step
        if config.kl_in == "reward":  # beta made TRL keep the reference; its loss then leaves it out
            self.kl_in_reward, self.beta = config.kl, 0.0

    def use_engine(self, engine: Engine) -> None:
        """Have the policy's replies sampled by another engine, which is given the weights before every rollout."""
        self.engine = engine
        self.seat.policy.sampler = engine_sampler(engine, self.seat.policy.end_ids)

    # -- episodes -------------------------------------------------------------------------------------------------

    def _prepare_inputs(self, batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The next micro-batch: one group. Episodes are played when those of the last time have been learned from."""
        if not self._micro_batches or self._step % (self.args.steps_per_generation * self.num_iterations) == 0:
            self._micro_batches = self._play([row["sample"] for row in batch[:: self.num_generations]])
        turn: int = self._step % self.args.steps_per_generation
        return self._micro_batches[turn]

    def _play(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Micro-batches, a group each, of episodes of the samples that lie at these places."""
        if self.engine is not None:
            self.engine.sync_weights()
        began, step, resampled = time.perf_counter(), self.state.global_step, 0
        place_in_run = (self.config.seed, step, self.accelerator.process_index)
        self.seat.policy.seed(*place_in_run)  # so that a run that goes on from a checkpoint samples what it would have
        self._chance = random.Random(repr(place_in_run))
        with gathered(self.model):
            groups = self._groups(places)
            for _ in range(self.config.resample):
                alike = [number for number, group in enumerate(groups) if not group.varied]
                others = self._groups([self._chance.randrange(len(self.task)) for _ in alike]) if alike else []
                for number, group in zip(alike, others, strict=True):
                    groups[number] = group
                resampled += len(alike)
            batches = [self._rows(group) for group in groups]
        self._refer(batches)
        if self.kl_in_reward:  # TRL notes it where it is in its loss
            self._note({"kl": divergence(batches)})
        self._advantages(groups, batches)
        tokens = torch.tensor(sum(float(one["completion_mask"].sum()) for one in batches), device=self.args.device)
        tokens = self.accelerator.reduce(tokens, "sum")
        for one in batches:
            one["num_items_in_batch"] = tokens
        self._align(batches)
        self._note({**self._measures(groups), "resampled": resampled, "seconds/rollouts": time.perf_counter() - began})
        if self.accelerator.is_main_process:
            self.on_rollouts(step, groups)
        return batches

    def _align(self, batches: Sequence[dict[str, Any]]) -> None:
        """Mark the micro-batches that teach something.

        Several processes take part in each together, or in none, with equally many rows: TRL gathers measures by row.
        Rows that are added show no token.
        """
        facts = [(len(one["episode"]), int((one["advantages"] != 0).any())) for one in batches]
        most = self.accelerator.gather(torch.tensor([facts], device=self.args.device)).amax(dim=0).tolist()
        for one, (rows, active) in zip(batches, most, strict=True):
            one["active"] = bool(active)
            one.setdefault("rows", len(one["episode"]))
            missing = rows - len(one["episode"])
            if active and missing:
                one |= {
                    name: torch.cat([value, value.new_zeros(missing, *value.shape[1:])])
                    for name, value in one.items()
                    if isinstance(value, Tensor) and value.dim()
                }

    def _groups(self, places: Sequence[int]) -> list[Group]:
        """A group for each of these samples, all episodes in lockstep."""
        G = self.num_generations
        makers = [self.task.maker(place) for place in places]
        rollouts = played([make() for make in makers for _ in range(G)], self.seat.roles, self.task.step)
        return [Group(self.task.name(place), rollouts[n * G : (n + 1) * G]) for n, place in enumerate(places)]

    def _rows(self, group: Group) -> dict[str, Any]:
        """A group's exchanges as TRL has them: prompts padded on the left, replies on the right."""
        rows = [(exchange.reply, g) for g, exchange in group.exchanges]
        prompt_ids, prompt_mask = _padded([reply.prompt_ids or () for reply, _ in rows], left=True)
        completion_ids, completion_mask = _padded([reply.token_ids or () for reply, _ in rows])
        logprobs, _ = _padded([reply.logprobs or () for reply, _ in rows], dtype=torch.float32)
        batch: dict[str, Any] = {
            "prompt_ids": prompt_ids,
            "prompt_mask": prompt_mask,
            "completion_ids": completion_ids,
            "completion_mask": completion_mask,
            "old_per_token_logps": logprobs,
            "episode": torch.tensor([g for _, g in rows], dtype=torch.long),
        }
        batch = {name: tensor.to(self.args.device) for name, tensor in batch.items()}
        sampled = batch["old_per_token_logps"]
        if self.engine is not None:
            if rows:
                batch["old_per_token_logps"] = self._score(self.model, batch)[0]
            most = self.vllm_importance_sampling_clip_max
            batch["importance_sampling_ratio"] = importance_BT(batch["old_per_token_logps"], sampled, most)
        return batch

    def _refer(self, batches: Sequence[dict[str, Any]]) -> None:
        """Add log-probabilities under the policy that training began with: TRL's copy, or the model without adapter."""
        if not self.beta and not self.kl_in_reward:
            return
        model = self.ref_model if self.ref_model is not None else self.accelerator.unwrap_model(self.model)
        adapter = "ref" if "ref" in getattr(model, "peft_config", {}) else ""
        with gathered(model), using_adapter(model, adapter):
            for batch in batches:  # those without rows, too: another process may have some in this micro-batch
                sampled = batch["old_per_token_logps"]
                batch["ref_per_token_logps"] = (
                    self._score(model, batch)[0] if len(sampled) else torch.zeros_like(sampled)
                )

    def _score(self, model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        keep = batch["completion_ids"].shape[1]
        logps, entropies, _ = self._get_per_token_logps_and_entropies(model, ids, mask, keep, compute_entropy=True)
        return logps, entropies

    def _advantages(self, groups: Sequence[Group], batches: Sequence[dict[str, Any]]) -> None:
        """Each exchange has the advantage of its episode, 0 where a group's rewards are all the same."""
        for group, batch in zip(groups, batches, strict=True):
            rewards_BG = torch.tensor([group.rewards], device=self.args.device)
            if self.kl_in_reward and len(batch["episode"]):
                kl_B = ((batch["old_per_token_logps"] - batch["ref_per_token_logps"]) * batch["completion_mask"]).sum(1)
                rewards_BG = rewards_BG.index_add(1, batch["episode"], -self.kl_in_reward * kl_B[None])
            advantages_BG, _ = grpo_advantages_BG(rewards_BG, scale=self.config.scale)
            # Scaled, the divergence alone would weigh as much as rewards that differ.
            batch["advantages"] = advantages_BG[0][batch["episode"]] * group.varied

    # -- the update -----------------------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """As TRL's, but rows that share a prompt are scored against one encoding of it."""
        del batch_size
        device = input_ids.device
        input_ids, attention_mask = (
            input_ids.cpu(),
            attention_mask.cpu(),
        )  # at once: a GPU is waited for twice, not by row
        prompts = [_shown(row, mask) for row, mask in _rows_of(input_ids, attention_mask, slice(-logits_to_keep))]
        replies = [_shown(row, m) for row, m in _rows_of(input_ids, attention_mask, slice(-logits_to_keep, None))]
        alike = _alike(prompts, replies)
        nothing_T = torch.zeros(logits_to_keep, device=device)
        logp_BT, entropy_BT = [nothing_T] * len(prompts), [nothing_T] * len(prompts)
        for prompt_ids, places in alike.items():
            with self.accelerator.autocast():
                scored = score_group(
                    model,
                    prompt_ids,
                    [replies[place] for place in places],
                    temperature=self.temperature,
                    entropy_gradient=self._entropy_bonus_enabled,
                )
            for g, place in enumerate(places):
                width = logits_to_keep - scored.logp_GT.shape[1]
                logp_BT[place] = torch.nn.functional.pad(scored.logp_GT[g], (0, width))
                entropy_BT[place] = torch.nn.functional.pad(scored.entropy_GT[g], (0, width))
        logps = torch.stack(logp_BT)
        for _idle in range(self._passes - len(alike)):
            logps = logps + _nothing(model)
        return logps, torch.stack(entropy_BT) if compute_entropy else None, None

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """TRL's loss; for a group that teaches nothing a zero that no model stands behind."""
        if inputs["active"]:
            # "dapo" divides by the step's tokens, the others by the rows that they are given: by the group's own, here.
            share = 1.0 if self.loss_type == "dapo" else len(inputs["episode"]) / max(1, inputs["rows"])
            self._passes = _most(self.accelerator, inputs)
            loss = super()._compute_loss(model, inputs) * share
            self._passes = 0
            return loss
        if self.accelerator.num_processes == 1:
            return torch.zeros((), device=self.args.device, requires_grad=True)
        return _nothing(model)  # a step's last backward pass shares its gradients

    def _measures(self, groups: Sequence[Group]) -> dict[str, float]:
        return measures(groups)

    def _note(self, values: Mapping[str, float]) -> None:
        """Add to the step's log the mean of each value over all processes."""
        local = torch.tensor(list(values.values()), dtype=torch.float32, device=self.args.device)
        means = self.accelerator.gather(local[None]).nanmean(dim=0).tolist()
        for name, mean in zip(values, means, strict=True):
            self._metrics["train"][name].append(mean)


class WithCritic(GRPOTrainer):  # type: ignore[misc]
    """What makes a GRPO trainer one of PPO: advantages from a learned critic, whatever plays and scores the replies.

    The critic has an optimiser of its own, at a constant rate, and learns from the same micro-batches.
    """

    def __init__(self, *arguments: Any, critic: Critic, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for module in critic.modules():  # a dropped value would differ between rollout, update and resumed run
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if self.config.checkpointing:
            critic.backbone.gradient_checkpointing_enable({"use_reentrant": False})
            critic.train()  # without, no layer is computed again
        learned = [parameter for parameter in critic.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(learned, lr=self.config.critic_rate, weight_decay=0.0)
        self.critic, self.critic_optimiser = self.accelerator.prepare(critic.to(self.args.device), optimiser)
        self._micro: dict[str, Any] | None = None

    def _advantages(self, groups: Sequence[Group], batches: Sequence[dict[str, Any]]) -> None:
        """Token by token; an episode's reward comes at the end of each of its replies."""
        with gathered(self.critic):
            values = [self._values(batch) for batch in batches]
        for group, batch, values_BT in zip(groups, batches, values, strict=True):
            mask_BT, episode_B = batch["completion_mask"], batch["episode"]
            rewards_BT = torch.zeros_like(values_BT)
            if len(episode_B):
                if self.kl_in_reward:
                    drift_BT = batch["old_per_token_logps"] - batch["ref_per_token_logps"]
                    rewards_BT -= self.kl_in_reward * drift_BT * mask_BT
                last_B = mask_BT.sum(dim=1).long() - 1
                rewards_G = torch.tensor(group.rewards, device=self.args.device)
                rewards_BT[torch.arange(len(episode_B)), last_B] += rewards_G[episode_B]
            advantages_BT, returns_BT = gae_BT(
                rewards_BT, values_BT, mask_BT, gamma=self.config.gamma, lam=self.config.lam
            )
            batch |= {"advantages": advantages_BT, "old_values": values_BT, "returns": returns_BT}
        self._note(critic_measures(batches))
        self._whiten(batches)
        if self.state.global_step < self.config.critic_warmup:
            for batch in batches:
                batch["advantages"] = torch.zeros_like(batch["advantages"])

    def _whiten(self, batches: Sequence[dict[str, Any]]) -> None:
        """Mean 0, deviation 1 over all tokens of the step, on all processes; 0 where rounding is all that differs."""
        sums = torch.zeros(2, device=self.args.device)
        for batch in batches:
            sums += torch.stack([batch["completion_mask"].sum(), batch["advantages"].sum()])
        count, total = self.accelerator.reduce(sums, "sum")
        mean, squares = total / count.clamp(min=1), torch.zeros((), device=self.args.device)
        for batch in batches:
            batch["advantages"] = (batch["advantages"] - mean) * batch["completion_mask"]
            squares += (batch["advantages"] ** 2).sum()
        variance = self.accelerator.reduce(squares, "sum") / count.clamp(min=1)
        differ = variance > 1e-6 * mean**2 + 1e-12
        scale = torch.where(differ, torch.rsqrt(variance.clamp(min=1e-8)), torch.zeros_like(variance))
        for batch in batches:
            batch["advantages"] = batch["advantages"] * scale

    def _values(self, batch: Mapping[str, Tensor], passes: int = 0) -> Tensor:
        """The critic's value before each token of each reply, (B, T), in at least so many passes."""
        values_BT = torch.zeros(batch["completion_ids"].shape, device=self.args.device)
        prompts, replies = _texts(batch)
        alike = _alike(prompts, replies)
        rows = list(values_BT)
        for prompt_ids, places in alike.items():
            with self.accelerator.autocast():
                values_GT = group_values(self.critic, prompt_ids, [replies[place] for place in places])
            for g, place in enumerate(places):
                rows[place] = torch.nn.functional.pad(values_GT[g], (0, values_BT.shape[1] - values_GT.shape[1]))
        values_BT = torch.stack(rows) if rows else values_BT
        for _idle in range(passes - len(alike)):
            values_BT = values_BT + group_values(self.critic, [0], [[0]]).sum() * 0
        return values_BT

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._micro = inputs
        return super()._compute_loss(model, inputs)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        batch, self._micro = self._micro, None
        assert batch is not None
        values_BT = self._values(batch, _most(self.accelerator, batch))
        if batch["completion_mask"].any():
            value_loss = clipped_value_loss(
                values_BT,
                batch["old_values"],
                batch["returns"],
                batch["completion_mask"],
                clip=self.config.value_clip,
            )
            self._metrics["train"]["critic/loss"].append(value_loss.item())
        else:
            value_loss = values_BT.sum()
        if not torch.isfinite(value_loss):
            raise self._critic_diverged("the critic's loss")
        self.accelerator.backward(value_loss / self.current_gradient_accumulation_steps)
        if self.accelerator.sync_gradients:
            norm = self.accelerator.clip_grad_norm_(self.critic.parameters(), self.args.max_grad_norm)
            if not torch.isfinite(norm):
                raise self._critic_diverged("a gradient of the critic")
        self.critic_optimiser.step()  # Accelerate's: does nothing until the last micro-batch of a step
        self.critic_optimiser.zero_grad()
        return loss

    def _critic_diverged(self, what: str) -> Diverged:
        step, run = self.state.global_step + 1, Run(Path(self.args.output_dir).parent)
        return Diverged(f"{what} is no number in step {step}: {run.begun_anew('critic_rate')}, and its critic anew")

    def _save_more(self, path: Path) -> None:
        critic = self.accelerator.unwrap_model(self.critic)
        state = {
            "critic": learned_weights(critic),
            "optimiser": get_optimizer_state_dict(critic, self.critic_optimiser.optimizer, options=WHOLE),
        }
        if self.args.should_save:
            torch.save(state, path / CRITIC)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            state = torch.load(Path(checkpoint) / CRITIC, map_location="cpu", weights_only=True)
            critic = self.accelerator.unwrap_model(self.critic)
            set_model_state_dict(critic, state["critic"], options=replace(WHOLE, strict=False))
            set_optimizer_state_dict(critic, self.critic_optimiser.optimizer, state["optimiser"], options=WHOLE)


class PPOTrainer(WithCritic, GroupGRPOTrainer):
    """PPO: the same episodes, rewards and policy loss as GroupGRPOTrainer's."""

    _tag_names = ("trl", "ppo", "memory-r1")


def trl_config(config: TrainConfig, folder: Path, use_cpu: bool | None = None, **others: Any) -> GRPOConfig:
    """TRL's settings: a micro-batch is one group, a step `groups` of them over all processes. `others` replace some."""
    settings = shared_settings(config, folder, use_cpu) | {
        "num_generations": config.group_size,
        "num_iterations": config.epochs,
        "temperature": config.temperature,
        "epsilon": config.clip,
        "beta": config.kl,
        "loss_type": config.loss,
        "scale_rewards": "group" if config.scale else "none",
        "max_completion_length": REPLY_TOKENS,
        "disable_dropout": True,
        "shuffle_dataset": False,
        "use_vllm": config.vllm,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": config.vllm_memory,
        "vllm_max_model_length": config.context,
        "vllm_importance_sampling_mode": "token_truncate",
    }
    return GRPOConfig(**(settings | others))


def measures(groups: Sequence[Group]) -> dict[str, float]:
    """What a step's episodes were like: the same names each time, whatever happened."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    rewards = torch.tensor([rollout.reward.total for rollout in rollouts])
    replies = [one.reply for rollout in rollouts for one in rollout.exchanges]
    readable = [flag for rollout in rollouts for flag in rollout.reward.readable]
    operations = [kind for rollout in rollouts for kind in rollout.reward.operations]
    alike = sum(len(set(group.rewards)) == 1 for group in groups)

    def share(count: int, of: Sequence[Any]) -> float:
        return count / len(of) if of else float("nan")

    return {
        "reward": rewards.mean().item(),
        "reward_std": rewards.std().item(),
        **{
            f"reward/{name}": sum(rollout.reward.parts.get(name, 0.0) for rollout in rollouts) / len(rollouts)
            for name in ("metric", "before", "unreadable", "growth", "support")
        },
        "groups/without_variance": alike,
        "groups/without_reply": sum(not group.exchanges for group in groups),
        "replies/valid": share(sum(readable), readable),
        "replies/tokens": share(sum(reply.completion_tokens for reply in replies), replies),
        "replies/cut_off": share(sum(reply.stop == "length" for reply in replies), replies),
        "prompt/tokens": share(sum(reply.prompt_tokens for reply in replies), replies),
        **{f"operations/{kind}": share(operations.count(kind), operations) for kind in KINDS},
    }


def divergence(batches: Sequence[Mapping[str, Tensor]]) -> float:
    """From the reference, the mean over all tokens of the step, estimated as TRL does."""
    kl_N = [
        kl_k3_BT(one["old_per_token_logps"], one["ref_per_token_logps"])[one["completion_mask"].bool()]
        for one in batches
    ]
    return float(torch.cat(kl_N).mean())


def critic_measures(batches: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """How much of the returns the critic explains, over all tokens of the step."""
    flat = [
        torch.cat([batch[name][batch["completion_mask"].bool()] for batch in batches])[None]
        for name in ("old_values", "returns")
    ]
    values_1N, returns_1N = flat
    return {
        "critic/explained_variance": explained_variance(values_1N, returns_1N, torch.ones_like(values_1N)),
        "critic/value": values_1N.mean().item(),
    }


def _given_by_the_episode(**_: Any) -> list[float]:
    raise AssertionError("TRL asks for a reward function; the reward is an episode's result")


def _nothing(model: Any) -> Tensor:
    """A zero for which the model was gone through once, as other processes wait for."""
    return score_group(model, [0], [[0]]).logp_GT.sum() * 0


def _most(accelerator: Any, batch: Mapping[str, Tensor]) -> int:
    """How often the process with the most prompts goes through a model for this micro-batch; at least once.

    The others do as often: the weights of a model that is shared out are gathered from all, and gradients by all.
    """
    if accelerator.num_processes == 1:
        return 1
    passes = max(1, len(_alike(*_texts(batch))))
    return int(accelerator.gather(torch.tensor([passes], device=accelerator.device)).max())


def _texts(batch: Mapping[str, Tensor]) -> tuple[list[list[int]], list[list[int]]]:
    """The prompt and the reply of each row, without padding."""
    prompts, replies = (
        [_shown(*row) for row in zip(batch[f"{name}_ids"].cpu(), batch[f"{name}_mask"].cpu(), strict=True)]
        for name in ("prompt", "completion")
    )
    return prompts, replies


def _alike(prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]]) -> dict[tuple[int, ...], list[int]]:
    """The places of the replies to each prompt, without those that say nothing."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        if reply:
            places.setdefault(tuple(prompt), []).append(place)
    return places


def _padded(
    rows: Sequence[Sequence[float]], *, left: bool = False, dtype: torch.dtype = torch.long
) -> tuple[Tensor, Tensor]:
    """(values, mask), both (B, longest), padded with 0."""
    width = max(map(len, rows), default=0)
    values = torch.zeros(len(rows), width, dtype=dtype)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        values[place, where] = torch.tensor(list(row), dtype=dtype)
        mask[place, where] = 1
    return values, mask


def _rows_of(ids: Tensor, mask: Tensor, columns: slice) -> list[tuple[Tensor, Tensor]]:
    return list(zip(ids[:, columns], mask[:, columns], strict=True))


def _shown(ids: Tensor, mask: Tensor) -> list[int]:
    return ids[mask.bool()].tolist()  # type: ignore[no-any-return]
