"""What people mention in passing: families of a single beat, each made from one line of the table [remarks].

    say | fact | question | answer
    say | fact | question | answer | topics

{n}, {friend}, {when} and {on} are as in world.py. "{x:cello/drum kit}" in what is said draws one of these values, and
{x} stands for it from there on. A line under `sad` is told and heard with a sad face.

Topics ("job partner") are what else a remark touches: whoever makes it has no family of world.py and no other remark of
the same topic, which could contradict it or answer the same question. A topic of a family stands wherever what is said
could answer, or make doubtful, one of its questions; the others ("smell") keep remarks apart from each other.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from memory_r1.train.wording import Split, wording
from memory_r1.train.world import Ask, Beat, Family

_SLOT = re.compile(r"\{(\w+):([^{}]*)\}")


class Remarks(NamedTuple):
    """The families, and their words as `wording` gives those of the others."""

    families: tuple[Family, ...]
    words: Mapping[str, tuple[str, ...]]


@functools.cache
def remarks(split: Split) -> Remarks:
    """All remarks of a split, as `read` reads them."""
    lists = wording(split)
    families: list[Family] = []
    words: dict[str, tuple[str, ...]] = {}
    for mood in ("glad", "sad"):
        for number, line in enumerate(lists[f"remarks.{mood}"], 1):
            family, its_words = read(f"{mood}-{number}", line, sad=mood == "sad")
            families.append(family)
            words |= its_words
    return Remarks(tuple(families), MappingProxyType(words))


def read(name: str, line: str, *, sad: bool) -> tuple[Family, dict[str, tuple[str, ...]]]:
    """One line as a family, and the words of it."""
    say, fact, question, answer, *topics = line.split(" | ")
    drawn = {slot: tuple(values.split("/")) for slot, values in _SLOT.findall(say)}
    say = _SLOT.sub(r"{\1}", say)
    dated = "{when}" in say
    answer = answer.replace("{on}", "{told_on}")  # which outlives the telling
    ask = Ask("it", "temporal" if "{told_on}" in answer else "single-hop", answer, ("told",))
    beat = Beat("told", "ADD", "past" if dated else None, sad=sad)
    own = tuple(" ".join(topics).split()) or (name,)
    family = Family(name, {slot: f"{name}.{slot}" for slot in drawn}, (beat,), (("told",),), (ask,), own, "remarks")
    pools = {f"pools.{name}.{slot}": values for slot, values in drawn.items()}
    return family, {
        **pools,
        f"{name}.told.say": (say,),
        f"{name}.told.fact": (fact,),
        f"{name}.ask.it": (question,),
    }
