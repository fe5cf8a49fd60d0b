"""Mem0's filter grammar, implemented once: from a filter to one SQLite expression, from its ids to a Scope.

    {"topic": "travel"}                    equal; "*" any value; a list: one of these; None: null or no such key
    {"score": {"gte": 0.5, "lt": 1}}       OPERATORS; several must all hold
    {"AND": [f, …]} {"OR": [f, …]}         all, at least one
    {"NOT": [f, …]} {"NOT": f}             none of them: the exact complement of OR

Names: id, text (also "memory" and "data"), speaker, and the times created_at, updated_at, event_time and
expires_at. Every other name is a key of the entry's metadata, dots included; "metadata.text" is a key that a
column hides. Types are JSON's: 1 equals 1.0 but neither true nor "1"; order is between two numbers or two
strings; times take whatever `parse_time` reads. `ne`, `nin` and NOT also hold where the key is missing.
`contains` is a substring of a string or a member of a list, `icontains` the same without case.
{"k": {"eq": "*"}} is an asterisk, {"k": {"eq": [1, 2]}} that list, {"k": {"eq": {…}}} that object.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from memory_r1.dates import parse_time
from memory_r1.errors import BadFilter, InvalidInput
from memory_r1.types import SCOPE_KEYS, Scope

OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains", "icontains")
LOGIC = ("AND", "OR", "NOT")
MAX_DEPTH = 32
MAX_LEAVES = 1000
# SQLite binds 32,766 parameters in one statement; the rest is for the query around the filter.
MAX_VALUES = 30_000

_TIMES = ("created_at", "updated_at", "event_time", "expires_at")
_COLUMNS = {"memory": "text", "data": "text"} | {name: name for name in ("id", "text", "speaker", *_TIMES)}
_COMPLEMENT = {"ne": "eq", "nin": "in"}
_ORDER = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
# json_each and not a JSON path: before SQLite 3.45 a path cannot name a key that its JSON text writes with an
# escape (quotes, backslashes, all but ASCII), and a bound key needs no quoting.
_KEY = "EXISTS (SELECT 1 FROM json_each(entry.metadata) WHERE key = ? AND "
# Before 3.45 json_each ends a string at U+0000; no UTF-8 has surrogates.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_GRAMMAR = f"operators are {', '.join(OPERATORS)}; AND, OR and NOT combine filters"
_Join = Literal["AND", "OR"]


def split_scope(
    filters: Mapping[str, Any] | None,
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    run_id: str | None = None,
) -> tuple[Scope, dict[str, Any]]:
    """Whose memory a call means, and what remains of its filter; `filters` itself is left as it was.

    Ids are keywords, or plain equalities at the top level of the filter or of an item of its top-level AND,
    where they can only narrow. The remainder has been checked: `compile_filter` takes it.

    Raises BadFilter for an id anywhere else, as a pattern, a list or an operator, or given twice with two
    values, and for all that `compile_filter` refuses; MissingScope for no id; InvalidInput for an id that is none.
    """
    keywords = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
    ids = {name: value for name, value in keywords.items() if value is not None}
    rest: dict[str, Any] = {}
    if filters is not None:
        rest = _take_ids(filters, ids)
        items = rest.get("AND")
        if isinstance(items, list | tuple) and items:
            rest["AND"] = [kept for item in items for kept in _take_ids_of_item(item, ids)]
            if not rest["AND"]:
                del rest["AND"]
        compile_filter(rest)
    return Scope(**ids), rest


def compile_filter(filters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """A filter without ids as (SQL, parameters): 1 where an entry matches, else 0, never NULL.

    The SQL stands in a query over a table (or an alias) named `entry`, on a connection given to `register`.
    No text of the filter is in it. It presumes metadata of strict JSON: finite numbers, integers of 64 bits, no
    U+0000. The empty filter matches everything.

    Raises BadFilter for what the grammar does not know: other operators, an empty condition or AND, OR or NOT,
    a scope id, a value that JSON cannot hold, more than MAX_DEPTH levels, MAX_LEAVES tests or MAX_VALUES values.
    """
    if isinstance(filters, Mapping) and not filters:
        return "1", []
    part = _Compiler().condition(filters, depth=1, holds=True)
    return f"({part.sql})", part.params


def register(connection: sqlite3.Connection) -> None:
    """Give the connection `mr1_match`, which tests what SQL cannot: case folding, members, whole lists and objects."""
    connection.create_function("mr1_match", 4, _match, deterministic=True)


def _take_ids(condition: Mapping[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """Move the ids that stand directly in a condition into `ids`; returns the rest."""
    if not isinstance(condition, Mapping):
        raise BadFilter(f"a filter is a mapping such as {{'topic': 'travel'}}, not {type(condition).__name__}")
    rest = {}
    for key, value in condition.items():
        if key not in SCOPE_KEYS:
            rest[key] = value
            continue
        if isinstance(value, Mapping) and list(value) == ["eq"]:
            value = value["eq"]
        if not isinstance(value, str) or value == "*":
            raise BadFilter(f"{key} must be one plain string: a filter cannot widen whose memory is read")
        if ids.setdefault(key, value) != value:
            raise BadFilter(f"{key} is given twice with different values: a filter cannot change whose memory is read")
    return rest


def _take_ids_of_item(item: Any, ids: dict[str, str]) -> list[Any]:
    """What remains of an item of the top-level AND: none if it held nothing but ids."""
    if not isinstance(item, Mapping) or not item:
        return [item]  # Still an error, which `compile_filter` words.
    rest = _take_ids(item, ids)
    return [rest] if rest else []


@dataclass(slots=True)
class _Part:
    """A piece of SQL: the operator at its top ("" if it is a unit) and its load on SQLite's parser stack."""

    sql: str
    params: list[Any] = field(default_factory=list)
    join: _Join | Literal[""] = ""
    load: int = 0


