"""Attention over a prompt and its packed replies, in which nothing is computed that nobody sees.

A mask over the whole sequence would have each reply's scores with all other replies computed and thrown away: with G
replies of T tokens to a prompt of P, (P + G T)² scores where P² / 2 + G T (P + T) are wanted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "memory_r1_packed"


class Layout(NamedTuple):
    """A prompt of `P` tokens, then G replies one after the other: which of their N tokens stands where, (G, T).

    Past the end of a reply `place_GT` is 0. `place_N` says where in the flattened (G, T) each of the N tokens stands.
    """

    P: int
    place_GT: Tensor
    place_N: Tensor


def layout_of(P: int, lengths: tuple[int, ...], device: torch.device | str = "cpu") -> Layout:
    lengths_G = torch.tensor(lengths)  # on the CPU, so that no GPU is waited for
    step_T = torch.arange(max(lengths))
    there_GT = step_T[None] < lengths_G[:, None]
    start_G = lengths_G.cumsum(0) - lengths_G
    place_GT = (start_G[:, None] + step_T[None]) * there_GT
    return Layout(P, place_GT.to(device), there_GT.flatten().nonzero()[:, 0].to(device))


def packed_attention(query_HSD: Tensor, key_KSD: Tensor, value_KSD: Tensor, layout: Layout, scale: float) -> Tensor:
    """(H, S, D). The prompt's tokens see what stands before them, a reply's the prompt and itself up to there.

    H heads of queries share K heads of keys and values, H / K neighbours each (grouped-query attention).
    """
    P, H, D, K = layout.P, query_HSD.shape[0], query_HSD.shape[-1], len(key_KSD)
    R, (G, T) = H // K, layout.place_GT.shape
    prompt_KRPD = scaled_dot_product_attention(
        query_HSD[:, :P].view(K, R, P, D),
        key_KSD[:, None, :P].expand(-1, R, -1, -1),
        value_KSD[:, None, :P].expand(-1, R, -1, -1),
        is_causal=True,
        scale=scale,
    )
    # A head's R groups of queries lie one after the other, so that its keys need not be repeated for each.
    own_GKRTD = _chosen(query_HSD[:, P:], layout.place_GT).view(K, R, G, T, D).permute(2, 0, 1, 3, 4)
    sees_TX = torch.ones(T, P + T, dtype=torch.bool, device=query_HSD.device).tril(P)
    seen_GKRTD = scaled_dot_product_attention(
        own_GKRTD.reshape(G, K, R * T, D),
        _continued(key_KSD, layout),
        _continued(value_KSD, layout),
        attn_mask=sees_TX.repeat(R, 1),
        scale=scale,
    ).view(G, K, R, T, D)
    seen_HGTD = seen_GKRTD.permute(1, 2, 0, 3, 4).reshape(H, G * T, D)
    return torch.cat([prompt_KRPD.reshape(H, P, D), _chosen(seen_HGTD, layout.place_N)], dim=1)


def _continued(one_KSD: Tensor, layout: Layout) -> Tensor:
    """(G, K, P + T, D): for each reply the prompt's, then its own."""
    P, G = layout.P, len(layout.place_GT)
    own_GKTD = _chosen(one_KSD[:, P:], layout.place_GT).transpose(0, 1)
    return torch.cat([one_KSD[None, :, :P].expand(G, -1, -1, -1), own_GKTD], dim=2)


def _chosen(one_HSD: Tensor, places: Tensor) -> Tensor:
    """one_HSD[:, places], whose gradient a GPU sums without sorting the places first."""
    return one_HSD.index_select(1, places.flatten()).unflatten(1, places.shape)


def share_prompts(model: Any) -> None:
    """Let a Hugging Face model, wrapped or not, attend by `packed_attention` where it is called with `layout=Layout`.

    Called without, it attends as before, by PyTorch's own kernels.
    """
    inner = getattr(model, "module", model)  # as wrapped by DDP
    if inner.config._attn_implementation != NAME:
        AttentionInterface.register(NAME, _attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner  # as wrapped by PEFT
        inner.set_attn_implementation(NAME)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    if layout is None:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return attended
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return packed_attention(query[0], key[0], value[0], layout, scale).transpose(0, 1)[None], None
