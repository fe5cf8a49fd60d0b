"""The training benchmark's figures beside their goals: as a table, and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memory_r1.bench import results

FASTER = {"grpo": 4.0, "ppo": 3.0}
PEAK = 0.5
NAMES = {"ours": "shared prefix", "stock": "stock TRL"}
PARTS = ("sampling", "scoring", "backward", "other")


def measured(result: Mapping[str, Any]) -> list[str]:
    return [algo for algo in FASTER if algo in result]


def goals(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each goal that this run measured: {"what", "value", "goal", "at_most", "met"}."""
    found: list[dict[str, Any]] = []

    def goal(what: str, value: float, limit: float, *, at_most: bool = True) -> None:
        met = value <= limit if at_most else value >= limit
        found.append({"what": what, "value": value, "goal": limit, "at_most": at_most, "met": met})

    for algo in measured(result):
        ratios = result[algo]["ratios"]
        goal(f"{algo} step, times faster", ratios["times_faster"], FASTER[algo], at_most=False)
        if algo == "grpo":
            goal("grpo step, share of the peak memory", ratios["peak_memory"], PEAK)
        tolerance = 5e-2 if result["config"]["bf16"] else 1e-3
        goal(f"{algo}, losses and gradients differ by", float(f"{result[algo]['differs_by']:.1e}"), tolerance)
    return found


def table(result: Mapping[str, Any]) -> str:
    """All figures for a terminal."""
    head = ["one step", "wall s", "CPU s", *(f"{part} s" for part in PARTS), "peak MB", "rows"]
    rows = []
    for algo in measured(result):
        for variant, name in NAMES.items():
            one = result[algo][variant]
            times = [f"{one[f'{part}_s']:.2f}" for part in ("wall", "cpu", *PARTS)]
            shown = result["config"]["group_size"] if variant == "ours" else result[algo]["rows"]
            rows.append([f"{algo}, {name}", *times, f"{one['peak_mb']:,.0f}", str(shown)])
        ratios = result[algo]["ratios"]
        faster = [f"{ratios['times_faster']:.2f}x", f"{ratios['times_less_cpu']:.2f}x"]
        parts = [_ratio(result[algo], part) for part in PARTS]
        rows.append([f"{algo}, stock / ours", *faster, *parts, f"{1 / ratios['peak_memory']:.2f}x", ""])
    wanted = [
        [one["what"], f"{one['value']:,}", f"{'<=' if one['at_most'] else '>='} {one['goal']:,}", _met(one)]
        for one in result["goals"]
    ]
    return "\n\n".join([results.table(head, rows), results.table(["goal", "measured", "wanted", ""], wanted)])


def _ratio(of: Mapping[str, Any], part: str) -> str:
    ours, stock = (of[variant][f"{part}_s"] for variant in NAMES)
    return f"{stock / ours:.2f}x" if ours else "-"


def _met(goal: Mapping[str, Any]) -> str:
    return "met" if goal["met"] else "missed"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """A step's time by its parts, and its peak of memory, of both variants."""
    plt = results.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    pairs = [(algo, variant) for algo in measured(result) for variant in NAMES]
    bars = [f"{algo.upper()}\n{NAMES[variant]}" for algo, variant in pairs]
    below = [0.0] * len(bars)
    for part in PARTS:
        heights = [result[algo][variant][f"{part}_s"] for algo, variant in pairs]
        left.bar(bars, heights, bottom=below, label=part)
        below = [sum(one) for one in zip(below, heights, strict=True)]
    right.bar(bars, [result[algo][variant]["peak_mb"] / 1e3 for algo, variant in pairs], color="C0")
    config = result["config"]
    left.set(ylabel="seconds of one step", title=f"prompt {config['prompt_tokens']:,}, {config['group_size']} replies")
    right.set(ylabel="GB", title="peak memory of the process" if result["device"] == "cpu" else "peak GPU memory")
    left.legend()
    for axes in (left, right):
        axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)
