"""The reader of GGUF headers, and the check of an adapter against its base, on small files made here."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from memory_r1.errors import AdapterMismatch, WeightsMissing
from memory_r1.llm.gguf import check_adapter, read_header


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    """A value with its type code: bool, int (u32), float (f32), str, or a list of one of these."""
    if isinstance(value, list):
        items = [_value(item) for item in value]
        return struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(i[4:] for i in items)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    code, kind = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}[type(value)]
    return struct.pack(f"<I{kind}", code, value)


def header_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]] | None = None) -> bytes:
    """A version 3 header; the tensors have no data."""
    tensors = tensors or {}
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    out += b"".join(_string(key) + _value(value) for key, value in metadata.items())
    for name, dims in tensors.items():
        out += _string(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims) + struct.pack("<IQ", 0, 0)
    return out


METADATA = {
    "general.architecture": "llama",
    "llama.context_length": 2048,
    "tokenizer.ggml.tokens": ["a", "bc", "ü"],
    "tokenizer.ggml.scores": [0.5, -1.0],
    "tokenizer.ggml.add_bos_token": True,
}
BASE = {"blk.0.attn_q.weight": (64, 32), "blk.0.attn_norm.weight": (64,)}
ADAPTER = {"general.type": "adapter", "adapter.type": "lora", "general.architecture": "llama"}
LORA = {"blk.0.attn_q.weight.lora_a": (64, 4), "blk.0.attn_q.weight.lora_b": (4, 32)}


def test_the_keys_asked_for_and_every_tensor_shape_are_read(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(header_bytes(METADATA, BASE))
    header = read_header(file, ("llama.context_length", "tokenizer.ggml.add_bos_token", "absent"))
    assert header.metadata == {"llama.context_length": 2048, "tokenizer.ggml.add_bos_token": True}
    assert header.tensors == BASE


def test_arrays_are_read_when_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(header_bytes(METADATA))
    wanted = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores")
    assert read_header(file, wanted).metadata == {key: METADATA[key] for key in wanted}


def test_a_vocabulary_of_49000_tokens_is_stepped_over_in_milliseconds(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    words = [f"token{i}" for i in range(49_000)]
    file.write_bytes(header_bytes({"tokenizer.ggml.tokens": words, "general.name": "x"}))
    start = time.process_time()
    assert read_header(file, ("general.name",)).metadata == {"general.name": "x"}
    assert time.process_time() - start < 0.25  # about 0.02 s on a quiet machine


def test_a_header_cut_off_anywhere_is_reported_as_damage(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    whole = header_bytes(METADATA, BASE)
    for end in range(1, len(whole)):
        file.write_bytes(whole[:end])
        with pytest.raises(WeightsMissing, match="not a GGUF file, or is damaged"):
            read_header(file, METADATA)
        with pytest.raises(WeightsMissing, match="not a GGUF file, or is damaged"):
            read_header(file)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>404</html>", id="html"),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 1, 0, 0), id="version-1"),
        pytest.param(b"GGUF" + struct.pack(">IQQ", 3, 0, 0), id="big-endian"),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + _string("k") + struct.pack("<I", 99), id="unknown-type"),
        pytest.param(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63), id="endless-key"),
    ],
)
def test_what_is_not_gguf_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(WeightsMissing, match=r"model\.gguf is not a GGUF file, or is damaged"):
        read_header(file)


def test_an_absent_file_is_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"cannot read the model file .*nowhere\.gguf: No such file"):
        read_header(tmp_path / "nowhere.gguf")


def check(folder: Path, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> None:
    model, adapter = folder / "base.gguf", folder / "lora.gguf"
    model.write_bytes(header_bytes(METADATA, BASE | {"token_embd.weight": (64, 100)}))
    adapter.write_bytes(header_bytes(metadata, tensors))
    check_adapter(adapter, model, read_header(model, ("general.architecture",)))


def test_an_adapter_of_this_base_is_accepted(tmp_path: Path) -> None:
    check(tmp_path, ADAPTER, LORA)


def test_an_adapter_of_the_embedding_is_accepted(tmp_path: Path) -> None:
    check(tmp_path, ADAPTER, {"token_embd.weight.lora_a": (4, 100), "token_embd.weight.lora_b": (4, 64)})


@pytest.mark.parametrize(
    ("metadata", "tensors", "says"),
    [
        pytest.param(METADATA, LORA, "its type is None/None, not adapter/lora", id="a-model"),
        pytest.param(ADAPTER | {"adapter.type": "ia3"}, LORA, "adapter/ia3", id="another-kind"),
        pytest.param(
            ADAPTER | {"general.architecture": "qwen2"}, LORA, "architecture qwen2, the model is llama", id="a"
        ),
        pytest.param(ADAPTER, {"blk.9.attn_q.weight.lora_a": (64, 4)}, r"no tensor for its blk\.9", id="layers"),
        pytest.param(
            ADAPTER, LORA | {"blk.0.attn_q.weight.lora_a": (48, 4)}, r"shapes \(48, 4\).*\(64, 32\)", id="inputs"
        ),
        pytest.param(ADAPTER, LORA | {"blk.0.attn_q.weight.lora_b": (4, 48)}, r"\(4, 48\).*\(64, 32\)", id="outputs"),
        pytest.param(ADAPTER, {"blk.0.attn_norm.weight.lora_a": (64, 4)}, "shapes", id="not-a-matrix"),
        pytest.param(ADAPTER, LORA | {"blk.0.attn_q.weight.lora_b": (8, 32)}, r"\(8, 32\)", id="ranks"),
        pytest.param(ADAPTER, {"blk.0.attn_q.weight.lora_b": (4, 32)}, r"\(\) and \(4, 32\)", id="half"),
        pytest.param(ADAPTER, {}, "no tensors", id="empty"),
    ],
)
def test_another_adapter_is_refused_with_both_files_and_the_difference(
    tmp_path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]], says: str
) -> None:
    with pytest.raises(AdapterMismatch, match=rf"lora\.gguf does not fit the model .*base\.gguf: .*{says}.*; use an"):
        check(tmp_path, metadata, tensors)
