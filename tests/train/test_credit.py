"""Fair credit over long dialogues, worked by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from memory_r1.train.credit import global_advantages_G, local_advantages_LM, logo_advantages, shared_N

NONE = torch.zeros(0, 4)


def test_a_rollout_is_measured_against_the_others_of_its_segment() -> None:
    # mean 0.5, unbiased standard deviation 1/sqrt(3) = 0.57735
    found = global_advantages_G(torch.tensor([1.0, 0.0, 1.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor([0.8659, -0.8659, 0.8659, -0.8659]), atol=1e-4, rtol=0)


def test_alternatives_are_measured_within_their_snapshot_alone() -> None:
    """The second snapshot is of a poorer bank: its best earns less than the first's worst, and is still the best."""
    rewards_LM = torch.tensor([[0.8, 0.6], [0.0, 0.4]])
    expected = torch.tensor([[0.1, -0.1], [-0.2, 0.2]])
    torch.testing.assert_close(local_advantages_LM(rewards_LM, scale=False), expected)
    # two of them: deviation |a - b| / sqrt(2), so each is 1 / sqrt(2) away, whatever their distance
    half = 2**-0.5
    found = local_advantages_LM(rewards_LM)
    torch.testing.assert_close(found, torch.tensor([[half, -half], [-half, half]]), atol=1e-3, rtol=0)


def test_both_are_combined_with_their_weights() -> None:
    credit = logo_advantages(
        torch.tensor([1.0, 0.0]), torch.tensor([[0.5, 1.0]]), global_weight=0.5, local_weight=2.0, scale=False
    )
    torch.testing.assert_close(credit.global_G, torch.tensor([0.25, -0.25]))
    torch.testing.assert_close(credit.local_LM, torch.tensor([[-0.5, 0.5]]))
    torch.testing.assert_close(credit.all_E, torch.tensor([0.25, -0.25, -0.5, 0.5]))


def test_by_default_both_weigh_alike() -> None:
    credit = logo_advantages(torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(credit.global_G, credit.local_LM[0])


def test_what_does_not_vary_teaches_nothing_and_there_may_be_no_snapshot() -> None:
    credit = logo_advantages(torch.tensor([0.3, 0.3]), torch.tensor([[0.7, 0.7], [0.0, 1.0]]), scale=False)
    assert credit.all_E.tolist() == [0.0, 0.0, 0.0, 0.0, -0.5, 0.5]
    assert logo_advantages(torch.tensor([1.0, 0.0]), NONE, scale=False).all_E.tolist() == [0.5, -0.5]


def test_every_decision_of_a_rollout_shares_its_advantage() -> None:
    found = shared_N(torch.tensor([0.5, -0.5, 2.0]), torch.tensor([0, 0, 0, 1, 2]))
    assert found.tolist() == [0.5, 0.5, 0.5, -0.5, 2.0]
