"""Means, intervals and differences on numbers worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_r1.bench.statistics import (
    Difference,
    Interval,
    interval,
    macro_mean,
    means_by,
    micro_mean,
    paired_difference,
    quantiles,
)
from memory_r1.errors import InvalidInput


def test_a_macro_mean_counts_categories_alike_and_a_micro_mean_questions() -> None:
    values, categories = [1.0, 1.0, 0.0, 0.5], ["temporal", "temporal", "temporal", "multi-hop"]
    assert micro_mean(values) == 0.625
    assert means_by(values, categories) == {"multi-hop": (1, 0.5), "temporal": (3, pytest.approx(2 / 3))}
    assert macro_mean(values, categories) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_whole_dialogues_are_drawn() -> None:
    # a has three rights, b one wrong: of the four equally likely draws aa gives 1, ab and ba 3/4, bb 0.
    assert interval([1, 1, 1, 0], ["a", "a", "a", "b"], seed=0) == Interval(0.0, 1.0, "dialogue")
    # Dialogues that are alike leave nothing to chance, whatever their questions.
    assert interval([1, 0, 0, 1], ["a", "a", "b", "b"], seed=0) == Interval(0.5, 0.5, "dialogue")


def test_a_dialogue_weighs_by_its_questions() -> None:
    # b's share is 1/3 of 3 questions, a's 1 of 1. A draw has i times a and 2-i times b; of the means 1 (aa),
    # (1 + 1)/(1 + 3) = 1/2 (ab) and 1/3 (bb), none is their plain average 2/3.
    drawn = [interval([1, 1, 0, 0], ["a", "b", "b", "b"], seed, resamples=1) for seed in range(50)]
    assert {round(one.low, 4) for one in drawn} == {1.0, 0.5, 0.3333}
    assert all(one.low == one.high for one in drawn)


def test_with_one_dialogue_its_questions_are_drawn_and_the_interval_says_so() -> None:
    # The mean of 100 draws of a fair 0/1 has a standard deviation of .05: about .5 - 1.96 * .05 to .5 + 1.96 * .05.
    found = interval([0, 1] * 50, ["a"] * 100, seed=0)
    assert found == Interval(pytest.approx(0.402, abs=0.011), pytest.approx(0.598, abs=0.011), "question")


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=20), st.integers(0, 99))
def test_an_interval_is_the_same_for_a_seed_and_lies_within_the_values(
    scored: list[tuple[float, str]], seed: int
) -> None:
    values, groups = [value for value, _ in scored], [group for _, group in scored]
    found = interval(values, groups, seed, resamples=50)
    assert found == interval(values, groups, seed, resamples=50)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_a_paired_difference_is_of_the_same_questions() -> None:
    # By dialogue: a +1 on 1 question, b 0 on 1. Draws: aa 1, ab and ba 1/2, bb 0; three of four are above 0.
    found = paired_difference([1, 1], [0, 1], ["a", "b"], seed=0)
    assert found == Difference(0.5, Interval(0.0, 1.0, "dialogue"), pytest.approx(0.75, abs=0.02))
    # What is the same for every question is certain, however much the questions differ.
    steady = paired_difference([0.9, 0.2, 0.5], [0.8, 0.1, 0.4], ["a", "b", "c"], seed=0)
    assert (steady.mean, steady.interval.low, steady.interval.high) == pytest.approx((0.1, 0.1, 0.1))
    assert steady.above_zero == 1.0
    assert paired_difference([0, 1], [0, 1], ["a", "b"], seed=0).above_zero == 0.0


def test_quantiles_are_interpolated() -> None:
    # Places 0.5 * 4 = 2 and 0.95 * 4 = 3.8: 4 + 0.8 * (10 - 4).
    assert quantiles([1, 2, 3, 4, 10]) == {"p50": 3.0, "p95": 8.8}
    assert quantiles([2.0]) == {"p50": 2.0, "p95": 2.0}


def test_scores_that_are_not_there_or_do_not_fit_are_refused() -> None:
    for nothing in (lambda: micro_mean([]), lambda: interval([], [], 0), lambda: quantiles([])):
        with pytest.raises(InvalidInput, match="no scores"):
            nothing()
    with pytest.raises(InvalidInput, match="3 and 2 scores"):
        paired_difference([1, 2, 3], [1, 2], ["a", "b", "c"], seed=0)
    with pytest.raises(InvalidInput, match="2 values have 1 groups"):
        means_by([1, 2], ["a"])
