"""Serve what was trained: a PEFT LoRA adapter as a GGUF LoRA, which the embedded runtime loads; and the way back.

Both mean W + scale · B A. llama.cpp computes scale = alpha / rank with one alpha a file, so what PEFT scales otherwise
(rsLoRA, alpha patterns) goes into B. A Llama's Q and K lie in GGUF with the two halves of every head interleaved,
because its rotation pairs neighbours: B's rows follow.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from memory_r1.errors import InvalidInput
from memory_r1.files import read_json
from memory_r1.llm.gguf import BASE_FINGERPRINT, check_adapter, fingerprint, read_header
from memory_r1.train.base import ARCHITECTURES, train_extra
from memory_r1.train.runs import ADAPTER

Array = npt.NDArray[np.float32]

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
# Settings under which W + scale · B A on the plain base model is not what was trained.
_REFUSED = {
    "use_dora": "DoRA scales the weights by their norms",
    "lora_bias": "biases of the adapter have no place in GGUF",
    "fan_in_fan_out": "transposed layers are not of Llama or Qwen2",
    "layer_replication": "the trained model has other layers than the base",
    "alora_invocation_tokens": "an activated LoRA acts on a part of the prompt only",
    "target_parameters": "adapters of bare parameters are not linear layers",
    "use_qalora": "QALoRA pools the inputs",
}
_KEYS = ("{}.attention.head_count", "{}.attention.head_count_kv", "{}.block_count")
_LINEAR = (
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
_CHANGES_THE_BASE = ("pissa", "olora", "loftq", "corda")


@dataclass(frozen=True, slots=True)
class LowRank:
    """The change of one linear layer, W_OI + scale · b_OR a_RI."""

    a_RI: Array
    b_OR: Array
    scale: float

    @property
    def rank(self) -> int:
        return int(self.a_RI.shape[0])


def to_gguf(
    adapter: Path | str,
    base: Path | str,
    out: Path | str,
    *,
    dtype: Literal["f16", "f32"] = "f16",
    name: str | None = None,
) -> Path:
    """Write the adapter in the PEFT folder `adapter`, trained from the GGUF model `base`, to the GGUF file `out`.

    `name` (default: the run's) is what the file calls itself, and its version is a digest of its weights: the log tells
    by them which adapter decided. Raises InvalidInput where the folder holds no LoRA adapter or one that GGUF cannot
    express, AdapterMismatch where it was trained from another model, WeightsMissing where `base` cannot be read. `out`
    is whole or not there.
    """
    folder, base, out = Path(adapter), Path(base), Path(out)
    layers = read_adapter(folder)
    header = read_header(
        base, ("general.architecture", "general.name", *(key.format(a) for a in ARCHITECTURES for key in _KEYS))
    )
    architecture = header.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise InvalidInput(
            f"{base} is of the architecture {architecture}; adapters of {', '.join(ARCHITECTURES)} are exported"
        )
    heads, kv_heads, blocks = (header.metadata.get(key.format(architecture)) for key in _KEYS)
    tensors: dict[str, LowRank] = {}
    for module, layer in layers.items():
        target = _tensor_name(architecture, blocks, module)
        if architecture == "llama" and (n := _heads(target, heads, kv_heads)):
            layer = LowRank(layer.a_RI, interleaved(layer.b_OR, n), layer.scale)
        tensors[target] = layer
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as temporary:
        written = Path(temporary) / out.name
        metadata = {
            "general.base_model.0.name": header.metadata.get("general.name"),
            BASE_FINGERPRINT: fingerprint(base),
        }
        _write(written, architecture, name or _name(folder.resolve()), tensors, metadata, dtype)
        check_adapter(written, base, header)
        os.replace(written, out)
    return out


def to_peft(adapter: Path, base: Path, out: Path) -> Path:
    """Write the GGUF LoRA `adapter` of the GGUF model `base` as a PEFT folder `out`, to go on training from.

    A folder that is there already is left as it is: a run that is resumed began from it. Raises InvalidInput where the
    file holds no LoRA of linear layers, AdapterMismatch where it is of another model.
    """
    with train_extra():
        import gguf
        from peft import LoraConfig
        from safetensors.numpy import save_file
    if out.exists():
        return out
    header = read_header(base, ("general.architecture", *(key.format(a) for a in ARCHITECTURES for key in _KEYS)))
    check_adapter(adapter, base, header)
    architecture = header.metadata["general.architecture"]
    heads, kv_heads, blocks = (header.metadata.get(key.format(architecture)) for key in _KEYS)
    assert isinstance(blocks, int), "check_adapter has read them"
    alpha = read_header(adapter, (gguf.Keys.Adapter.LORA_ALPHA,)).metadata[gguf.Keys.Adapter.LORA_ALPHA]
    modules = {
        _tensor_name(architecture, blocks, module): module
        for i in range(blocks)
        for module in (f"model.layers.{i}.{part}" for part in _LINEAR)
    }
    tensors: dict[str, Array] = {}
    for tensor in gguf.GGUFReader(adapter).tensors:
        target, _, side = tensor.name.rpartition(".lora_")
        if (module := modules.get(target)) is None:
            raise InvalidInput(f"{adapter} changes {target}, which is no linear layer that can be trained on")
        array = np.array(tensor.data, np.float32)
        if side == "b" and architecture == "llama" and (n := _heads(target, heads, kv_heads)):
            array = halved(array, n)
        tensors[f"base_model.model.{module}.lora_{side.upper()}.weight"] = array
    ranks = {
        name.removeprefix("base_model.model.").partition(".lora_A")[0]: len(a)
        for name, a in tensors.items()
        if ".lora_A" in name
    }
    rank = max(ranks.values())
    config = LoraConfig(
        r=rank,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,
        target_modules=sorted({module.rpartition(".")[2] for module in ranks}),
        rank_pattern={module: own for module, own in ranks.items() if own != rank},
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".start-") as temporary:
        whole = Path(temporary) / out.name
        config.save_pretrained(whole)
        save_file(tensors, whole / WEIGHTS)
        whole.rename(out)
    return out


def _heads(target: str, heads: Any, kv_heads: Any) -> int | None:
    """How many heads the rows of a tensor belong to; None of one that is neither Q nor K."""
    return {"attn_q": heads, "attn_k": kv_heads or heads}.get(target.split(".")[-2])


def _name(folder: Path) -> str:
    """What an adapter is called after: its folder, or of a run's, which are all called alike, the run."""
    return folder.parent.name if folder.name == ADAPTER else folder.name


def read_adapter(folder: Path) -> dict[str, LowRank]:
    """The layers that the PEFT adapter in `folder` changes, by their module's name. Raises InvalidInput."""
    with train_extra():
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            whole = "; it holds a whole model, which vLLM serves as it is" if (folder / "config.json").is_file() else ""
            give = whole or "; give a run's folder, or the adapter/ in it, which a run has when it has ended"
            raise InvalidInput(f"{folder} holds no PEFT adapter: there is no {name} in it{give}")
    config = _supported(read_json(folder / CONFIG), folder)
    try:
        tensors = {name: tensor.float().numpy() for name, tensor in load_file(folder / WEIGHTS).items()}
    except SafetensorError as error:
        raise InvalidInput(f"{folder / WEIGHTS} is damaged: {error}") from error
    sides: dict[str, dict[str, Array]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise InvalidInput(
                f"{folder} holds {name}: only LoRA of linear layers is exported (no trained embeddings, biases or "
                "modules_to_save)"
            )
        if not np.isfinite(tensor).all():
            raise InvalidInput(f"{folder}: {name} is not finite; the training diverged, export an earlier checkpoint")
        sides.setdefault(match["module"], {})[match["side"]] = tensor
    if not sides:
        raise InvalidInput(f"{folder} holds no LoRA tensors")
    if half := [module for module, pair in sides.items() if len(pair) < 2]:
        raise InvalidInput(f"{folder} holds only one half of the pair for {half[0]}")
    return {
        module: LowRank(pair["A"], pair["B"], scale(config, module, len(pair["A"]))) for module, pair in sides.items()
    }


def scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """PEFT's factor of B A for this module: alpha / rank, with rsLoRA alpha / √rank; a pattern may change alpha."""
    alpha = float(config["lora_alpha"])
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = float(value)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def interleaved(rows_OX: Array, heads: int) -> Array:
    """Rows of Q or K as GGUF has them for a Llama: of each head 0, half, 1, half + 1, …"""
    outputs = len(rows_OX)
    if outputs % (2 * heads):
        raise InvalidInput(f"{outputs} outputs are not {heads} heads of two halves: the adapter is of another model")
    return rows_OX.reshape(heads, 2, outputs // heads // 2, -1).swapaxes(1, 2).reshape(rows_OX.shape)


def halved(rows_OX: Array, heads: int) -> Array:
    """What `interleaved` made of them, undone."""
    return rows_OX.reshape(heads, len(rows_OX) // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows_OX.shape)


def _supported(config: Any, folder: Path) -> Mapping[str, Any]:
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise InvalidInput(f"{folder} holds an adapter of the kind {kind}; only LORA is exported")
    for setting, why in _REFUSED.items():
        if config.get(setting):
            raise InvalidInput(f"{folder} was trained with {setting}, which GGUF cannot express: {why}")
    if config.get("bias", "none") != "none":
        raise InvalidInput(f'{folder} was trained with bias="{config["bias"]}"; only "none" is exported')
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGES_THE_BASE):
        raise InvalidInput(f"{folder} was begun with {start}, which changes the base model: train with the default")
    if not isinstance(config.get("lora_alpha"), int | float):
        raise InvalidInput(f"{folder / CONFIG} has no lora_alpha")
    return config


def _tensor_name(architecture: str, blocks: Any, module: str) -> str:
    with train_extra():
        import gguf
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    name = gguf.get_tensor_name_map(kinds[architecture], blocks).get_name(module)
    if name is None:
        raise InvalidInput(f"the adapter changes {module}, which a {architecture} of {blocks} layers does not have")
    return f"{name}.weight"


def _write(
    file: Path,
    architecture: str,
    name: str,
    tensors: Mapping[str, LowRank],
    metadata: Mapping[str, str | None],
    dtype: Literal["f16", "f32"],
) -> None:
    with train_extra():
        import gguf
    first = next(iter(tensors.values()))
    # Alpha 0 would mean "unscaled" to llama.cpp.
    alpha = first.scale * first.rank or 1.0
    arrays = _arrays(tensors, alpha, dtype)
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_name(name)
    writer.add_version(_digest(arrays, alpha))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if dtype == "f16" else gguf.LlamaFileType.ALL_F32)
    writer.add_base_model_count(1)
    for key, value in metadata.items():
        if value is not None:
            writer.add_string(key, value)
    for tensor, array in arrays.items():
        writer.add_tensor(tensor, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _arrays(tensors: Mapping[str, LowRank], alpha: float, dtype: Literal["f16", "f32"]) -> dict[str, npt.NDArray[Any]]:
    """The file's tensors by their names."""
    kind = np.float16 if dtype == "f16" else np.float32
    arrays = {}
    for target, layer in tensors.items():
        factor = np.float32(layer.scale * layer.rank / alpha)
        for side, array in (("a", layer.a_RI), ("b", layer.b_OR * factor)):
            if np.abs(array).max(initial=0) > np.finfo(kind).max:
                raise InvalidInput(f"{target}: the adapter's weights do not fit {dtype}; export as f32")
            arrays[f"{target}.lora_{side}"] = np.ascontiguousarray(array.astype(kind))
    return arrays


def _digest(arrays: Mapping[str, npt.NDArray[Any]], alpha: float) -> str:
    """Twelve hexadecimal digits that tell these weights from others."""
    hashed = hashlib.sha256(repr(alpha).encode())
    for name, array in sorted(arrays.items()):
        hashed.update(f"{name} {array.dtype} {array.shape}".encode())
        hashed.update(array.data)
    return hashed.hexdigest()[:12]
