"""Filters against a small evaluator in Python, and against callers who mean harm."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_r1.bank.filters import LOGIC, OPERATORS, compile_filter, register, split_scope
from memory_r1.errors import BadFilter, InvalidInput, MissingScope
from memory_r1.types import SCOPE_KEYS, Scope

TEXTS = ("id", "text", "speaker")
TIMES = ("created_at", "updated_at", "event_time", "expires_at")
QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Table:
    """An `entry` table in memory; `ids(filter)` are the entries a filter matches."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.execute(
            "CREATE TABLE entry (id TEXT, text TEXT, speaker TEXT, created_at REAL, updated_at REAL, "
            "event_time REAL, expires_at REAL, metadata TEXT)"
        )
        register(self.db)

    def fill(self, rows: list[dict[str, Any]], *, ensure_ascii: bool = True) -> None:
        self.db.execute("DELETE FROM entry")
        for row in rows:
            times = [None if row[name] is None else row[name].timestamp() for name in TIMES]
            metadata = json.dumps(row["metadata"], ensure_ascii=ensure_ascii, allow_nan=False)
            values = [*(row[name] for name in TEXTS), *times, metadata]
            self.db.execute(f"INSERT INTO entry VALUES ({', '.join('?' * len(values))})", values)

    def ids(self, filters: Mapping[str, Any]) -> list[str]:
        sql, params = compile_filter(filters)
        found = dict(self.db.execute(f"SELECT id, {sql} FROM entry", params).fetchall())
        assert set(found.values()) <= {0, 1}
        where = [key for (key,) in self.db.execute(f"SELECT id FROM entry WHERE {sql}", params)]
        assert where == [key for key, holds in found.items() if holds]
        return where


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    table = Table()
    yield table
    table.db.close()


def row(key: str = "0", metadata: dict[str, Any] | None = None, **columns: Any) -> dict[str, Any]:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    plain = {"id": key, "text": "", "speaker": None, "created_at": at, "updated_at": at}
    return plain | {"event_time": None, "expires_at": None, "metadata": metadata or {}} | columns


# --- The oracle: the semantics in Python, for one row ---


def tagged(value: Any) -> Any:
    """A JSON value as something whose == is JSON's equality."""
    match value:
        case bool():
            return ("bool", value)
        case int() | float():
            return ("number", value)
        case list():
            return ("list", tuple(map(tagged, value)))
        case dict():
            return ("object", frozenset((key, tagged(each)) for key, each in value.items()))
    return ("plain", value)


def holds(filters: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    return all(holds_key(key, value, entry) for key, value in filters.items())


def holds_key(key: str, value: Any, entry: Mapping[str, Any]) -> bool:
    if key == "AND":
        return all(holds(each, entry) for each in value)
    if key == "OR":
        return any(holds(each, entry) for each in value)
    if key == "NOT":
        return not any(holds(each, entry) for each in ([value] if isinstance(value, dict) else value))
    column = {"memory": "text", "data": "text"}.get(key, key)
    if column in TEXTS + TIMES:
        actual = entry[column]
        actual = actual.timestamp() if isinstance(actual, datetime) else actual
    else:
        actual = entry["metadata"].get(key.removeprefix("metadata."))
    if value == "*":
        return actual is not None
    if isinstance(value, list):
        return holds_operator("in", actual, value)
    if isinstance(value, dict):
        return all(holds_operator(op, actual, operand) for op, operand in value.items())
    return holds_operator("eq", actual, value)


def holds_operator(op: str, actual: Any, operand: Any) -> bool:
    if isinstance(operand, datetime):
        operand = operand.timestamp()
    match op:
        case "eq":
            return tagged(actual) == tagged(operand)
        case "ne":
            return not holds_operator("eq", actual, operand)
        case "in":
            return any(holds_operator("eq", actual, each) for each in operand)
        case "nin":
            return not holds_operator("in", actual, operand)
        case "contains" | "icontains":
            fold = (lambda x: x.casefold() if isinstance(x, str) else x) if op == "icontains" else (lambda x: x)
            if isinstance(actual, list):
                return tagged(fold(operand)) in [tagged(fold(each)) for each in actual]
            return isinstance(actual, str) and isinstance(operand, str) and fold(operand) in fold(actual)
    kinds = {tagged(actual)[0] if not isinstance(actual, str) else "text"}
    kinds |= {tagged(operand)[0] if not isinstance(operand, str) else "text"}
    if kinds not in ({"number"}, {"text"}):
        return False
    return {"gt": actual > operand, "gte": actual >= operand, "lt": actual < operand, "lte": actual <= operand}[op]


# --- What Hypothesis draws. Small pools, so that rows and filters meet. ---

KEYS = ["topic", "score", "a.b", "[0]", 'a"b', "it's", "é", "日本", "a\\b", "", "$", "\n", "type", "key", "*", "select"]
STRINGS = st.sampled_from(
    ["", "a", "A", "ab", "aB", "b", "1", "true", "null", "*", "ß", "SS", "é", "😀", "'", '"', "[1]"]
)
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 0.5, 1.0, -0.0, 0.1 + 0.2, 0.3, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63)]
)
SCALARS = st.none() | st.booleans() | NUMBERS | STRINGS | st.floats(allow_nan=False, allow_infinity=False)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=2)
WHEN = st.sampled_from([datetime(2024, 5, 1, 12, 0, 0, micro, tzinfo=UTC) for micro in (0, 1, 123456)])
METADATA = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)
ROWS = st.builds(
    lambda **columns: row("?", **columns),
    metadata=METADATA,
    text=STRINGS,
    speaker=st.none() | STRINGS,
    created_at=WHEN,
    event_time=st.none() | WHEN,
)


