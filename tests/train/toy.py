"""A task of one short prompt, whose reward a model of two layers can learn in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_models import byte_tokenizer, tiny_model

from memory_r1.flow import LLM, Flow
from memory_r1.train.config import TrainConfig, changed
from memory_r1.train.learn import learn, prepared
from memory_r1.train.rewards import Reward
from memory_r1.train.runs import Run
from memory_r1.types import Message, Prompt, Step

CONFIG = changed(
    TrainConfig(),
    {
        "model": "tiny", "steps": 4, "groups": 2, "group_size": 4, "learning_rate": 3e-2, "warmup": 0, "save_every": 2,
        "critic_rate": 1e-2, "lora": {"rank": 4},
    },
)  # fmt: skip


@dataclass
class Early:
    """Rewarded for characters of the first half of the alphabet (by token), in one reply or in `turns` of them.

    `uneven`: a later sample has more turns than the one before it; those of `silent` have none.
    """

    samples: int = 4
    turns: int = 1
    flat: tuple[int, ...] = ()  # samples whose reward is always the same
    uneven: bool = False
    silent: tuple[int, ...] = ()
    step: Step = "manage"

    def __len__(self) -> int:
        return self.samples

    def name(self, place: int) -> str:
        return f"early-{place}"

    def maker(self, place: int) -> Callable[[], Flow[Reward]]:
        def episode() -> Flow[Reward]:
            right = []
            for turn in range(0 if place in self.silent else self.turns + place * self.uneven):
                prompt = Prompt("manage", (Message("user", f"{place} {turn}"),), max_tokens=6)
                reply = yield prompt
                right += [token < 130 for token in reply.token_ids or ()]
            total = 0.5 if place in (*self.flat, *self.silent) else sum(right) / len(right)
            return Reward(total, {"metric": total}, ("ADD",), ("early",), (True,))

        return episode


def train(
    folder: Path,
    config: TrainConfig = CONFIG,
    task: Any = None,
    *,
    played: tuple[Any, Any] | None = None,
    frozen: Mapping[Step, LLM] | None = None,
    **options: Any,
) -> Run:
    """`played`: the base model and its tokenizer."""
    run = Run(folder)
    run.claim(config, {})
    base, tokenizer = played or (tiny_model(), byte_tokenizer())
    model, critic = prepared(base, config)
    task = Early() if task is None else task
    learn(config, run, model, tokenizer, task, frozen or {}, critic=critic, use_cpu=True, **options)
    return run
