"""Fair credit over long dialogues: the advantages of LoGo-GRPO (Memory-R2, arXiv 2605.21768), as pure functions.

    G  rollouts of one segment of turns        L  snapshots of the bank        M  alternatives from each of them
    N  replies (decisions) to learn from       E  episodes: the G rollouts, then the L * M alternatives

From the paper, and the code released with it: rollouts of a whole dialogue are one group, whose advantage all their
decisions share; what is played again from a snapshot of the bank is a group of its own; both kinds go as samples of
their own into one clipped loss. There both weigh alike, as by default here.

Our reading: the weights. A snapshot lies before one decision, not before a whole session, so that the alternatives are
replies to one prompt. Of an alternative only that first reply has an advantage, since the banks differ after it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memory_r1.train.objectives import grpo_advantages_BG


class Credit(NamedTuple):
    """Advantages by episode, weighted: of the rollouts, and of the alternatives from each snapshot."""

    global_G: Tensor
    local_LM: Tensor

    @property
    def all_E(self) -> Tensor:
        return torch.cat([self.global_G, self.local_LM.flatten()])


def global_advantages_G(rewards_G: Tensor, *, scale: bool = True) -> Tensor:
    """A_g = (R_g - mean R) / (std R + 1e-4), with R_g the reward of what rollout g left at the end."""
    return grpo_advantages_BG(rewards_G[None], scale=scale).advantages_BG[0]


def local_advantages_LM(rewards_LM: Tensor, *, scale: bool = True) -> Tensor:
    """A_lm = (r_lm - mean r_l) / (std r_l + 1e-4): only what began from the same bank is compared.

    r_lm is the reward of the bank right after the turn of snapshot l. There may be no snapshot at all.
    """
    return grpo_advantages_BG(rewards_LM, scale=scale).advantages_BG


def logo_advantages(
    rewards_G: Tensor,
    rewards_LM: Tensor,
    *,
    global_weight: float = 1.0,
    local_weight: float = 1.0,
    scale: bool = True,
) -> Credit:
    """Both kinds with their weights, for one loss: w_global * A_g and w_local * A_lm."""
    return Credit(
        global_weight * global_advantages_G(rewards_G, scale=scale),
        local_weight * local_advantages_LM(rewards_LM, scale=scale),
    )


def shared_N(advantages_E: Tensor, episode_N: Tensor) -> Tensor:
    """Each reply's advantage: that of its episode, however many replies the episode has."""
    return advantages_E[episode_N]
