"""The shortcuts of a search give what the long way gives: every cosine, and exactly the highest scores."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from memory_r1.bank.ranking import _ranking
from memory_r1.bank.vectors import Vectors


def unit(rows: int, dimension: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize(
    ("dimension", "batches"),
    [(3, [1]), (48, [1, 63, 1, 500, 4_000]), (384, [10_000, 1, 1]), (384, [4_096, 4_096, 4_095, 1]), (1_536, [600, 9])],
)
def test_every_cosine_is_that_of_the_plain_product_however_the_rows_came(dimension: int, batches: list[int]) -> None:
    rows, (query,) = unit(sum(batches), dimension, 1), unit(1, dimension, 2)
    vectors = Vectors(dimension)
    for end, size in zip(np.cumsum(batches), batches, strict=True):
        vectors.append(rows[end - size : end])
    exact = rows.astype(np.float64) @ query.astype(np.float64)
    cosines = vectors.cosines(query)
    assert len(vectors) == len(rows)
    np.testing.assert_allclose(cosines, exact, atol=2e-6)
    assert cosines.dtype == np.float32
    # Rows apart by less than that may change places, and no others.
    top = np.argsort(-cosines, kind="stable")[:60]
    np.testing.assert_allclose(exact[top], np.sort(exact)[::-1][:60], atol=2e-6)


def test_no_rows_have_no_cosines() -> None:
    assert Vectors(8).cosines(unit(1, 8, 0)[0]).tolist() == []


def test_a_query_of_double_precision_is_taken_as_single() -> None:
    vectors = Vectors(8)
    vectors.append(unit(5, 8, 0))
    (query,) = unit(1, 8, 1)
    assert vectors.cosines(query.astype(np.float64)).tolist() == vectors.cosines(query).tolist()


def longhand(scores: NDArray[np.float32], k: int) -> list[int]:
    rows = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    return [row for row in rows if scores[row] > -np.inf][: max(2 * k, 100)]


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 3_199, 3_232, 3_233, 4_000, 20_011])
@pytest.mark.parametrize("k", [1, 60, 400])
def test_a_ranking_is_the_beginning_of_the_whole_order(size: int, k: int) -> None:
    rng = np.random.default_rng(size)
    several = rng.standard_normal(size).astype(np.float32)
    ties = rng.integers(0, 4, size).astype(np.float32)
    few = np.where(rng.random(size) < 0.01, several, -np.inf).astype(np.float32)
    rising = np.arange(size, dtype=np.float32)
    for scores in (several, ties, few, rising, -rising, np.zeros(size, np.float32), np.full(size, -np.inf, np.float32)):
        assert _ranking(scores, k).tolist() == longhand(scores, k)