def operators(values: st.SearchStrategy[Any], ordered: st.SearchStrategy[Any], *more: str) -> st.SearchStrategy[Any]:
    by_operator: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(("eq", "ne", *more), values)
    by_operator |= dict.fromkeys(("gt", "gte", "lt", "lte"), ordered)
    by_operator |= dict.fromkeys(("in", "nin"), st.lists(values, max_size=3))
    single = st.sampled_from(sorted(by_operator)).flatmap(lambda op: by_operator[op].map(lambda value: {op: value}))
    return single | st.tuples(single, single).map(lambda pair: pair[0] | pair[1])


JSON_TESTS = operators(VALUES, NUMBERS | STRINGS, "contains", "icontains")
TIME_TESTS = operators(st.none() | WHEN, WHEN)
LEAVES = st.one_of(
    st.tuples(
        st.sampled_from(["metadata." + KEYS[0], *(key for key in KEYS if not key.startswith("$")), "metadata.$"]),
        JSON_TESTS | SCALARS | st.just("*"),
    ),
    st.tuples(st.sampled_from(["memory", "data", "text", "speaker", "id"]), JSON_TESTS | SCALARS),
    st.tuples(st.sampled_from(["created_at", "event_time", "expires_at"]), TIME_TESTS | WHEN | st.just("*")),
)
FILTERS = st.recursive(
    st.lists(LEAVES, min_size=1, max_size=2).map(dict),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(LOGIC), st.lists(inner, min_size=1, max_size=3)).map(lambda pair: dict([pair])),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        inner.map(lambda each: {"NOT": each}),
    ),
    max_leaves=4,
)


@settings(QUICK, max_examples=300)
@given(
    rows=st.lists(ROWS, min_size=2, max_size=4), filters=st.lists(FILTERS, min_size=2, max_size=2), ascii=st.booleans()
)
def test_compiled_sql_matches_exactly_what_the_python_evaluator_matches(
    table: Table, rows: list[dict[str, Any]], filters: list[dict[str, Any]], ascii: bool
) -> None:
    rows = [entry | {"id": str(i)} for i, entry in enumerate(rows)]
    table.fill(rows, ensure_ascii=ascii)
    for each in filters:
        before = deepcopy(each)
        assert table.ids(each) == [entry["id"] for entry in rows if holds(each, entry)], compile_filter(each)
        assert each == before
        assert sorted(table.ids(each) + table.ids({"NOT": each})) == [entry["id"] for entry in rows]


@settings(QUICK, max_examples=900)
@given(value=VALUES, stored=VALUES, key=st.sampled_from(KEYS), ascii=st.booleans())
def test_one_test_of_one_value_matches_what_the_python_evaluator_matches(
    table: Table, value: Any, stored: Any, key: str, ascii: bool
) -> None:
    rows = [row("0", {key: stored}), row("1", {key: value}), row("2")]
    table.fill(rows, ensure_ascii=ascii)
    for op in OPERATORS:
        if op in ("gt", "gte", "lt", "lte") and (isinstance(value, bool | list | dict) or value is None):
            continue
        filters = {f"metadata.{key}": {op: [value] if op in ("in", "nin") else value}}
        assert table.ids(filters) == [entry["id"] for entry in rows if holds(filters, entry)], filters


