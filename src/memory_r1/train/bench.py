"""What the shared prefix is worth: `memory-r1 bench train`, our training step beside stock TRL's.

Both train the same model on the same prompts with the same seeds; replies are sampled, all of one length, and their
reward is cheap. Each measurement is a process of its own, the two variants take turns, and the first step of each
process is not counted. Stock TRL has the micro-batch that is fastest of those that fit in memory.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from memory_r1.bench import results
from memory_r1.errors import InvalidInput, TrainingError
from memory_r1.train.bench_report import PARTS, goals, plot, table
from memory_r1.train.config import TrainConfig, changed

__all__ = ["ALGOS", "PARTS", "Job", "launched", "plot", "run", "table"]

Algo = Literal["grpo", "ppo"]
Variant = Literal["ours", "stock"]
ALGOS: tuple[Algo, ...] = ("grpo", "ppo")
VARIANTS: tuple[Variant, ...] = ("ours", "stock")
PACKAGES = ("torch", "trl", "transformers", "peft")


@dataclass(frozen=True)
class Job:
    """One measurement: `steps` of one group each, after one that warms up.

    `rows` is the micro-batch of stock TRL; ours is the group. `memory_gb` is what the process may take.
    """

    model: str
    variant: Variant = "ours"
    algo: Algo = "grpo"
    prompt_tokens: int = 1024
    group_size: int = 8
    reply_tokens: int = 32
    steps: int = 1
    rows: int = 8
    seed: int = 0
    rank: int = 16
    kl: float = 0.0
    bf16: bool = False
    memory_gb: float = 24.0

    @property
    def config(self) -> TrainConfig:
        given = {"algo": self.algo, "model": self.model, "kl": self.kl, "bf16": self.bf16, "seed": self.seed}
        size = {"groups": 1, "group_size": self.group_size, "steps": 1 + self.steps, "warmup": 0}
        return changed(TrainConfig(), {**given, **size, "lora": {"rank": self.rank}})


Launch = Callable[[Job], dict[str, Any]]


def launched(job: Job) -> dict[str, Any]:
    """What the job's own process measured; {"fits": False} where memory did not suffice."""
    command = [sys.executable, "-m", "memory_r1.train.bench_worker", json.dumps(asdict(job))]
    # Threads that wait do not spin: what shares the machine would slow down both variants, but not alike.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == -9:  # the system's own end of memory
        return {"fits": False}
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrainingError(f"measuring {job.variant} {job.algo} failed: {reason}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(
    base: Job,
    algos: Sequence[Algo] = ALGOS,
    repeats: int = 3,
    rows: int | None = None,
    out: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
    launch: Launch = launched,
) -> dict[str, Any]:
    """Measure, write train.json and train.png into the folder `out`, and return the result.

    `base` says the sizes; its variant, algo and rows are set here. `rows` fixes stock TRL's micro-batch, which is
    otherwise found by trying. In the result, "grpo" and "ppo" hold both variants, their ratios and every step.
    """
    if repeats < 1 or base.steps < 1:
        raise InvalidInput("a measurement needs at least one repeat of at least one step")
    if rows is not None and base.group_size % rows:
        raise InvalidInput(f"{rows} rows do not divide a group of {base.group_size}")
    shared = {name: value for name, value in asdict(base).items() if name not in ("variant", "algo", "rows", "model")}
    config = {**shared, "model": Path(base.model).name, "repeats": repeats}
    config["omp_wait_policy"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    result: dict[str, Any] = {"benchmark": "train", **results.provenance(), "config": config}
    result["versions"] |= {name: importlib.metadata.version(name) for name in PACKAGES}
    for algo in algos:
        tried = {} if rows else _tried(replace(base, algo=algo, variant="stock", steps=0), progress, launch)
        result[algo] = _measured(replace(base, algo=algo, rows=rows or _fastest(tried)), repeats, progress, launch)
        result[algo]["stock_tried_s"] = tried
    result["device"] = result[algos[0]]["ours"]["device"]
    result["goals"] = goals(result)
    result["machine"]["load_1_minute_after"] = results.load()
    if out:
        results.save(result, out, plot, progress)
    return result


def _tried(job: Job, say: Callable[[str], None], launch: Launch) -> dict[str, float | None]:
    """Seconds of stock TRL's first step by the rows of its micro-batch; None where they do not fit in memory."""
    tried: dict[str, float | None] = {}
    for rows in (rows for rows in range(job.group_size, 0, -1) if job.group_size % rows == 0):
        say(f"{job.algo}: trying stock TRL with {rows} rows a micro-batch")
        found = launch(replace(job, rows=rows))
        tried[str(rows)] = round(found["warm_up"]["wall"], 3) if found["fits"] else None
    return tried


def _fastest(tried: Mapping[str, float | None]) -> int:
    fitting = {int(rows): seconds for rows, seconds in tried.items() if seconds is not None}
    if not fitting:
        raise TrainingError("stock TRL does not fit in memory with a single row; give --memory-gb or a shorter prompt")
    return min(fitting, key=lambda rows: fitting[rows])


def _measured(job: Job, repeats: int, say: Callable[[str], None], launch: Launch) -> dict[str, Any]:
    runs: dict[Variant, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for repeat in range(repeats):
        for variant in VARIANTS if repeat % 2 else reversed(VARIANTS):
            say(f"{job.algo}, {repeat + 1} of {repeats}: {variant}")
            found = launch(replace(job, variant=variant, seed=job.seed + repeat))
            if not found["fits"]:
                raise TrainingError(f"{variant} {job.algo} does not fit in {job.memory_gb:g} GB; give --memory-gb")
            runs[variant].append(found)
    ours, stock = (_summary(runs[variant]) for variant in VARIANTS)
    pairs = list(zip(runs["ours"], runs["stock"], strict=True))
    each = [_median(theirs, "wall") / _median(mine, "wall") for mine, theirs in pairs]
    ratios = {
        "times_faster": round(stock["wall_s"] / ours["wall_s"], 2),
        "times_faster_each": [round(one, 2) for one in each],
        "times_less_cpu": round(stock["cpu_s"] / ours["cpu_s"], 2),
        "peak_memory": round(ours["peak_mb"] / stock["peak_mb"], 3),
    }
    return {
        "rows": job.rows,
        "ours": ours,
        "stock": stock,
        "ratios": ratios,
        "differs_by": max(_difference(mine["compared"], theirs["compared"]) for mine, theirs in pairs),
        "runs": runs,
    }


def _median(found: Mapping[str, Any], name: str) -> float:
    return float(median(step[name] for step in found["steps"]))


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over all steps that count; the highest peak."""
    steps = [step for found in runs for step in found["steps"]]
    return {
        **{f"{name}_s": round(median(step[name] for step in steps), 4) for name in ("wall", "cpu", *PARTS)},
        "peak_mb": round(max(found["peak_mb"] for found in runs), 1),
        **{name: runs[0][name] for name in ("device", "threads", "prompt_tokens", "reply_tokens")},
    }


def _difference(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The largest relative difference of what both must agree on."""
    return max(abs(one[name] - other[name]) / max(abs(one[name]), abs(other[name]), 1e-12) for name in one)
