"""A policy: a causal language model that replies to prompts, and whose replies can be scored and learned from.

Memory prompts are long, replies short, and the replies of a group share their prompt. So the prompt is read once for
all of them, when they are sampled and again when they are scored:

    sequence    prompt ............ | reply 1 ... | reply 2 ...... | reply 3 ..
    positions   0 ............. P-1 | P P+1 ...   | P P+1 ......   | P P+1 ..
    sees        itself              | prompt and itself | prompt and itself | ...

which gives the same numbers as each prompt and reply on their own.

    G  replies to one prompt     T  tokens of the longest     N  tokens of all replies     S  prompt and all replies
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, cycle
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from memory_r1.errors import InvalidInput
from memory_r1.train.attention import Layout, layout_of, share_prompts
from memory_r1.types import Prompt, Reply

BATCH_TOKENS = 16_384  # of SmolLM2-135M, 0.8 GB of keys and values in float32
_PROMPT = -1  # owner of the prompt's tokens; replies are 0..G-1


class Sampled(NamedTuple):
    """One reply as it was sampled: its tokens, the one that ends it among them, and their log-probabilities."""

    token_ids: list[int]
    logprobs: list[float]
    ended: bool


class Scored(NamedTuple):
    """`entropy_GT` in nats, of the whole distribution that each token was sampled from."""

    logp_GT: Tensor
    mask_GT: Tensor
    entropy_GT: Tensor


class Packed(NamedTuple):
    """A prompt and its replies as one sequence.

    `before_N` says which place predicts each of the tokens that are scored, which are `targets_N`: `lengths` of each
    reply.
    """

    ids_S: Tensor
    positions_S: Tensor
    layout: Layout
    before_N: Tensor
    targets_N: Tensor
    lengths: tuple[int, ...]


def pack(
    prompt_ids: Sequence[int],
    replies: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
    last: Sequence[int] | None = None,
) -> Packed:
    """Neither the prompt nor a reply may be empty. Only the `last` tokens of each reply are scored, by default all."""
    P = len(prompt_ids)
    if not P or not replies or not all(map(len, replies)):
        raise InvalidInput("a group needs a prompt and replies of at least one token each")
    lengths = tuple(map(len, replies) if last is None else last)
    ids, positions = list(prompt_ids), list(range(P))
    before, targets = list[int](), list[int]()
    for reply, length in zip(replies, lengths, strict=True):
        start = len(ids)
        before += [P - 1, *range(start, start + len(reply) - 1)][len(reply) - length :]
        targets += reply[len(reply) - length :]
        ids += reply
        positions += range(P, P + len(reply))
    ids_S, positions_S, before_N, targets_N = (
        torch.tensor(column, device=device) for column in (ids, positions, before, targets)
    )
    layout = layout_of(P, tuple(map(len, replies)), device)
    return Packed(ids_S, positions_S, layout, before_N, targets_N, lengths)


def block_mask(owner_Q: Tensor, owner_S: Tensor, dtype: torch.dtype) -> Tensor:
    """What the last Q tokens of a sequence see of it, as (1, 1, Q, S) to be added to attention scores: 0 or -inf.

    The prompt's tokens see what stands before them in it, a reply's the prompt and what stands before them in the
    reply.
    """
    Q, S = len(owner_Q), len(owner_S)
    place_S = torch.arange(S, device=owner_S.device)
    earlier_QS = place_S[None, :] <= place_S[S - Q :, None]
    own_QS = (owner_S[None, :] == _PROMPT) | (owner_S[None, :] == owner_Q[:, None])
    mask_QS = torch.zeros(Q, S, dtype=dtype, device=owner_S.device)
    return mask_QS.masked_fill_(~(earlier_QS & own_QS), torch.finfo(dtype).min)[None, None]


def score_group(
    model: Any,
    prompt_ids: Sequence[int],
    replies: Sequence[Sequence[int]],
    *,
    last: Sequence[int] | None = None,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
) -> Scored:
    """Log-probabilities of G replies to one prompt, with gradients where they are on, all from one forward pass.

    Only the tokens that are scored, the `last` so many of each reply (by default all), are projected on the
    vocabulary. The model may be wrapped (PEFT, DDP); from here on it attends as `share_prompts` has it.
    """
    logits_NV, packed = _packed_logits(model, prompt_ids, replies, last)
    logits_NV = logits_NV.float() / temperature
    total_N = torch.logsumexp(logits_NV, dim=-1)
    logp_N = logits_NV.gather(-1, packed.targets_N[:, None])[:, 0] - total_N
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        logits_NV = logits_NV if entropy_gradient else logits_NV.detach()
        entropy_N = total_N - (torch.softmax(logits_NV, dim=-1) * logits_NV).sum(-1)
    if not entropy_gradient:
        entropy_N = entropy_N.detach()
    return Scored(
        _by_reply(logp_N, packed.lengths),
        _by_reply(torch.ones_like(logp_N), packed.lengths).detach(),
        _by_reply(entropy_N, packed.lengths),
    )


def _packed_logits(
    model: Any, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]], last: Sequence[int] | None
) -> tuple[Tensor, Packed]:
    share_prompts(model)
    packed = pack(prompt_ids, replies, next(model.parameters()).device, last)
    output = model(
        input_ids=packed.ids_S[None],
        position_ids=packed.positions_S[None],
        layout=packed.layout,
        logits_to_keep=packed.before_N,
        use_cache=False,
    )
    return output.logits[0], packed


def activation_dtype(model: Any, device: torch.device) -> torch.dtype:
    """What attention scores are computed in: autocast's type where it is on, else the embeddings'."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    inner = getattr(model, "module", model)  # as wrapped by DDP
    return inner.get_input_embeddings().weight.dtype


