"""The mathematics of training on numbers worked by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from memory_r1.train.objectives import (
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    gae_BT,
    grpo_advantages_BG,
    kl_k3_BT,
    masked_mean,
    whiten,
)

close = torch.testing.assert_close
RAGGED = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])


def test_a_group_is_measured_against_its_own_mean_and_deviation() -> None:
    advantages, varied = grpo_advantages_BG(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3]]))
    # mean 1/4, deviation sqrt((9/16 + 3/16) / 3) = 1/2
    close(advantages[0], torch.tensor([0.75, -0.25, -0.25, -0.25]) / (0.5 + 1e-4))
    assert advantages[1].tolist() == [0.0] * 4
    assert varied.tolist() == [True, False]


def test_a_group_can_be_left_unscaled() -> None:
    advantages, _ = grpo_advantages_BG(torch.tensor([[1.0, 0.0]]), scale=False)
    close(advantages, torch.tensor([[0.5, -0.5]]))


def test_gae_with_a_shorter_reply_ends_where_that_reply_ends() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 9.0]])
    values = torch.tensor([[0.5, 0.25, 0.5], [0.5, 0.5, 9.0]])
    advantages, returns = gae_BT(rewards, values, RAGGED, gamma=1.0, lam=0.5)
    # reply 1: deltas -0.25, 0.25, 0.5 -> A = 0.5; 0.25 + 0.25 = 0.5; -0.25 + 0.25 = 0
    # reply 2: deltas 0, 0.5 -> A = 0.5; 0.25
    close(advantages, torch.tensor([[0.0, 0.5, 0.5], [0.25, 0.5, 0.0]]))
    close(returns, torch.tensor([[0.5, 0.75, 1.0], [0.75, 1.0, 0.0]]))


def test_gae_of_a_group_in_which_nothing_was_said_is_nothing() -> None:
    nothing = torch.zeros(0, 0)
    assert [one.shape for one in gae_BT(nothing, nothing, nothing)] == [(0, 0), (0, 0)]


def test_gae_discounts_by_gamma() -> None:
    advantages, _ = gae_BT(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2), torch.ones(1, 2), gamma=0.5, lam=1.0)
    close(advantages, torch.tensor([[0.5, 1.0]]))


def test_gae_skips_a_token_that_is_masked_in_the_middle() -> None:
    mask = torch.tensor([[1.0, 0.0, 1.0]])
    rewards, values = torch.tensor([[0.0, 5.0, 1.0]]), torch.tensor([[0.25, 5.0, 0.5]])
    advantages, _ = gae_BT(rewards, values, mask)
    close(advantages, torch.tensor([[0.75, 0.0, 0.5]]))


def test_without_a_critic_and_discount_the_advantage_is_the_reward() -> None:
    advantages, returns = gae_BT(torch.tensor([[0.0, 0.0, 0.7]]), torch.zeros(1, 3), torch.ones(1, 3))
    close(advantages, torch.full((1, 3), 0.7))
    close(returns, advantages)


def test_means_weigh_tokens_or_replies_alike() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 6.0, 99.0]])
    assert masked_mean(values, RAGGED).item() == pytest.approx(16 / 5)
    assert masked_mean(values, RAGGED, "sequence").item() == pytest.approx((2 + 5) / 2)
    assert masked_mean(values, torch.zeros(2, 3)).item() == 0.0


def test_the_policy_loss_is_clipped_only_where_that_makes_it_worse() -> None:
    ratios = torch.tensor([[1.5, 0.5, 1.5, 0.5]])
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    loss = clipped_policy_loss(ratios.log(), torch.zeros(1, 4), advantages, torch.ones(1, 4), clip=0.2)
    # -min(1.5, 1.2), -min(0.5, 0.8), max(1.5, 1.2), max(0.5, 0.8)
    assert loss.item() == pytest.approx((-1.2 - 0.5 + 1.5 + 0.8) / 4)


def test_the_value_loss_takes_the_worse_of_the_value_and_the_clamped_one() -> None:
    values, old, returns = torch.tensor([[1.0, 0.1]]), torch.zeros(1, 2), torch.tensor([[1.0, 1.0]])
    # 1.0 is right, but 0.2 is all it may move: (0.2 - 1)^2; 0.1 stays: (0.1 - 1)^2
    assert clipped_value_loss(values, old, returns, torch.ones(1, 2)).item() == pytest.approx((0.64 + 0.81) / 4)


def test_k3_is_zero_for_equal_policies_and_positive_otherwise() -> None:
    kl = kl_k3_BT(torch.tensor([[0.0, -1.0]]), torch.tensor([[0.0, -1.0 + math.log(2)]]))
    close(kl, torch.tensor([[0.0, 2 - math.log(2) - 1]]))


def test_whitening_leaves_mean_zero_and_deviation_one_over_the_mask() -> None:
    white = whiten(torch.tensor([[1.0, 3.0, 5.0], [1.0, 3.0, 99.0]]), torch.tensor([[1.0, 1.0, 0.0]] * 2))
    close(white, torch.tensor([[-1.0, 1.0, 0.0]] * 2))


def test_explained_variance_of_a_perfect_a_blind_and_a_wrong_critic() -> None:
    returns, mask = torch.tensor([[0.0, 1.0]]), torch.ones(1, 2)
    assert explained_variance(returns, returns, mask) == 1.0
    assert explained_variance(torch.full((1, 2), 0.5), returns, mask) == 0.0
    assert explained_variance(1 - returns, returns, mask) == -3.0
    assert math.isnan(explained_variance(returns, torch.ones(1, 2), mask))
