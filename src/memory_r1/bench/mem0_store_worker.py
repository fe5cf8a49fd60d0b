"""Measures Mem0: run by the Python of its own environment, with a JSON file that names the job. Prints JSON.

Imports nothing of memory_r1. No model is asked: infer=False, and the embedder looks vectors up.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from mem0 import Memory
from mem0.embeddings.base import EmbeddingBase


class Lookup(EmbeddingBase):  # type: ignore[misc]
    """Vectors made beforehand, as lists, which is what Mem0's embedders return."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        super().__init__()
        self.vectors = vectors

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        del memory_action
        return self.vectors[text]


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    array = np.load(job["vectors"])
    texts = job["texts"] + job["more"] + job["queries"]
    memory = memory_of(job["folder"], array, texts)
    found, filled = [], 0
    for size in job["sizes"]:
        start, fresh = time.perf_counter(), job["texts"][filled:size]
        for text in fresh:
            add(memory, text)
        seconds, filled = time.perf_counter() - start, size
        adds = [timed(lambda text=text: add(memory, text)) for text in job["more"]]
        searches = [timed(lambda query=query: search(memory, query, job["top"])) for query in job["queries"]]
        found.append(
            {
                "entries": size,
                "rows_per_s": round(len(fresh) / seconds, 1),
                "add_ms": spread(adds),
                "search_ms": spread(searches),
            }
        )
    versions = {name: version(name) for name in ("mem0ai", "qdrant-client", "numpy")}
    print(json.dumps({"version": versions["mem0ai"], "versions": versions, "banks": found}))


def memory_of(folder: str, vectors: Any, texts: list[str]) -> Any:
    """Mem0 with a local Qdrant in `folder`, which finds in `vectors` those of `texts`."""
    memory = Memory.from_config(
        {
            "vector_store": {
                "provider": "qdrant",
                "config": {
                    "path": folder,
                    "on_disk": True,
                    "collection_name": "bench",
                    "embedding_model_dims": vectors.shape[1],
                },
            },
            "history_db_path": f"{folder}-history.db",
            # Both are built and neither is used.
            "llm": {"provider": "openai", "config": {"api_key": "none"}},
            "embedder": {"provider": "openai", "config": {"api_key": "none"}},
        }
    )
    memory.embedding_model = Lookup(dict(zip(texts, vectors.tolist(), strict=True)))
    return memory


def add(memory: Any, text: str) -> None:
    result = memory.add([{"role": "user", "content": text}], user_id="user-0", infer=False)
    assert len(result["results"]) == 1, result


def search(memory: Any, query: str, top: int) -> None:
    # Random vectors are far from each other: without a threshold of 0 most would be left out after the search.
    result = memory.search(query, filters={"user_id": "user-0"}, top_k=top, threshold=0.0)
    assert len(result["results"]) == top, len(result["results"])


def timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def spread(times: list[float]) -> dict[str, float]:
    return {"p50": round(float(np.median(times)), 4), "p95": round(float(np.percentile(times, 95)), 4)}


if __name__ == "__main__":
    main(sys.argv[1])
