"""The words of a split: data/train.toml for training and validation, data/test.toml for the test.

A key such as "dogs.adopt.say" names a list of templates, "pools.dogs" one of values. Validation has its own values and
sentences, taken out of train.toml, and shares with training only lists that are too short to be divided.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Literal, get_args

from memory_r1.errors import InvalidInput

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_SHORT = 4  # a list of fewer lines is not divided
_START = re.compile(r"(^|[.!?] +)([a-z])")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeioAEIO])")  # no u: a used car


@functools.cache
def wording(split: Split) -> Mapping[str, tuple[str, ...]]:
    """Every list of a split by its key."""
    if split not in SPLITS:
        raise InvalidInput(f"{split!r} is no split; there are {', '.join(SPLITS)}")
    name = "test" if split == "test" else "train"
    text = importlib.resources.files("memory_r1.train").joinpath(f"data/{name}.toml").read_text(encoding="utf-8")
    lists = dict(_lists(tomllib.loads(text), ""))
    return lists if split == "test" else {key: _part(key, lines, split) for key, lines in lists.items()}


def _lists(table: Mapping[str, Any], prefix: str) -> list[tuple[str, tuple[str, ...]]]:
    found: list[tuple[str, tuple[str, ...]]] = []
    for name, value in table.items():
        if isinstance(value, str):
            found.append((prefix + name, tuple(value.strip().splitlines())))
        else:
            found += _lists(value, f"{prefix}{name}.")
    return found


def _part(key: str, lines: tuple[str, ...], split: Split) -> tuple[str, ...]:
    if len(lines) < _SHORT:
        return lines
    first, step = (2, 3) if key.startswith("pools.") else (3, 5)  # a world needs several values of a pool
    held_out = lines[first::step]
    return held_out if split == "validation" else tuple(line for line in lines if line not in held_out)


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with its values, and each sentence with a capital first letter."""
    return _START.sub(lambda match: match[1] + match[2].upper(), phrase(template, values))


def phrase(template: str, values: Mapping[str, str]) -> str:
    """A template with its values: "a {item}" becomes "an armchair"."""
    return _ARTICLE.sub(r"\1n ", template.format_map(values))
