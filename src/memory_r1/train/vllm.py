"""Replies sampled by vLLM, colocated on the trainer's GPU, in place of the sampler that shares a prefix.

vLLM shares prompts by its own prefix cache. Its log-probabilities differ a little from the trainer's, so that the
trainer scores its replies again, and weighs each token by how much likelier it is under its own weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from memory_r1.train.policy import Sampled, Sampler


class Engine(Protocol):
    """What is used of TRL's VLLMGeneration."""

    max_completion_length: int

    def sync_weights(self) -> None: ...

    def generate(self, *, prompts: list[list[int]], images: None, num_generations: int) -> tuple[Any, ...]: ...


def engine_sampler(engine: Engine, end_ids: frozenset[int]) -> Sampler:
    def sample(prompts: Sequence[Sequence[int]], counts: Sequence[int], max_tokens: int) -> list[list[Sampled]]:
        engine.max_completion_length = max_tokens
        return [group(prompt, G) for prompt, G in zip(prompts, counts, strict=True)]

    def group(prompt_ids: Sequence[int], G: int) -> list[Sampled]:
        prompts = [list(prompt_ids) for _ in range(G)]
        _, replies, logprobs, _ = engine.generate(prompts=prompts, images=None, num_generations=G)
        return [
            Sampled(list(ids), [math.nan if one[0] is None else one[0] for one in of_tokens], ids[-1] in end_ids)
            for ids, of_tokens in zip(replies, logprobs, strict=True)
        ]

    return sample


def importance_BT(logp_BT: Tensor, sampled_logp_BT: Tensor, most: float) -> Tensor:
    """How much likelier each token is under the trainer than where it was sampled, `most` at most.

    Truncated importance sampling, as TRL's "token_truncate". Tokens that the sampler could not score weigh 1.
    """
    return torch.exp((logp_BT - sampled_logp_BT).nan_to_num(nan=0.0)).clamp(max=most)
