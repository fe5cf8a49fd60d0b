"""Mem0 2.2.1's library with its local Qdrant under the load of the serving benchmark, in an environment of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from memory_r1.bench.mem0_store import output_of
from memory_r1.bench.store import DIMENSION, sentences
from memory_r1.bench.systems.environments import MEM0_2
from memory_r1.testing import HashEmbedder

ADDS, QUERIES = 2_000, 500


def measure(
    folder: Path, entries: int, clients: int, seconds: float, top: int, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """The figures of a run, and "version", "entries". `clients` threads share one Memory, as those of a server do, and
    take turns: its local Qdrant fails otherwise.

    The bank is filled through its vector store, in bulk; what is measured are `add(infer=False)` and `search`.
    """
    python = MEM0_2.setup(say)
    texts, more = sentences(entries, seed), sentences(ADDS, seed + 1)
    queries = [" ".join(text.split()[:8]) for text in more[:QUERIES]]
    vectors = folder / "mem0-load.npy"
    np.save(vectors, HashEmbedder(DIMENSION).embed([*texts, *more, *queries]))
    job = {
        "folder": str(folder / "mem0-load"),
        "vectors": str(vectors),
        "texts": texts,
        "more": more,
        "queries": queries,
        "clients": clients,
        "seconds": seconds,
        "top": top,
        "seed": seed,
    }
    (folder / "mem0-load.json").write_text(json.dumps(job), encoding="utf-8")
    say(f"Mem0: {clients} threads for {seconds:g} s on {entries:,} entries")
    worker = Path(__file__).with_name("mem0_load_worker.py")
    home = {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(folder / "mem0-load-home"), "ANONYMIZED_TELEMETRY": "False"}
    printed = output_of([str(python), str(worker), str(folder / "mem0-load.json")], {**os.environ, **home})
    found: dict[str, Any] = json.loads(printed)
    return {"entries": entries, **found}