# --- The semantics by example ---


@pytest.mark.parametrize(
    ("filters", "matched"),
    [
        ({}, "abcd"),
        ({"k": 1}, "a"),
        ({"k": 1.0}, "a"),
        ({"k": True}, "b"),
        ({"k": "1"}, ""),
        ({"k": None}, "cd"),
        ({"k": "*"}, "ab"),
        ({"k": {"ne": 1}}, "bcd"),
        ({"k": {"nin": [1, None]}}, "b"),
        ({"k": {"in": []}}, ""),
        ({"k": []}, ""),
        ({"k": {"nin": []}}, "abcd"),
        ({"k": [1, True]}, "ab"),
        ({"k": {"gte": 0}}, "a"),
        ({"NOT": {"k": {"gte": 0}}}, "bcd"),
        ({"NOT": [{"k": 1}, {"k": True}]}, "cd"),
        ({"k": {"gte": 0, "lt": 1}}, ""),
        ({"OR": [{"k": 1}, {"tags": {"contains": "X"}}]}, "ac"),
        ({"tags": {"icontains": "x"}}, "c"),
        ({"tags": {"eq": ["X", "y"]}}, "c"),
        ({"tags": ["X", "y"]}, ""),
        ({"tags": '["X","y"]'}, ""),
        ({"tags": {"gt": "["}}, ""),
        ({"tags": {"contains": "x"}}, ""),
        ({"star": "*"}, "d"),
        ({"star": {"eq": "*"}}, "d"),
        ({"star": {"eq": "x"}}, ""),
        ({"memory": {"icontains": "STRASSE"}}, "a"),
        ({"data": {"contains": "straße"}}, "a"),
        ({"text": 5}, ""),
        ({"metadata.text": 5}, "d"),
        ({"speaker": None}, "bcd"),
        ({"speaker": {"ne": "Ann"}}, "bcd"),
        ({"id": ["a", "d", 1, None]}, "ad"),
        ({"event_time": "*"}, "b"),
        ({"event_time": {"gt": "2024-05-01"}}, "b"),
        ({"event_time": {"lte": datetime(2024, 5, 2, tzinfo=UTC)}}, "b"),
        ({"event_time": "2024-05-02T02:00:00+02:00"}, "b"),
        ({"NOT": {"event_time": {"gt": "2024-05-01"}}}, "acd"),
        ({"event_time": ["2024-05-02", None]}, "abcd"),
        ({"created_at": {"gte": 1714521600, "lt": 1714521600.5}}, "abcd"),
    ],
)
def test_each_construct_means_what_the_module_says(table: Table, filters: dict[str, Any], matched: str) -> None:
    table.fill(
        [
            row("a", {"k": 1}, text="In der Hauptstraße.", speaker="Ann"),
            row("b", {"k": True}, event_time=datetime(2024, 5, 2, tzinfo=UTC)),
            row("c", {"k": None, "tags": ["X", "y"]}),
            row("d", {"star": "*", "text": 5}),
        ]
    )
    assert "".join(table.ids(filters)) == matched


def test_a_row_without_metadata_has_no_keys(table: Table) -> None:
    table.fill([row("a")])
    table.db.execute("UPDATE entry SET metadata = NULL")
    assert table.ids({"k": None, "j": {"ne": 1}}) == ["a"]
    assert table.ids({"OR": [{"k": "*"}, {"k": {"contains": "x"}}, {"k": {"gt": 1}}]}) == []


def test_neighbouring_floats_are_told_apart(table: Table) -> None:
    table.fill([row("a", {"k": 0.1 + 0.2}), row("b", {"k": 0.3}), row("c", {"k": 5e-324}), row("d", {"k": 1e308})])
    assert table.ids({"k": 0.3}) == ["b"]
    assert table.ids({"k": {"gt": 0.3}}) == ["a", "d"]
    assert table.ids({"k": [5e-324, 1e308]}) == ["c", "d"]


def nested(depth: int, *, wide: int) -> dict[str, Any]:
    """A filter of `depth` levels whose SQL alternates AND and OR as often as it can."""
    leaf = {f"k{i}": {"in": [1, "a", True, None, [1]]} for i in range(wide)}
    for i in range(depth - 1):
        leaf = {f"k{j}": 1 for j in range(wide)} | {("OR", "NOT")[i % 2]: [{"z": 1}] * wide + [leaf]}
    return leaf


