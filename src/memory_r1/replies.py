"""Reading what models reply: JSON objects, however a small model wraps or breaks them. Nothing here raises."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any

_TRIES = 50  # each reads on to where the reply is broken: thousands of open brackets took a second
_DECODER = json.JSONDecoder()
_GAP = re.compile(r"[\s,]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')


def json_object(text: str) -> dict[str, Any] | None:
    """The first JSON object in a reply, or None. Prose or a code fence around it does no harm."""
    for match in islice(re.finditer(r"\{", text[:20_000]), _TRIES):
        try:
            value, _ = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and all(_is_text(key) for key in value):
            return value
    return None


def complete_strings(text: str) -> list[str]:
    """The complete strings of an array that was cut off: '{"facts": ["a", "b' gives ["a"]."""
    _, bracket, items = text.partition("[")
    if not bracket:
        return []
    found = []
    for match in _STRING.finditer(items):
        try:
            value = json.loads(match.group())
        except ValueError:
            continue
        found.append(value)
    return found


def whole_objects(text: str) -> list[dict[str, Any]]:
    """The whole objects of an array that was cut off: '{"calls": [{"a": 1}, {"b' gives [{"a": 1}]."""
    _, bracket, items = text.partition("[")
    found, place = list[dict[str, Any]](), 0
    while bracket:
        try:
            value, place = _DECODER.raw_decode(items, _GAP.match(items, place).end())  # type: ignore[union-attr]
        except (ValueError, RecursionError):
            break
        if not isinstance(value, dict):
            break
        found.append(value)
    return found


def position(value: object, count: int) -> int | None:
    """A position 1..count as a place 0..count-1, or None for anything else a model may have written there."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 9:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= count:
        return None
    return value - 1


def sentence(value: object, limit: int = 2_000) -> str | None:
    """A reply's text with its white space made single, or None when there is none that could be stored."""
    if not isinstance(value, str) or not _is_text(value):
        return None
    text = " ".join(value.replace("\x00", " ").split())
    return text if 0 < len(text) <= limit else None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair: a model wrote "\ud83d"
        return False
    return True
