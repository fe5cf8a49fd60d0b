"""Settings that would change nothing in a run, and so were meant otherwise than they are."""

from __future__ import annotations

from collections.abc import Sequence

from memory_r1.errors import InvalidInput
from memory_r1.train.config import Agent, TrainConfig


def refuse_unused(
    config: TrainConfig, data: str, agents: Sequence[Agent], *, teacher: bool, window: bool, split: str
) -> None:
    """Raises InvalidInput for what was given and does nothing to any of these agents, which share the settings."""
    kind, reward = data.partition(":")[0], config.reward
    sft, rl, manager, answer = config.algo == "sft", config.algo != "sft", "manager" in agents, "answer" in agents
    dialogues = kind not in ("jsonl", "bank") and (rl or teacher)  # from which samples are made
    table = (  # name, whether it was given, whether it does something here, for what it is
        ("reward.support", reward.support != 0, rl and answer, "the Answer Agent's grpo and ppo"),
        ("reward.size", reward.size != 0, rl and manager, "the manager's grpo and ppo"),
        ("reward.increment", reward.increment, rl and manager, "the manager's grpo and ppo"),
        ("epochs", config.epochs != 1, rl, "grpo and ppo"),
        ("balance", config.balance, sft and manager, "cloning the manager (algo=sft)"),
        ("replay", config.replay == "policy", rl and manager, "the manager's grpo and ppo"),
        ("logo.turns", config.logo.turns != 0, manager and (rl or teacher), "the manager's grpo"),
        ("--window", window, manager and dialogues, "the manager's samples of dialogues"),
        ("--split", split != "train", dialogues and kind != "synthetic", "data sets that a --teacher reads"),
        ("--teacher", teacher, kind != "bank" and (sft or kind != "jsonl"), "dialogues, or samples that sft clones"),
    )
    if idle := [f"{name} is for {what}" for name, given, does, what in table if given and not does]:
        raise InvalidInput(f"{', and '.join(idle)}: nothing here would change by it, so leave it out")
