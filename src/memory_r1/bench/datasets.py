"""The data sets by name, as the command line gives them."""

from __future__ import annotations

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
            return locomo.load(path, repairs=repairs)
        case "longmemeval" if path:
            return longmemeval.load(path)
        case "msc" if path:
            return msc.load(path)
        case "json" if path:
            return plain.load(path)
    raise InvalidInput(f"{given!r} names no data set; give locomo:PATH, longmemeval:PATH, msc:PATH or json:PATH")
