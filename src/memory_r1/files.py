"""Text and JSON files of other people's making, read with errors that name the place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from memory_r1.errors import InvalidInput

T = TypeVar("T", str, int, list[Any], dict[str, Any])

KINDS: Mapping[type, str] = {str: "a string", int: "a whole number", list: "a list", dict: "an object"}


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The file opened as UTF-8, with or without a byte order mark."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} is not text in UTF-8: {error}") from error


def read_json(path: Path) -> Any:
    try:
        with open_text(path) as file:
            return json.load(file)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path.name} is not JSON: {error}") from error


def json_lines(path: Path, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file with their line numbers. `what` one is called in errors."""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"{path.name} line {number} is not JSON: {error}") from error
            if not isinstance(value, dict):
                raise InvalidInput(f"{path.name} line {number} is not a {what} object")
            yield number, value


@contextmanager
def at(place: str) -> Iterator[None]:
    """Errors inside name the place."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from error


@contextmanager
def remedy(advice: str) -> Iterator[None]:
    """Errors inside, a file that cannot be opened among them, end with what to do."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{error}; {advice}") from error
    except OSError as error:
        raise InvalidInput(f"{error.filename} cannot be read ({error.strerror}); {advice}") from error


def typed(value: Any, kind: type[T], what: str) -> T:
    """`value`, which must be of this kind. True and False are no numbers."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidInput(f"{what} must be {KINDS[kind]}, not {json.dumps(value, ensure_ascii=True)[:80]}")
    return value


def member(value: Any, name: str, kind: type[T]) -> T:
    """What an object holds under a name. Raises InvalidInput when it is no object, or holds none of this kind."""
    if name not in typed(value, dict, "this"):
        raise InvalidInput(f'"{name}" is missing')
    return typed(value[name], kind, f'"{name}"')
