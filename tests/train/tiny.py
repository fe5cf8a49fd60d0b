"""Random two-layer models of the architectures that are trained, as GGUF files that both runtimes load."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    # Large, so that the most likely token is clearly so, whatever the rounding.
    "initializer_range": 0.4,
}


def tokens() -> list[str]:
    """The special tokens, the 256 bytes as GPT-2 writes them, and one merge."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [*SPECIAL, *map(chr, printable), *(chr(256 + i) for i in range(len(others))), "an"]


def model(architecture: Literal["llama", "qwen2"], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    size = {"vocab_size": len(tokens()), "bos_token_id": 1, "eos_token_id": 2}
    if architecture == "llama":
        made = LlamaForCausalLM(LlamaConfig(**SHAPE, **size))
    else:
        made = Qwen2ForCausalLM(Qwen2Config(**SHAPE, **size))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.dim() == 1:  # norms and biases are made as ones and zeros, which would hide a mistake
                weight.add_(0.2 * torch.randn_like(weight))
            elif "embed" not in name:
                weight.mul_(0.8)
    return made.eval()


def write_gguf(made: Any, file: Path) -> Path:
    """The model in float32, with Q and K as GGUF has them for a Llama: written row by row, the slow and plain way."""
    config = made.config
    architecture = config.model_type
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name(f"tiny {architecture}")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if architecture == "llama" else "qwen2")
    writer.add_token_list(tokens())
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens()) - len(SPECIAL)))
    writer.add_token_merges(["a n"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture], config.num_hidden_layers)
    for name, tensor in made.state_dict().items():
        module, _, part = name.rpartition(".")
        if module == "lm_head":  # tied: the embedding
            continue
        array = tensor.float().numpy()
        for projection, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if architecture == "llama" and module.endswith(projection):
                array = _interleaved(array, heads)
        writer.add_tensor(f"{names.get_name(module)}.{part}", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    size = len(weight) // heads
    rows = []
    for head in range(heads):
        for i in range(size // 2):
            rows += [weight[head * size + i], weight[head * size + size // 2 + i]]
    return np.stack(rows)
