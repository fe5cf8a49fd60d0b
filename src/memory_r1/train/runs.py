"""A run is a folder: what it is, what it learned, what was said, and where it can go on.

    config.json         the settings, and what made it
    samples.jsonl       what is learned from; of a teacher that is cloned also examples.jsonl, its replies
    metrics.jsonl       a line a step
    transcripts.jsonl   a line a group that was sampled: prompt, replies, rewards; to be read by people
    checkpoints/        whole ones have a `complete.json`
    adapter/            the result
    curves.png          reward, KL, entropy, … by step

Killed at any point, the same command goes on from the last whole checkpoint, to the same bits.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from memory_r1.bench.results import provenance, pyplot, table
from memory_r1.errors import CheckpointFailed, InvalidInput
from memory_r1.files import read_json
from memory_r1.train.config import TrainConfig, config_of

CONFIG, METRICS, TRANSCRIPTS = "config.json", "metrics.jsonl", "transcripts.jsonl"
CHECKPOINTS, ADAPTER, CURVES = "checkpoints", "adapter", "curves.png"
SMOOTHED = 5
COMPLETE = "complete.json"
PROCESSES = "processes"  # of `about`: how many train together
ADJUSTABLE = ("steps", "save_every", "keep", "report")  # what may be another when a run goes on

# The panels of curves.png, each with the metrics it shows.
PANELS: Mapping[str, Sequence[str]] = {
    "reward": ("reward", "reward/metric"),
    "alternatives": ("local/reward",),
    "KL": ("kl",),
    "entropy": ("entropy",),
    "reply tokens": ("replies/tokens",),
    "valid replies": ("replies/valid",),
    "operations": ("operations/ADD", "operations/UPDATE", "operations/DELETE", "operations/NOOP"),
    "explained variance": ("critic/explained_variance",),
    "groups without variance": ("groups/without_variance",),
    "loss": ("loss", "critic/loss"),
}


class Run:
    """A run's folder. `about` goes into config.json once: data, versions, whatever made it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints, self.adapter = folder / CHECKPOINTS, folder / ADAPTER

    def claim(self, config: TrainConfig, about: Mapping[str, Any]) -> None:
        """Make the folder this run's. Raises InvalidInput when it holds another that has got beyond its settings."""
        path = self.folder / CONFIG
        if self.begun:
            before = self.config
            same = replace(before, **{name: getattr(config, name) for name in ADJUSTABLE})
            if same != config:
                other = [name for name, value in config.state.items() if before.state[name] != value]
                different = ", ".join(name for name in other if name not in ADJUSTABLE)
                raise InvalidInput(f"{self.folder} holds a run with another {different}; give another --out")
            known = {PROCESSES: about.get(PROCESSES)} | read_json(path).get("about", {})  # older runs do not tell
            if (count := known[PROCESSES]) != about.get(PROCESSES):
                raise InvalidInput(
                    f"{self.folder} holds a run by another number of processes ({count}), on which what it samples "
                    "depends: start it with as many, or give another --out"
                )
            if other := [name for name, value in about.items() if known.get(name) != value]:
                raise InvalidInput(
                    f"{self.folder} holds a run made from another {', '.join(other)}; give another --out"
                )
            about = known
        elif self._beside_settings():
            raise InvalidInput(f"{self.folder} is not empty and holds no run; give another --out")
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"config": config.state, "about": dict(about), **provenance()}, indent=1)
            partial = path.with_name(CONFIG + ".partial")
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)

    @property
    def begun(self) -> bool:
        """Whether there is a run that has got beyond its settings."""
        return (self.folder / CONFIG).exists() and self._beside_settings()

    def _beside_settings(self) -> bool:
        return self.folder.exists() and any(one.name != CONFIG for one in self.folder.iterdir())

    @property
    def config(self) -> TrainConfig:
        return config_of(read_json(self.folder / CONFIG)["config"])

    def last_checkpoint(self) -> Path | None:
        """The newest that was written whole."""
        whole = [path.parent for path in self.checkpoints.glob(f"checkpoint-*/{COMPLETE}")]
        return max(whole, key=_step_of, default=None)

    def begun_anew(self, setting: str) -> str:
        """How to use a lower value of a setting with which this run began: from its last checkpoint, by another."""
        last = self.last_checkpoint()
        starts = {"adapter_config.json": f"--start {last} ", "config.json": f"--model {last} "}
        # A checkpoint whose weights are shared out among files has neither: from it only this run can go on.
        start = next((option for name, option in starts.items() if last is not None and (last / name).is_file()), "")
        return f"begin another run with {start}--set {setting}=LOWER --out ANOTHER; this one keeps its {setting}"

    def resume(self) -> tuple[Path | None, int]:
        """(the checkpoint to go on from, its step), after what came later was taken out of the logs."""
        checkpoint = self.last_checkpoint()
        step = _step_of(checkpoint) if checkpoint else 0
        for begun in self.checkpoints.glob("checkpoint-*"):
            if not (begun / COMPLETE).is_file():  # it would count as one of those to keep, in place of a whole one
                shutil.rmtree(begun, ignore_errors=True)
        for name in (METRICS, TRANSCRIPTS):
            path = self.folder / name
            if path.exists():
                kept = [line + "\n" for line in whole_lines(path) if int(json.loads(line)["step"]) <= step]
                self._replace(path, "".join(kept))
        return checkpoint, step

    def _replace(self, path: Path, text: str) -> None:
        """Whole or not at all, and by one process without harm to another that does the same."""
        if path.read_text(encoding="utf-8") == text:
            return
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with self._writing():
            try:
                partial.write_text(text, encoding="utf-8", newline="\n")
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        self._append(METRICS, [{"step": step, **_finite(metrics)}])

    def tell(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add transcripts, each with its "step"."""
        self._append(TRANSCRIPTS, rows)

    def metrics(self) -> list[dict[str, Any]]:
        path = self.folder / METRICS
        return [json.loads(line) for line in whole_lines(path)] if path.exists() else []

    def plot(self) -> Path:
        """Draw curves.png. Raises InvalidInput without matplotlib."""
        with self._writing():
            return plot({self.folder.name: self.metrics()}, self.folder / CURVES)

    def _append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with self._writing(), (self.folder / name).open("a", encoding="utf-8", newline="\n") as file:
            file.write(lines)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointFailed(
                f"{self.folder} cannot be written ({error.strerror or error}); make room and run the same command "
                "again: it goes on from the last checkpoint"
            ) from error


def adapter_of(folder: Path) -> Path:
    """A run's adapter, where the folder is a run's; else the folder, which is to hold one itself."""
    return folder / ADAPTER if (folder / CONFIG).is_file() and (folder / ADAPTER).is_dir() else folder


def base_of(adapter: Path) -> str | None:
    """The model that an adapter was trained from, by the settings of the run that it lies in; None outside of one."""
    whole = adapter.resolve()
    above = (whole, *whole.parents[:2])  # of a checkpoint there is a folder between
    told = (read_json(one / CONFIG) for one in above if (one / CONFIG).is_file())  # a whole model has such a file, too
    return next((one["config"]["model"] for one in told if "config" in one), None)


def whole_lines(path: Path) -> list[str]:
    """The lines of a run's log that were written to their end."""
    # Only "\n" ends a line here: replies hold every other character that splitlines takes for an end.
    return path.read_text(encoding="utf-8").split("\n")[:-1]  # behind the last is what was cut off


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what was not measured is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in metrics.items()
    }


