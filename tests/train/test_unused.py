"""Settings that would change nothing are refused, and those that do something to one of two agents are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memory_r1.errors import InvalidInput
from memory_r1.train.config import TrainConfig, load_config
from memory_r1.train.unused import refuse_unused

CONFIGS = Path(__file__).parents[2] / "configs"


def refuse(config: TrainConfig, data: str = "synthetic", agents: Any = None, **given: Any) -> None:
    options = {"teacher": False, "window": False, "split": "train", **given}
    refuse_unused(config, data, agents or [config.agent], **options)


MANAGER, ANSWER = {"agent": "manager"}, {"agent": "answer"}
SFT = {**MANAGER, "algo": "sft"}


@pytest.mark.parametrize(
    ("setting", "unused", "used"),
    [
        ("reward.support=0.1", MANAGER, ANSWER),
        ("reward.size=0.1", ANSWER, MANAGER),
        ("reward.increment=true", ANSWER, MANAGER),
        ("epochs=2", SFT, MANAGER),
        ("balance=true", MANAGER, SFT),
        ("balance=true", {**ANSWER, "algo": "sft"}, SFT),
        ("replay=policy", ANSWER, MANAGER),
        ("logo.turns=8", ANSWER, MANAGER),
    ],
)
def test_a_setting_of_another_agent_or_algorithm_is_refused(setting: str, unused: Any, used: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"^{setting.partition('=')[0]} is for .*: nothing here would change by it"):
        refuse(load_config(None, [setting], **unused))
    refuse(load_config(None, [setting], **used))
    if unused in (MANAGER, ANSWER) and used in (MANAGER, ANSWER):
        refuse(load_config(None, [setting], **unused), agents=("manager", "answer"))


@pytest.mark.parametrize(
    ("data", "algo", "option", "used"),
    [
        ("synthetic", "grpo", {"window": True}, True),
        ("jsonl:samples.jsonl", "grpo", {"window": True}, False),
        ("synthetic", "sft", {"window": True}, False),
        ("synthetic", "sft", {"window": True, "teacher": True}, True),
        ("synthetic", "grpo", {"split": "validation"}, False),
        ("locomo:locomo10.json", "grpo", {"split": "validation"}, True),
        ("jsonl:samples.jsonl", "grpo", {"teacher": True}, False),
        ("jsonl:samples.jsonl", "sft", {"teacher": True}, True),
        ("bank:memory.db", "sft", {"teacher": True}, False),
    ],
)
def test_an_option_that_the_data_has_no_use_for_is_refused(data: str, algo: Any, option: Any, used: bool) -> None:
    config = TrainConfig(algo=algo)
    if used:
        refuse(config, data, **option)
        return
    with pytest.raises(InvalidInput, match=f"^--{next(iter(option))} is for "):
        refuse(config, data, **option)


def test_a_window_is_not_the_answer_agents() -> None:
    with pytest.raises(InvalidInput, match=r"^--window is for the manager's samples of dialogues"):
        refuse(TrainConfig(agent="answer"), window=True)


def test_what_is_of_no_use_is_named_together() -> None:
    with pytest.raises(InvalidInput) as raised:
        refuse(load_config(None, ["balance=true", "reward.support=0.1"]), split="validation")
    assert str(raised.value) == (
        "reward.support is for the Answer Agent's grpo and ppo, and balance is for cloning the manager (algo=sft), and "
        "--split is for data sets that a --teacher reads: nothing here would change by it, so leave it out"
    )


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_configs_that_come_with_memory_r1_hold_nothing_unused(path: Path) -> None:
    own = next((agent for agent in ("extractor", "answer") if f"-{agent}-" in path.stem), "manager")
    of_all = not any(agent in path.stem for agent in ("extractor", "answer", "manager", "logo"))
    for agent in ("manager", "answer") if of_all else (own,):
        config = load_config(path, agent=agent)
        for data in ("synthetic", "locomo:locomo10.json", "jsonl:samples.jsonl"):
            refuse(config, data, teacher=data.startswith("locomo"))
