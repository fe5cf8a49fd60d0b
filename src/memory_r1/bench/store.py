"""How fast the memory bank is by itself: `memory-r1 bench store`.

Texts are sentences of 8-25 words from a Zipf vocabulary, vectors are random and looked up, so that no embedder is
measured. Times are milliseconds of wall clock; files lie in the system's temporary folder, on whose disk a durable
add depends most: that is why every add stands beside a bare SQLite commit of the same row, taken in turns with it.
"""

from __future__ import annotations

import gc
import sqlite3
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.bench import mem0_store, results
from memory_r1.bench.statistics import quantiles
from memory_r1.bench.store_report import against_mem0, goals
from memory_r1.bench.store_report import plot as plot
from memory_r1.bench.store_report import table as table
from memory_r1.errors import InvalidInput
from memory_r1.types import Scope

SIZES = (1_000, 10_000, 100_000)
DIMENSION = 384
TOP = 60
QUERIES = 200
ADDS = 200
FRESH = 30  # searches right after an add
FORKS = (200, 1_000)
BATCH = 10_000  # rows of a bulk add in one transaction

Progress = Callable[[str], None]
Mode = Literal["vector", "hybrid", "text"]
MODES: tuple[Mode, ...] = ("vector", "hybrid", "text")


class StubEmbedder:
    """Looks up vectors made beforehand, so that embedding costs next to nothing."""

    name, dimension = "stub", DIMENSION

    def __init__(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self._row = {text: row for row, text in enumerate(texts)}
        self._vectors = vectors

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        del query
        return self._vectors[[self._row[text] for text in texts]]


@dataclass(frozen=True)
class Material:
    """What is stored and asked: `texts` of the entries, `more` for single adds, `queries`, and all their vectors."""

    texts: list[str]
    more: list[str]
    queries: list[str]
    vectors: NDArray[np.float32]

    @property
    def embedder(self) -> StubEmbedder:
        return StubEmbedder(self.texts + self.more + self.queries, self.vectors)


def material(count: int, seed: int) -> Material:
    rng = np.random.default_rng(seed)
    vocabulary = _vocabulary(rng)
    texts = _sentences(rng, vocabulary, count, 8, 25)
    more = _sentences(rng, vocabulary, ADDS + FRESH, 8, 25)
    queries = _sentences(rng, vocabulary, QUERIES, 6, 10)
    vectors = rng.standard_normal((count + len(more) + len(queries), DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Material(texts, more, queries, vectors)


def sentences(count: int, seed: int) -> list[str]:
    """Texts like those that are stored here, for others to measure with."""
    rng = np.random.default_rng(seed)
    return _sentences(rng, _vocabulary(rng), count, 8, 25)


def _vocabulary(rng: np.random.Generator, size: int = 5_000) -> list[str]:
    """Different words of one to three syllables, short ones first, as frequent words are."""
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
    found: dict[str, None] = {}
    while len(found) < size:
        length = 1 + (len(found) >= 50) + (len(found) >= 1_000)
        found["".join(rng.choice(syllables, length))] = None
    return list(found)


def _sentences(rng: np.random.Generator, vocabulary: Sequence[str], count: int, low: int, high: int) -> list[str]:
    lengths = rng.integers(low, high + 1, count)
    weights = 1 / np.arange(1, len(vocabulary) + 1)
    words = rng.choice(len(vocabulary), size=int(lengths.sum()), p=weights / weights.sum())
    ends = np.cumsum(lengths)
    return [" ".join(vocabulary[word] for word in words[end - n : end]) for end, n in zip(ends, lengths, strict=True)]


def run(
    sizes: Sequence[int] = SIZES,
    out: Path | None = None,
    against: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure, write store.json and store.png into the folder `out`, and return the result.

    "banks" by size and layout, "fork" by size, "goals". `against="mem0"` also fills Mem0 2.2.1 with a local Qdrant, up
    to 10,000 entries, in an environment of its own: "mem0".
    """
    if against not in (None, "mem0"):
        raise InvalidInput(f"cannot compare with {against!r}; only mem0")
    if not sizes or min(sizes) < 20:
        raise InvalidInput("sizes are numbers of entries, 20 or more")
    say = progress or (lambda _: None)
    given = material(max(*sizes, *FORKS), seed)
    config = {
        "sizes": list(sizes), "seed": seed, "dimension": DIMENSION, "top": TOP, "queries": QUERIES, "adds": ADDS,
        "journal": "WAL", "synchronous": "FULL",
    }  # fmt: skip
    result: dict[str, Any] = {"benchmark": "store", **results.provenance(), "config": config}
    with tempfile.TemporaryDirectory(prefix="memory-r1-bench-") as temporary:
        folder = Path(temporary)
        layouts = [(size, scopes) for size in sizes for scopes in (1, 100 if size >= 100_000 else 10)]
        result["banks"] = [_bank(folder, given, size, scopes, say) for size, scopes in layouts]
        result["fork"] = {str(size): _fork(folder, given, size, say) for size in FORKS}
        if against:
            few = [size for size in sizes if size <= 10_000] or [10_000]
            theirs = mem0_store.measure(
                folder, given.texts, given.more[:ADDS], given.queries, given.vectors, few, TOP, say
            )
            result["mem0"] = {**theirs, "times_faster": against_mem0(theirs["banks"], result["banks"])}
    result["goals"] = goals(result)
    result["machine"]["load_1_minute_after"] = results.load()
    if out:
        results.save(result, out, plot, say)
    return result


def _bank(folder: Path, given: Material, size: int, scopes: int, say: Progress) -> dict[str, Any]:
    """Every figure of one bank; entry i is in scope i modulo `scopes`."""
    say(f"{size:,} entries in {scopes} scope{'s' * (scopes > 1)}")
    path = folder / f"{size}-{scopes}.db"
    owners = [Scope(user_id=f"user-{number}") for number in range(scopes)]
    embedder = given.embedder
    entries = [NewEntry(text, owners[row % scopes]) for row, text in enumerate(given.texts[:size])]
    figures: dict[str, Any] = {"entries": size, "scopes": scopes}
    with MemoryBank(path, embedder=embedder) as bank:
        start = time.perf_counter()
        for first in range(0, size, BATCH):
            bank.add_many(entries[first : first + BATCH])
        figures["bulk_rows_per_s"] = round(size / (time.perf_counter() - start))
    figures["file_mb"] = _mb(path.stat().st_size)
    start = time.perf_counter()
    with MemoryBank(path, embedder=embedder) as bank:
        figures["open_ms"] = _ms(start)
        start = time.perf_counter()
        bank.search(given.queries[0], owners[0], TOP)
        figures["first_search_ms"] = _ms(start)
        for owner in owners:
            bank.search(given.queries[0], owner, TOP)
        for mode in MODES:
            figures[f"{mode}_ms"] = quantiles([_searched(bank, given, owners, i, mode) for i in range(QUERIES)])
        if scopes > 1:
            figures["beside_one_scope"] = _beside_one(folder, bank, given, owners, size // scopes)
        fresh = []
        for i, text in enumerate(given.more[ADDS:]):
            bank.add_many([NewEntry(text, owners[i % scopes])])
            start = time.perf_counter()
            bank.search(given.queries[i], owners[i % scopes], TOP)
            fresh.append(_ms(start))
        figures["search_after_add_ms"] = quantiles(fresh)
        figures |= _adds(folder / f"{path.stem}-bare.db", bank, given, owners, size)
    figures["memory_mb"] = _memory(path, given, owners)
    return figures


def _memory(path: Path, given: Material, owners: Sequence[Scope]) -> float:
    """MB that Python and numpy hold once every scope has been searched; SQLite's page cache of 2 MB comes on top."""
    embedder = given.embedder
    tracemalloc.start()
    try:
        with MemoryBank(path, embedder=embedder) as bank:
            for owner in owners:
                bank.search(given.queries[0], owner, TOP)
            gc.collect()
            return _mb(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()


def _searched(bank: MemoryBank, given: Material, owners: Sequence[Scope], i: int, mode: Mode) -> float:
    """Milliseconds of query `i`; ten queries in turn go to one scope, as in a conversation."""
    start = time.perf_counter()
    bank.search(given.queries[i], owners[i // 10 % len(owners)], TOP, mode=mode)
    return _ms(start)


def _beside_one(
    folder: Path, many: MemoryBank, given: Material, owners: Sequence[Scope], size: int
) -> dict[str, float]:
    """p50 in one of many scopes over p50 in a bank of one scope of as many entries, searched in turns."""
    ratios: dict[str, float] = {}
    with MemoryBank(folder / f"one-{size}.db", embedder=given.embedder) as one:
        one.add_many([NewEntry(text, owners[0]) for text in given.texts[: size - one.count()]])
        for mode in MODES[:2]:
            one.search(given.queries[0], owners[0], TOP, mode=mode)
            pairs = [
                (_searched(many, given, owners, i, mode), _searched(one, given, owners[:1], i, mode))
                for i in range(QUERIES)
            ]
            ours, alone = np.median(pairs, axis=0)
            ratios[mode] = round(float(ours / alone), 3)
    return ratios


def _adds(bare_path: Path, bank: MemoryBank, given: Material, owners: Sequence[Scope], size: int) -> dict[str, Any]:
    """Durable single adds, and in turns with them a commit of the same row to a plain table of as many rows."""
    bare = sqlite3.connect(bare_path, isolation_level=None)
    bare.execute("PRAGMA journal_mode=WAL")
    bare.execute("PRAGMA synchronous=FULL")
    bare.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT, vector BLOB, metadata TEXT)")
    insert = "INSERT INTO item (text, vector, metadata) VALUES (?, ?, ?)"
    embedder = given.embedder
    bare.execute("BEGIN")
    for text in given.texts[:size]:
        bare.execute(insert, (text, embedder.embed([text])[0].tobytes(), "{}"))
    bare.execute("COMMIT")

    def ours(i: int) -> float:
        entry = NewEntry(given.more[i], owners[i % len(owners)])
        start = time.perf_counter()
        bank.add_many([entry])
        return _ms(start)

    def plain(i: int) -> float:
        row = (given.more[i], embedder.embed([given.more[i]])[0].tobytes(), "{}")
        start = time.perf_counter()
        bare.execute("BEGIN IMMEDIATE")
        bare.execute(insert, row)
        bare.execute("COMMIT")
        return _ms(start)

    times: dict[Any, list[float]] = {ours: [], plain: []}
    for i in range(ADDS):
        for add in (ours, plain) if i % 2 else (plain, ours):
            times[add].append(add(i))
    bare.close()
    figures = {"add_ms": quantiles(times[ours]), "bare_commit_ms": quantiles(times[plain])}
    ratio = figures["add_ms"]["p50"] / figures["bare_commit_ms"]["p50"]
    return {**figures, "add_over_bare_commit": round(ratio, 3)}


def _fork(folder: Path, given: Material, size: int, say: Progress) -> dict[str, float]:
    """p50 milliseconds of a private copy in memory, of the whole bank and of its one scope."""
    say(f"fork at {size:,} entries")
    owner = Scope(user_id="user-0")
    with MemoryBank(folder / f"fork-{size}.db", embedder=given.embedder) as bank:
        bank.add_many([NewEntry(text, owner) for text in given.texts[:size]])
        times: dict[str, list[float]] = {"whole_ms": [], "scope_ms": []}
        for _ in range(20):
            for name, scope in (("whole_ms", None), ("scope_ms", owner)):
                start = time.perf_counter()
                bank.fork(scope).close()
                times[name].append(_ms(start))
    return {name: quantiles(values)["p50"] for name, values in times.items()}


def _ms(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


def _mb(size: float) -> float:
    return round(size / 1e6, 2)
