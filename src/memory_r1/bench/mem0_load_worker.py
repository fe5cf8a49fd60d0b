"""Lets many threads call Mem0: run by the Python of its own environment, with a JSON file that names the job.

Imports nothing of memory_r1. No model is asked: infer=False, and the embedder looks vectors up.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import uuid
from importlib.metadata import version

import numpy as np
from mem0_store_worker import add, memory_of, search


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    vectors, texts = np.load(job["vectors"]), job["texts"]
    memory = memory_of(job["folder"], vectors, texts + job["more"] + job["queries"])
    payloads = [{"data": text, "user_id": "user-0", "hash": "", "created_at": "2026-01-01T00:00:00"} for text in texts]
    ids = [str(uuid.uuid4()) for _ in texts]
    memory.vector_store.insert(vectors=vectors[: len(texts)].tolist(), payloads=payloads, ids=ids)

    times: dict[str, list[float]] = {"add": [], "search": []}
    failures: list[str] = []
    # Its local Qdrant is not made for threads: without a lock a race soon left an index that failed every search.
    one_at_a_time = threading.Lock()
    start = time.perf_counter()

    def client(number: int) -> None:
        chance = random.Random(f"{job['seed']} {number}")
        while (begun := time.perf_counter()) < start + job["seconds"]:
            kind = chance.choice(["add", "search"])
            try:
                with one_at_a_time:
                    if kind == "add":
                        add(memory, chance.choice(job["more"]))
                    else:
                        search(memory, chance.choice(job["queries"]), job["top"])
            except Exception as error:  # noqa: BLE001  (whatever Mem0 raises is a failure that is counted)
                failures.append(f"{type(error).__name__}: {error}"[:200])
                continue
            times[kind].append((time.perf_counter() - begun) * 1e3)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(job["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    answered = sum(map(len, times.values()))
    found = {
        "version": version("mem0ai"),
        "seconds": round(seconds, 1),
        "requests": answered,
        "requests_per_s": round(answered / seconds, 1),
        "failed": len(failures),
        "failures": sorted(set(failures))[:5],
        **{f"{kind}_ms": spread(of_kind) for kind, of_kind in times.items()},
    }
    print(json.dumps(found))


def spread(times: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(times, [50, 95, 99]) if times else (float("nan"),) * 3
    return {"n": len(times), "p50": round(float(p50), 2), "p95": round(float(p95), 2), "p99": round(float(p99), 2)}


if __name__ == "__main__":
    main(sys.argv[1])