def _by_reply(values_N: Tensor, lengths: Sequence[int]) -> Tensor:
    """(G, T), padded with 0."""
    return torch.nn.utils.rnn.pad_sequence(list(values_N.split(list(lengths))), batch_first=True)


@torch.no_grad()  # type: ignore[untyped-decorator]
def sample_group(
    model: Any,
    prompt_ids: Sequence[int],
    G: int,
    *,
    max_tokens: int,
    end_ids: frozenset[int],
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[Sampled]:
    """G replies to one prompt, which is read once; `temperature=0` takes the likeliest token each time.

    The replies grow side by side in one sequence, a token each a step, so that the prompt's keys and values are never
    copied. Log-probabilities are those of the distribution sampled from (at temperature 0, of the model's own).
    """
    device = next(model.parameters()).device
    dtype = activation_dtype(model, device)
    output = model(input_ids=torch.tensor([list(prompt_ids)], device=device), use_cache=True, logits_to_keep=1)
    cache, owner_S = output.past_key_values, torch.full((len(prompt_ids),), _PROMPT, device=device)

    def go_on(token_A: Tensor, growing: Sequence[int], step: int) -> Tensor:
        nonlocal owner_S
        owner_A = torch.tensor(growing, device=device)
        owner_S = torch.cat([owner_S, owner_A])
        logits_AV: Tensor = model(
            input_ids=token_A[None],
            position_ids=torch.full((1, len(growing)), len(prompt_ids) + step, device=device),
            attention_mask=block_mask(owner_A, owner_S, dtype),
            past_key_values=cache,
            use_cache=True,
        ).logits[0]
        return logits_AV

    return _grown(output.logits[0].expand(G, -1), go_on, max_tokens, end_ids, temperature, generator)


@torch.no_grad()  # type: ignore[untyped-decorator]
def sample_groups(
    model: Any,
    prompts: Sequence[Sequence[int]],
    counts: Sequence[int],
    *,
    max_tokens: int,
    end_ids: frozenset[int],
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[list[Sampled]]:
    """`counts[p]` replies to each of P prompts, as `sample_group`, all of them side by side.

    What all prompts begin with, such as the instructions, is read once, and then the rest of each; every reply is a row
    with a copy of its prompt's keys and values. For hardware that reads the weights no slower for many rows than for
    one.
    """
    device = next(model.parameters()).device
    shared = shared_length(prompts, [1] * len(prompts))
    width, cache = max(map(len, prompts)) - shared, None
    ids_PW, there_PW = (torch.zeros(len(prompts), width, dtype=torch.long, device=device) for _ in range(2))
    for p, prompt in enumerate(prompts):
        own = list(prompt[shared:])
        ids_PW[p, width - len(own) :] = torch.tensor(own, device=device)
        there_PW[p, width - len(own) :] = 1
    places_PW = shared + (there_PW.cumsum(-1) - 1).clamp(min=0)
    if shared:
        shared_1S = torch.tensor([list(prompts[0][:shared])], device=device)
        cache = model(input_ids=shared_1S, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(prompts))
    there_PS = torch.cat([there_PW.new_ones(len(prompts), shared), there_PW], dim=1)
    read: dict[str, Any] = {"attention_mask": there_PS, "position_ids": places_PW, "past_key_values": cache}
    output = model(input_ids=ids_PW, **read, use_cache=True, logits_to_keep=1)
    cache = output.past_key_values
    prompt_R = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor(list(counts))).to(device)
    cache.batch_select_indices(prompt_R)
    there_RS, next_R, rows = there_PS[prompt_R], places_PW[prompt_R, -1] + 1, list(range(len(prompt_R)))

    def go_on(token_A: Tensor, growing: Sequence[int], step: int) -> Tensor:
        nonlocal there_RS, next_R, rows
        kept = [rows.index(r) for r in growing]
        if 2 * len(kept) <= len(rows):  # copying the cache pays once half of it is of replies that have ended
            kept_R = torch.tensor(kept, device=device)
            cache.batch_select_indices(kept_R)
            there_RS, next_R, rows = there_RS[kept_R], next_R[kept_R], list(growing)
            kept = list(range(len(rows)))
        token_R = token_A.new_zeros(len(rows))
        token_R[kept] = token_A
        there_RS = torch.cat([there_RS, there_RS.new_ones(len(rows), 1)], dim=1)
        logits_RV = model(
            input_ids=token_R[:, None],
            attention_mask=there_RS,
            position_ids=next_R[:, None] + step,
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        return logits_RV if len(kept) == len(rows) else logits_RV[kept]

    grown = _grown(output.logits[prompt_R, -1], go_on, max_tokens, end_ids, temperature, generator)
    ends = accumulate(counts)
    return [grown[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _grown(
    logits_AV: Tensor,
    go_on: Callable[[Tensor, Sequence[int], int], Tensor],
    max_tokens: int,
    end_ids: frozenset[int],
    temperature: float,
    generator: torch.Generator | None,
) -> list[Sampled]:
    """A reply for each row of logits. `go_on` gives the logits after a token of each reply that still grows."""
    count = len(logits_AV)
    tokens: list[list[int]] = [[] for _ in range(count)]
    logprobs: list[list[float]] = [[] for _ in range(count)]
    ended = [False] * count
    growing = list(range(count))
    for step in range(max_tokens):
        token_A, logp_A = _draw(logits_AV.float(), temperature, generator)
        drawn_A2 = torch.stack([token_A.double(), logp_A.double()], dim=1).tolist()  # a GPU is waited for once
        for g, (token, logp) in zip(growing, drawn_A2, strict=True):
            tokens[g].append(int(token))
            logprobs[g].append(logp)
            ended[g] = token in end_ids
        going_on = [place for place, g in enumerate(growing) if not ended[g]]
        if not going_on or step == max_tokens - 1:
            break
        growing = [growing[place] for place in going_on]
        logits_AV = go_on(token_A[going_on], growing, step)
    return [Sampled(*one) for one in zip(tokens, logprobs, ended, strict=True)]


def _draw(logits_AV: Tensor, temperature: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    logp_AV = torch.log_softmax(logits_AV / (temperature or 1.0), dim=-1)
    if temperature == 0:
        token_A = logp_AV.argmax(-1)
    else:
        # Chance comes from the CPU wherever the model is (generators have a device), and is one number a row: where it
        # falls among the sums of probabilities is the token.
        sums_AV = logp_AV.double().exp().cumsum(-1)
        chance_A = torch.rand(len(sums_AV), dtype=torch.double, generator=generator).to(sums_AV.device)
        token_A = torch.searchsorted(sums_AV, (chance_A * sums_AV[:, -1])[:, None], right=True)[:, 0]
    return token_A, logp_AV.gather(-1, token_A[:, None])[:, 0]


def shared_length(rows: Sequence[Sequence[int]], own: Sequence[int]) -> int:
    """How many tokens all rows begin with alike; the last `own` of each are never among them."""
    most = min(len(row) - count for row, count in zip(rows, own, strict=True))
    return next((place for place in range(most) if len({row[place] for row in rows}) > 1), most)


class Sampler(Protocol):
    """What gives `counts[p]` replies to each of some prompts, as `sample_groups` does."""

    def __call__(
        self, prompts: Sequence[Sequence[int]], counts: Sequence[int], max_tokens: int
    ) -> list[list[Sampled]]: ...


class Policy:
    """An LLM over a Hugging Face causal model, sampled without any constraint: a prompt's schema is not used.

    So the log-probabilities of a reply are those of what was sampled. `temperature` stands in place of the prompts'
    (0 is greedy). Equal prompts in one batch are read once, and greedy replies to them are computed once. A reply's
    `token_ids` and `logprobs` include the token that ends it, which is learned too.

    `adapter` names the PEFT adapter that plays; "" is the base model without any; None is whatever is active. A prompt
    that leaves no room for its reply in `context_tokens` (default: what the model was made for) gives "overflow".
    Different prompts are answered side by side while they and their replies have no more than `batch_tokens`.
    `sampler` may be set to another than its own.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        temperature: float = 1.0,
        adapter: str | None = None,
        context_tokens: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        name: str = "policy",
        seed: int = 0,
    ) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.temperature, self.adapter = temperature, adapter
        limits = (context_tokens, getattr(model.config, "max_position_embeddings", None))
        self.batch_tokens = batch_tokens
        self.context_tokens: int | None = min((limit for limit in limits if limit), default=None)
        self.end_ids = end_ids(model, tokenizer)
        self.generator = torch.Generator().manual_seed(seed)
        self.sampler: Sampler = self._sample

    def seed(self, *numbers: int) -> None:
        """What is sampled from here on depends on these numbers alone, whatever was sampled before."""
        value = 0
        for number in numbers:
            value = (value * 1_000_003 + number + 1) % (1 << 63)
        self.generator.manual_seed(value)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        return chat_ids(self.tokenizer, prompt)

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        """One reply per prompt, in order."""
        replies: list[Reply | None] = [None] * len(prompts)
        alike: dict[int, dict[tuple[int, ...], list[int]]] = {}
        for place, prompt in enumerate(prompts):
            ids = tuple(self.prompt_ids(prompt))
            if self.context_tokens and len(ids) + prompt.max_tokens > self.context_tokens:
                replies[place] = Reply("", stop="overflow", **self._about(ids))
            else:
                alike.setdefault(prompt.max_tokens, {}).setdefault(ids, []).append(place)
        with self._playing():
            for max_tokens, places in alike.items():
                counts = [1 if self.temperature == 0 else len(of_prompt) for of_prompt in places.values()]
                groups = self.sampler(list(places), counts, max_tokens)
                for ids, group in zip(places, groups, strict=True):
                    for place, one in zip(places[ids], cycle(group), strict=False):
                        replies[place] = self._reply(ids, one)
        return [reply for reply in replies if reply is not None]

    def _about(self, prompt_ids: Sequence[int]) -> dict[str, Any]:
        return {"prompt_tokens": len(prompt_ids), "model": self.name, "context_tokens": self.context_tokens}

    def _reply(self, prompt_ids: tuple[int, ...], sampled: Sampled) -> Reply:
        told = sampled.token_ids[: -1 if sampled.ended else None]
        return Reply(
            self.tokenizer.decode(told, skip_special_tokens=True),
            completion_tokens=len(sampled.token_ids),
            stop="end" if sampled.ended else "length",
            adapter=self.adapter,
            prompt_ids=prompt_ids,
            token_ids=sampled.token_ids,
            logprobs=sampled.logprobs,
            **self._about(prompt_ids),
        )

    def _sample(self, prompts: Sequence[Sequence[int]], counts: Sequence[int], max_tokens: int) -> list[list[Sampled]]:
        options: dict[str, Any] = {
            "max_tokens": max_tokens,
            "end_ids": self.end_ids,
            "temperature": self.temperature,
            "generator": self.generator,
        }
        sampled: dict[int, list[Sampled]] = {}
        for some in side_by_side(list(map(len, prompts)), counts, max_tokens, self.batch_tokens):
            if len(some) == 1:
                sampled[some[0]] = sample_group(self.model, prompts[some[0]], counts[some[0]], **options)
            else:
                chosen = [prompts[p] for p in some], [counts[p] for p in some]
                sampled |= zip(some, sample_groups(self.model, *chosen, **options), strict=True)
        return [sampled[p] for p in range(len(prompts))]

    @contextmanager
    def _playing(self) -> Iterator[None]:
        """In evaluation mode, without dropout and with a cache, and under the adapter that plays."""
        training = self.model.training
        self.model.eval()
        try:
            with using_adapter(self.model, self.adapter):
                yield
        finally:
            self.model.train(training)


def side_by_side(lengths: Sequence[int], counts: Sequence[int], max_tokens: int, most: int) -> list[list[int]]:
    """The places of prompts in batches of at most `most` tokens, as wide as the longest; the shortest ones first."""
    batches: list[list[int]] = []
    rows = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        rows += counts[place]
        if not batches or rows * (lengths[place] + max_tokens) > most:
            batches.append([])
            rows = counts[place]
        batches[-1].append(place)
    return batches


@contextmanager
def using_adapter(model: Any, name: str | None) -> Iterator[None]:
    """Within, the PEFT adapter of this name is the active one; "": none is; None: as it was."""
    if name is None or not hasattr(model, "peft_config"):
        yield
    elif name == "":
        with model.disable_adapter():
            yield
    elif name == model.active_adapter:
        yield
    else:
        before = model.active_adapter
        model.set_adapter(name)
        try:
            yield
        finally:
            model.set_adapter(before)


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a reply: the tokenizer's, and those that the model's generation config names."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    named = [named] if isinstance(named, int) else named or []
    return frozenset(one for one in (tokenizer.eos_token_id, *named) if one is not None)


def chat_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """A prompt's tokens up to where the reply begins, by the tokenizer's own chat template."""
    messages: list[Mapping[str, str]] = [{"role": m.role, "content": m.content} for m in prompt.messages]
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False))
