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
    # One of five dialogues is wrong: it is drawn k times of five with binomial chances, 0 in 33 % and 3 or more in 6 %,
    # 4 or more in 0.7 %, so that 2.5 % of the draws lie at or below 2/5.
    found = interval([1, 1, 1, 1, 1, 1, 1, 1, 0, 0], list("aabbccddee"), seed=0)
    assert found == Interval(pytest.approx(0.4), 1.0, "dialogue")
    # Dialogues that are alike leave nothing to chance, whatever their questions.
    assert interval([1, 0] * 5, list("aabbccddee"), seed=0) == Interval(0.5, 0.5, "dialogue")


def test_a_dialogue_weighs_by_its_questions() -> None:
    # b's share is 1/3 of 3 questions, a's 1 of 1. A draw has i times a and 2-i times b; of the means 1 (aa),
    # (1 + 1)/(1 + 3) = 1/2 (ab) and 1/3 (bb), none is their plain average 2/3.
    values, groups = [1, 1, 0, 0] + [0] * 3, ["a", "b", "b", "b", "c", "d", "e"]
    means = {round(interval(values, groups, seed, resamples=1).low, 4) for seed in range(2000)}
    # i draws of a (one right of one), j of b (one right of three), the rest wrong, one each; five times a is rare.
    assert means | {1.0} == {round((i + j) / (5 + 2 * j), 4) for i in range(6) for j in range(6 - i)}


@pytest.mark.parametrize("dialogues", [1, 2, 4])
def test_of_few_dialogues_the_questions_are_drawn_and_the_interval_says_so(dialogues: int) -> None:
    # The mean of 100 draws of a fair 0/1 has a standard deviation of .05: about .5 - 1.96 * .05 to .5 + 1.96 * .05.
    found = interval([0, 1] * 50, [str(i % dialogues) for i in range(100)], seed=0)
    assert found == Interval(pytest.approx(0.402, abs=0.011), pytest.approx(0.598, abs=0.011), "question")


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdefg")), min_size=1, max_size=20), st.integers(0, 99))
def test_an_interval_is_the_same_for_a_seed_and_lies_within_the_values(
    scored: list[tuple[float, str]], seed: int
) -> None:
    values, groups = [value for value, _ in scored], [group for _, group in scored]
    found = interval(values, groups, seed, resamples=50)
    assert found == interval(values, groups, seed, resamples=50)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_a_paired_difference_is_of_the_same_questions() -> None:
    # One dialogue of five is better by 1, the others alike: a draw of five has it with a chance of 1 - .8 ** 5 = .672.
    found = paired_difference([1, 1, 0, 1, 0], [0, 1, 0, 1, 0], list("abcde"), seed=0)
    assert found == Difference(0.2, Interval(0.0, pytest.approx(0.6), "dialogue"), pytest.approx(0.672, abs=0.02))
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
