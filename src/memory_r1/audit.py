"""What is worth a look in a bank: suspicious entries, duplicates, contradictions, stale and never-recalled ones.

Nothing is changed.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank import MemoryBank
from memory_r1.bank.terms import words
from memory_r1.suspicion import suspicions
from memory_r1.types import MemoryEntry, Scope

Kind = Literal[
    "suspicious", "exact duplicate", "near duplicate", "possible contradiction", "stale", "expired", "never recalled"
]

# Cosines of e5-small on 73 hand-made pairs of short facts, lowest to highest: the same said otherwise 0.97 to 1.00; one
# word another (a city, a job, a number) 0.86 to 0.99, or a synonym 0.93 to 1.00; a negation 0.85 to 0.93; something
# else about the same thing 0.83 to 0.93. Of the 16,836 pairs of facts of LoCoMo's conv-26, 8 reach NEAR.
SAME = 0.98  # one word differs, and it still means the same
NEAR = 0.95  # two ways to say it
ALIKE = 0.84  # near enough to contradict each other, when nearly all words are the same
_DIFFERING = 2  # words in which contradicting statements may differ, not counting negations and fillers
_BLOCK = 1024
_BUCKETS = 512
_NEGATIONS = frozenset({"not", "no", "never", "nobody", "nothing", "none", "without", "cannot", "dont", "doesnt"}) | {
    *("didnt", "isnt", "wasnt", "arent", "werent", "cant", "wont", "hasnt", "havent", "hadnt", "couldnt", "wouldnt")
}
_FILLERS = frozenset({"is", "are", "was", "were", "be", "been", "has", "have", "had", "do", "does", "did", "can"}) | {
    *("of", "to", "in", "at", "on", "and", "now", "also")
}
_NUMBERS = frozenset(
    {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at. `entries`: the entry, or the two that are alike; `why` in a few words."""

    kind: Kind
    entries: tuple[MemoryEntry, ...]
    why: str


def audit(
    bank: MemoryBank, scope: Scope | None = None, *, stale_after: timedelta = timedelta(days=180)
) -> list[Finding]:
    """Findings of a scope, or of the whole file, most certain first.

    Two entries are compared only within one scope. A contradiction is a guess from the words (the same statement
    with a negation, another number or one other word), meant to be read by a person.
    """
    entries = bank.all(scope, show_expired=True)
    said = bank.all(scope, show_expired=True, turns=True)
    try:
        found = [*_suspicious(bank, scope, said), *_pairs(bank, entries), *_single(bank, scope, entries, stale_after)]
    finally:
        _said.cache_clear()  # it holds texts, which a purge would not reach
    order = {kind: place for place, kind in enumerate(Kind.__args__)}  # type: ignore[attr-defined]
    return sorted(found, key=lambda finding: order[finding.kind])


def _pairs(bank: MemoryBank, entries: list[MemoryEntry]) -> Iterator[Finding]:
    by_scope: dict[Scope, list[MemoryEntry]] = {}
    for entry in entries:
        by_scope.setdefault(entry.scope, []).append(entry)
    for group in by_scope.values():
        vectors, bags = bank.vectors(group), _bags(group)
        sizes = bags.sum(axis=1)
        for start in range(0, len(group), _BLOCK):
            rows = slice(start, start + _BLOCK)
            similarity = vectors[rows] @ vectors.T
            differing = sizes[rows, None] + sizes - 2 * (bags[rows] @ bags.T)
            worth = (similarity >= NEAR) | ((similarity >= ALIKE) & (differing <= _DIFFERING))
            for row, column in np.argwhere(worth).tolist():
                if start + row < column:
                    finding = compare(group[start + row], group[column], float(similarity[row, column]))
                    if finding:
                        yield finding


def _suspicious(bank: MemoryBank, scope: Scope | None, entries: list[MemoryEntry]) -> Iterator[Finding]:
    """What reads like instructions for a model, or was made from what did."""
    flagged = bank.flagged(scope)
    for entry in entries:
        reasons = dict.fromkeys([*flagged.get(entry.id, ()), *suspicions(entry.speaker, entry.text)])
        if reasons:
            yield Finding("suspicious", (entry,), ", ".join(reasons))


def _bags(entries: list[MemoryEntry]) -> NDArray[np.float32]:
    """(entries, _BUCKETS) 1.0 where a text has a word. Rows differ in no more places than the texts in words."""
    bags = np.zeros((len(entries), _BUCKETS), dtype=np.float32)
    for row, entry in enumerate(entries):
        for word in set(_said(entry.text)) - _NEGATIONS - _FILLERS:
            bags[row, zlib.crc32(word.encode()) % _BUCKETS] = 1
    return bags


def compare(one: MemoryEntry, other: MemoryEntry, similarity: float) -> Finding | None:
    """What two alike entries are to each other, or None."""
    first, second = _said(one.text), _said(other.text)
    if first == second:
        return Finding("exact duplicate", (one, other), "the same words")
    only_one, only_other = set(first) - set(second), set(second) - set(first)
    differing = only_one | only_other
    denies = [not _NEGATIONS.isdisjoint(said) for said in (first, second)]
    if denies[0] != denies[1] and len(differing - _NEGATIONS - _FILLERS) <= _DIFFERING:
        return Finding("possible contradiction", (one, other), "one of them says no")
    left, right = only_one - _FILLERS, only_other - _FILLERS
    numbers = any(_is_number(word) for word in differing)
    one_word = len(left) == len(right) == 1 and len(set(first) & set(second)) >= 2
    if one_word and (numbers or similarity < SAME):
        return Finding("possible contradiction", (one, other), f"{min(left)} or {min(right)}?")
    if similarity >= NEAR and not numbers:
        return Finding("near duplicate", (one, other), f"similarity {similarity:.2f}")
    return None


def _is_number(word: str) -> bool:
    return word.isdecimal() or word in _NUMBERS


@functools.lru_cache(maxsize=1 << 16)
def _said(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text.replace("'", "").replace("’", "")) if word not in ("a", "an", "the"))


def _single(
    bank: MemoryBank, scope: Scope | None, entries: list[MemoryEntry], stale_after: timedelta
) -> Iterator[Finding]:
    recalls, now = bank.recalls(scope), bank.now()
    for entry in entries:
        times, last = recalls.get(entry.id, (0, None))
        if entry.expires_at is not None and entry.expires_at <= now:
            yield Finding("expired", (entry,), f"since {entry.expires_at:%Y-%m-%d}")
        elif now - max(entry.updated_at, last or entry.updated_at) > stale_after:
            yield Finding(
                "stale",
                (entry,),
                f"not changed or recalled since {max(entry.updated_at, last or entry.updated_at):%Y-%m-%d}",
            )
        elif not times:
            yield Finding("never recalled", (entry,), "no search has returned it yet")
