"""What is worth a look in a bank: duplicates, contradictions, stale and never-recalled entries. Nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np

from memory_r1.bank import MemoryBank
from memory_r1.bank.terms import words
from memory_r1.types import MemoryEntry, Scope

Kind = Literal["exact duplicate", "near duplicate", "possible contradiction", "stale", "expired", "never recalled"]

NEAR = 0.96  # cosine of two texts that say nearly the same; measured with e5-small, whose cosines are all high
ALIKE = 0.90
_BLOCK = 1024
_NEGATIONS = frozenset({"not", "no", "never", "nobody", "nothing", "none", "without", "cannot", "dont", "doesnt"}) | {
    *("didnt", "isnt", "wasnt", "arent", "cant", "wont", "hasnt", "havent", "couldnt")
}
_FILLERS = frozenset({"is", "are", "was", "were", "be", "been", "has", "have", "had", "do", "does", "did"}) | {
    *("of", "to", "in", "at", "on", "and", "now", "also")
}


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
    found = [*_pairs(bank, entries), *_single(bank, scope, entries, stale_after)]
    order = {kind: place for place, kind in enumerate(Kind.__args__)}  # type: ignore[attr-defined]
    return sorted(found, key=lambda finding: order[finding.kind])


def _pairs(bank: MemoryBank, entries: list[MemoryEntry]) -> Iterator[Finding]:
    by_scope: dict[Scope, list[MemoryEntry]] = {}
    for entry in entries:
        by_scope.setdefault(entry.scope, []).append(entry)
    for group in by_scope.values():
        vectors = bank.vectors(group)
        for start in range(0, len(group), _BLOCK):
            similarity = vectors[start : start + _BLOCK] @ vectors.T
            for row, column in np.argwhere(similarity >= ALIKE).tolist():
                if start + row < column:
                    finding = compare(group[start + row], group[column], float(similarity[row, column]))
                    if finding:
                        yield finding


def compare(one: MemoryEntry, other: MemoryEntry, similarity: float) -> Finding | None:
    """What two alike entries are to each other, or None."""
    first, second = _said(one.text), _said(other.text)
    if first == second:
        return Finding("exact duplicate", (one, other), "the same words")
    only_one, only_other = set(first) - set(second), set(second) - set(first)
    differing = only_one | only_other
    if differing & _NEGATIONS and len(differing - _NEGATIONS - _FILLERS) <= 2:
        return Finding("possible contradiction", (one, other), "one of them says no")
    left, right = only_one - _FILLERS, only_other - _FILLERS
    if len(left) == len(right) == 1 and len(set(first) & set(second)) >= 2:
        return Finding("possible contradiction", (one, other), f"{min(left)} or {min(right)}?")
    numbers = {word for word in differing if re.fullmatch(r"\d+", word)}
    if similarity >= NEAR and not numbers:
        return Finding("near duplicate", (one, other), f"similarity {similarity:.2f}")
    return None


def _said(text: str) -> list[str]:
    return [word for word in words(text.replace("'", "").replace("’", "")) if word not in ("a", "an", "the")]


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
