"""A folder of runs as numbers: what the inspector draws."""

from __future__ import annotations

import json
from pathlib import Path

from memory_r1.train.config import TrainConfig
from memory_r1.train.runs import METRICS, Run
from memory_r1.train.shown import RunsFolder, thinned


def made(folder: Path, rewards: tuple[float, ...]) -> None:
    run = Run(folder)
    run.claim(TrainConfig(steps=10), {"data": "synthetic"})
    for step, reward in enumerate(rewards, 1):
        run.log(step, {"reward": reward, "kl": float("nan"), "operations/ADD": 0.5})


def test_a_run_is_shown_with_its_state_and_the_curves_it_has(tmp_path: Path) -> None:
    made(tmp_path / "one", (0.25, 0.75))
    (line,) = RunsFolder(tmp_path).lines()
    assert line.pop("date") is not None
    assert line == {
        "name": "one",
        "agent": "manager",
        "algo": "grpo",
        "model": "smollm2",
        "steps": 2,
        "planned": 10,
        "reward": 0.5,
        "problem": None,
    }
    curves = RunsFolder(tmp_path).curves("one")
    assert curves is not None
    assert curves["config"]["steps"] == 10
    assert curves["panels"] == [
        {"title": "reward", "series": [{"name": "reward", "points": [(1, 0.25), (2, 0.75)]}]},
        {"title": "operations", "series": [{"name": "operations/ADD", "points": [(1, 0.5), (2, 0.5)]}]},
    ]


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    made(tmp_path / "one", (0.25,))
    with (tmp_path / "one" / METRICS).open("a") as file:
        file.write('{"step": 2, "rew')
    assert [line["steps"] for line in RunsFolder(tmp_path).lines()] == [1]


def test_a_broken_run_says_so_and_hides_no_other(tmp_path: Path) -> None:
    made(tmp_path / "one", ())
    for name, text in (("torn", "{"), ("other", '["nothing"]')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    problems = {line["name"]: line["problem"] for line in RunsFolder(tmp_path).lines()}
    assert problems["one"] is None
    assert problems["torn"].startswith("config.json is not JSON")
    assert problems["other"] == "config.json holds no settings"


def test_only_what_lies_in_the_folder_is_a_run(tmp_path: Path) -> None:
    made(tmp_path / "runs" / "one", (0.5,))
    made(tmp_path / "secret", (0.5,))
    for name in ("..", "../secret", str(tmp_path / "secret"), "one/../../secret", "none", "*", ""):
        assert RunsFolder(tmp_path / "runs").curves(name) is None
    assert json.dumps(RunsFolder(tmp_path / "runs").curves("one")) is not None


def test_many_steps_are_thinned_to_means() -> None:
    points = [(float(step), float(step % 2)) for step in range(1, 10)]
    assert thinned(points, 9) == points
    assert thinned(points, 3) == [(2.0, 2 / 3), (5.0, 1 / 3), (8.0, 2 / 3)]
    assert thinned([], 3) == []
