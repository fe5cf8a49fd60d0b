"""Where an answer went wrong, as far as records tell: the first step on the way that lost what the question needed.

not written     no memory was made of a turn that tells (only of systems that say which turns they wrote down)
not found       no memory of such a turn was retrieved
said unknown    one was retrieved, and the answer is that nothing is known
not kept        one was retrieved, and the Answer Agent did not keep it (only where it distils)
found in part   one was kept, but another turn that the answer needs was not found
answered wrong  all that is needed was found, something of it kept, and the answer is wrong
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from memory_r1.bench.records import Record

Cause = Literal["right", "not written", "not found", "said unknown", "not kept", "found in part", "answered wrong"]
CAUSES: tuple[Cause, ...] = get_args(Cause)
RIGHT = 0.5  # F1 of an answer that counts as right


def cause(
    record: Record, evidence: Collection[str], written: Collection[str] | None = None, *, distilled: bool = True
) -> Cause:
    """Of an answerable question's record. `evidence`: the turns that tell; `written`: those that left a memory."""
    if (record["scores"].get("f1") or 0.0) >= RIGHT:
        return "right"
    tells = {place for place, one in enumerate(record["retrieved"]) if one.get("turn") in evidence}
    if not tells:
        return "not written" if written is not None and not set(written) & set(evidence) else "not found"
    if not record["known"]:
        return "said unknown"
    if distilled and not tells & set(record["used"]):
        return "not kept"
    found = {one.get("turn") for one in record["retrieved"]}
    return "answered wrong" if found >= set(evidence) else "found in part"
