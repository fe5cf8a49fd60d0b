"""Where an answer went wrong, as far as records tell: the first step on the way that lost what the question needed.

not written     no memory was made of a turn that tells (only of systems that say which turns they wrote down)
not found       no memory of such a turn was retrieved
not shown       one was retrieved, and did not fit into the prompt
said unknown    one was retrieved, and the answer is that nothing is known
not kept        one was retrieved, and the Answer Agent did not keep it (only where it distils)
found in part   one was kept, but another turn that the answer needs was not found
answered wrong  all that is needed was found, something of it kept, and the answer is wrong
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, get_args

from memory_r1.bench.data import Dataset
from memory_r1.bench.records import Record

Cause = Literal[
    "right", "not written", "not found", "not shown", "said unknown", "not kept", "found in part", "answered wrong"
]
CAUSES: tuple[Cause, ...] = get_args(Cause)
RIGHT = 0.5  # F1 of an answer that counts as right


def cause(
    record: Record, evidence: Collection[str], written: Collection[str] | None = None, *, distilled: bool = True
) -> Cause:
    """Of an answerable question's record. `evidence`: the turns that tell; `written`: those that left a memory."""
    if (record["scores"].get("f1") or 0.0) >= RIGHT:
        return "right"
    found = [turns_of(one) for one in record["retrieved"]]
    shown = found[: len(found) - record["dropped"]]
    tells = {place for place, turns in enumerate(shown) if turns & set(evidence)}
    if not tells:
        if set().union(*found) & set(evidence):
            return "not shown"
        return "not written" if written is not None and not set(written) & set(evidence) else "not found"
    if not record["known"]:
        return "said unknown"
    if distilled and not tells & set(record["used"]):
        return "not kept"
    return "answered wrong" if set().union(*shown) >= set(evidence) else "found in part"


def counted(
    records: Iterable[Record], data: Dataset, read: Mapping[str, Any], *, distilled: bool = True
) -> dict[Cause, int | None] | None:
    """How many answerable questions, of those whose evidence is known, came out so; `read` is a result's.

    "not written" is None where the system does not say which turns it wrote down: such answers are among "not found".
    None for a system whose memories name no turn.
    """
    evidence = {question.id: question.evidence for question in data.answerable if question.evidence}
    asked = [record for record in records if record["question"] in evidence]
    if not any(one.get("turn") for record in asked for one in record["retrieved"]):
        return None
    written = {record["dialogue"]: read.get(record["dialogue"], {}).get("written") for record in asked}
    told = None not in written.values()
    found = [
        cause(record, evidence[record["question"]], written[record["dialogue"]] if told else None, distilled=distilled)
        for record in asked
    ]
    return {one: found.count(one) if told or one != "not written" else None for one in CAUSES}


def turns_of(memory: Mapping[str, Any]) -> set[str]:
    """The turns that a retrieved memory is known to come from."""
    return set(memory.get("turns") or [memory["turn"]] if memory.get("turn") else [])
