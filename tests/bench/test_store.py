from __future__ import annotations

import builtins
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_r1.bench import results, store
from memory_r1.bench.store_report import against_mem0, goals
from memory_r1.errors import InvalidInput


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return store.run((50,))


def positive(value: Any) -> bool:
    """Whether every figure inside is a number above 0."""
    if isinstance(value, Mapping):
        return all(map(positive, value.values()))
    return isinstance(value, int | float) and value > 0


def test_every_bank_has_every_figure(result: dict[str, Any]) -> None:
    one, many = result["banks"]
    figures = {
        "entries", "scopes", "bulk_rows_per_s", "file_mb", "open_ms", "first_search_ms", "vector_ms", "hybrid_ms",
        "text_ms", "search_after_add_ms", "add_ms", "bare_commit_ms", "add_over_bare_commit", "memory_mb",
    }  # fmt: skip
    assert set(one) == figures
    assert set(many) == figures | {"beside_one_scope"}
    assert (one["entries"], one["scopes"], many["entries"], many["scopes"]) == (50, 1, 50, 10)
    assert positive(one)
    assert positive(many)
    assert set(result["fork"]) == {"200", "1000"}
    assert positive(result["fork"])


def test_the_result_says_where_it_comes_from(result: dict[str, Any]) -> None:
    assert set(result["versions"]) == {"memory_r1", "python", "sqlite", "numpy"}
    assert {"cpu", "cpus", "load_1_minute", "load_1_minute_after"} <= set(result["machine"])
    assert {"date", "commit"} <= set(result)
    assert result["config"]["seed"] == 0
    assert json.loads(json.dumps(result)) == result


def test_the_table_shows_figures_and_goals(result: dict[str, Any]) -> None:
    shown = store.table(result)
    assert "50 in 1  " in shown
    assert "durable add / bare commit, 50 entries" in shown


def test_a_goal_says_what_was_measured_and_whether_it_is_met() -> None:
    bank = {
        "entries": 10_000, "scopes": 1, "add_over_bare_commit": 1.2, "bulk_rows_per_s": 9_000,
        "vector_ms": {"p50": 0.4}, "hybrid_ms": {"p50": 2.0}, "add_ms": {"p50": 4.0},
    }  # fmt: skip
    theirs = {"entries": 10_000, "add_ms": {"p50": 30.0}, "search_ms": {"p50": 150.0}}
    faster = against_mem0([theirs], [bank])
    assert faster == [{"entries": 10_000, "add": 7.5, "vector": 375.0, "hybrid": 75.0}]
    found = goals({"banks": [bank], "mem0": {"times_faster": faster}})
    assert [(goal["value"], goal["goal"], goal["met"]) for goal in found] == [
        (1.2, 1.5, True),
        (9_000, 10_000, False),
        (0.4, 0.5, True),
        (2.0, 6.0, True),
        (2.0, 1.5, False),
        (7.5, 5, True),
        (375.0, 100, True),
        (75.0, 100, False),
    ]


def test_the_material_is_seeded_and_realistic() -> None:
    given, again = store.material(300, 7), store.material(300, 7)
    assert given.texts == again.texts
    assert given.texts != store.material(300, 8).texts
    assert {len(text.split()) for text in given.texts} == set(range(8, 26))
    assert {len(text.split()) for text in given.queries} == set(range(6, 11))
    assert np.linalg.norm(given.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert len(given.vectors) == 300 + len(given.more) + len(given.queries)


@pytest.mark.parametrize(("sizes", "against"), [((50,), "postgres"), ((), None), ((5,), None)])
def test_what_cannot_be_measured_is_refused(sizes: Sequence[int], against: str | None) -> None:
    with pytest.raises(InvalidInput):
        store.run(sizes, against=against)


def test_without_matplotlib_the_extra_is_named(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidInput, match=r"pip install 'memory-r1\[bench\]'"):
        store.plot(result, tmp_path / "store.png")


def test_a_plot_is_drawn_where_matplotlib_is(result: dict[str, Any], tmp_path: Path) -> None:
    results.save(result, tmp_path, store.plot, print)
    assert (tmp_path / "store.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "store.json").read_text(encoding="utf-8")) == result
