"""Whether an UPDATE joins a memory and a fact, as it is meant to, or loses what they told, or invents.

A model can write anything in a memory's place, and small ones do. What is compared are words, in any language; the few
that tell nothing are known for English alone, so that elsewhere the bounds are easier to keep.
"""

from __future__ import annotations

import re
from collections.abc import Set
from itertools import pairwise
from typing import Literal

from memory_r1.bank.terms import words

KEPT = 1 / 5  # of the telling words of the memory, and of the fact; gold updates of generated dialogues keep a third
OWN = 1 / 2  # of its words may be of neither, such as "two" and "instead"; of gold updates at most 0.43 are
_STEM = 5  # letters that are the same in "adopted" and "adopting"
_NAME = re.compile(r"(?<![.!?])\s\W?([^\W\d_a-z]\w+)")  # a capital that begins no sentence
_TELL_NOTHING = frozenset(
    words(
        "a an and are as at been both but by for from had has have her his in is it its no not of on or she so than "
        "s that the their then they this to was were which who with"
    )
)


def flaw(text: str, memory: str, fact: str, speaker: str | None) -> Literal["invents", "loses"] | None:
    """What is wrong with `text` in the place of `memory`, given a fact about the speaker."""
    of_either = {*words(memory), *words(fact), *words(speaker or "")}
    said = words(text)
    names = {word for name in _NAME.findall(text) for word in words(name)}
    own = [(word, after) for word, after in pairwise([*said, ""]) if not _among(word, of_either)]
    counted = {word for word, after in own if len(word) == 1 and _among(after, of_either)}  # "2 dogs"
    if len(own) > OWN * len(said) or any(word in names or (word.isdigit() and word not in counted) for word, _ in own):
        return "invents"
    if min(_kept(memory, set(said), speaker), _kept(fact, set(said), speaker)) < KEPT:
        return "loses"
    return None


def _kept(source: str, said: Set[str], speaker: str | None) -> float:
    """The share of its telling words that are said; all of none."""
    telling = set(words(source)) - set(words(speaker or "")) - _TELL_NOTHING
    return sum(_among(word, said) for word in telling) / len(telling) if telling else 1.0


def _among(word: str, others: Set[str]) -> bool:
    """Whether it is one of these, or begins as one of them does."""
    if word in others or len(word) < 3 or word.isdigit():
        return word in others
    return any(
        len(other) >= 3 and (other.startswith(word[:_STEM]) or word.startswith(other[:_STEM])) for other in others
    )
