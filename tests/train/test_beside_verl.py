"""A second opinion for developers: verl, which the paper used. Collected only where it is installed (conftest.py)."""

from __future__ import annotations

import pytest
import torch
from verl.trainer.ppo import core_algos as algos

from memory_r1.train.objectives import clipped_value_loss, gae_BT, whiten

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
    close(whiten(advantages, mask), theirs * mask, atol=1e-3, rtol=1e-3)  # theirs divides by n - 1
    returns, old = torch.randn(3, 7), torch.randn(3, 7)
    loss, _ = algos.compute_value_loss(values, returns, old, mask, 0.2)
    close(clipped_value_loss(values, old, returns, mask), loss)