def _join(join: _Join, parts: Sequence[_Part], *, width: int = 8) -> _Part:
    """Join parts so that the largest filter allowed fits SQLite's limits, which a naive join exceeds.

    Those are 100 symbols on the parser's stack and an expression depth of 1000 (a chain of n terms is n deep):
    the most nested part stands first, where it needs the least stack, only an OR inside an AND gets brackets,
    and a long chain is bracketed in groups.
    """
    if len(parts) == 1:
        return parts[0]
    units = [
        _Part(f"({part.sql})", part.params, load=part.load + 1) if (join, part.join) == ("AND", "OR") else part
        for part in parts
    ]
    units.sort(key=lambda unit: -unit.load)
    if len(units) > width:
        first, *others = units
        units = [first]
        for i in range(0, len(others), 32):
            group = _join(join, others[i : i + 32], width=32)
            units.append(_Part(f"({group.sql})", group.params, load=group.load + 1))
    return _Part(
        f" {join} ".join(unit.sql for unit in units),
        [param for unit in units for param in unit.params],
        join,
        max(unit.load + 2 * (i > 0) for i, unit in enumerate(units)),
    )


class _Compiler:
    """One compilation, which counts its tests and values.

    `holds` tells whether the part should hold or fail: negation moves down to the tests, each of which is 0 or
    1, so that no NULL can turn a complement around.
    """

    def __init__(self) -> None:
        self.leaves = 0
        self.values = 0

    def condition(self, condition: Any, depth: int, holds: bool) -> _Part:
        if not isinstance(condition, Mapping):
            raise BadFilter(f"a filter is a mapping such as {{'topic': 'travel'}}, not {type(condition).__name__}")
        if not condition:
            raise BadFilter("an empty filter inside AND, OR or NOT: leave it out")
        if depth > MAX_DEPTH:
            raise BadFilter(f"a filter may be nested {MAX_DEPTH} levels deep")
        parts = []
        for key, value in condition.items():
            if key in LOGIC:
                parts.append(self.combination(key, value, depth, holds))
            else:
                parts.append(self.tests(self.name(key), value, holds))
        return _join("AND" if holds else "OR", parts)

    def combination(self, logic: str, filters: Any, depth: int, holds: bool) -> _Part:
        if logic == "NOT" and isinstance(filters, Mapping):
            filters = [filters]
        if not isinstance(filters, list | tuple) or not filters:
            raise BadFilter(f"{logic} takes a list of at least one filter; {_GRAMMAR}")
        inner = holds != (logic == "NOT")
        parts = [self.condition(each, depth + 1, inner) for each in filters]
        return _join("AND" if holds == (logic != "OR") else "OR", parts)

    def name(self, key: Any) -> str:
        if not isinstance(key, str):
            raise BadFilter(f"a filter's keys are strings, not {type(key).__name__}")
        if key in SCOPE_KEYS:
            raise BadFilter(
                f"{key} may stand only at the top level of a filter or directly in its top-level AND: inside OR, NOT "
                "or deeper it could widen or change whose memory is read"
            )
        if key.startswith("$") or key.upper() in LOGIC:
            raise BadFilter(f"unknown operator {reprlib.repr(key)}; {_GRAMMAR}; a metadata key: 'metadata.…'")
        self.value(key, "a key")
        return key

    def tests(self, name: str, value: Any, holds: bool) -> _Part:
        """All that a filter says of one name."""
        if isinstance(value, str) and value == "*":
            pairs = [("ne", None)]
        elif isinstance(value, Mapping):
            pairs = list(value.items())
        else:
            pairs = [("in" if isinstance(value, list | tuple) else "eq", value)]
        if not pairs:
            raise BadFilter(f"{reprlib.repr(name)} has no operator; {_GRAMMAR}")
        return _join("AND" if holds else "OR", [self.leaf(name, op, operand, holds) for op, operand in pairs])

    def leaf(self, name: str, op: Any, operand: Any, holds: bool) -> _Part:
        shown = reprlib.repr(name)
        self.leaves += 1
        if self.leaves > MAX_LEAVES:
            raise BadFilter(f"a filter may hold {MAX_LEAVES} tests; use 'in' for many values of one name")
        if op not in OPERATORS:
            raise BadFilter(
                f"unknown operator {op[:40]!r} for {shown}; {_GRAMMAR}" if isinstance(op, str) else _GRAMMAR
            )
        if op in _COMPLEMENT:
            op, holds = _COMPLEMENT[op], not holds
        if op == "in" and not isinstance(operand, list | tuple):
            raise BadFilter(f"in and nin take a list, not {type(operand).__name__}, for {shown}")
        if op in _ORDER and (isinstance(operand, bool | list | tuple | Mapping) or operand is None):
            raise BadFilter(f"{op} takes a number, a string or a time, not {type(operand).__name__}, for {shown}")
        column = _COLUMNS.get(name)
        if column in _TIMES:
            if op in ("contains", "icontains"):
                raise BadFilter(f"{op} does not apply to the time {shown}; {_GRAMMAR}")
            operand = [self.time(each, shown) for each in operand] if op == "in" else self.time(operand, shown)
        else:
            operand = self.value(operand, shown)
        if op == "eq":
            op, operand = "in", [operand]
        if column is None:
            sql, params = _test_metadata(name.removeprefix("metadata."), op, operand)
        else:
            sql, params = _test_column(column, op, operand)
        return _Part(f"({sql})" if holds else f"NOT ({sql})", params)

    def time(self, value: Any, shown: str) -> float | None:
        """Seconds since 1970, as the columns hold them."""
        self.count()
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float | datetime):
            raise BadFilter(f"{shown} is a time, which {type(value).__name__} is not")
        try:
            return parse_time(value).timestamp()
        except (InvalidInput, ValueError, OverflowError) as error:
            raise BadFilter(f"{shown}: {error}") from error

    def value(self, value: Any, where: str, depth: int = 1) -> Any:
        """A JSON value that SQLite and Python read alike."""
        self.count()
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            if _UNUSABLE.search(value):
                raise BadFilter(f"a string with U+0000 or a lone surrogate for {where}")
            return value
        if isinstance(value, int):
            if not -(2**63) <= value < 2**63:
                raise BadFilter(f"an integer of more than 64 bits for {where}")
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise BadFilter(f"NaN or infinity for {where}")
            return value
        if depth > MAX_DEPTH:
            raise BadFilter(f"a value may be nested {MAX_DEPTH} levels deep, for {where}")
        if isinstance(value, list | tuple):
            return [self.value(each, where, depth + 1) for each in value]
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {self.value(key, where): self.value(each, where, depth + 1) for key, each in value.items()}
        hint = "; metadata is JSON, so compare with the text it holds" if isinstance(value, datetime) else ""
        raise BadFilter(f"{type(value).__name__} is no JSON value, for {where}{hint}; {_GRAMMAR}")

    def count(self) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            raise BadFilter(f"a filter may hold {MAX_VALUES} values")