def transcript(step: int, sample: str, rollouts: Sequence[Any]) -> dict[str, Any]:
    """A group as people read it: each prompt once, under it what was said and what it was worth."""
    prompts: dict[str, list[dict[str, Any]]] = {}
    for rollout in rollouts:
        reward = rollout.reward
        for prompt, reply in rollout.exchanges:
            prompts.setdefault(prompt.messages[-1].content, []).append(
                {
                    "reply": reply.text,
                    "reward": round(reward.total, 4),
                    "operations": list(reward.operations),
                    "answers": list(reward.answers),
                }
            )
    asked = [{"prompt": prompt, "replies": replies} for prompt, replies in prompts.items()]
    return {"step": step, "sample": sample, "asked": asked}


def plot(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> Path:
    """Metrics by step, a panel each; several runs in the same panels, each in its colour.

    What was measured is drawn thin, its mean over the last SMOOTHED steps thick.
    """
    panels = {
        title: drawn
        for title, names in PANELS.items()
        if (drawn := [name for name in names if any(_points(rows, name) for rows in runs.values())])
    }
    plt = pyplot()
    down = -(-max(1, len(panels)) // 3)
    figure, axes = plt.subplots(down, 3, figsize=(13, 3 * down), squeeze=False, layout="constrained")
    styles = ("-", "--", ":", "-.")
    for axis, (title, names) in zip(axes.flat, panels.items(), strict=False):
        for style, name in zip(styles, names, strict=False):
            for number, rows in enumerate(runs.values()):
                if points := _points(rows, name):
                    steps, values = zip(*points, strict=True)
                    axis.plot(steps, values, style, color=f"C{number}", linewidth=0.6, alpha=0.35)
                    axis.plot(steps, _smoothed(values), style, color=f"C{number}", linewidth=1.6)
            if len(names) > 1:
                axis.plot([], [], style, color="grey", label=name)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend(fontsize=7)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    colours = [plt.Line2D([], [], color=f"C{number}") for number in range(len(runs))]
    figure.legend(colours, list(runs), loc="outside lower center", ncols=6, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _points(rows: Iterable[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """(step, value) where it was measured; none of a metric that is the whole reward."""
    if name == "reward/metric" and all(
        math.isclose(row[name], row["reward"], abs_tol=1e-6) for row in rows if name in row
    ):
        return []
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def _smoothed(values: Sequence[float]) -> list[float]:
    windows = (values[max(0, end - SMOOTHED) : end] for end in range(1, len(values) + 1))
    return [sum(window) / len(window) for window in windows]


def labels(runs: Sequence[Run]) -> list[str]:
    """What each is called: its folder's name, or the whole path where two would be called the same."""
    names = [run.folder.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def compared(runs: Sequence[Run], last: int = 10) -> str:
    """Runs side by side: each measure's mean over the last steps."""
    head = ("run", "agent", "algo", "steps", "reward", "first", "metric", "valid", "entropy", "KL", "tokens", "flat")
    rows = []
    for named, run in zip(labels(runs), runs, strict=True):
        config, metrics = run.config, run.metrics()
        tail = metrics[-last:]
        rows.append(
            (
                named,
                config.agent,
                config.algo,
                str(metrics[-1]["step"] if metrics else 0),
                _mean(tail, "reward"),
                _mean(metrics[:last], "reward"),
                _mean(tail, "reward/metric"),
                _mean(tail, "replies/valid"),
                _mean(tail, "entropy"),
                _mean(tail, "kl"),
                _mean(tail, "replies/tokens", ".1f"),
                _mean(tail, "groups/without_variance", ".1f"),
            )
        )
    return table(head, rows)


def _mean(rows: Sequence[Mapping[str, Any]], name: str, form: str = ".3f") -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return format(sum(values) / len(values), form) if values else "-"


Progress = Callable[[int, Mapping[str, Any]], None]
