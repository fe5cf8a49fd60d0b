"""The model that is trained: the very weights the embedded runtime serves, as a Hugging Face model.

A GGUF file is dequantised once into a folder of the model cache (float32, so that nothing is lost: 4 bytes a weight)
and read from there afterwards, in well under a second.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from memory_r1.errors import InvalidInput, ModelUnavailable, WeightsMissing
from memory_r1.llm.gguf import read_header
from memory_r1.weights import cache_directory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ARCHITECTURES = ("llama", "qwen2")
_PRE = "tokenizer.ggml.pre"


@contextmanager
def train_extra() -> Iterator[None]:
    """Imports inside are of the train extra: a failing one says how to install it."""
    try:
        yield
    except ImportError as error:
        raise ModelUnavailable(
            f"training needs more packages ({error}); run: pip install 'memory-r1[train]'"
        ) from error


def vllm_extra() -> None:
    """Raises ModelUnavailable, with the remedy, where vLLM cannot be used."""
    with train_extra():
        import torch
    if find_spec("vllm") is None:
        raise ModelUnavailable("rollouts by vLLM need more packages; run: pip install 'memory-r1[gpu]'")
    if not torch.cuda.is_available():
        raise ModelUnavailable("rollouts by vLLM need a GPU, and torch sees none; leave vllm out to train without")


def load_folder(folder: Path | str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model, tokenizer) of a Hugging Face folder, or of a name there.

    Raises WeightsMissing where either cannot be loaded, and InvalidInput for one that no chat can be had with.
    """
    with train_extra():
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsMissing(f"the model {folder} cannot be loaded: {reason}") from error
    text = model.config.get_text_config()
    windows = set(getattr(text, "layer_types", None) or ["full_attention"]) != {"full_attention"}
    if windows or getattr(text, "sliding_window", None) or getattr(text, "attn_logit_softcapping", None):
        raise InvalidInput(
            f"the model {folder} attends by windows or caps its attention, which training does not compute; take one "
            "whose layers all attend to everything, such as SmolLM2, Llama or Qwen2.5"
        )
    if not tokenizer.chat_template:
        raise InvalidInput(f"the tokenizer of {folder} has no chat template; train an instruct model")
    return model, tokenizer


def load_base(
    gguf: Path | str, dtype: torch.dtype | None = None, *, cache: Path | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The GGUF model as (model, tokenizer), ready to train in `dtype` (default float32), on the CPU.

    Raises WeightsMissing where the file cannot be read or its conversion cannot be kept, ModelUnavailable where the
    train extra is not installed or the architecture is none of ARCHITECTURES.
    """
    folder = trainable(gguf, cache=cache)
    with train_extra():
        import torch
    try:
        return load_folder(folder, dtype or torch.float32)
    except WeightsMissing as error:
        raise WeightsMissing(f"{error}; delete {folder} and it is made again") from error


def trainable(gguf: Path | str, *, cache: Path | None = None) -> Path:
    """The folder that holds the GGUF model for `from_pretrained`, converted now unless it is there already."""
    path = Path(gguf)
    header = read_header(path, ("general.architecture",))
    architecture = header.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ModelUnavailable(
            f"{path} is of the architecture {architecture}; only {', '.join(ARCHITECTURES)} can be trained"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = cache_directory(cache) / "trainable" / f"{path.stem}-{digest[:12]}"
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _convert(path, folder)
        except OSError as error:
            raise _unwritten(path, folder, error) from error
    return folder


def _unwritten(gguf: Path, folder: Path, error: Exception) -> WeightsMissing:
    return WeightsMissing(
        f"{gguf} could not be converted into {folder.parent} ({error}); make room there, 4 bytes a weight, or name "
        "another cache by the variable MEMORY_R1_MODELS"
    )


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise into a temporary folder that takes its place in one step, whoever else does the same."""
    with train_extra():
        import gguf as _  # noqa: F401  (transformers reads through it)
        import torch
        from safetensors import SafetensorError
        from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".convert-", ignore_cleanup_errors=True) as temporary:
        target = Path(temporary) / "model"
        try:
            # Without dequantize the model counts as quantised: it can be neither saved nor trained.
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            if read_header(gguf, (_PRE,)).metadata.get(_PRE) == "smollm":
                # transformers does not look at it: SmolLM2's tokenizer cuts digits apart before all else.
                tokenizer.backend_tokenizer.pre_tokenizer = Sequence([Digits(True), ByteLevel(add_prefix_space=False)])
        except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise WeightsMissing(f"{gguf} could not be converted for training into {folder.parent}: {error}") from error
        try:
            model.save_pretrained(target)
            tokenizer.save_pretrained(target)
        except (RuntimeError, SafetensorError) as error:  # a full disk's; else an OSError
            raise _unwritten(gguf, folder, error) from error
        try:
            os.replace(target, folder)
        except OSError:
            if not folder.is_dir():  # another process was faster: its folder is as good as ours
                raise
