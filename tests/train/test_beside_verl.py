"""A second opinion for developers: verl, which the paper used. Collected only where it is installed (conftest.py)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from verl.trainer.ppo import core_algos as algos

from memory_r1.train.objectives import (
    Mean,
    clipped_policy_loss,
    clipped_value_loss,
    gae_BT,
    grpo_advantages_BG,
    kl_k3_BT,
    whiten,
)

close = torch.testing.assert_close


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.99, 0.95), (0.9, 0.0)])
def test_as_in_verl(gamma: float, lam: float) -> None:
    torch.manual_seed(0)
    mask = (torch.arange(7) < torch.tensor([[7], [3], [1]])).float()
    rewards, values = torch.zeros(3, 7), torch.randn(3, 7) * mask
    rewards[torch.arange(3), mask.sum(1).long() - 1] = torch.tensor([1.0, 0.0, 0.5])
    advantages, returns = gae_BT(rewards, values, mask, gamma=gamma, lam=lam)
    theirs, their_returns = algos.compute_gae_advantage_return(rewards, values, mask, gamma, lam)
    close(returns, their_returns * mask)
    tokens = mask.sum()
    close(whiten(advantages, mask) * ((tokens - 1) / tokens).sqrt(), theirs * mask)  # theirs divides by n - 1
    returns, old = torch.randn(3, 7), torch.randn(3, 7)
    loss, _ = algos.compute_value_loss(values, returns, old, mask, 0.2)
    close(clipped_value_loss(values, old, returns, mask), loss)


@pytest.mark.parametrize("scale", [True, False])
def test_group_advantages_are_as_in_verl(scale: bool) -> None:
    rewards_BG = torch.tensor([[1.0, 0.0, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0], [0.2, 0.9, 0.1, 0.3]])
    rewards_NT = torch.nn.functional.pad(rewards_BG.reshape(-1, 1), (2, 0))  # a reply is paid at its last token
    mask_NT, groups_N = torch.ones(12, 3), np.repeat(["a", "b", "c"], 4)
    theirs, _ = algos.compute_grpo_outcome_advantage(rewards_NT, mask_NT, groups_N, norm_adv_by_std_in_grpo=scale)
    close(grpo_advantages_BG(rewards_BG, scale=scale).advantages_BG, theirs[:, 0].reshape(3, 4), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("mean", "theirs"), [("token", "token-mean"), ("sequence", "seq-mean-token-mean")])
def test_the_policys_loss_and_its_divergence_are_as_in_verl(mean: Mean, theirs: str) -> None:
    torch.manual_seed(0)
    mask = (torch.arange(7) < torch.tensor([[7], [3], [1]])).float()
    old, advantages = -torch.rand(3, 7), torch.randn(3, 7)
    logp = old + 0.3 * torch.randn(3, 7)  # most ratios outside of 1 +- 0.2, none beyond verl's second clip at 3
    loss, clipped, *_ = algos.compute_policy_loss(
        old, logp, advantages, mask, cliprange=0.2, cliprange_low=0.2, cliprange_high=0.2, loss_agg_mode=theirs
    )
    assert 0 < clipped < 1
    close(clipped_policy_loss(logp, old, advantages, mask, mean=mean), loss)
    close(kl_k3_BT(logp, old), algos.kl_penalty(logp, old, "low_var_kl"))
