"""Writes the README's tables from results/: the figures, and memory systems side by side; a test keeps them fresh."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from memory_r1.bench.report import Run, load

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- figures: scripts/readme_figures.py -->", "<!-- end of figures -->"
BEGIN_SYSTEMS, END_SYSTEMS = "<!-- systems: scripts/readme_figures.py -->", "<!-- end of systems -->"
SYSTEMS = "locomo-validation-4-sessions-qwen1.5b"


def figures(store: dict[str, Any], retrieval: dict[str, Any], remember: dict[str, Any]) -> str:
    """The table, as Markdown."""
    bank = next(one for one in store["banks"] if one["entries"] == 10_000 and one["scopes"] == 1)
    rows = [
        ("durable add, beside a bare SQLite commit of the same row", f"{bank['add_over_bare_commit']:.2f} times"),
        ("the 60 nearest of 10,000 entries, by vector", f"{bank['vector_ms']['p50']:.2f} ms"),
        ("the same, vector and words fused", f"{bank['hybrid_ms']['p50']:.2f} ms"),
        ("bulk add", f"{bank['bulk_rows_per_s']:,} entries/s"),
    ]
    for faster in store.get("mem0", {}).get("times_faster", ()):
        if faster["entries"] == 10_000:
            rows.append(("an add, beside Mem0 2.2.1 with local Qdrant", f"{faster['add']:.0f} times faster"))
            rows.append(("a search, beside the same", f"{faster['vector']:.0f} times faster"))
    hybrid = retrieval["all"]["hybrid"]
    low, high = hybrid["interval_95"]["10"]
    recall = f"{hybrid['recall']['10']:.3f} ({low:.3f}-{high:.3f})"
    rows.append(("LoCoMo, gold evidence turns among the first 10, ten dialogues", recall))
    rows.append(("the same, mean over questions", f"{hybrid['recall_per_question']['10']:.3f}"))
    turns, tokens = remember["turns"], sum(used["tokens"] for used in remember["usage"].values())
    rows.append(
        (
            f"remembering LoCoMo's conv-26, {turns} turns, untrained SmolLM2-135M",
            f"{remember['seconds'] / 60:.1f} minutes",
        )
    )
    rows.append(("model tokens a turn there", f"{tokens / turns:.0f}"))
    return "\n".join(["| with e5-small, or a stub embedder for the store | measured |", "|---|---|", *map(row, rows)])


def systems(folder: Path) -> str:
    """The runs of a published folder as Markdown, the best F1 first."""
    runs = load(sorted(path.parent for path in folder.glob("*/result.json")))
    head = [
        "system",
        "F1",
        "BLEU-1",
        "says unknown where nothing was said",
        "tokens to read a turn",
        "tokens a question",
    ]
    ranked = sorted(runs, key=lambda run: run.score("f1")[0] or 0, reverse=True)
    return "\n".join([row(head), "|---" * len(head) + "|", *(row(_system(run)) for run in ranked)])


def _system(run: Run) -> list[str]:
    read = [one for one in (run.result.get("read") or {}).values() if one.get("turns")]
    used = [step["prompt"] + step["completion"] for one in read for step in (one.get("tokens") or {}).values()]
    turns = sum(one["turns"] for one in read)
    abstained = (run.scores.get("abstained") or {}).get("mean")
    return [
        run.title,
        _percent(run, "f1"),
        _percent(run, "bleu1"),
        "-" if abstained is None else f"{100 * abstained:.0f} %",
        f"{sum(used) / turns:,.0f}" if turns else "-",
        f"{run.tokens:,.0f}" if run.tokens is not None else "-",
    ]


def _percent(run: Run, metric: str) -> str:
    mean, interval = run.score(metric)
    if mean is None or interval is None:
        return "-"
    return f"{100 * mean:.1f} ({100 * interval[0]:.0f}-{100 * interval[1]:.0f})"


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def fresh(readme: str) -> str:
    """The README with its figures as results/ has them."""
    store, retrieval, remember = (
        json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("store", "retrieval", "remember-conv-26")
    )
    readme = _filled(readme, BEGIN, END, figures(store, retrieval, remember))
    return _filled(readme, BEGIN_SYSTEMS, END_SYSTEMS, systems(ROOT / "results" / SYSTEMS))


def _filled(page: str, begin: str, end: str, table: str) -> str:
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(fresh(page.read_text(encoding="utf-8")), encoding="utf-8")
