"""Attention over packed replies, against the whole scores under a mask."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_models import tiny_model

from memory_r1.train.attention import NAME, layout_of, packed_attention, share_prompts
from memory_r1.train.policy import score_group


@pytest.mark.parametrize(("heads", "shared"), [(6, 2), (3, 3)])
def test_replies_see_the_prompt_and_themselves(heads: int, shared: int) -> None:
    generator = torch.Generator().manual_seed(0)
    P, lengths, D = 5, (3, 1, 4), 8
    S = P + sum(lengths)
    query_HSD = torch.randn(heads, S, D, generator=generator, requires_grad=True)
    key_KSD, value_KSD = (torch.randn(shared, S, D, generator=generator, requires_grad=True) for _ in range(2))
    owner_S = torch.tensor([-1] * P + [g for g, length in enumerate(lengths) for _ in range(length)])
    sees_SS = torch.ones(S, S, dtype=torch.bool).tril() & ((owner_S[None] == -1) | (owner_S[None] == owner_S[:, None]))

    key_HSD, value_HSD = (one.repeat_interleave(heads // shared, 0) for one in (key_KSD, value_KSD))
    scores_HSS = (query_HSD @ key_HSD.mT * 0.3).masked_fill(~sees_SS, float("-inf"))
    expected_HSD = torch.softmax(scores_HSS, -1) @ value_HSD
    found_HSD = packed_attention(query_HSD, key_KSD, value_KSD, layout_of(P, lengths), 0.3)
    torch.testing.assert_close(found_HSD, expected_HSD)

    wanted = torch.randn(heads, S, D, generator=generator)
    inputs = (query_HSD, key_KSD, value_KSD)
    torch.testing.assert_close(
        torch.autograd.grad((found_HSD * wanted).sum(), inputs),
        torch.autograd.grad((expected_HSD * wanted).sum(), inputs),
    )


def test_a_model_that_shares_prompts_answers_others_as_before() -> None:
    model = tiny_model("llama").eval()
    before = model(torch.tensor([[5, 6, 7, 8]])).logits
    padded = {"input_ids": torch.tensor([[0, 0, 5, 6]]), "attention_mask": torch.tensor([[0, 0, 1, 1]])}
    padded_before = model(**padded).logits
    share_prompts(model)
    assert model.config._attn_implementation == NAME
    torch.testing.assert_close(model(torch.tensor([[5, 6, 7, 8]])).logits, before)
    torch.testing.assert_close(model(**padded).logits, padded_before)
    score_group(model, [5, 6], [[7], [8]])
    torch.testing.assert_close(model(torch.tensor([[5, 6, 7, 8]])).logits, before)
