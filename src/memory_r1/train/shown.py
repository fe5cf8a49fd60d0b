"""A folder of runs as the inspector shows it: a line for each run, and its curves as numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_r1.errors import InvalidInput
from memory_r1.files import read_json
from memory_r1.train.runs import CONFIG, METRICS, PANELS, whole_lines

_LAST = 10  # steps that a run's reward is the mean of, as `memory-r1 runs` has it


@dataclass(frozen=True, slots=True)
class RunsFolder:
    """The runs that lie directly in a folder, read anew each time: one may be under way.

    `most_points`: a curve with more steps is thinned, each point the mean of its neighbours.
    """

    folder: Path
    most_points: int = 400

    def lines(self) -> list[dict[str, Any]]:
        """Every run, the newest first."""
        found = [self._line(path.parent, self._metrics(path.parent)) for path in self.folder.glob(f"*/{CONFIG}")]
        return sorted(found, key=lambda line: (line["date"] or "", line["name"]), reverse=True)

    def curves(self, name: str) -> dict[str, Any] | None:
        """A run with its settings and the panels of its curves, or None when there is none of that name."""
        run = next((path.parent for path in self.folder.glob(f"*/{CONFIG}") if path.parent.name == name), None)
        if run is None:
            return None
        rows = self._metrics(run)
        panels = [
            {"title": title, "series": series}
            for title, names in PANELS.items()
            if (series := [one for name in names if (one := self._series(name, rows))["points"]])
        ]
        return {**self._line(run, rows), "config": _about(run)[0].get("config", {}), "panels": panels}

    def _series(self, name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        return {"name": name, "points": thinned(points, self.most_points)}

    @staticmethod
    def _line(run: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        about, problem = _about(run)
        config = about.get("config", {})
        rewards = [row["reward"] for row in rows[-_LAST:] if row.get("reward") is not None]
        return {
            "name": run.name,
            **{key: config.get(key) for key in ("agent", "algo", "model")},
            "date": about.get("date"),
            "steps": rows[-1]["step"] if rows else 0,
            "planned": config.get("steps"),
            "reward": sum(rewards) / len(rewards) if rewards else None,
            "problem": problem,
        }

    @staticmethod
    def _metrics(run: Path) -> list[dict[str, Any]]:
        path = run / METRICS
        return [json.loads(line) for line in whole_lines(path)] if path.exists() else []


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most `most` points: the means, in step and value, of as many stretches of equal length."""
    size = -(-len(points) // most)
    if size <= 1:
        return list(points)
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(_mean([x for x, _ in each]), _mean([y for _, y in each])) for each in stretches]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _about(run: Path) -> tuple[dict[str, Any], str | None]:
    """What config.json holds, and what is wrong with it: one broken run does not hide the others."""
    try:
        about = read_json(run / CONFIG)
    except (InvalidInput, OSError) as error:
        return {}, str(error)
    if not isinstance(about, dict) or not isinstance(about.get("config"), dict):
        return {}, f"{CONFIG} holds no settings"
    return about, None
