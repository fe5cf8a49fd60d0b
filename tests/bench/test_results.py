"""What is committed under results/ holds nothing of LoCoMo's text, whose licence (CC BY-NC) is not ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bench.records import IDS, TEXT_OF_THE_DATA, runs

RESULTS = Path(__file__).parents[2] / "results"

pytestmark = pytest.mark.skipif("MEMORY_R1_LOCOMO" not in os.environ, reason="LoCoMo's file is not there")


def texts(data: Any) -> Iterator[str]:
    """All there are in a JSON document: LoCoMo's turns, questions and answers, and what its annotators noted."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for part in data.values() if isinstance(data, dict) else data:
            yield from texts(part)


def test_no_published_answer_quotes_the_data_at_length() -> None:
    told = {run for text in texts(json.loads(Path(os.environ["MEMORY_R1_LOCOMO"]).read_text())) for run in runs(text)}
    assert len(told) > 150_000
    seen = 0
    for path in RESULTS.glob("locomo-*/*/records.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            record, seen = json.loads(line), seen + 1
            where = f"{path.parent.relative_to(RESULTS)} {record['question']}"
            assert not runs(record["answer"]) & told, where
            assert not record.keys() & set(TEXT_OF_THE_DATA), where
            assert not {name for one in record["retrieved"] for name in one} - set(IDS), where
    assert seen > 3_000