def balanced(levels: int) -> dict[str, Any]:
    if levels == 0:
        return {"k": {"in": [1, "a", True, None, [1]]}}
    return {("AND", "OR", "NOT")[levels % 3]: [balanced(levels - 1), balanced(levels - 1)]}


@pytest.mark.parametrize(
    "filters",
    [
        nested(32, wide=1),
        nested(32, wide=4),
        nested(32, wide=14),
        nested(10, wide=45),
        balanced(9),
        {"AND": [balanced(8), nested(31, wide=4), {"OR": [nested(30, wide=2)] * 2}]},
        {f"k{i}": i for i in range(1000)},
        {"OR": [{"k": i} for i in range(1000)]},
        {"NOT": [{"k": {"ne": i}} for i in range(1000)]},
        {"OR": [{f"k{i}": 1, "k": {"gt": i, "lt": 9}} for i in range(300)]},
        {"k": {"in": list(range(29_000))}},
    ],
)
def test_the_largest_filters_allowed_fit_the_limits_of_sqlite(table: Table, filters: dict[str, Any]) -> None:
    table.fill([row("a", {"k": 1})])
    assert table.ids(filters) == (["a"] if holds(filters, row("a", {"k": 1})) else [])


# --- What is refused ---


def deep(levels: int) -> dict[str, Any]:
    return {"k": 1} if levels == 1 else {"AND": [deep(levels - 1)]}


def deep_list(levels: int) -> list[Any]:
    return [] if levels == 1 else [deep_list(levels - 1)]


def cycle() -> dict[str, Any]:
    filters: dict[str, Any] = {}
    filters["AND"] = [filters, filters]
    return filters


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"k": {"regex": "x"}}, "unknown operator 'regex'.*eq, ne, gt, gte, lt, lte, in, nin, contains, icontains"),
        ({"k": {"$eq": 1}}, "unknown operator"),
        ({"k": {"EQ": 1}}, "unknown operator"),
        ({"k": {1: 1}}, "operators are eq"),
        ({"k": {"eq": 1, "x": 2}}, "unknown operator 'x'"),
        ({"k": {}}, "no operator"),
        ({"$and": [{"k": 1}]}, "unknown operator.*AND, OR and NOT"),
        ({"or": [{"k": 1}]}, "unknown operator.*AND, OR and NOT"),
        ({"AND": []}, "AND takes a list"),
        ({"OR": []}, "OR takes a list"),
        ({"NOT": []}, "NOT takes a list"),
        ({"OR": {"k": 1}}, "OR takes a list"),
        ({"AND": "k"}, "AND takes a list"),
        ({"NOT": {}}, "empty filter"),
        ({"OR": [{}]}, "empty filter"),
        ({"OR": ["k"]}, "a filter is a mapping"),
        ([("k", 1)], "a filter is a mapping"),
        ("k", "a filter is a mapping"),
        (None, "a filter is a mapping"),
        ({1: 1}, "keys are strings"),
        ({b"k": 1}, "keys are strings"),
        ({"k": b"1"}, "bytes is no JSON value"),
        ({"k": {1}}, "set is no JSON value"),
        ({"k": {"eq": {1: 2}}}, "no JSON value"),
        ({"k": datetime(2024, 5, 1, tzinfo=UTC)}, "compare with the text it holds"),
        ({"k": float("nan")}, "NaN"),
        ({"k": {"gt": float("inf")}}, "infinity"),
        ({"k": [1, [float("-inf")]]}, "infinity"),
        ({"k": 2**63}, "64 bits"),
        ({"k": {"lt": -(2**63) - 1}}, "64 bits"),
        ({"k": 10**5000}, "64 bits"),
        ({"k": "\ud800"}, "surrogate"),
        ({"\udfff": 1}, "surrogate"),
        ({"k": {"eq": {"\ud800": 1}}}, "surrogate"),
        ({"k": "a\0b"}, r"U\+0000"),
        ({'a\0"b': 1}, r"U\+0000"),
        ({"k": {"in": "abc"}}, "take a list, not str"),
        ({"k": {"nin": {"a": 1}}}, "take a list"),
        ({"k": {"gt": None}}, "not NoneType"),
        ({"k": {"gt": True}}, "not bool"),
        ({"k": {"lte": [1]}}, "not list"),
        ({"created_at": "not a time"}, "created_at"),
        ({"created_at": True}, "created_at"),
        ({"created_at": {"eq": ["2024-05-01"]}}, "list"),
        ({"created_at": {"in": [b"2024"]}}, "bytes"),
        ({"created_at": {"gt": float("nan")}}, "created_at"),
        ({"created_at": 10**30}, "created_at"),
        ({"created_at": {"contains": "2024"}}, "does not apply"),
        ({"k": {"eq": deep_list(40)}}, "levels"),
        (deep(33), "32 levels"),
        (cycle(), "32 levels"),
        ({f"k{i}": 1 for i in range(1001)}, "1000 tests"),
        ({"k": list(range(40_000))}, "30000 values"),
    ],
)
def test_what_the_grammar_does_not_know_is_refused_with_a_reason(filters: Any, says: str) -> None:
    with pytest.raises(BadFilter, match=says):
        compile_filter(filters)


