"""Reads the header of a GGUF model file: a few metadata values and the tensors' shapes, not the weights.

The format: "GGUF", version, counts, then key-value pairs, then one record per tensor. All is little-endian.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_r1.errors import AdapterMismatch, WeightsMissing

# Type codes 0..12 of the format; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")
_F32 = 0  # of the tensors' types

BASE_FINGERPRINT = "memory_r1.base.fingerprint"
"""Metadata of an adapter file: `fingerprint` of the model it was trained from."""


@dataclass(frozen=True, slots=True)
class Header:
    """`metadata` holds the keys asked for that the file has; `tensors` each tensor's dims, fastest first.

    `places` holds each tensor's element type and the byte of the file at which its data begins.
    """

    metadata: Mapping[str, Any]
    tensors: Mapping[str, tuple[int, ...]]
    places: Mapping[str, tuple[int, int]]


class _Reader:
    """Walks a buffer. Raises struct.error, IndexError or ValueError where the bytes are not GGUF."""

    def __init__(self, buffer: mmap.mmap) -> None:
        self._buffer = buffer
        self.at = 0

    def scalar(self, code: str) -> Any:
        value = struct.unpack_from("<" + code, self._buffer, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def skip(self, n: int) -> None:
        """Advance by n bytes; IndexError where the file is shorter."""
        end = self.at + n
        if end > len(self._buffer):
            raise IndexError("ends too early")
        self.at = end

    def string(self) -> str:
        length = self.scalar("Q")
        start = self.at
        self.skip(length)
        return self._buffer[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int, keep: bool) -> Any:
        """The value at this place, or None after stepping over it unless `keep`."""
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise ValueError(f"unknown value type {kind}")
        item, count = self.scalar("I"), self.scalar("Q")
        if keep:
            return [self.value(item, keep) for _ in range(count)]
        if item in _SCALARS:
            self.skip(count * struct.calcsize("<" + _SCALARS[item]))
        elif item == _STRING:
            self._skip_strings(count)
        else:
            raise ValueError("an array of arrays")
        return None

    def _skip_strings(self, count: int) -> None:
        # A vocabulary is some hundred thousand strings: this loop is all that a header costs.
        at, unpack, buffer = self.at, _LENGTH.unpack_from, self._buffer
        for _ in range(count):
            at += 8 + unpack(buffer, at)[0]
        self.at = at
        self.skip(0)


def read_header(path: Path, keys: Collection[str] = ()) -> Header:
    """The header of `path` with the metadata `keys`. Raises WeightsMissing where that cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return _parse(_Reader(buffer), buffer[:4], keys)
    except OSError as error:
        raise WeightsMissing(f"cannot read the model file {path}: {error.strerror or error}") from error
    except (struct.error, IndexError) as error:
        raise WeightsMissing(f"{path} is not a GGUF file, or is damaged: it ends too early") from error
    except (ValueError, OverflowError, MemoryError) as error:
        raise WeightsMissing(f"{path} is not a GGUF file, or is damaged: {error}") from error


def _parse(reader: _Reader, magic: bytes, keys: Collection[str]) -> Header:
    if magic != b"GGUF":
        raise ValueError(f"it begins with {magic!r}")
    reader.skip(4)
    version = reader.scalar("I")
    if version not in (2, 3):
        raise ValueError(f"its format version is {version}, not 2 or 3")
    n_tensors, n_pairs = reader.scalar("Q"), reader.scalar("Q")
    metadata: dict[str, Any] = {}
    alignment = 32
    for _ in range(n_pairs):
        key = reader.string()
        value = reader.value(reader.scalar("I"), key in keys or key == "general.alignment")
        if key == "general.alignment":
            alignment = value
        if key in keys:
            metadata[key] = value
    tensors: dict[str, tuple[int, ...]] = {}
    places: dict[str, tuple[int, int]] = {}
    for _ in range(n_tensors):
        name = reader.string()
        tensors[name] = tuple(reader.scalar("Q") for _ in range(reader.scalar("I")))
        places[name] = (reader.scalar("I"), reader.scalar("Q"))
    start = -(-reader.at // alignment) * alignment
    return Header(metadata, tensors, {name: (kind, start + offset) for name, (kind, offset) in places.items()})


def fingerprint(path: Path) -> str | None:
    """What tells a model from another of the same shape: the SHA-256 of its last norm.

    Quantising leaves norms in float32, so all quantisations of a model have one fingerprint. None where there is
    no such tensor.
    """
    header = read_header(path)
    name = "output_norm.weight"
    kind, start = header.places.get(name, (None, 0))
    if kind != _F32:
        return None
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(4 * header.tensors[name][0])).hexdigest()


def check_adapter(adapter: Path, model: Path, base: Header) -> None:
    """Raise AdapterMismatch unless the LoRA file `adapter` fits the model whose header is `base`."""
    header = read_header(adapter, ("general.type", "adapter.type", "general.architecture", BASE_FINGERPRINT))
    difference = _difference(header, base)
    trained_from = header.metadata.get(BASE_FINGERPRINT)  # adapters of other tools have none
    if not difference and trained_from and trained_from != fingerprint(model):
        difference = "it was trained from another model of the same shape"
    if difference:
        raise AdapterMismatch(
            f"the adapter {adapter} does not fit the model {model}: {difference}; use an adapter trained from "
            "this model, or the model it was trained from"
        )


def adapter_name(adapter: Path) -> str:
    """What replies and the log call an adapter: its own name and version, or where it lacks one, its file's name."""
    said = read_header(adapter, ("general.name", "general.version")).metadata
    return f"{said['general.name']} {said['general.version']}" if len(said) == 2 else adapter.name


def _difference(adapter: Header, base: Header) -> str | None:
    kind = (adapter.metadata.get("general.type"), adapter.metadata.get("adapter.type"))
    if kind != ("adapter", "lora"):
        return f"its type is {kind[0]}/{kind[1]}, not adapter/lora"
    ours, its = base.metadata.get("general.architecture"), adapter.metadata.get("general.architecture")
    if ours != its:
        return f"it is for the architecture {its}, the model is {ours}"
    if not adapter.tensors:
        return "it holds no tensors"
    for name in adapter.tensors:
        target, _, side = name.rpartition(".lora_")
        if side not in ("a", "b") or target not in base.tensors:
            return f"the model has no tensor for its {name}"
        shapes = [adapter.tensors.get(f"{target}.lora_{half}", ()) for half in "ab"]
        if not _fits(target, base.tensors[target], *shapes):
            found = f"{shapes[0]} and {shapes[1]}, the model's {target} {base.tensors[target]}"
            return f"its {target}.lora_a and lora_b have the shapes {found}"
    return None


def _fits(target: str, shape: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether the low-rank pair multiplies to the target's shape. Dims are (inputs, outputs), as in the file."""
    if not len(shape) == len(a) == len(b) == 2:
        return False
    if target == "token_embd.weight":  # looked up by rows: dims are (width, vocabulary), and a is not transposed
        return (shape[1], shape[0], a[0]) == (a[1], b[1], b[0])
    return (shape[0], shape[1], a[1]) == (a[0], b[1], b[0])
