"""PPO's critic: the base model once more, with an adapter and a head of its own, that says what a state is worth.

The frozen weights are the policy's very tensors, so that a critic costs an adapter and not a second model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from memory_r1.train.attention import Layout, share_prompts
from memory_r1.train.policy import pack


class Critic(nn.Module):  # type: ignore[misc]
    """A value for each place that is asked for. It begins at 0 everywhere, so that PPO begins as REINFORCE."""

    def __init__(self, backbone: Any, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def _no_split_modules(self) -> Any:
        """By which Accelerate finds the layers to share out."""
        return self.backbone._no_split_modules

    def get_input_embeddings(self) -> Any:
        return self.backbone.get_input_embeddings()

    def forward(self, ids_1S: Tensor, positions_1S: Tensor, layout: Layout, before_N: Tensor) -> Tensor:
        share_prompts(self.backbone)
        output = self.backbone(input_ids=ids_1S, position_ids=positions_1S, layout=layout, use_cache=False)
        hidden_NH = output.last_hidden_state[0, before_N]
        return self.head(hidden_NH.to(self.head.weight.dtype)).sum(dim=-1)  # of one; FSDP2 wants no view


def critic_of(model: Any, lora: Any | None) -> Critic:
    """A critic for a base model that has no adapter yet.

    With a PEFT config `lora` the base weights are shared and frozen; with None the critic is a whole copy.
    """
    shared = {id(parameter): parameter for parameter in model.parameters()} if lora is not None else {}
    backbone = copy.deepcopy(model.base_model, shared)
    width = model.config.get_text_config().hidden_size
    if lora is not None:
        from peft import get_peft_model

        backbone = get_peft_model(backbone, lora)
    return Critic(backbone, width)


def group_values(critic: Any, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]]) -> Tensor:
    """The value before each token of G replies to one prompt, (G, T), padded with 0: one pass, as in `score_group`."""
    device = next(critic.parameters()).device
    packed = pack(prompt_ids, replies, device)
    values_N = critic(packed.ids_S[None], packed.positions_S[None], packed.layout, packed.before_N).float()
    return torch.nn.utils.rnn.pad_sequence(list(values_N.split(list(packed.lengths))), batch_first=True)
