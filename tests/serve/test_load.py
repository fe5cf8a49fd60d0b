"""The load benchmark: it counts what fails, and finds what is lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from memory_r1.bank import MemoryBank
from memory_r1.bench.store import DIMENSION
from memory_r1.errors import InvalidInput
from memory_r1.serve import load
from memory_r1.testing import HashEmbedder
from memory_r1.types import Scope


def test_clients_that_add_and_search_lose_nothing(tmp_path: Path) -> None:
    result = load.run(entries=40, clients=2, seconds=0.5, calls=5, out=tmp_path)
    assert [(one["entries"], one["scopes"], one["failed"], one["lost"]) for one in result["runs"]] == [
        (40, 2, 0, 0),
        (40, 1, 0, 0),
    ]
    for one in result["runs"]:
        assert one["requests"] == one["add_ms"]["n"] + one["search_ms"]["n"] > 0
        assert one["acknowledged"] == one["add_ms"]["n"]
    assert set(result["overhead"]) == {"add", "search"}
    assert json.loads((tmp_path / "serving.json").read_text())["config"]["clients"] == 2
    assert (tmp_path / "serving.png").read_bytes().startswith(b"\x89PNG")
    assert "40 entries, 2 scopes" in load.table(result)


def test_the_bank_is_filled_scope_by_scope(tmp_path: Path) -> None:
    load.fill(tmp_path / "bank.db", 10, 3, seed=0)
    with MemoryBank(tmp_path / "bank.db", embedder=HashEmbedder(DIMENSION)) as bank:
        assert [len(bank.all(Scope(user_id=f"user-{number}"))) for number in range(3)] == [4, 3, 3]


def test_requests_that_fail_are_counted_with_their_reason() -> None:
    seen = asyncio.run(load.loaded("http://127.0.0.1:9", 1, 1, 0.2, seed=0))
    assert seen.state["requests"] == 0
    assert seen.state["failed"] > 0
    assert seen.state["failures"][0].startswith("ConnectError")


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InvalidInput, match="an entry for each"):
        load.run(entries=3, clients=5)
    with pytest.raises(InvalidInput, match="only mem0"):
        load.run(against="redis")
