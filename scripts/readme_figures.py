"""Writes the README's table of figures from results/*.json; a test keeps it fresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- figures: scripts/readme_figures.py -->", "<!-- end of figures -->"


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
        (f"remembering LoCoMo's conv-26, {turns} turns, SmolLM2-135M", f"{remember['seconds'] / 60:.1f} minutes")
    )
    rows.append(("model tokens a turn there", f"{tokens / turns:.0f}"))
    return "\n".join(["| with e5-small, or a stub embedder for the store | measured |", "|---|---|", *map(row, rows)])


def row(cells: tuple[str, str]) -> str:
    return f"| {cells[0]} | {cells[1]} |"


def fresh(readme: str) -> str:
    """The README with its figures as results/ has them."""
    store, retrieval, remember = (
        json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("store", "retrieval", "remember-conv-26")
    )
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{figures(store, retrieval, remember)}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(fresh(page.read_text(encoding="utf-8")), encoding="utf-8")
