"""Replies sampled by vLLM, colocated on the trainer's GPU, in place of the sampler that shares a prefix.

vLLM shares prompts by its own prefix cache. Its log-probabilities differ a little from the trainer's, so that the
trainer scores its replies again, and weighs each token by how much likelier it is under its own weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import torch
from peft.tuners.lora import LoraLayer
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
        rows = [list(prompt) for prompt, count in zip(prompts, counts, strict=True) for _ in range(count)]
        # All at once, so that the engine batches them; each row is one reply, as counts differ.
        _, replies, logprobs, _ = engine.generate(prompts=rows, images=None, num_generations=1)
        sampled = iter(
            Sampled(list(ids), [math.nan if one[0] is None else one[0] for one in of_tokens], ids[-1] in end_ids)
            for ids, of_tokens in zip(replies, logprobs, strict=True)
        )
        return [list(islice(sampled, count)) for count in counts]

    return sample


def merged_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The weights of a PEFT model, by the base model's names, as they are with the active adapters; none is changed.

    TRL merges the adapters into the model and takes them out again, which in bfloat16 leaves other weights behind.
    """
    adapted = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    for name, parameter in model.named_parameters():
        if model.prefix in name:
            continue
        weight, layer = parameter.data, adapted.get(name.removesuffix(".base_layer.weight"))
        if layer is not None and name.endswith(".base_layer.weight"):
            for adapter in layer.active_adapters:
                if adapter in layer.lora_A:
                    weight = weight + layer.get_delta_weight(adapter)
        yield name.removeprefix("base_model.model.").replace(".base_layer", ""), weight.to(parameter.dtype)


def importance_BT(logp_BT: Tensor, sampled_logp_BT: Tensor, most: float) -> Tensor:
    """How much likelier each token is under the trainer than where it was sampled, `most` at most.

    Truncated importance sampling, as TRL's "token_truncate". Tokens that the sampler could not score weigh 1.
    """
    return torch.exp((logp_BT - sampled_logp_BT).nan_to_num(nan=0.0)).clamp(max=most)
