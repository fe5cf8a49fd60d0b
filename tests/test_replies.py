"""What is read from replies, however a model wraps or breaks them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from memory_r1.replies import complete_strings, json_object, position, sentence, whole_objects


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure, here it is:\n```json\n{"a": 1}\n```\nAnything else?', {"a": 1}),
        ('{"a": 1} {"b": 2}', {"a": 1}),
        ('{not json} {"a": {"b": []}}', {"a": {"b": []}}),
        ('[{"a": 1}]', {"a": 1}),
        ("{}", {}),
        ('{"a": 1', None),
        ('{"a": "b', None),
        ("", None),
        ("null", None),
        ("[1, 2]", None),
        ("{'a': 1}", None),
        ('{"\\ud83d": 1}', None),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ('{"a": ' + "9" * 5000 + "}", None),
        ("{" * 30_000, None),
    ],
)
def test_the_first_object_of_a_reply_is_read(text: str, expected: Any) -> None:
    assert json_object(text) == expected


@pytest.mark.parametrize("unit", ["{", '{"a":', "[{", '{"a', '{"a":[', '\\"{', '{"a":{"b":'])
def test_a_reply_made_to_be_slow_is_not(unit: str) -> None:
    started = time.perf_counter()
    json_object(unit * 20_000)
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"facts": ["a", "b', ["a"]),
        ('{"facts": ["a", "b"', ["a", "b"]),
        ('{"facts": ["a \\"quoted\\"", "', ['a "quoted"']),
        ('{"facts": ["é\\u00e9", ', ["éé"]),
        ('{"facts": [', []),
        ('{"facts": ["a', []),
        ('{"facts"', []),
        ("", []),
        ("no array", []),
    ],
)
def test_the_whole_strings_of_an_array_that_was_cut_off_are_kept(text: str, expected: list[str]) -> None:
    assert complete_strings(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"calls": [{"a": 1}, {"b": {"c": 2}}, {"d": [', [{"a": 1}, {"b": {"c": 2}}]),
        ('{"calls": [{"a": 1}, "b", {"c": 3}', [{"a": 1}]),
        ('{"calls": [{"a', []),
        ("[", []),
        ("no array", []),
    ],
)
def test_the_whole_objects_of_an_array_that_was_cut_off_are_kept(text: str, expected: list[dict[str, Any]]) -> None:
    assert whole_objects(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 0),
        (3, 2),
        ("2", 1),
        (" 3 ", 2),
        ("03", 2),
        *((value, None) for value in (0, 4, -1, 10**400, 1.0, 2.5, float("nan"), float("inf"), True, False, None)),
        *((value, None) for value in ("", "0", "4", "-1", "+1", "1.0", "one", "２", "²", "9" * 5000, [1], {}, "1,2")),
    ],
)
def test_only_a_position_that_is_there_is_one(value: object, expected: int | None) -> None:
    assert position(value, 3) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Ann likes tea", "Ann likes tea"),
        ("  Ann \n likes\ttea ", "Ann likes tea"),
        ("a\x00b", "a b"),
        ("😀", "😀"),
        ("x" * 2000, "x" * 2000),
        *((value, None) for value in ("", " \n", "\x00", "\ud83d", "x" * 2001, None, 5, ["a"], {"a": 1}, True)),
    ],
)
def test_a_sentence_is_text_that_can_be_stored(value: object, expected: str | None) -> None:
    assert sentence(value) == expected
