"""What holds after any sequence of operations, for any filter, and for any reply of a model."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from memory_r1.answer import ask
from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.bank.writes import fold
from memory_r1.errors import Conflict, EntryNotFound
from memory_r1.flow import run
from memory_r1.manager import ADDED_INSTEAD, remember
from memory_r1.memory import Memory
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.transfer import export_lines, import_lines
from memory_r1.types import Fact, MemoryEntry, Operation, Prompt, Provenance, Reply, Scope, Turn

EMBEDDER = HashEmbedder(32)
QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SCOPES = [
    Scope(user_id="ann"),
    Scope(user_id="bob"),
    Scope(agent_id="ann"),
    Scope(run_id="r"),
    Scope(user_id="ann", agent_id="a"),
    Scope(user_id="ann", run_id="r"),
    Scope(agent_id="a", run_id="r"),
    Scope(user_id="bob", agent_id="a", run_id="r"),
]
WORDS = ["tea", "likes", "dog", "Buddy", "Scout", "moved", "München", "京都に住む", "😀", "2023"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
METADATA = st.dictionaries(st.sampled_from(["topic", "n", "é"]), st.sampled_from(["a", "b", 1, None, [1]]), max_size=2)
DAYS = st.none() | st.integers(1, 400).map(lambda day: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=day))


class Ticks:
    """A clock that moves when it is told to, so that a moment between two operations can be named."""

    def __init__(self) -> None:
        self.time = datetime(2024, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def tick(self) -> None:
        self.time += timedelta(days=1)


def view(entry: MemoryEntry) -> tuple[Any, ...]:
    """All of an entry but its revision, which counts the writes of one file."""
    when = entry.created_at, entry.updated_at, entry.event_time, entry.expires_at
    return entry.id, entry.text, entry.scope, entry.speaker, *when, dict(entry.metadata)


def live(bank: MemoryBank, scope: Scope | None = None) -> dict[str, tuple[Any, ...]]:
    return {entry.id: view(entry) for entry in bank.all(scope, show_expired=True)}


def exported(bank: MemoryBank) -> list[str]:
    return list(export_lines(bank, None))


def found(bank: MemoryBank, query: str, scope: Scope, **options: Any) -> list[tuple[str, float]]:
    hits = bank.search(query, scope, 1000, **options)
    return sorted((hit.entry.id, round(hit.similarity, 4)) for hit in hits)


class BankMachine(RuleBasedStateMachine):
    """Any sequence of changes to one bank."""

    ids = Bundle("ids")
    operations = Bundle("operations")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Ticks()
        self.bank = MemoryBank(embedder=EMBEDDER, now=self.clock)
        self.past: list[tuple[datetime, dict[str, tuple[Any, ...]]]] = []
        self.purged: set[str] = set()

    def teardown(self) -> None:
        self.bank.close()

    def _apply(self, operation: Operation, scope: Scope, **options: Any) -> int:
        self.clock.tick()
        return self.bank.apply(operation, scope, **options).id

    @rule(target=ids, text=TEXTS, scope=st.sampled_from(SCOPES), when=DAYS, expires=DAYS, metadata=METADATA)
    def add(self, text: str, scope: Scope, when: Any, expires: Any, metadata: Any) -> Any:
        if expires is not None:
            expires += timedelta(days=360)  # some of them while the machine runs
        self.clock.tick()
        fact = Fact(text, "Ann", when)
        logged = self.bank.apply(Operation("ADD", fact), scope, metadata=metadata, expires_at=expires)
        return logged.entry_id

    @rule(target=ids, texts=st.lists(TEXTS, min_size=1, max_size=3), scope=st.sampled_from(SCOPES))
    def add_many(self, texts: list[str], scope: Scope) -> Any:
        self.clock.tick()
        return multiple(*(logged.entry_id for logged in self.bank.add_many(NewEntry(text, scope) for text in texts)))

    @rule(target=operations, entry_id=ids, text=TEXTS, when=DAYS, kind=st.sampled_from(["UPDATE", "DELETE", "NOOP"]))
    def decide(self, entry_id: str, text: str, when: Any, kind: Any) -> Any:
        try:
            entry = self.bank.get(entry_id)
        except EntryNotFound:
            return multiple()
        operation = Operation(kind, Fact(text, "Ann", when), entry, f"{text} {entry.text}"[:200], Provenance("t"))
        return self._apply(operation, entry.scope)

    @rule(scope=st.sampled_from(SCOPES), text=TEXTS)
    def noop(self, scope: Scope, text: str) -> None:
        self._apply(Operation("NOOP", Fact(text)), scope)

    @rule(target=operations, entry_id=ids, text=TEXTS, metadata=METADATA, expires=DAYS)
    def update_by_hand(self, entry_id: str, text: str, metadata: Any, expires: Any) -> Any:
        self.clock.tick()
        try:
            return self.bank.update(entry_id, text=text, metadata=metadata, expires_at=expires).id
        except EntryNotFound:
            return multiple()

    @rule(number=operations)
    def undo(self, number: int) -> None:
        self.clock.tick()
        before = exported(self.bank)
        try:
            undone = self.bank.undo(number)
        except (Conflict, ValueError):
            assert exported(self.bank) == before
        else:
            states = [
                {name: value for name, value in state.items() if name != "updated_at"}
                for logged in self.bank.log()
                for state in [
                    logged.before if logged.id == number else logged.after if logged.id == undone.id else None
                ]
                if state is not None
            ]
            assert states[:1] == states[1:]

    @rule(scope=st.sampled_from(SCOPES))
    def delete_all(self, scope: Scope) -> None:
        self.clock.tick()
        self.bank.delete_all(scope)
        assert live(self.bank, scope) == {}

    @rule(entry_id=consumes(ids))
    def purge(self, entry_id: str) -> None:
        self.clock.tick()
        try:
            self.bank.purge(entry_id=entry_id)
        except EntryNotFound:
            assert entry_id in self.purged
        self.purged.add(entry_id)
        self.past.clear()  # the past has changed

    @precondition(lambda self: self.bank.count() > 6)
    @rule(scope=st.sampled_from(SCOPES))
    def purge_scope(self, scope: Scope) -> None:
        self.clock.tick()
        others = {key: seen for key, seen in live(self.bank).items() if not within(seen[2], scope)}
        gone = {logged.entry_id for logged in self.bank.log(scope) if logged.entry_id}
        self.bank.purge(scope=scope)
        self.purged |= gone
        self.past.clear()
        assert live(self.bank) == others
        logged = self.bank.log(scope)
        assert [(each.before, each.after, each.fact) for each in logged] == [(None, None, None)] * len(logged)

    @rule()
    def remember_this_moment(self) -> None:
        self.past.append((self.clock.time, live(self.bank)))
        self.clock.tick()

    @rule(scope=st.none() | st.sampled_from(SCOPES), text=TEXTS)
    def a_fork_is_independent_both_ways(self, scope: Scope | None, text: str) -> None:
        before, written = live(self.bank), exported(self.bank)
        with self.bank.fork(scope) as fork:
            mine = live(fork)
            assert mine == live(self.bank, scope)
            assert fork.log(scope) == self.bank.log(scope)
            for target in SCOPES:
                if scope is None or within(target, scope):
                    assert found(fork, text, target) == found(self.bank, text, target)
                    fork.apply(Operation("ADD", Fact(text)), target)
            if mine:
                fork.delete(next(iter(mine)))
            fork.delete_all(scope or SCOPES[0])
            assert (live(self.bank), exported(self.bank)) == (before, written)
            there = exported(fork)
            self.add(text, SCOPES[0], None, None, {})
            assert exported(fork) == there

    @rule(text=TEXTS)
    def a_warm_index_finds_what_a_fresh_one_finds(self, text: str) -> None:
        with self.bank.fork() as cold:
            for scope in SCOPES:
                for mode in ("hybrid", "vector", "text"):
                    assert found(self.bank, text, scope, mode=mode) == found(cold, text, scope, mode=mode)

    @invariant()
    def the_log_alone_rebuilds_the_bank(self) -> None:
        log = self.bank.log()
        with MemoryBank.replay(log, EMBEDDER) as again:
            assert live(again) == live(self.bank)
            assert exported(again) == exported(self.bank)
            assert fold(again.log()) == fold(log)
        states = fold(log)
        assert {key for key, state in states.items() if state["deleted_at"] is None} == set(live(self.bank))
        for entry_id, state in states.items():
            history = [logged for logged in self.bank.history(entry_id) if logged.after]
            assert history[-1].after == state
            assert [logged.before for logged in history] == [None, *(logged.after for logged in history[:-1])]

    @invariant()
    def numbers_only_grow_and_every_entry_has_one_vector(self) -> None:
        log = [logged.id for logged in self.bank.log()]
        assert log == sorted(set(log))
        keys = self.bank._db.execute("SELECT key FROM entry ORDER BY key").fetchall()
        assert keys == self.bank._db.execute("SELECT key FROM vector ORDER BY key").fetchall()
        revisions = self.bank._db.execute("SELECT home, revision FROM entry").fetchall()
        assert len(set(map(tuple, revisions))) == len(revisions)
        highest = dict(map(tuple, self.bank._db.execute("SELECT id, revision FROM home").fetchall()))
        assert all(revision <= highest[home] for home, revision in map(tuple, revisions))

    @invariant()
    def a_search_finds_what_is_so_now_and_nothing_else(self) -> None:
        now = self.clock.time
        for scope in SCOPES:
            entries = list(self.bank.all(scope, show_expired=True))
            fresh = {entry.id for entry in entries if entry.expires_at is None or entry.expires_at > now}
            assert {hit.entry.id for hit in self.bank.search("tea", scope, 1000)} == fresh
            for entry in entries[-2:]:
                hits = {hit.entry.id: hit.entry for hit in self.bank.search(entry.text, scope, 1000)}
                assert (entry.id in hits) == (entry.id in fresh)
                assert hits.get(entry.id, entry) == entry

    @invariant()
    def the_bank_as_of_a_moment_is_what_it_was_then(self) -> None:
        for time, then in self.past[-2:]:
            with self.bank.as_of(time) as bank:
                assert live(bank) == then
                expired = {key for key, seen in then.items() if seen[7] is not None and seen[7] <= time}
                assert {entry.id for entry in bank.all()} == set(then) - expired

    @invariant()
    def what_was_purged_is_nowhere(self) -> None:
        for entry_id in self.purged:
            logged = self.bank.log()
            erased = [each for each in logged if each.entry_id == entry_id]
            assert all(each.before is each.after is each.fact is None for each in erased)


def within(scope: Scope, wider: Scope) -> bool:
    return wider.ids.items() <= scope.ids.items()


BankMachine.TestCase.settings = settings(QUICK, max_examples=25, stateful_step_count=25)
test_any_sequence_of_operations = pytest.mark.filterwarnings("ignore")(BankMachine.TestCase)


# --- Filters and scopes: against a reference in Python, over every combination of ids ---

KEYS = st.sampled_from(["topic", "n", "tags", "speaker", "text"])
VALUES = st.sampled_from(["a", "b", "Ann", "tea", 1, 2, True, None])
TESTS = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne"]), VALUES),
    st.tuples(st.sampled_from(["in", "nin"]), st.lists(VALUES, max_size=3)),
    st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), st.sampled_from([0, 1, 2, "a", "b"])),
    st.tuples(st.just("contains"), st.sampled_from(["a", "te", 1])),
).map(lambda pair: dict([pair]))
FILTERS = st.recursive(
    st.dictionaries(KEYS, TESTS | VALUES | st.just("*"), min_size=1, max_size=2),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["AND", "OR", "NOT"]), st.lists(inner, min_size=1, max_size=3)).map(
            lambda pair: dict([pair])
        ),
        inner.map(lambda each: {"NOT": each}),
    ),
    max_leaves=5,
)


def holds(filters: Mapping[str, Any], entry: MemoryEntry) -> bool:
    for key, value in filters.items():
        if key in ("AND", "OR", "NOT"):
            each = [holds(part, entry) for part in ([value] if isinstance(value, dict) else value)]
            good = {"AND": all(each), "OR": any(each), "NOT": not any(each)}[key]
        else:
            actual = getattr(entry, key) if key in ("speaker", "text") else entry.metadata.get(key)
            tests = value if isinstance(value, dict) else {"ne": None} if value == "*" else {"eq": value}
            good = all(passes(operator, actual, operand) for operator, operand in tests.items())
        if not good:
            return False
    return True


def passes(operator: str, actual: Any, operand: Any) -> bool:
    def same(a: Any, b: Any) -> bool:
        return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)

    match operator:
        case "eq" | "ne":
            return same(actual, operand) == (operator == "eq")
        case "in" | "nin":
            return any(same(actual, each) for each in operand) == (operator == "in")
        case "contains" if isinstance(actual, list):
            return any(same(each, operand) for each in actual)
        case "contains":
            return isinstance(actual, str) and isinstance(operand, str) and operand in actual
    if isinstance(actual, str) != isinstance(operand, str) or actual is None or isinstance(actual, bool | list):
        return False
    return {"gt": actual > operand, "gte": actual >= operand, "lt": actual < operand, "lte": actual <= operand}[
        operator
    ]


@pytest.fixture(scope="module")
def crowd() -> Any:
    """A bank of many tenants whose ids are alike, with all kinds of metadata."""
    random_ = random.Random(7)
    users, agents, runs = [[None, "x", "y", "X", "x y", "%", "x' OR 1=1 --"][:size] for size in (7, 3, 3)]
    scopes = [Scope(user, agent, run_) for user in users for agent in agents for run_ in runs if user or agent or run_]
    clock = Ticks()
    with MemoryBank(embedder=EMBEDDER, now=clock) as bank:
        entries = [
            NewEntry(
                " ".join(random_.sample(WORDS, 2)) if i % 3 else "tea",
                scope,
                speaker=random_.choice([None, "Ann", "a"]),
                expires_at=random_.choice([None, None, clock.time - timedelta(1), clock.time + timedelta(1)]),
                metadata={
                    key: random_.choice(values)
                    for key, values in (
                        ("topic", ["a", "b", None]),
                        ("n", [1, 2, True, "a"]),
                        ("tags", [["a"], [1, "b"]]),
                    )
                    if random_.random() < 0.7
                },
            )
            for scope in scopes
            for i in range(4)
        ]
        added = bank.add_many(entries)
        for logged in added[::9]:
            bank.delete(str(logged.entry_id))
        yield bank, scopes, bank.all(show_expired=True)


@settings(QUICK, max_examples=1000)
@given(
    data=st.data(),
    filters=FILTERS,
    show_expired=st.booleans(),
    mode=st.sampled_from(["hybrid", "vector", "text"]),
    per_speaker=st.booleans(),
)
def test_no_filter_and_no_scope_reaches_another_tenant(
    crowd: Any, data: st.DataObject, filters: dict[str, Any], show_expired: bool, mode: Any, per_speaker: bool
) -> None:
    bank, scopes, everything = crowd
    scope = data.draw(st.sampled_from(scopes))
    expected = [
        entry.id
        for entry in everything
        if within(entry.scope, scope)
        and (show_expired or entry.expires_at is None or entry.expires_at > bank.now())
        and holds(filters, entry)
    ]
    listed = [entry.id for entry in bank.all(scope, filters=filters, show_expired=show_expired)]
    assert sorted(listed) == sorted(expected)
    options = {"filters": filters, "show_expired": show_expired, "mode": mode, "per_speaker": per_speaker}
    hits = [hit.entry.id for hit in bank.search("tea Buddy Ann", scope, 500, **options)]
    assert len(set(hits)) == len(hits)
    assert set(hits) == set(expected) if mode != "text" else set(hits) <= set(expected)


@settings(QUICK, max_examples=150)
@given(
    ids=st.dictionaries(st.sampled_from(["user_id", "agent_id", "run_id"]), st.sampled_from(["x", "y"]), min_size=1),
    place=st.sampled_from(["top", "AND", "keyword"]),
    filters=FILTERS,
)
def test_ids_in_a_filter_mean_what_ids_as_keywords_mean(
    crowd: Any, ids: dict[str, str], place: str, filters: dict[str, Any]
) -> None:
    bank, _, everything = crowd
    memory = Memory(llm=ScriptedLLM([]), embedder=EMBEDDER, path=":memory:")
    memory.bank.close()
    memory.bank = bank
    scope = Scope(**ids)
    expected = [entry.id for entry in everything if within(entry.scope, scope) and holds(filters, entry)]
    asked: dict[str, Any] = {
        "top": {"filters": {**filters, **ids}},
        "AND": {"filters": {"AND": [filters, *({name: value} for name, value in ids.items())]}},
        "keyword": {**ids, "filters": filters},
    }[place]
    got = [item["id"] for item in memory.get_all(**asked, show_expired=True)["results"]]
    assert sorted(got) == sorted(expected)


# --- Ten thousand replies ---

_KINDS = ["ADD", "UPDATE", "DELETE", "NOOP", "add", " Delete ", "NONE", "", "PURGE", None, 3, ["ADD"], {"a": 1}]
_PLACES = [1, 2, 3, 0, -1, 4, 99, 10**400, -(10**30), 1.0, 1.5, float("inf"), float("nan"), True, False, None]
_PLACES += ["1", " 2 ", "+1", "-1", "1.0", "２", "²", "1" * 5000, "one", [1], {"1": 1}, ""]
_JOINED = "Ann likes green tea and other tea"
_TEXTS = [_JOINED, "", " ", "\ud83d", "\x00", "a\x00b", "x" * 5000, "😀", None, 3, ["a"], {"a": "b"}, "\n\t"]
_NOISE = [*list('{}[]":,\\ \n\t0123456789abctruefalsenull'), "�", "\u202e", "😀", "\x00", "\\ud83d", "\\u0000"]


def _random_reply(random_: random.Random) -> str:
    """Noise, JSON of the right shape with wrong values, that JSON cut off or with characters changed, deep nesting."""
    kind = random_.randrange(8)
    if kind == 0:
        return "".join(random_.choices(_NOISE, k=random_.randrange(60)))
    if kind == 1:
        deep = random_.choice([10, 500, 5000])
        opening, closing = random_.choice([("[", "]"), ('{"a":', "}"), ('{"operation":', "}"), ('{"facts":[', "]}")])
        return opening * deep + random_.choice(["", "1"]) + closing * random_.choice([0, deep])
    found = {
        random_.choice(["operation"] * 6 + ["Operation", "op"]): random_.choice(_KINDS[:4] * 3 + _KINDS),
        random_.choice(["index"] * 6 + ["id"]): random_.choice(_PLACES[:3] * 6 + _PLACES),
        random_.choice(["text"] * 6 + ["memory"]): random_.choice(_TEXTS[:1] * 9 + _TEXTS),
        random_.choice(["facts", "answer", "\ud83d"]): random_.choice([random_.choices(_TEXTS, k=3), "tea", None]),
        random_.choice(["keep", "x"]): random_.choice([random_.choices(_PLACES, k=4), 1, None, "1"]),
    }
    try:
        text = json.dumps(found, ensure_ascii=random_.random() < 0.5)
    except ValueError:  # the integer of 400 digits is fine, some other may not be
        return ""
    if kind in (2, 3):
        return text[: random_.randrange(len(text) + 1)]
    if kind == 4:
        places = [random_.randrange(len(text)) for _ in range(random_.randrange(1, 5))]
        return "".join(random_.choice(_NOISE) if i in places else char for i, char in enumerate(text))
    return random_.choice(["", "```json\n", "Sure! {} ", '{"operation": "'] + [""] * 5) + text


def _valid(reply: str) -> tuple[str, int | None] | None:
    """A reader of operations that shares no code with the product: (kind, position) or None."""
    for start in [place for place, char in enumerate(reply) if char == "{"][:50]:
        try:
            value, _ = json.JSONDecoder().raw_decode(reply[start:])
        except (ValueError, RecursionError):
            continue
        if any(0xD800 <= ord(c) < 0xE000 for key in value for c in key):
            continue
        break
    else:
        return None
    kind = value.get("operation")
    if not isinstance(kind, str) or kind.strip().upper() not in ("ADD", "UPDATE", "DELETE", "NOOP", "NONE"):
        return None
    kind = kind.strip().upper()
    if kind in ("ADD", "NOOP", "NONE"):
        return kind.replace("NONE", "NOOP"), None
    place = value.get("index")
    if isinstance(place, str) and place.strip() in ("1", "2", "3", "4", "99"):
        place = int(place)
    if type(place) is not int or not 1 <= place <= 3:
        return None
    text = value.get("text")
    if kind == "UPDATE":
        if not isinstance(text, str) or any(0xD800 <= ord(c) < 0xE000 for c in text):
            return None
        if not text.replace("\x00", " ").strip():
            return None
    return kind, place


def test_six_thousand_replies_of_a_manager_never_raise_nor_touch_what_they_did_not_name() -> None:
    random_ = random.Random(2026)
    scope, others = Scope(user_id="ann"), Scope(user_id="bob")
    fact = '{"facts": ["Ann likes green tea"]}'
    texts = ["Ann likes black tea", "Ann likes green apples", "Ann likes white tea"]
    counted = dict.fromkeys(["ADD", "UPDATE", "DELETE", "NOOP", "unreadable"], 0)
    template = MemoryBank(embedder=EMBEDDER)
    template.add_many([*(NewEntry(text, scope, "Ann") for text in texts), NewEntry("Ann likes tea", others, "Ann")])
    related = template.related(Fact("Ann likes green tea", "Ann"), scope)
    before = live(template)
    for _ in range(6_000):
        bank = template.fork()
        reply = _random_reply(random_)
        llm = ScriptedLLM([fact, reply])
        (logged,) = run(remember(Turn("Ann", "I like green tea, Ann said"), bank, scope), llm)
        after = live(bank)
        bank.close()
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        valid = _valid(reply)
        if valid is None:
            assert (logged.kind, changed) == ("NOOP", set()), reply
            assert logged.provenance.reason in ("unreadable", "invented position"), reply
            counted["unreadable"] += 1
            continue
        kind, place = valid
        if kind == "UPDATE" and logged.provenance.reason in ADDED_INSTEAD:
            assert _JOINED not in reply
            kind, place = "ADD", None
        counted[kind] += 1
        assert logged.kind == kind, reply
        if place is not None:
            assert changed == {related[place - 1].id}, reply
        else:
            assert changed == ({logged.entry_id} if kind == "ADD" else set()), reply
    assert min(counted.values()) > 20, counted


def test_two_thousand_replies_of_an_extractor_never_raise_and_are_counted_or_kept() -> None:
    random_ = random.Random(2027)
    scope = Scope(user_id="ann")
    bank = MemoryBank(embedder=EMBEDDER)
    for number in range(2_000):
        if number % 20 == 0:
            assert bank.check() == []
            bank.close()
            bank = MemoryBank(embedder=EMBEDDER)
        reply = _random_reply(random_)
        before = len(bank.log())
        logged = run(
            remember(Turn("Ann", "Ann has two dogs and x"), bank, scope),
            ScriptedLLM(lambda prompt, reply=reply: reply if prompt.step == "extract" else '{"operation":"NOOP"}'),
        )
        new = bank.log()[before:]
        assert all(each in new for each in logged)
        for each in new:
            assert each.kind in ("ADD", "NOOP")
            assert each.fact is not None
            if each.kind == "ADD":
                assert json.dumps(each.after)  # nothing that JSON or UTF-8 cannot hold
        if "{" not in reply and '"' not in reply:
            assert [each.provenance.reason for each in new] == ["unreadable"], reply
    bank.close()


def test_two_thousand_replies_of_an_answerer_never_raise_and_use_only_what_was_shown() -> None:
    random_ = random.Random(2028)
    scope = Scope(user_id="ann")
    with MemoryBank(embedder=EMBEDDER) as bank:
        bank.add_many([NewEntry("Ann likes tea", scope), NewEntry("Ann has a dog", scope), NewEntry("x", scope)])
        before = exported(bank)
        for _ in range(2_000):
            reply = _random_reply(random_)

            def once(_: Prompt, reply: str = reply) -> Reply:
                return Reply(reply, stop=random_.choice(["end", "length"]))

            answer = run(ask("What does Ann like?", bank, scope), ScriptedLLM(once))
            shown = [hit.entry for hit in answer.retrieved]
            assert len(shown) == 3
            assert all(entry in shown for entry in answer.used)
            assert len({entry.id for entry in answer.used}) == len(answer.used)
            assert answer.text.encode()
            if "{" not in reply:
                assert not answer.readable
        assert exported(bank) == before


# --- Export and import ---


@settings(QUICK, max_examples=40)
@given(data=st.data())
def test_an_import_of_an_export_exports_the_same_and_importing_twice_is_importing_once(data: st.DataObject) -> None:
    clock = Ticks()
    with MemoryBank(embedder=EMBEDDER, now=clock) as bank, MemoryBank(embedder=EMBEDDER) as other:
        for _ in range(data.draw(st.integers(0, 12))):
            clock.tick()
            scope = data.draw(st.sampled_from(SCOPES))
            entries = bank.all(scope, show_expired=True)
            kind = data.draw(st.sampled_from(["ADD", "UPDATE", "DELETE", "NOOP", "undo", "purge"]))
            text, when = data.draw(TEXTS), data.draw(DAYS)
            how = Provenance("t1", "model", "adapter", "v1", -0.5, "because")
            if kind in ("ADD", "NOOP"):
                bank.apply(Operation(kind, Fact(text, "Ann", when, True), provenance=how), scope)  # type: ignore[arg-type]
            elif kind == "undo" and entries:
                try:
                    bank.undo(bank.history(entries[0].id)[-1].id)
                except ValueError:
                    continue
            elif kind == "purge" and entries:
                bank.purge(entry_id=entries[0].id)
            elif kind in ("UPDATE", "DELETE") and entries:
                bank.apply(Operation(kind, Fact(text, "Ann", when), entries[0], text, how), scope)  # type: ignore[arg-type]
        lines = exported(bank)
        came = import_lines(other, lines)
        assert came == len(fold(bank.log()))
        assert exported(other) == lines
        assert live(other) == live(bank)
        assert import_lines(other, lines) == 0
        assert exported(other) == lines
