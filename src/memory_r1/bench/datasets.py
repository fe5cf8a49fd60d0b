"""The data sets by name, as the command line gives them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from memory_r1.bench import locomo, longmemeval, msc, plain
from memory_r1.bench.data import Dataset
from memory_r1.errors import InvalidInput


def open_dataset(given: str, repairs: Path | None = None) -> Dataset:
    """The data set at "locomo:PATH", "longmemeval:PATH", "msc:PATH" or "json:PATH"; `repairs` are LoCoMo's."""
    kind, _, path = given.partition(":")
    if repairs and kind != "locomo":
        raise InvalidInput("repairs are known for locomo alone")
    match kind:
        case "locomo" if path:
            data = locomo.load(path, repairs=repairs)
        case "longmemeval" if path:
            data = longmemeval.load(path)
        case "msc" if path:
            data = msc.load(path)
        case "json" if path:
            data = plain.load(path)
        case _:
            raise InvalidInput(
                f"{given!r} names no data set; give locomo:PATH, longmemeval:PATH, msc:PATH or json:PATH"
            )
    return replace(data, source=" and ".join(map(_named, filter(None, (Path(path), repairs)))))


def _named(path: Path) -> str:
    return f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"
