"""Mem0 2.2.1 with its local Qdrant, measured beside the bank: installed and run in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_r1.bench.systems.environments import MEM0_2
from memory_r1.errors import ModelUnavailable

VERSION = "2.2.1"
SEARCHES = 20  # of about 150 ms each
ADDS = 50


def measure(
    folder: Path,
    texts: Sequence[str],
    more: Sequence[str],
    queries: Sequence[str],
    vectors: NDArray[np.float32],
    sizes: Sequence[int],
    top: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """{"version", "versions", "banks": [{"entries", "add_ms", "search_ms", "rows_per_s"}]}, with infer=False.

    `vectors` holds a row for each of texts, more and queries, in that order (more may have rows that are not used).
    """
    python = MEM0_2.setup(say)
    biggest = max(sizes)
    kept = [*texts[:biggest], *more[:ADDS], *queries[:SEARCHES]]
    first_query = len(vectors) - len(queries)
    rows = [*range(biggest), *range(len(texts), len(texts) + ADDS), *range(first_query, first_query + SEARCHES)]
    np.save(folder / "mem0-vectors.npy", vectors[rows[: len(kept)]])
    job = {
        "folder": str(folder / "mem0"),
        "vectors": str(folder / "mem0-vectors.npy"),
        "texts": kept[:biggest],
        "more": list(more[:ADDS]),
        "queries": list(queries[:SEARCHES]),
        "sizes": sorted(sizes),
        "top": top,
    }
    (folder / "mem0.json").write_text(json.dumps(job), encoding="utf-8")
    say(f"Mem0 {VERSION}: {biggest:,} adds one by one, about {biggest * 0.03 / 60:.0f} minutes")
    worker = Path(__file__).with_name("mem0_store_worker.py")
    home = {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(folder / "mem0-home"), "ANONYMIZED_TELEMETRY": "False"}
    return dict(json.loads(output_of([str(python), str(worker), str(folder / "mem0.json")], {**os.environ, **home})))


def output_of(command: Sequence[str], environment: dict[str, str]) -> str:
    """The last line a command prints. Raises ModelUnavailable with the end of its errors when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise ModelUnavailable(f"the comparison with Mem0 failed: {done.stderr.strip()[-1000:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]
