"""The store benchmark's figures beside their goals: as a table, and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memory_r1.bench import results

SEARCHES = ("vector", "hybrid")


def against_mem0(theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many times longer Mem0 takes (p50 over p50), by size."""
    mine = {bank["entries"]: bank for bank in ours if bank["scopes"] == 1}
    return [
        {"entries": bank["entries"], "add": round(bank["add_ms"]["p50"] / mine[bank["entries"]]["add_ms"]["p50"], 1)}
        | {mode: round(bank["search_ms"]["p50"] / mine[bank["entries"]][f"{mode}_ms"]["p50"], 1) for mode in SEARCHES}
        for bank in theirs
        if bank["entries"] in mine
    ]


def goals(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each goal that this run measured: {"what", "value", "goal", "at_most", "met"}."""
    found: list[dict[str, Any]] = []

    def goal(what: str, value: float, limit: float, *, at_most: bool = True) -> None:
        met = value <= limit if at_most else value >= limit
        found.append({"what": what, "value": value, "goal": limit, "at_most": at_most, "met": met})

    for bank in result["banks"]:
        where = f"{bank['entries']:,} entries"
        if bank["scopes"] > 1:
            each = f"{bank['scopes']} scopes of {bank['entries'] // bank['scopes']:,}"
            for mode, ratio in bank["beside_one_scope"].items():
                goal(f"{mode} search, one of {each} / one alone (10 % is noise)", ratio, 1.1)
            continue
        goal(f"durable add / bare commit, {where}", bank["add_over_bare_commit"], 1.5)
        goal(f"bulk add, rows/s, {where}", bank["bulk_rows_per_s"], 10_000, at_most=False)
        if bank["entries"] == 10_000:
            goal(f"vector search p50, ms, {where}", bank["vector_ms"]["p50"], 0.5)
            goal(f"hybrid search p50, ms, {where}", bank["hybrid_ms"]["p50"], 6.0)
            goal(f"hybrid search p50, ms, {where} (stretch)", bank["hybrid_ms"]["p50"], 1.5)
    for faster in result.get("mem0", {}).get("times_faster", ()):
        where = f"{faster['entries']:,} entries"
        goal(f"add, times faster than Mem0, {where}", faster["add"], 5, at_most=False)
        for mode in SEARCHES:
            goal(f"{mode} search, times faster than Mem0, {where}", faster[mode], 100, at_most=False)
    return found


def table(result: Mapping[str, Any]) -> str:
    """All figures for a terminal."""

    def spread(bank: Mapping[str, Any], name: str) -> str:
        return f"{bank[name]['p50']:.2f} / {bank[name]['p95']:.2f}"

    lines = {
        "durable add": lambda bank: spread(bank, "add_ms"),
        "bare SQLite commit": lambda bank: spread(bank, "bare_commit_ms"),
        "vector search": lambda bank: spread(bank, "vector_ms"),
        "hybrid search": lambda bank: spread(bank, "hybrid_ms"),
        "text search": lambda bank: spread(bank, "text_ms"),
        "search after an add": lambda bank: spread(bank, "search_after_add_ms"),
        "open + first search": lambda bank: f"{bank['open_ms'] + bank['first_search_ms']:.1f}",
        "bulk add, rows/s": lambda bank: f"{bank['bulk_rows_per_s']:,}",
        "file, MB": lambda bank: f"{bank['file_mb']:.1f}",
        "memory, MB": lambda bank: f"{bank['memory_mb']:.1f}",
    }
    head = ["ms, p50 / p95", *(f"{bank['entries']:,} in {bank['scopes']}" for bank in result["banks"])]
    parts = [results.table(head, [[name, *map(cell, result["banks"])] for name, cell in lines.items()])]
    forks = [
        [f"{int(size):,}", f"{ms['whole_ms']:.2f}", f"{ms['scope_ms']:.2f}"] for size, ms in result["fork"].items()
    ]
    parts.append(results.table(["fork, ms, of entries", "whole bank", "one scope"], forks))
    if "mem0" in result:
        rows = [
            [f"{bank['entries']:,}", spread(bank, "add_ms"), spread(bank, "search_ms"), f"{bank['rows_per_s']:,}"]
            for bank in result["mem0"]["banks"]
        ]
        parts.append(results.table(["Mem0, entries", "add", "search", "filled at rows/s"], rows))
    rows = [
        [goal["what"], f"{goal['value']:,}", f"{'<=' if goal['at_most'] else '>='} {goal['goal']:,}", _met(goal)]
        for goal in result["goals"]
    ]
    parts.append(results.table(["goal", "measured", "wanted", ""], rows))
    return "\n\n".join(parts)


def _met(goal: Mapping[str, Any]) -> str:
    return "met" if goal["met"] else "missed"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """p50 of adds and searches over the bank's size, one scope, with Mem0's where it was measured."""
    plt = results.pyplot()
    banks = [bank for bank in result["banks"] if bank["scopes"] == 1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    curves = [
        (left, "add_ms", "durable add", "C0"),
        (left, "bare_commit_ms", "bare SQLite commit", "C7"),
        (right, "hybrid_ms", "hybrid", "C0"),
        (right, "vector_ms", "vector", "C1"),
        (right, "text_ms", "text", "C2"),
    ]
    for axes, name, label, colour in curves:
        axes.plot(
            [bank["entries"] for bank in banks], [bank[name]["p50"] for bank in banks], "o-", label=label, c=colour
        )
    theirs = result.get("mem0", {}).get("banks", [])
    for axes, name in ((left, "add_ms"), (right, "search_ms")):
        if theirs:
            x = [bank["entries"] for bank in theirs]
            axes.plot(x, [bank[name]["p50"] for bank in theirs], "s--", label="Mem0 2.2.1, local Qdrant", c="C3")
        axes.set(xscale="log", yscale="log", xlabel="entries in the scope", ylabel="ms (p50)")
        axes.grid(alpha=0.3)
        axes.legend()
    left.set_title("one durable add")
    right.set_title(f"search, top {result['config']['top']}")
    figure.savefig(path, dpi=150)
    plt.close(figure)
