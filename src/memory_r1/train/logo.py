"""LoGo-GRPO on the group trainer: rollouts of whole segments and alternatives from snapshots, in one loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from memory_r1.train.credit import logo_advantages, shared_N
from memory_r1.train.episodes import Group
from memory_r1.train.segments import SegmentTask
from memory_r1.train.trainer import GroupGRPOTrainer


class LoGoTrainer(GroupGRPOTrainer):
    """GRPO over the groups of a SegmentTask. A micro-batch is one of them, with its local groups.

    Its replies answer many prompts, so that it is learned from in passes of `logo.rows` replies, whose gradients add up
    to the micro-batch's.
    """

    _tag_names = ("trl", "logo-grpo", "memory-r1")
    task: SegmentTask

    def _groups(self, places: Sequence[int]) -> list[Group]:
        return [self.task.play(place, self.num_generations, self.seat.roles, self._chance) for place in places]

    def _advantages(self, groups: Sequence[Group], batches: Sequence[dict[str, Any]]) -> None:
        """Each reply has its rollout's advantage, or that of the alternative that it is."""
        for group, batch in zip(groups, batches, strict=True):
            rewards_E = torch.tensor([one.reward.total for one in group.episodes], device=self.args.device)
            if self.kl_in_reward and len(batch["episode"]):
                kl_N = ((batch["old_per_token_logps"] - batch["ref_per_token_logps"]) * batch["completion_mask"]).sum(1)
                rewards_E = rewards_E.index_add(0, batch["episode"], -self.kl_in_reward * kl_N)
            G, L, settings = len(group.rollouts), len(group.local), self.config.logo
            credit = logo_advantages(
                rewards_E[:G],
                rewards_E[G:].view(L, settings.alternatives),
                global_weight=settings.global_weight,
                local_weight=settings.local_weight,
                scale=self.config.scale,
            )
            varied_E = [len(set(group.rewards)) > 1] * G + [one.varied for one in group.local for _ in one.rollouts]
            teaching_E = torch.tensor(varied_E, device=self.args.device)
            batch["advantages"] = shared_N(credit.all_E * teaching_E, batch["episode"])

    def _align(self, batches: Sequence[dict[str, Any]]) -> None:
        """Leave out replies without an advantage, and put those to the same prompt side by side."""
        for batch in batches:
            batch["rows"] = len(batch["episode"])
            prompts: dict[tuple[int, ...], int] = {}
            for row in batch["prompt_ids"].tolist():
                prompts.setdefault(tuple(row), len(prompts))
            order = [prompts[tuple(row)] for row in batch["prompt_ids"].tolist()]
            teaching = (batch["advantages"] != 0).tolist()
            kept = sorted((place for place, teaches in enumerate(teaching) if teaches), key=order.__getitem__)
            batch |= _rows(batch, torch.tensor(kept, dtype=torch.long, device=self.args.device))
        super()._align(batches)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """TRL's loss, a pass at a time; all but the last are propagated back here."""
        if not inputs["active"]:
            return super()._compute_loss(model, inputs)
        before = torch.zeros((), device=self.args.device)
        passes = list(_passes(inputs, self.config.logo.rows))
        for number, part in enumerate(passes, 1):
            loss = super()._compute_loss(model, part)
            if number < len(passes):
                self.accelerator.backward(loss)
                before += loss.detach()
        return loss + before

    def _measures(self, groups: Sequence[Group]) -> dict[str, float]:
        local = [one for group in groups for one in group.local]
        rewards = [reward for one in local for reward in one.rewards]
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        return {
            **super()._measures(groups),
            "rollouts/decisions": sum(len(one.exchanges) for one in rollouts) / len(rollouts),
            "local/groups": float(len(local)),
            "local/without_variance": float(sum(not one.varied for one in local)),
            "local/reward": sum(rewards) / len(rewards) if rewards else float("nan"),
        }


def _passes(batch: Mapping[str, Any], rows: int) -> Iterator[dict[str, Any]]:
    """The batch in slices of so many rows: equally many on every process, since the rows are."""
    places = torch.arange(len(batch["episode"]), device=batch["episode"].device)
    for some in places.split(rows):
        yield _rows(batch, some)


def _rows(batch: Mapping[str, Any], places: Tensor) -> dict[str, Any]:
    """The batch with these rows alone; what is no row stays."""
    return {
        name: value[places] if isinstance(value, Tensor) and value.dim() else value for name, value in batch.items()
    }
