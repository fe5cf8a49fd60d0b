"""Models of two layers with random weights, and a tokenizer whose tokens are bytes: no download, no cache."""

from __future__ import annotations

import functools
import os
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # busy waiting is four times slower where cores are shared

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


@functools.cache
def byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template=TEMPLATE,
        additional_special_tokens=SPECIALS[1:],
    )


OPERATIONS = (
    '{"operation": "ADD"}',
    '{"operation": "NOOP"}',
    '{"operation": "DELETE", "index": 1}',
    '{"operation": "UPDATE", "index": 1, "text": "Ann adopted two dogs, Buddy and Scout."}',
)


ANSWERS = (
    '{"keep": [1], "answer": "two"}',
    '{"keep": [1], "answer": "Rome"}',
    '{"keep": [], "answer": "unknown"}',
    '{"keep": [], "answer": "two or Rome"}',
)


def deciding_model(replies: tuple[str, ...] = OPERATIONS) -> tuple[Any, Any]:
    """(model, tokenizer): half of the tokens are whole replies, a fifth end one. At random it decides something.

    The first of them counts, whatever bytes are around it. All tokens of one reply look alike to the model, so that it
    can learn to choose among the four.
    """
    import copy

    import torch

    whole = [" " * spaces + reply for reply in replies for spaces in range(80)]
    ends = [f"<|end{number}|>" for number in range(140)]
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.add_tokens(whole)
    tokenizer.add_tokens(ends, special_tokens=True)
    model = tiny_model()
    # Drawn, and not all the mean of what was there: among tokens that are the same a choice cannot be learned.
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for reply in replies:
            alike = tokenizer.convert_tokens_to_ids([one for one in whole if one.strip() == reply])
            model.get_input_embeddings().weight[alike] = model.get_input_embeddings().weight[alike[0]].clone()
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(ends)] = 0.0  # as likely whatever was said
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["<|end|>", *ends])
    return model, tokenizer


def tiny_model(kind: str = "llama", attention: str = "sdpa", seed: int = 0) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config

    torch.manual_seed(seed)
    if kind == "gpt2":
        return AutoModelForCausalLM.from_config(GPT2Config(vocab_size=260, n_embd=32, n_layer=2, n_head=4))
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=None,  # as padding it would have no embedding, and could not be learned
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).float()
