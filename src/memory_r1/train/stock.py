"""TRL's own GRPO, and PPO on TRL's rollouts and scoring: what the shared prefix is measured against.

Each reply is generated and scored with a copy of the prompt of its own, in micro-batches of `rows` replies. PPO's
advantages, losses and critic are those of `PPOTrainer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from memory_r1.train.checkpoints import order
from memory_r1.train.config import TrainConfig
from memory_r1.train.episodes import Group, Rollout
from memory_r1.train.rewards import Reward
from memory_r1.train.trainer import WithCritic, trl_config
from memory_r1.types import Prompt


class StockGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer as it is, on the prompts, the order and the settings that GroupGRPOTrainer would take.

    Every reply has `reply_tokens` tokens and is worth what `worth` says of them.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[Prompt],
        worth: Callable[[Sequence[int]], float],
        config: TrainConfig,
        folder: Path,
        *,
        rows: int,
        reply_tokens: int,
    ) -> None:
        def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
            return [worth(ids) for ids in completion_ids]

        self.config, self.kl_in_reward = config, 0.0
        chosen = order(len(prompts), config.steps * config.groups, config.seed)
        messages = [[{"role": m.role, "content": m.content} for m in prompts[place].messages] for place in chosen]
        super().__init__(
            model=model,
            reward_funcs=reward,
            args=stock_config(config, folder, rows, reply_tokens),
            train_dataset=Dataset.from_dict({"prompt": messages}),
            processing_class=tokenizer,
        )


class StockPPOTrainer(WithCritic, StockGRPOTrainer):
    """The same PPO, with nothing shared between the replies of a group."""

    def _calculate_rewards(self, *arguments: Any) -> Tensor:
        self._rewards: Tensor = super()._calculate_rewards(*arguments)
        return self._rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        batch["episode"] = torch.arange(len(batch["completion_ids"]), device=self.args.device)
        self._advantages([Group("", [Rollout(Reward(one, {})) for one in self._rewards[:, 0].tolist()])], [batch])
        return batch

    def _values(self, batch: Mapping[str, Tensor], passes: int = 0) -> Tensor:
        del passes  # of one process
        critic, rows = self.accelerator.unwrap_model(self.critic), self.args.per_device_train_batch_size
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        T = batch["completion_ids"].shape[1]
        parts = []
        for some_ids, some_mask in zip(ids.split(rows), mask.split(rows), strict=True):
            with self.accelerator.autocast():
                hidden = critic.backbone(input_ids=some_ids, attention_mask=some_mask, use_cache=False)[0]
                parts.append(critic.head(hidden[:, -T - 1 : -1].to(critic.head.weight.dtype))[..., 0].float())
        return torch.cat(parts) * batch["completion_mask"]

    def _note(self, values: Mapping[str, float]) -> None:
        """Stock TRL logs nothing of the critic."""


def stock_config(config: TrainConfig, folder: Path, rows: int, reply_tokens: int) -> GRPOConfig:
    """What `trl_config` gives, but for the size of a micro-batch and the length of replies."""
    return trl_config(
        config,
        folder,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=config.groups * config.group_size // rows,
        max_completion_length=reply_tokens,
        generation_kwargs={"min_new_tokens": reply_tokens},
    )