def test_a_filter_of_exactly_32_levels_is_accepted(table: Table) -> None:
    table.fill([row("a", {"k": 1})])
    assert table.ids(deep(32)) == ["a"]


# --- Whose memory ---

ANN = Scope(user_id="ann")


@pytest.mark.parametrize(
    ("filters", "keywords", "expected"),
    [
        (None, {"user_id": "ann"}, (ANN, {})),
        ({}, {"user_id": "ann"}, (ANN, {})),
        ({"user_id": "ann"}, {}, (ANN, {})),
        ({"user_id": "ann"}, {"user_id": "ann"}, (ANN, {})),
        ({"user_id": {"eq": "ann"}, "k": 1}, {}, (ANN, {"k": 1})),
        ({"user_id": "ann", "run_id": "r"}, {"agent_id": "b"}, (Scope("ann", "b", "r"), {})),
        ({"AND": [{"user_id": "ann"}]}, {}, (ANN, {})),
        ({"AND": [{"user_id": "ann"}, {"k": 1}], "j": 2}, {}, (ANN, {"AND": [{"k": 1}], "j": 2})),
        ({"AND": [{"user_id": "ann", "k": 1}, {"run_id": "r"}]}, {}, (Scope("ann", run_id="r"), {"AND": [{"k": 1}]})),
        ({"OR": [{"k": 1}, {"k": 2}]}, {"user_id": "ann"}, (ANN, {"OR": [{"k": 1}, {"k": 2}]})),
        ({"metadata.user_id": "bob"}, {"user_id": "ann"}, (ANN, {"metadata.user_id": "bob"})),
    ],
)
def test_ids_are_taken_from_keywords_and_the_top_level(
    filters: Any, keywords: dict[str, str], expected: tuple[Scope, dict[str, Any]]
) -> None:
    before = deepcopy(filters)
    assert split_scope(filters, **keywords) == expected
    assert filters == before


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"user_id": "bob"}, "twice with different values"),
        ({"user_id": "ANN"}, "twice with different values"),
        ({"AND": [{"user_id": "bob"}]}, "twice with different values"),
        ({"AND": [{"agent_id": "a"}, {"agent_id": "b"}]}, "twice with different values"),
        ({"user_id": "*"}, "widen"),
        ({"user_id": {"eq": "*"}}, "widen"),
        ({"user_id": None}, "widen"),
        ({"user_id": 5}, "widen"),
        ({"user_id": ["ann", "bob"]}, "widen"),
        ({"user_id": {"in": ["ann", "bob"]}}, "widen"),
        ({"user_id": {"ne": "ann"}}, "widen"),
        ({"user_id": {"eq": "ann", "ne": "bob"}}, "widen"),
        ({"user_id": {}}, "widen"),
        ({"OR": [{"user_id": "ann"}, {"user_id": "bob"}]}, "top level"),
        ({"NOT": {"user_id": "ann"}}, "top level"),
        ({"NOT": [{"user_id": "bob"}]}, "top level"),
        ({"AND": [{"AND": [{"user_id": "ann"}]}]}, "top level"),
        ({"AND": [{"OR": [{"run_id": "r"}]}]}, "top level"),
        ({"AND": [{}]}, "empty filter"),
        ({"AND": []}, "AND takes a list"),
        ({"AND": {"user_id": "ann"}}, "AND takes a list"),
        ("user_id", "a filter is a mapping"),
        ({"k": {"like": 1}}, "unknown operator"),
    ],
)
def test_a_filter_can_neither_widen_nor_change_whose_memory_is_read(filters: Any, says: str) -> None:
    before = deepcopy(filters)
    with pytest.raises(BadFilter, match=says):
        split_scope(filters, user_id="ann")
    assert filters == before


