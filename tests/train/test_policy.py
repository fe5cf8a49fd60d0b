"""A group's shared prompt: the same numbers as each prompt and reply on their own, stock."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import byte_tokenizer, tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from memory_r1.errors import InvalidInput
from memory_r1.flow import Roles
from memory_r1.train.policy import (
    Policy,
    block_mask,
    pack,
    sample_group,
    sample_groups,
    score_group,
    shared_length,
    side_by_side,
)
from memory_r1.types import Message, Prompt

PROMPT = [5, 9, 77, 12, 200, 31, 8]
REPLIES = [[4, 88, 3, 0], [17], [9, 9, 0], [4, 88, 3, 0]]
KINDS = pytest.mark.parametrize(
    ("kind", "attention"), [("llama", "sdpa"), ("llama", "eager"), ("qwen2", "sdpa"), ("qwen2", "eager")]
)


def stock(model: Any, temperature: float = 1.0) -> tuple[Any, Any]:
    """Each prompt and reply as a row of its own, right-padded: (logp_GT, mask_GT)."""
    T = max(map(len, REPLIES))
    ids = torch.tensor([PROMPT + reply + [0] * (T - len(reply)) for reply in REPLIES])
    mask = torch.tensor([[1] * len(reply) + [0] * (T - len(reply)) for reply in REPLIES])
    attention = torch.cat([torch.ones(len(REPLIES), len(PROMPT), dtype=torch.long), mask], 1)
    logits = model(input_ids=ids, attention_mask=attention).logits[:, len(PROMPT) - 1 : -1] / temperature
    logp = torch.log_softmax(logits, -1).gather(-1, ids[:, len(PROMPT) :, None])[..., 0]
    return logp * mask, mask.float()


@KINDS
def test_log_probabilities_and_gradients_are_those_of_the_stock_path(kind: str, attention: str) -> None:
    model = tiny_model(kind, attention)
    weights = torch.linspace(-1, 1, 16).reshape(4, 4)
    gradients = []
    for logp, mask in (stock(model, 0.7), score_group(model, PROMPT, REPLIES, temperature=0.7)[:2]):
        ((logp * weights).sum() / mask.sum()).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        model.zero_grad()
    (theirs, their_mask), ours = stock(model, 0.7), score_group(model, PROMPT, REPLIES, temperature=0.7)
    torch.testing.assert_close(ours.logp_GT, theirs, atol=1e-5, rtol=1e-5)
    assert ours.mask_GT.tolist() == their_mask.tolist()
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradients[1][name], gradient, atol=2e-6, rtol=1e-4, msg=name)


@KINDS
def test_sampled_log_probabilities_are_those_that_scoring_finds(kind: str, attention: str) -> None:
    model = tiny_model(kind, attention).eval()
    generator = torch.Generator().manual_seed(1)
    group = sample_group(
        model, PROMPT, 5, max_tokens=9, end_ids=frozenset(range(60)), temperature=1.3, generator=generator
    )
    assert len({len(one.token_ids) for one in group}) > 1  # some ended before others
    scored = score_group(model, PROMPT, [one.token_ids for one in group], temperature=1.3)
    for g, one in enumerate(group):
        assert one.ended == (one.token_ids[-1] < 60)
        assert all(token >= 60 for token in one.token_ids[:-1])
        found = scored.logp_GT[g, : len(one.logprobs)].detach()
        torch.testing.assert_close(torch.tensor(one.logprobs), found, atol=1e-5, rtol=1e-5)


def test_greedy_replies_are_what_generate_gives() -> None:
    model = tiny_model("llama").eval()
    ours = sample_group(model, PROMPT, 1, max_tokens=12, end_ids=frozenset({0}), temperature=0)[0].token_ids
    theirs = model.generate(torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False)[0, len(PROMPT) :].tolist()
    assert ours == theirs


@pytest.mark.parametrize("shared", [[], [11, 7, 7, 250, 3]], ids=["nothing shared", "a shared beginning"])
@KINDS
def test_replies_to_different_prompts_side_by_side_are_as_likely_as_scoring_finds(
    kind: str, attention: str, shared: list[int]
) -> None:
    model = tiny_model(kind, attention).eval()
    prompts, counts = [shared + PROMPT, [*shared, 3, 4], shared + [90] * 12], [3, 4, 2]
    generator = torch.Generator().manual_seed(1)
    groups = sample_groups(
        model, prompts, counts, max_tokens=9, end_ids=frozenset(range(60)), temperature=1.3, generator=generator
    )
    assert [len(group) for group in groups] == counts
    assert len({len(one.token_ids) for group in groups for one in group}) > 2  # so that rows were left behind
    for prompt_ids, group in zip(prompts, groups, strict=True):
        scored = score_group(model, prompt_ids, [one.token_ids for one in group], temperature=1.3)
        for g, one in enumerate(group):
            assert one.ended == (one.token_ids[-1] < 60)
            found = scored.logp_GT[g, : len(one.logprobs)].detach()
            torch.testing.assert_close(torch.tensor(one.logprobs), found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompts", [[PROMPT, [3], [90] * 12], [PROMPT, PROMPT[:4], [*PROMPT, 8, 8], [*PROMPT[:6], 2]]])
def test_greedy_replies_side_by_side_are_those_given_one_by_one(prompts: list[list[int]]) -> None:
    model, options = tiny_model("llama").eval(), {"max_tokens": 8, "temperature": 0}
    together = sample_groups(model, prompts, [1] * len(prompts), end_ids=frozenset(range(40)), **options)
    alone = [sample_group(model, one, 1, end_ids=frozenset(range(40)), **options) for one in prompts]
    assert [[one.token_ids for one in group] for group in together] == [[one.token_ids for one in g] for g in alone]


def test_what_prompts_begin_with_is_read_once() -> None:
    model, read = tiny_model("llama").eval(), list[tuple[int, ...]]()
    model.get_input_embeddings().register_forward_hook(lambda _m, inputs, _o: read.append(tuple(inputs[0].shape)))
    sample_groups(model, [[*PROMPT, 1], [*PROMPT, 2, 3]], [2, 1], max_tokens=1, end_ids=frozenset(), temperature=0)
    assert read == [(1, len(PROMPT)), (2, 2)]


def test_what_is_learned_is_never_shared() -> None:
    assert shared_length([[1, 2, 3, 4], [1, 2, 5, 4]], [1, 1]) == 2
    assert shared_length([[1, 2, 3], [1, 2, 3]], [1, 2]) == 1
    assert shared_length([[1, 2], [1, 2, 3]], [1, 1]) == 1


def test_batches_are_of_prompts_alike_in_length() -> None:
    assert side_by_side([5, 90, 6, 5], [2, 1, 2, 1], 10, 60) == [[0, 3], [2], [1]]
    assert side_by_side([], [], 10, 60) == []


def test_samples_follow_the_models_probabilities() -> None:
    """Chi-squared of 4,000 first tokens against the distribution; far below the 1-in-10,000 bound of 259 degrees."""
    model = tiny_model("qwen2").eval()
    with torch.no_grad():
        expected = torch.softmax(model(torch.tensor([PROMPT])).logits[0, -1], -1) * 4000
    generator = torch.Generator().manual_seed(3)
    group = sample_group(model, PROMPT, 4000, max_tokens=1, end_ids=frozenset({0}), generator=generator)
    counts = torch.bincount(torch.tensor([one.token_ids[0] for one in group]), minlength=260)
    assert ((counts - expected) ** 2 / expected).sum() < 350


def test_entropy_is_that_of_the_whole_distribution() -> None:
    model = tiny_model("llama")
    scored = score_group(model, PROMPT, [[7]])
    expected = torch.distributions.Categorical(logits=model(torch.tensor([PROMPT])).logits[0, -1]).entropy()
    torch.testing.assert_close(scored.entropy_GT, expected.detach()[None, None])
    assert not scored.entropy_GT.requires_grad
    assert score_group(model, PROMPT, [[7]], entropy_gradient=True).entropy_GT.requires_grad


def test_the_packing_of_two_replies() -> None:
    packed = pack([1, 2, 3], [[4, 5], [6]])
    assert packed.ids_S.tolist() == [1, 2, 3, 4, 5, 6]
    assert packed.positions_S.tolist() == [0, 1, 2, 3, 4, 3]
    assert packed.before_N.tolist() == [2, 3, 2]
    assert packed.targets_N.tolist() == [4, 5, 6]
    assert packed.layout.P == 3
    assert packed.layout.place_GT.tolist() == [[0, 1], [2, 0]]
    assert packed.layout.place_N.tolist() == [0, 1, 2]


def test_what_growing_replies_see() -> None:
    owner_S = torch.tensor([-1, -1, -1, 0, 1, 0])  # a prompt, a token of each of two replies, another of the first
    seen = block_mask(owner_S[-3:], owner_S, torch.float32)[0, 0] == 0
    assert seen.int().tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 1]]


def test_only_the_last_tokens_of_a_reply_are_scored() -> None:
    packed = pack([1, 2], [[3, 4, 5], [6, 7]], last=[2, 2])
    assert packed.targets_N.tolist() == [4, 5, 6, 7]
    assert packed.before_N.tolist() == [2, 3, 1, 5]
    assert packed.lengths == (2, 2)


def test_an_empty_reply_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one token each"):
        pack([1], [[2], []])


def prompt(text: str, max_tokens: int = 6) -> Prompt:
    return Prompt("manage", (Message("system", "Be brief."), Message("user", text)), max_tokens=max_tokens)


def test_a_policy_replies_in_order_with_the_tokens_it_sampled() -> None:
    policy = Policy(tiny_model(), byte_tokenizer(), seed=5)
    replies = Roles(policy).complete([prompt("a"), prompt("b"), prompt("a")])
    assert [reply.prompt_ids for reply in replies] == [tuple(policy.prompt_ids(prompt(text))) for text in "aba"]
    assert byte_tokenizer().decode(replies[1].prompt_ids) == "<|system|>Be brief.<|end|><|user|>b<|end|><|assistant|>"
    assert replies[0].token_ids != replies[2].token_ids
    for reply in replies:
        assert len(reply.token_ids) == len(reply.logprobs) == reply.completion_tokens
        assert (reply.stop == "end") == (reply.token_ids[-1] == byte_tokenizer().eos_token_id)


def test_what_a_seeded_policy_samples_depends_on_the_seed_alone() -> None:
    policy = Policy(tiny_model(), byte_tokenizer())
    first = []
    for numbers in ((3, 1), (3, 2), (3, 1)):
        policy.seed(*numbers)
        first.append(policy.complete([prompt("a", 20)])[0].token_ids)
        policy.complete([prompt("something else")])
    assert first[0] == first[2] != first[1]


def test_a_prompt_without_room_for_its_reply_overflows() -> None:
    policy = Policy(tiny_model(), byte_tokenizer(), context_tokens=30)
    reply = policy.complete([prompt("far too long for that")])[0]
    assert (reply.stop, reply.text, reply.context_tokens) == ("overflow", "", 30)
    assert reply.prompt_tokens == len(policy.prompt_ids(prompt("far too long for that")))


def test_the_base_model_plays_without_its_adapter() -> None:
    peft = pytest.importorskip("peft")
    base = Policy(tiny_model(), byte_tokenizer(), temperature=0).complete([prompt("a")])[0].token_ids
    model = peft.get_peft_model(tiny_model(), peft.LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=3.0)
    model.train()
    assert Policy(model, byte_tokenizer(), temperature=0).complete([prompt("a")])[0].token_ids != base
    assert Policy(model, byte_tokenizer(), temperature=0, adapter="").complete([prompt("a")])[0].token_ids == base
    assert model.training
    assert all(p.requires_grad for name, p in model.named_parameters() if "lora_" in name)
