"""The mathematics of GRPO and PPO: pure functions of tensors, with shapes in their names.

    B  sampled replies      T  tokens of the longest of them      G  replies to one prompt

`mask_BT` is 1 where a reply has a token and 0 after its end. GRPO's own loss is TRL's; `clipped_policy_loss` and
`kl_k3_BT` say what it computes, and a test holds the two together.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Mean = Literal["token", "sequence"]
_EPSILON = 1e-4  # as in TRL: keeps a group of nearly equal rewards from exploding


class GroupAdvantages(NamedTuple):
    """`varied_B[b]` is False for each group b whose rewards are all the same: it teaches nothing."""

    advantages_BG: Tensor
    varied_B: Tensor


def grpo_advantages_BG(rewards_BG: Tensor, *, scale: bool = True) -> GroupAdvantages:
    """A = (r - mean of the group) / (its standard deviation + 1e-4), the latter unbiased (GRPO, arXiv 2402.03300).

    `scale=False` leaves the division out (Dr. GRPO, arXiv 2503.20783). Advantages of a group whose rewards are all the
    same are exactly 0. G must be at least 2.
    """
    varied_B = (rewards_BG != rewards_BG[:, :1]).any(dim=1)
    advantages_BG = rewards_BG - rewards_BG.mean(dim=1, keepdim=True)
    if scale:
        advantages_BG = advantages_BG / (rewards_BG.std(dim=1, keepdim=True) + _EPSILON)
    return GroupAdvantages(advantages_BG * varied_B[:, None], varied_B)


def gae_BT(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float = 1.0, lam: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (arXiv 1506.02438): (advantages_BT, returns_BT), both 0 outside the mask.

        delta_t = r_t + gamma * V_{t+1} - V_t         V = 0 after the last token
        A_t     = delta_t + gamma * lam * A_{t+1}
        R_t     = A_t + V_t

    Tokens outside the mask are skipped wherever they are, not bootstrapped through.
    """
    advantages_BT = torch.zeros_like(values_BT)
    advantage_B, value_B = values_BT.new_zeros(len(values_BT)), values_BT.new_zeros(len(values_BT))
    for t in reversed(range(values_BT.shape[1])):
        there_B = mask_BT[:, t].bool()
        delta_B = rewards_BT[:, t] + gamma * value_B - values_BT[:, t]
        advantage_B = torch.where(there_B, delta_B + gamma * lam * advantage_B, advantage_B)
        value_B = torch.where(there_B, values_BT[:, t], value_B)
        advantages_BT[:, t] = advantage_B * there_B
    return advantages_BT, (advantages_BT + values_BT) * mask_BT


def masked_mean(values_BT: Tensor, mask_BT: Tensor, over: Mean = "token") -> Tensor:
    """The mean of what the mask shows: over all tokens alike, or first within each reply and then over replies.

    A reply without a token counts as 0 in the second; nothing at all has the mean 0.
    """
    if over == "token":
        return (values_BT * mask_BT).sum() / mask_BT.sum().clamp(min=1)
    return ((values_BT * mask_BT).sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)).mean()


def whiten(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(x - mean) / standard deviation over the masked tokens; 0 outside."""
    mean = masked_mean(values_BT, mask_BT)
    variance = masked_mean((values_BT - mean) ** 2, mask_BT)
    return (values_BT - mean) * torch.rsqrt(variance + 1e-8) * mask_BT


def clipped_policy_loss(
    logp_BT: Tensor,
    old_logp_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float = 0.2,
    mean: Mean = "token",
) -> Tensor:
    """PPO's clipped surrogate (arXiv 1707.06347), negated so that it is minimised.

    ratio = exp(logp - old_logp)
    loss  = mean of max(-A * ratio, -A * clamp(ratio, 1 - clip, 1 + clip))
    """
    ratio_BT = torch.exp(logp_BT - old_logp_BT)
    clamped_BT = ratio_BT.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.max(-advantages_BT * ratio_BT, -advantages_BT * clamped_BT), mask_BT, mean)


def clipped_value_loss(
    values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor, *, clip: float = 0.2
) -> Tensor:
    """Half the mean of the larger of (V - R)^2 and (V clamped to within `clip` of its old value - R)^2, as in verl."""
    clamped_BT = torch.clamp(values_BT, old_values_BT - clip, old_values_BT + clip)
    error_BT = torch.max((values_BT - returns_BT) ** 2, (clamped_BT - returns_BT) ** 2)
    return 0.5 * masked_mean(error_BT, mask_BT)


def kl_k3_BT(logp_BT: Tensor, reference_logp_BT: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference) for each sampled token: exp(d) - d - 1, d = reference - logp.

    Never negative, unbiased for tokens that the policy sampled (http://joschu.net/blog/kl-approx.html).
    """
    d_BT = reference_logp_BT - logp_BT
    return torch.exp(d_BT) - d_BT - 1


def explained_variance(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> float:
    """1 - Var(R - V) / Var(R): 1 for a perfect critic, 0 for one that says the mean; NaN when R does not vary."""

    def variance(x_BT: Tensor) -> Tensor:
        return masked_mean((x_BT - masked_mean(x_BT, mask_BT)) ** 2, mask_BT)

    total = variance(returns_BT)
    return float(1 - variance(returns_BT - values_BT) / total) if total > 0 else float("nan")
