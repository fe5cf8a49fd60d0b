"""What an outcome is worth. The measure that evaluation reports is the one that training rewards.

    total = metric - format * unreadable - size * growth + support * kept          (or the metric's increment)

Only the metric is the paper's; the other weights are 0 unless they are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from memory_r1.bench.judge import judge
from memory_r1.bench.metrics import abstained, exact_match, f1
from memory_r1.flow import Flow
from memory_r1.recall import estimated_tokens
from memory_r1.train.samples import Asked
from memory_r1.types import Answer, MemoryEntry

Metric = Literal["exact_match", "f1", "judge_lenient", "judge_strict"]


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """The metric, and the weights of the small terms.

    `increment`: over the same questions answered from the bank left as it was; one group has one such answer, so that
    GRPO's advantages stay the same and PPO's critic has less to explain. `format` is taken off for the share of replies
    that could not be read, `size` for growth of the bank (1 when all facts are just added), and `support` is given for
    the F1 between the memories kept and those that the question's evidence wrote.
    """

    metric: Metric = "exact_match"
    increment: bool = False
    format: float = 0.0
    size: float = 0.0
    support: float = 0.0


@dataclass(frozen=True, slots=True)
class Reward:
    """`parts`: each term before its weight. `operations` and `answers` are what it was given for, to be read."""

    total: float
    parts: Mapping[str, float]
    operations: Sequence[str] = ()
    answers: Sequence[str] = ()
    readable: Sequence[bool] = field(default=())  # of each reply of the trained agent


def rightness(answer: Answer, asked: Asked, metric: Metric) -> Flow[float]:
    """How right an answer is, 0 to 1; where nothing tells, abstaining is. An unreadable judgement counts as wrong."""
    if not asked.answerable:
        return abstained(answer.text, answer.known)
    if metric == "exact_match":
        return exact_match(answer.text, asked.answer)
    if metric == "f1":
        return f1(answer.text, asked.answer)
    reading: Literal["lenient", "strict"] = "lenient" if metric == "judge_lenient" else "strict"
    return float((yield from judge(asked.text, asked.answer, answer.text, reading)) or False)


def combined(config: RewardConfig, parts: Mapping[str, float]) -> float:
    """The terms with their weights; those that are absent count as 0."""
    return (
        parts["metric"]
        - parts.get("before", 0.0)
        - config.format * parts.get("unreadable", 0.0)
        - config.size * parts.get("growth", 0.0)
        + config.support * parts.get("support", 0.0)
    )


def growth(before: Sequence[MemoryEntry], after: Sequence[MemoryEntry], facts: Collection[str]) -> float:
    """How much longer the bank became, as a share of its new facts' length; below 0 when it became shorter."""
    grown = _tokens(entry.text for entry in after) - _tokens(entry.text for entry in before)
    return grown / max(1, _tokens(facts))


def overlap(kept: Collection[int], supporting: Collection[int]) -> float:
    """F1 of two sets of places; 1 when both are empty."""
    if not kept and not supporting:
        return 1.0
    return 2 * len(set(kept) & set(supporting)) / (len(set(kept)) + len(set(supporting)))


def _tokens(texts: Iterable[str]) -> int:
    return sum(map(estimated_tokens, texts))