def _test_column(column: str, op: str, operand: Any) -> tuple[str, list[Any]]:
    numeric = column in _TIMES
    name = f"entry.{column}"
    if op == "in":
        found = [each for each in operand if isinstance(each, float if numeric else str)]
        tests = [f"{name} IS NOT NULL AND {name} IN ({_marks(found)})"] if found else []
        tests += [f"{name} IS NULL"] if None in operand else []
        return " OR ".join(tests) or "0", found
    if op == "icontains":
        return f"mr1_match(?, json_object('', {name}), '', ?)", [op, json.dumps(operand)]
    if not isinstance(operand, float if numeric else str):
        return "0", []
    test = f"instr({name}, ?) > 0" if op == "contains" else f"{name} {_ORDER[op]} ?"
    return f"{name} IS NOT NULL AND {test}", [operand]


def _test_metadata(key: str, op: str, operand: Any) -> tuple[str, list[Any]]:
    if op in _ORDER:
        types = "type = 'text'" if isinstance(operand, str) else "type IN ('integer', 'real')"
        return f"{_KEY}{types} AND value {_ORDER[op]} ?)", [key, operand]
    if op != "in":
        return "mr1_match(?, entry.metadata, ?, ?)", [op, key, json.dumps(operand)]
    texts = [each for each in operand if isinstance(each, str)]
    numbers = [each for each in operand if isinstance(each, int | float) and not isinstance(each, bool)]
    others = [each for each in operand if isinstance(each, list | dict)]
    # The type is tested as well because SQL has no booleans, and sees lists and objects as their text.
    tests = [f"type = 'text' AND value IN ({_marks(texts)})"] if texts else []
    tests += [f"type IN ('integer', 'real') AND value IN ({_marks(numbers)})"] if numbers else []
    tests += [
        f"type = '{name}'" for name, value in (("true", True), ("false", False)) if any(x is value for x in operand)
    ]
    sql = [f"{_KEY}({' OR '.join(tests)}))"] if tests else []
    params = [key, *texts, *numbers] if tests else []
    if others:
        sql.append("mr1_match(?, entry.metadata, ?, ?)")
        params += ["in", key, json.dumps(others)]
    if None in operand:
        sql.append(f"NOT {_KEY}type <> 'null')")
        params.append(key)
    return " OR ".join(sql) or "0", params


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


_operand = lru_cache(maxsize=64)(json.loads)


def _match(op: str, document: str | None, key: str, operand_json: str) -> bool:
    """Whether a JSON object's value at `key` is "in" a list, "contains" the operand, or "icontains" it."""
    members = None if document is None else json.loads(document)
    if not isinstance(members, dict) or key not in members:
        return False
    value, operand = members[key], _operand(operand_json)
    if op == "in":
        return any(_same(value, each) for each in operand)
    if op == "icontains":
        operand = _fold(operand)
        value = [_fold(each) for each in value] if isinstance(value, list) else _fold(value)
    if isinstance(value, str):
        return isinstance(operand, str) and operand in value
    return isinstance(value, list) and any(_same(each, operand) for each in value)


def _fold(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _same(a: Any, b: Any) -> bool:
    """Equality of JSON values: Python's, but True is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(a == b)
