"""Ranking what a search may find: exact cosine and BM25, fused by reciprocal rank.

The rows are those of one home as they lie there, or those of several homes, joined: the best of all are not the best of
each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank.postings import Found, Holder, Posted, bm25

RRF_CONSTANT = 5.0
"""Chosen on LoCoMo's train and validation dialogues, as are BM25's constants."""

CARRIED = 0.5
"""What of a turn's score the turn after it gets: a reply is found by what it replies to. Chosen like RRF_CONSTANT, with
turns as entries: recall at 10 rose from .71 and .73 to .80 and .74; from 0.4 to 0.6 it is much the same."""

_GROUP = 32  # scores of which one stands for all


class Rows(NamedTuple):
    """What is ranked, row by row. Rows that are not `allowed` are never hits and count nowhere.

    `similarity`: the cosines, or None to rank by words alone. `speaker`: a row's place in `names`. `after`: the row of
    the kept turn that follows a kept turn, else -1; None where no turns are ranked.
    """

    keys: NDArray[np.int64]
    allowed: NDArray[np.bool_]
    similarity: NDArray[np.float32] | None
    length: NDArray[np.float32]
    speaker: NDArray[np.int32]
    names: Sequence[str | None]
    postings: Sequence[Holder]
    after: NDArray[np.int32] | None = None


class Hit(NamedTuple):
    """`score`: fused rank in 0..1, 1 when first in both rankings; `similarity`: cosine."""

    key: int
    score: float
    similarity: float


def joined(homes: Iterable[Rows], terms: NDArray[np.uint32] | None) -> Rows:
    """The allowed rows of several homes as those of one, so that a word is as rare as it is among all of them.

    Keeps nothing of a home but copies of these rows.
    """
    keys, similarity = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    length, speaker = [np.zeros(0, np.float32)], [np.zeros(0, np.int32)]
    names: dict[str | None, int] = {}
    posted: dict[int, list[Posted]] = {term: [] for term in ([] if terms is None else np.unique(terms).tolist())}
    follows = [np.zeros(0, np.int32)]
    by_vector, with_turns, count = True, False, 0
    for home in homes:
        rows = np.flatnonzero(home.allowed)
        if not len(rows):
            continue
        place = np.cumsum(home.allowed) + (count - 1)
        for term, found in posted.items():
            for part in home.postings:
                there = part.of(np.uint32(term))
                kept = home.allowed[there.rows]
                found.append(Posted(place[there.rows[kept]], there.counts[kept], there.lengths[kept]))
        keys.append(home.keys[rows])
        length.append(home.length[rows])
        code = np.array([names.setdefault(name, len(names)) for name in home.names], dtype=np.int32)
        speaker.append(code[home.speaker[rows]])
        follows.append(np.full(len(rows), -1, np.int32))
        if home.after is not None:
            with_turns = True
            next_turn = home.after[rows]
            found_too = (next_turn >= 0) & home.allowed[next_turn]
            follows[-1][found_too] = place[next_turn[found_too]]
        if home.similarity is None:
            by_vector = False
        else:
            similarity.append(home.similarity[rows])
        count += len(rows)
    return Rows(
        np.concatenate(keys),
        np.ones(count, dtype=bool),
        np.concatenate(similarity) if by_vector else None,
        np.concatenate(length),
        np.concatenate(speaker),
        list(names),
        [
            Found(
                {
                    term: Posted(*map(np.concatenate, zip(*found, strict=True)))
                    for term, found in posted.items()
                    if found
                }
            )
        ],
        np.concatenate(follows) if with_turns else None,
    )


def best(rows: Rows, terms: NDArray[np.uint32] | None, k: int, *, per_speaker: bool = False) -> list[Hit]:
    """The best `k` hits, best first; half of them of each speaker when `per_speaker` and there are just two.

    Then there may be one more. `terms` may be None to rank by vectors alone.
    """
    if not rows.allowed.any():
        return []
    groups = [rows.allowed]
    if per_speaker:
        present = np.flatnonzero(np.bincount(rows.speaker[rows.allowed], minlength=len(rows.names)))
        if len(present) == 2:
            k = (k + 1) // 2
            groups = [rows.allowed & (rows.speaker == speaker) for speaker in present]
    similarity = rows.similarity
    text = None if terms is None else bm25(rows.postings, terms, rows.length, rows.allowed)
    found = []
    for group in groups:
        rankings = []
        if similarity is not None:
            rankings.append(_ranking(np.where(group, similarity, -np.inf), k))
        if text is not None:
            rankings.append(_ranking(np.where(group & (text > 0), text, -np.inf), k))
        fused = _fuse(rankings)
        if rows.after is not None:
            fused = _carried(*fused, rows.after, group)
        found.append([part[:k] for part in fused])
    places, scores = map(np.concatenate, zip(*found, strict=True))
    near = np.zeros(len(places), dtype=np.float32) if similarity is None else similarity[places]
    order = np.lexsort((rows.keys[places], -near, -scores))
    scores = np.minimum(scores, 1.0)
    return list(map(Hit, rows.keys[places[order]].tolist(), scores[order].tolist(), near[order].tolist()))


def _carried(
    rows: NDArray[np.int64], scores: NDArray[np.float64], after: NDArray[np.int32], group: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(rows, scores), best first, where turns that may be found have got CARRIED of the score of the one before."""
    there = after[rows]
    carried = (there >= 0) & group[there]
    named = np.concatenate((rows, there[carried].astype(np.int64)))
    reached, where = np.unique(named, return_inverse=True)
    total = np.asarray(np.bincount(where, np.concatenate((scores, CARRIED * scores[carried]))), dtype=np.float64)
    order = np.lexsort((reached, -total))
    return reached[order], total[order]


def _ranking(scores: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Rows of the highest finite scores, best first, and among equals in their order.

    Deep enough that fusion can lift what one ranking has low.
    """
    depth = max(2 * k, 100)
    rows = _candidates(scores, depth)
    some = scores[rows]
    if len(rows) > depth:  # what many rows have equally can make the candidates many
        least = np.partition(some, len(rows) - depth)[len(rows) - depth]
        above = rows[some > least]
        rows = np.sort(np.concatenate((above, rows[some == least][: depth - len(above)])))
        some = scores[rows]
    best: NDArray[np.int64] = rows[np.argsort(-some, kind="stable")]
    return best


def _candidates(scores: NDArray[np.floating], depth: int) -> NDArray[np.int64]:
    """Rows among which the `depth` highest finite scores are, in order, without a partition of all scores.

    Of groups of scores, `depth` have a highest one that reaches the `depth`-th highest of them: so do as many rows.
    """
    lowest = np.finfo(scores.dtype).min
    groups = len(scores) // _GROUP
    if groups > depth:
        highest = scores[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0)
        lowest = max(lowest, np.partition(highest, groups - depth)[groups - depth])
    return np.flatnonzero(scores >= lowest)


def _fuse(rankings: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(rows, scores), best first, by reciprocal rank (Cormack et al. 2009): first place in every ranking scores 1."""
    if len(rankings) == 1:
        return rankings[0], (RRF_CONSTANT + 1) / (RRF_CONSTANT + 1 + np.arange(len(rankings[0]), dtype=np.float64))
    shares = [(RRF_CONSTANT + 1) / (RRF_CONSTANT + 1 + np.arange(len(ranking))) for ranking in rankings]
    rows, where = np.unique(np.concatenate(rankings), return_inverse=True)
    scores = np.asarray(np.bincount(where, np.concatenate(shares) / len(rankings), len(rows)), dtype=np.float64)
    best = np.lexsort((rows, -scores))
    return rows[best], scores[best]
