"""The folders that runs leave, as a report reads them.

Each holds result.json (scores, costs and config) and records.jsonl (a record a question, see records.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_r1.bench.data import Dataset
from memory_r1.bench.records import Record
from memory_r1.bench.summary import compare
from memory_r1.errors import InvalidInput

BENCHMARK = "answers"


@dataclass(frozen=True, slots=True)
class Run:
    """One system's answers. `records` by question; `title` is unique among the runs it was loaded with."""

    title: str
    result: Mapping[str, Any]
    records: Mapping[str, Record]

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.result["config"]
        return config

    @property
    def scores(self) -> Mapping[str, Any]:
        """The figures as `summary.summarise` makes them."""
        scores: Mapping[str, Any] = self.result["scores"]
        return scores

    @property
    def categories(self) -> Mapping[str, Mapping[str, Any]]:
        """{"printed", "questions"} by category, in the order of the report."""
        categories: Mapping[str, Mapping[str, Any]] = self.scores["categories"]
        return categories

    @property
    def tokens(self) -> float | None:
        """Prompt and reply of an answer, the mean over questions; reading the dialogue is not in it."""
        tokens = self.scores.get("tokens")
        return tokens["prompt"] + tokens["completion"] if tokens else None

    def score(self, metric: str, category: str | None = None) -> tuple[float | None, Sequence[float] | None]:
        """(mean over questions, its 95 % interval) overall or of a category; None where the run has none."""
        found = self.scores["metrics"].get(metric, {})
        if category is not None:
            found = found.get("by_category", {}).get(category, {})
        return found.get("micro" if category is None else "mean"), found.get("interval_95")


def load(folders: Sequence[Path]) -> tuple[Run, ...]:
    """The runs of these folders, in order. Raises InvalidInput when one cannot be read, or when they do not answer
    the same questions after reading the same sessions: their figures would not stand beside each other."""
    if not folders:
        raise InvalidInput("give at least one run's folder")
    folders = [folder.resolve() for folder in folders]
    read = [(_result(folder / "result.json"), _records(folder)) for folder in folders]
    titles = [str(result["config"].get("title") or result["config"]["system"]) for result, _ in read]
    runs = tuple(Run(title, *one) for title, one in zip(_told_apart(titles, folders), read, strict=True))
    for other in runs[1:]:
        _check_same(runs[0], other)
    _check_judges(runs)
    return runs


def _told_apart(titles: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Titles that several runs have are followed by as much of the folder as tells these apart: [x], [a/x]."""
    if len(set(folders)) < len(folders):
        raise InvalidInput("the same run is named twice")
    parts, told = 0, list(titles)
    while len(set(told)) < len(told):
        parts += 1
        ends = ["/".join(folder.parts[-parts:]) for folder in folders]
        told = [
            title if titles.count(title) == 1 else f"{title} [{end}]" for title, end in zip(titles, ends, strict=True)
        ]
    return told


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda _: None)  # the mean of nothing, NaN, is shown as nothing
    except ValueError as error:
        raise InvalidInput(f"{where} is not JSON ({error}); run the same evaluation again to complete it") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} cannot be read ({error}); give the folder that `memory-r1 bench run` wrote"
        ) from error


def _result(path: Path) -> Mapping[str, Any]:
    if not path.exists() and (path.parent / "config.json").exists():
        raise InvalidInput(f"{path.parent} has not ended: the same `memory-r1 bench run` command goes on with it")
    result = _json(_text(path), str(path))
    if not isinstance(result, dict) or result.get("benchmark") != BENCHMARK:
        raise InvalidInput(f"{path} is no result of answers; give the folder that `memory-r1 bench run` wrote")
    if missing := [key for key in ("config", "scores") if key not in result]:
        raise InvalidInput(f"{path} lacks {', '.join(missing)}: the run is not finished; run the same command again")
    return result


def _records(folder: Path) -> dict[str, Record]:
    """By question, each with what a judge said of it."""
    path, records = folder / "records.jsonl", dict[str, Record]()
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        record = _json(line, f"{path}, line {number},")
        question = record.get("question") if isinstance(record, dict) else None
        if not isinstance(question, str):
            raise InvalidInput(f"{path}, line {number}, is no record of a question")
        if question in records:
            raise InvalidInput(f"{path}, line {number}: question {question} was recorded before")
        records[question] = record
    if not records:
        raise InvalidInput(f"{path} holds no record; run the same command again to answer the questions")
    judgements = folder / "judgements.jsonl"
    for line in _text(judgements).splitlines() if judgements.exists() else ():
        one = _json(line, str(judgements))
        records[one["question"]]["scores"][one["metric"]] = one["score"]
    return records


def _check_same(first: Run, other: Run) -> None:
    remedy = "compare runs made with the same --data, --repairs, --split, --sessions and --limit"
    for key in ("data", "sessions", "repaired", "source"):
        if key == "source" and not (first.config.get(key) and other.config.get(key)):
            continue  # results of before it was noted
        if (first.config.get(key) or None) != (other.config.get(key) or None):
            raise InvalidInput(
                f"{first.title} and {other.title} were not run on the same {key} "
                f"({first.config.get(key)}, {other.config.get(key)}); {remedy}"
            )
    for one, beside in ((first, other), (other, first)):
        if missing := [question for question in one.records if question not in beside.records]:
            some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise InvalidInput(
                f"{beside.title} does not answer {len(missing)} of {len(one.records)} questions that "
                f"{one.title} answers ({some}); {remedy}"
            )


def _check_judges(runs: Sequence[Run]) -> None:
    """Raises InvalidInput where two runs were graded by different judges."""
    graded: dict[str, tuple[Run, str]] = {}
    for run in runs:
        for metric, judge in (run.result.get("judge") or {}).items():
            first, before = graded.setdefault(metric, (run, judge))
            if judge != before:
                raise InvalidInput(
                    f"{first.title} and {run.title} were graded by two judges ({before}; {judge}), whose figures "
                    "cannot be compared; have one of them graded again"
                )


def check_data(runs: Sequence[Run], data: Dataset) -> None:
    """Raises InvalidInput where `data` is not the file that the runs read: its turns and labels may be others."""
    for run in runs:
        read, given = (re.findall(r"sha256 (\w+)", source or "") for source in (run.config.get("source"), data.source))
        if read and given and read != given:
            raise InvalidInput(
                f"{run.title} was run on {run.config['source']}, not on {data.source}: give the same files as --data "
                "and, where it had them, as --repairs"
            )


def difference(first: Run, second: Run, metric: str = "f1") -> dict[str, Any] | None:
    """The first's scores over the second's on the same questions, as `summary.compare` has them; None without any."""
    if first.score(metric)[0] is None or second.score(metric)[0] is None:
        return None
    seed = first.config.get("seed") or 0
    return compare(list(first.records.values()), list(second.records.values()), metric, seed)


def without_text(runs: Sequence[Run]) -> bool:
    """Whether some question's text is in no run's record, so that only the data set can tell it."""
    return any(all("text" not in run.records[question] for run in runs) for question in runs[0].records)
