"""A run's folder and a run's settings: what they hold, refuse, and show."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from disk import full_disk

from memory_r1.errors import CheckpointFailed, InvalidInput, ModelUnavailable
from memory_r1.files import read_json
from memory_r1.train.config import LoraSettings, TrainConfig, config_of, load_config
from memory_r1.train.episodes import Exchange, Rollout
from memory_r1.train.report import REPORTERS, reporters
from memory_r1.train.rewards import Reward, RewardConfig
from memory_r1.train.runs import COMPLETE, Run, compared, labels, transcript
from memory_r1.types import Message, Prompt, Reply

CONFIGS = Path(__file__).parents[2] / "configs"


def made(folder: Path, config: TrainConfig | None = None, rewards: tuple[float, ...] = ()) -> Run:
    run = Run(folder)
    run.claim(config or TrainConfig(), {"data": "synthetic"})
    for step, reward in enumerate(rewards, 1):
        run.log(step, {"reward": reward, "replies/valid": 0.5, "kl": float("nan"), "replies/tokens": 12.0})
    return run


def test_a_folder_remembers_its_settings(tmp_path: Path) -> None:
    config = load_config(None, ["reward.metric=f1", "lora.rank=4", "learning_rate=1"])
    assert made(tmp_path / "run", config).config == config
    assert config.reward == RewardConfig(metric="f1")
    assert (config.lora.rank, config.learning_rate) == (4, 1.0)


def test_a_run_may_be_made_longer_and_nothing_else(tmp_path: Path) -> None:
    made(tmp_path / "run", rewards=(0.5,))
    assert made(tmp_path / "run", TrainConfig(steps=500)).config.steps == 500
    with pytest.raises(InvalidInput, match="holds a run with another kl, seed; give another --out"):
        made(tmp_path / "run", TrainConfig(seed=1, kl=0.0))


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    run = made(tmp_path / "run", rewards=(0.5,))
    with pytest.raises(InvalidInput, match="holds a run made from another data; give another --out"):
        run.claim(TrainConfig(), {"data": "locomo:locomo10.json"})


def test_a_run_does_not_go_on_with_another_number_of_processes(tmp_path: Path) -> None:
    run, about = made(tmp_path / "run", rewards=(0.5,)), {"data": "synthetic"}
    run.claim(TrainConfig(), {**about, "processes": 2})  # it was begun when their number was not noted
    assert read_json(tmp_path / "run" / "config.json")["about"] == {**about, "processes": 2}
    with pytest.raises(InvalidInput) as raised:
        run.claim(TrainConfig(), {**about, "processes": 1})
    assert str(raised.value) == (
        f"{run.folder} holds a run by another number of processes (2), on which what it samples depends: "
        "start it with as many, or give another --out"
    )
    run.claim(TrainConfig(), {**about, "processes": 2})


def test_a_mistake_in_the_settings_does_not_take_the_folder(tmp_path: Path) -> None:
    Run(tmp_path / "run").claim(TrainConfig(model="smolm2"), {"data": "synthetic"})
    Run(tmp_path / "run").claim(TrainConfig(), {"data": "synthetic:9"})
    assert Run(tmp_path / "run").config == TrainConfig()
    assert read_json(tmp_path / "run" / "config.json")["about"] == {"data": "synthetic:9"}


def test_a_report_that_cannot_be_made_is_refused_with_the_remedy() -> None:
    reporters([])
    with pytest.raises(InvalidInput, match="no report to 'mlflow'; known: tensorboard, wandb"):
        reporters(["mlflow"])
    for name, packages in REPORTERS.items():
        if any(map(find_spec, packages)):
            reporters([name])
        else:
            with pytest.raises(ModelUnavailable, match=f"reporting to {name} .* pip install {name}"):
                reporters([name])


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…", encoding="utf-8")
    with pytest.raises(InvalidInput, match="not empty and holds no run"):
        made(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_came_after_the_last_whole_checkpoint_is_forgotten(tmp_path: Path) -> None:
    run = made(tmp_path / "run", rewards=(0.1, 0.2, 0.3))
    for step, whole in ((2, True), (10, False)):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if whole:
            (folder / "complete.json").write_text("{}", encoding="utf-8")
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "rew')  # killed while it wrote
    run.tell([{"step": 1, "reply": "a reply with \x85 and \u2028 in it"}])
    assert run.resume() == (run.checkpoints / "checkpoint-2", 2)
    assert [row["reward"] for row in run.metrics()] == [0.1, 0.2]
    assert "\x85 and \u2028" in (run.folder / "transcripts.jsonl").read_text(encoding="utf-8")


def test_of_two_checkpoints_the_later_counts_by_number_not_by_letters(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    for step in (9, 10):
        (run.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (run.checkpoints / f"checkpoint-{step}" / "complete.json").write_text("{}", encoding="utf-8")
    assert run.last_checkpoint() == run.checkpoints / "checkpoint-10"


def test_without_a_checkpoint_that_another_run_can_begin_from_it_begins_anew(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    said = "begin another run with --set kl=LOWER --out ANOTHER; this one keeps its kl"
    assert run.begun_anew("kl") == said
    (run.checkpoints / "checkpoint-2" / "pytorch_model_fsdp_0").mkdir(parents=True)  # weights that are shared out
    (run.checkpoints / "checkpoint-2" / COMPLETE).write_text("{}", encoding="utf-8")
    assert run.begun_anew("kl") == said


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    run = made(tmp_path / "run", rewards=(0.5,))
    assert run.metrics() == [{"step": 1, "reward": 0.5, "replies/valid": 0.5, "kl": None, "replies/tokens": 12.0}]


def test_going_on_takes_away_what_was_written_in_part_and_leaves_whole_logs_as_they_are(tmp_path: Path) -> None:
    run = made(tmp_path / "run", rewards=(0.5, 0.6, 0.7))
    for step, whole in ((2, True), (3, False)):
        (run.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        if whole:
            (run.checkpoints / f"checkpoint-{step}" / COMPLETE).write_text("{}")
    assert run.resume() == (run.checkpoints / "checkpoint-2", 2)
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-2"]
    assert [row["step"] for row in run.metrics()] == [1, 2]
    before = (run.folder / "metrics.jsonl").stat()
    with full_disk(10):
        assert run.resume() == (run.checkpoints / "checkpoint-2", 2)
    assert (run.folder / "metrics.jsonl").stat().st_mtime_ns == before.st_mtime_ns


def test_runs_side_by_side(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / "one", rewards=(0.0, 0.5, 1.0)),
        made(tmp_path / "two", replace(TrainConfig(), algo="ppo", agent="answer")),
    ]
    assert compared(runs, last=2).splitlines() == [
        "run    agent  algo  steps  reward  first  metric  valid  entropy  KL  tokens  flat",
        "---  -------  ----  -----  ------  -----  ------  -----  -------  --  ------  ----",
        "one  manager  grpo      3   0.750  0.250       -  0.500        -   -    12.0     -",
        "two   answer   ppo      0       -      -       -      -        -   -       -     -",
    ]


def test_runs_of_the_same_name_are_called_by_their_paths(tmp_path: Path) -> None:
    runs = [made(tmp_path / "one" / "manager-1"), made(tmp_path / "two" / "manager-1")]
    assert labels(runs) == [str(tmp_path / "one" / "manager-1"), str(tmp_path / "two" / "manager-1")]
    assert labels(runs[:1]) == ["manager-1"]


def test_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = made(tmp_path / "run", rewards=(0.1, 0.2)).plot()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    (run.folder / "metrics.jsonl").mkdir()
    with pytest.raises(CheckpointFailed, match=r"run cannot be written .*make room and run the same command"):
        run.log(1, {})


def test_a_transcript_shows_each_prompt_once_with_what_was_said() -> None:
    prompt = Prompt("manage", (Message("system", "rules"), Message("user", "a fact")))
    rollouts = [
        Rollout(Reward(worth, {}, ("ADD",), ("two",)), [Exchange(prompt, Reply(text))])
        for text, worth in (("x", 1.0), ("y", 0.0))
    ]
    assert transcript(3, "d1/1", rollouts) == {
        "step": 3,
        "sample": "d1/1",
        "asked": [
            {
                "prompt": "a fact",
                "replies": [
                    {"reply": "x", "reward": 1.0, "operations": ["ADD"], "answers": ["two"]},
                    {"reply": "y", "reward": 0.0, "operations": ["ADD"], "answers": ["two"]},
                ],
            }
        ],
    }


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr=1", r"there is no setting 'lr'; known: agent, algo, .*learning_rate"),
        ("reward.f1=1", r"there is no setting 'reward.f1'; known: format, increment, metric, size, support"),
        ("algo=dpo", "algo must be one of grpo, ppo, sft, not 'dpo'"),
        ("steps=many", "steps must be int, such as 100, not 'many'"),
        ("steps=0", "steps must be at least 1"),
        ("group_size=1", "group_size must be at least 2"),
        ("keep=1", "keep must be at least 2"),
        ("keep_turns=true", "keep_turns is of agent=answer"),
        ("distil=false", "distil is of agent=answer"),
        ("epochs=3", "save_every and steps must be multiples of epochs"),
        ("steps", "'steps' must be NAME=VALUE"),
        ("reward=1", "reward must be settings of its own"),
        ("temperature=0", "temperature must be above 0"),
        ("max_grad_norm=0", "max_grad_norm must be above 0"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(override: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_config(None, [override])


def test_settings_that_are_checked_against_each_other_come_in_any_order() -> None:
    first, second = load_config(None, ["epochs=4", "save_every=8"]), load_config(None, ["save_every=8", "epochs=4"])
    assert first == second
    assert load_config(None, ["keep_turns=true", "lora.rank=4", "lora.alpha=8"], agent="answer") == replace(
        TrainConfig(agent="answer", keep_turns=True), lora=LoraSettings(4, 8)
    )


def test_a_file_is_overridden_by_pairs_and_those_by_options(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('steps = 7\nseed = 3\n[lora]\ntargets = ["q_proj"]\n', encoding="utf-8")
    config = load_config(path, ["seed=4", "kl=0.5"], kl=None, groups=2)
    assert (config.steps, config.seed, config.kl, config.groups) == (7, 4, 0.5, 2)
    assert config.lora == LoraSettings(targets=("q_proj",))
    assert config_of(config.state) == config
    path.write_text("steps = ", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"run.toml is not TOML"):
        load_config(path)


OURS = "smollm2-"
PAPERS = sorted(path for path in CONFIGS.glob("*.toml") if not path.stem.startswith(OURS))


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_configs_that_come_with_memory_r1_can_be_read(path: Path) -> None:
    config: Any = load_config(path)
    assert config.groups * config.group_size == 128  # the paper's batch


def test_there_are_configs_for_the_papers_sizes() -> None:
    assert {path.stem.split("-")[-2] for path in PAPERS} == {"3b", "7b", "8b", "14b"}


def test_the_pairs_that_a_step_of_each_warm_start_reads() -> None:
    warm = [load_config(path) for path in sorted(CONFIGS.glob(f"{OURS}*-sft.toml"))]
    assert [(one.algo, one.groups * one.group_size) for one in warm] == [
        ("sft", 32),  # the answer agent's
        ("sft", 8),  # the same, to answer what it is not sure of
        ("sft", 16),  # on turns
        ("sft", 32),  # the extractor's
        ("sft", 16),  # on a GPU
        ("sft", 32),  # the manager's
    ]


def named(config: Any, inside: str = "") -> list[str]:
    """The settings as `--set` has them."""
    values = [(inside + one.name, getattr(config, one.name)) for one in fields(config)]
    return [name for one, value in values for name in (named(value, f"{one}.") if is_dataclass(value) else [one])]


def test_the_page_has_a_line_for_every_setting_and_for_no_other() -> None:
    page = (CONFIGS.parent / "docs" / "training.md").read_text(encoding="utf-8")
    table = page.partition("| setting | what it does |\n|---|---|\n")[2].partition("\n\n")[0]
    told = [name for line in table.splitlines() for name in re.findall("`(.+?)`", line.split("|")[1])]
    assert sorted(told) == sorted(named(TrainConfig()))


def test_there_is_a_config_for_segments() -> None:
    config = load_config(CONFIGS / "smollm2-logo.toml")
    assert config.segmented
    assert (config.replay, config.logo.turns) == ("policy", 16)
