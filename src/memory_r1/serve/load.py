"""Many clients at once on a large bank: `memory-r1 bench serving`.

The server is a process as `memory-r1 serve` starts it, on a bank that was filled before; clients add (`infer=false`)
and search in turns over HTTP, each as fast as it is answered. At the end every entry that an answer named must be in
the file. The embedder hashes words, so that no model is measured: neither in the server nor in Mem0, beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np

from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.bench import mem0_load, results
from memory_r1.bench.store import DIMENSION, sentences
from memory_r1.errors import InvalidInput, ModelUnavailable
from memory_r1.memory import Memory
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Scope

TOP = 10
OVERHEAD_CALLS = 300
READY_SECONDS = 60.0
BATCH = 10_000
COMPARED = 10_000
"""Entries in the comparison with Mem0, whose local Qdrant searches every one of them in Python."""

Kind = Literal["add", "search"]
KINDS: tuple[Kind, ...] = ("add", "search")
Say = Callable[[str], None]


@dataclass(slots=True)
class Load:
    """What the clients saw: milliseconds of each answer, the entries that were acknowledged, and what failed."""

    seconds: float = 0.0
    times: dict[Kind, list[float]] = field(default_factory=lambda: {"add": [], "search": []})
    acknowledged: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def state(self) -> dict[str, Any]:
        answered = sum(map(len, self.times.values()))
        return {
            "seconds": round(self.seconds, 1),
            "requests": answered,
            "requests_per_s": round(answered / self.seconds, 1),
            "failed": len(self.failures),
            "failures": sorted(set(self.failures))[:5],
            **{f"{kind}_ms": spread(self.times[kind]) for kind in KINDS},
        }


def spread(times: Sequence[float]) -> dict[str, float]:
    """{"p50", "p95", "p99"} in the unit given, and how many there were."""
    p50, p95, p99 = np.percentile(times, [50, 95, 99]) if len(times) else (float("nan"),) * 3
    return {"n": len(times), "p50": round(float(p50), 2), "p95": round(float(p95), 2), "p99": round(float(p99), 2)}


def run(
    entries: int = 100_000,
    clients: int = 50,
    seconds: float = 60.0,
    out: Path | None = None,
    against: str | None = None,
    seed: int = 0,
    calls: int = OVERHEAD_CALLS,
    say: Say = lambda _line: None,
) -> dict[str, Any]:
    """Measure, write serving.json and serving.png into the folder `out`, and return the result.

    "runs": the server with a scope for each client, and with one scope that holds all; "overhead": one client, beside
    the same `calls` of the library. `against="mem0"` also lets as many threads call Mem0 2.2.1's library.
    """
    if against not in (None, "mem0"):
        raise InvalidInput(f"cannot compare with {against!r}; only mem0")
    if entries < clients or clients < 1 or seconds <= 0:
        raise InvalidInput("there must be a client, an entry for each of them at least, and time")
    config = {"entries": entries, "clients": clients, "seconds": seconds, "top": TOP, "seed": seed}
    result: dict[str, Any] = {"benchmark": "serving", **results.provenance(), "config": config, "runs": []}
    with tempfile.TemporaryDirectory(prefix="memory-r1-bench-") as temporary:
        folder = Path(temporary)
        sizes = [(entries, clients), (entries, 1)]
        if against:
            sizes.append((COMPARED, 1))
        for size, scopes in sizes:
            file = folder / f"{size}-{scopes}.db"
            say(f"filling {size:,} entries in {scopes} scopes")
            fill(file, size, scopes, seed)
            say(f"{clients} clients for {seconds:g} s")
            result["runs"].append({"entries": size, "scopes": scopes, **_served(file, clients, scopes, seconds, seed)})
        say(f"one client, {calls} calls of each kind, beside the library")
        result["overhead"] = overhead(folder / f"{entries}-{clients}.db", folder / "library.db", calls, seed)
        if against:
            result["mem0"] = mem0_load.measure(folder, COMPARED, clients, seconds, TOP, seed, say)
    result["machine"]["load_1_minute_after"] = results.load()
    if out:
        results.save(result, out, plot, say)
    return result


def fill(file: Path, entries: int, scopes: int, seed: int) -> None:
    texts = sentences(entries, seed)
    with MemoryBank(file, embedder=HashEmbedder(DIMENSION)) as bank:
        made = (NewEntry(text, Scope(user_id=user(place, scopes))) for place, text in enumerate(texts))
        while batch := list(islice(made, BATCH)):
            bank.add_many(batch)


def user(number: int, scopes: int) -> str:
    return f"user-{number % scopes}"


@contextlib.contextmanager
def server(file: Path) -> Iterator[str]:
    """The address of a server on this bank, in a process of its own, which is asked to end afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = Path(__file__).with_name("load_worker.py")
    process = subprocess.Popen([sys.executable, str(worker), str(file), str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + READY_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise ModelUnavailable(f"the server on {file.name} does not begin to answer")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.TransportError:
        return False


def _served(file: Path, clients: int, scopes: int, seconds: float, seed: int) -> dict[str, Any]:
    with server(file) as url:
        load = asyncio.run(loaded(url, clients, scopes, seconds, seed))
    with MemoryBank(file, embedder=HashEmbedder(DIMENSION)) as bank:
        lost = [one for one in load.acknowledged if bank.get(one) is None]
    return {**load.state, "acknowledged": len(load.acknowledged), "lost": len(lost)}


async def loaded(url: str, clients: int, scopes: int, seconds: float, seed: int) -> Load:
    """`clients` ask one request after another each, adds and searches by chance in equal parts."""
    load, pool = Load(), httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    texts = sentences(2_000, seed + 1)
    async with httpx.AsyncClient(base_url=url, limits=pool, timeout=60.0) as http:
        start = time.perf_counter()
        asking = [_client(http, load, number, scopes, start + seconds, texts, seed) for number in range(clients)]
        await asyncio.gather(*asking)
        load.seconds = time.perf_counter() - start
    return load


async def _client(
    http: httpx.AsyncClient, load: Load, number: int, scopes: int, until: float, texts: Sequence[str], seed: int
) -> None:
    chance = random.Random(f"{seed} {number}")
    while (begun := time.perf_counter()) < until:
        kind, text = chance.choice(KINDS), chance.choice(texts)
        try:
            path, body = _request(kind, text, user(number, scopes))
            reply = await http.post(path, json=body)
        except httpx.TransportError as error:
            load.failures.append(repr(error))
            continue
        if reply.status_code != 200:
            load.failures.append(f"{reply.status_code} {reply.text[:200]}")
            continue
        load.times[kind].append((time.perf_counter() - begun) * 1e3)
        if kind == "add":
            load.acknowledged += [one["id"] for one in reply.json()["results"]]


def _request(kind: Kind, text: str, user_id: str) -> tuple[str, dict[str, Any]]:
    """The path, and what is posted there."""
    if kind == "add":
        return "/memories", {"messages": text, "user_id": user_id, "infer": False}
    return "/search", {"query": _query(text), "user_id": user_id, "top_k": TOP}


def _query(text: str) -> str:
    return " ".join(text.split()[:8])


def overhead(file: Path, copy: Path, calls: int, seed: int) -> dict[str, Any]:
    """{"add", "search"}: milliseconds over HTTP and by the library, taken in turns on two copies of a bank."""
    shutil.copy(file, copy)
    texts, found = sentences(calls, seed + 2), dict[str, Any]()
    with (
        Memory(copy, llm=ScriptedLLM([]), embedder=HashEmbedder(DIMENSION)) as memory,
        server(file) as url,
        httpx.Client(base_url=url) as http,
    ):

        def serve(kind: Kind, text: str) -> None:
            path, body = _request(kind, text, "user-0")
            http.post(path, json=body).raise_for_status()

        def call(kind: Kind, text: str) -> None:
            if kind == "add":
                memory.add(text, user_id="user-0", infer=False)
            else:
                memory.search(_query(text), user_id="user-0", top_k=TOP)

        for kind in KINDS:
            served, called = list[float](), list[float]()
            for text in texts:
                served.append(_timed(partial(serve, kind, text)))
                called.append(_timed(partial(call, kind, text)))
            found[kind] = {
                "served_ms": spread(served),
                "library_ms": spread(called),
                "overhead_p50_ms": round(float(np.median(served)) - float(np.median(called)), 2),
            }
    return found


def _timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def table(result: Mapping[str, Any]) -> str:
    head = ["", "requests/s", "failed", "lost", "add p50 / p95 / p99 ms", "search p50 / p95 / p99 ms"]
    rows = [_row(f"{one['entries']:,} entries, {one['scopes']} scopes", one) for one in result["runs"]]
    if "mem0" in result:
        theirs = result["mem0"]
        rows.append(_row(f"Mem0 {theirs['version']}'s library, {theirs['entries']:,} entries", theirs))
    lines = [results.table(head, rows), ""]
    for kind, one in result["overhead"].items():
        times = f"{one['served_ms']['p50']:.2f} ms over HTTP, {one['library_ms']['p50']:.2f} by the library"
        lines.append(f"{kind}, one client: {times}: {one['overhead_p50_ms']:.2f} more (goal: at most 3)")
    return "\n".join(lines)


def _row(name: str, one: Mapping[str, Any]) -> list[str]:
    times = [" / ".join(f"{one[f'{kind}_ms'][p]:.1f}" for p in ("p50", "p95", "p99")) for kind in KINDS]
    return [name, f"{one['requests_per_s']:,.1f}", str(one["failed"]), str(one.get("lost", "-")), *times]


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Percentiles of adds and searches, of each run."""
    plt = results.pyplot()
    runs = [(f"{one['entries'] // 1000}k, {one['scopes']} scopes", one) for one in result["runs"]]
    if "mem0" in result:
        runs.append((f"Mem0, {result['mem0']['entries'] // 1000}k", result["mem0"]))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for axis, kind in zip(axes, KINDS, strict=True):
        for number, percentile in enumerate(("p50", "p95", "p99")):
            places = [place + 0.25 * (number - 1) for place in range(len(runs))]
            axis.barh(places, [one[f"{kind}_ms"][percentile] for _, one in runs], 0.25, label=percentile)
        axis.set_yticks(range(len(runs)), [name for name, _ in runs])
        axis.set_xscale("log")
        axis.set_xlabel(f"{kind}, milliseconds")
        axis.invert_yaxis() if kind == "add" else None
    axes[1].legend()
    figure.suptitle(f"{result['config']['clients']} clients at once")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