def test_without_an_id_there_is_no_scope() -> None:
    for filters in (None, {}, {"k": 1}, {"metadata.user_id": "ann"}):
        with pytest.raises(MissingScope):
            split_scope(filters)
    with pytest.raises(InvalidInput, match="must not be empty"):
        split_scope({"user_id": " "})


def test_compiling_a_filter_that_still_holds_an_id_is_refused() -> None:
    with pytest.raises(BadFilter, match="top level"):
        compile_filter({"user_id": "ann"})


ID_TREES = st.recursive(
    st.tuples(
        st.sampled_from([*SCOPE_KEYS, "k"]), st.sampled_from(["bob", "*", {"eq": "bob"}, {"ne": "x"}, ["bob"]])
    ).map(lambda pair: dict([pair])),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from([*LOGIC, "k", "user_id"]), st.lists(inner, max_size=3) | inner).map(
            lambda pair: dict([pair])
        ),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
    ),
    max_leaves=5,
)


def names_in(filters: dict[str, Any]) -> set[str]:
    """The names a filter tests; what stands inside a value is no name."""
    names = set()
    for key, value in filters.items():
        if key in LOGIC:
            for each in [value] if isinstance(value, dict) else value:
                names |= names_in(each)
        else:
            names.add(key)
    return names


@settings(QUICK, max_examples=400)
@given(filters=ID_TREES)
def test_no_tree_with_anothers_id_reads_anything_but_the_scope_of_the_keywords(filters: dict[str, Any]) -> None:
    try:
        scope, rest = split_scope(filters, user_id="ann", agent_id="helper", run_id="r1")
    except BadFilter:
        return
    assert scope == Scope("ann", "helper", "r1")
    assert rest == filters
    assert names_in(filters).isdisjoint(SCOPE_KEYS)


# --- Garbage ---

WORDS = st.sampled_from([*OPERATORS, *LOGIC, *SCOPE_KEYS, *TEXTS, *TIMES, "metadata.", "$or", "exists", "*", "k"])
HOSTILE = st.sampled_from(
    ["x'); DROP TABLE entry;--", '"', "' OR 1=1 --", "$.k", "k\0", "\ud800", "%", "?", "?1", ":a", "/*"]
)
JUNK = st.one_of(
    WORDS,
    HOSTILE,
    st.text(st.characters(exclude_categories=()), max_size=5),
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=2),
    st.sampled_from(
        [2**64, object(), 1j, datetime(2024, 5, 1), datetime.max, {1}, frozenset(), "2024-05-01", (), range(3)]
    ),
)
JUNK_KEYS = WORDS | HOSTILE | st.text(max_size=3) | st.none() | st.integers() | st.binary(max_size=2)
GARBAGE = st.recursive(
    JUNK, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JUNK_KEYS, inner, max_size=3), max_leaves=8
)
SQL = re.compile(
    r"(?:entry\.(?:id|text|speaker|created_at|updated_at|event_time|expires_at|metadata)|EXISTS|SELECT|FROM|WHERE|AND|OR|NOT|"
    r"IN|IS|NULL|json_each|json_object|mr1_match|instr|key|type|value|'(?:text|integer|real|true|false|null|)'|<>|[<>]=?|=|"
    r"[01?(),]|\s)*"
)


@settings(QUICK, max_examples=500)
@given(
    filters=st.dictionaries(JUNK_KEYS, GARBAGE, max_size=3) | GARBAGE, keyword=st.sampled_from(["ann", None]) | GARBAGE
)
def test_garbage_is_refused_deliberately_or_runs_as_one_harmless_query(
    table: Table, filters: Any, keyword: Any
) -> None:
    table.fill([row("a", {"k": 1})])
    table.ids({"k": 1})  # The first use of json_each declares it, which is an action of its own.
    try:
        _, rest = split_scope(filters, user_id=keyword)
    except InvalidInput:  # Of which BadFilter and MissingScope are kinds.
        return
    sql, params = compile_filter(rest)
    assert SQL.fullmatch(sql)
    actions = set()
    table.db.set_authorizer(lambda action, *_: actions.add(action) or sqlite3.SQLITE_OK)
    try:
        table.db.execute(f"SELECT id FROM entry WHERE {sql}", params).fetchall()
    finally:
        table.db.set_authorizer(None)
    assert actions <= {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
