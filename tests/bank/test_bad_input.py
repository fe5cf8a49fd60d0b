"""Whatever goes in, whatever breaks: one clear error of ours, nothing acknowledged is lost, and work goes on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.errors import (
    BankCorrupt,
    BankError,
    BankFull,
    EntryNotFound,
    InvalidInput,
    MemoryR1Error,
    MissingScope,
    ModelUnavailable,
)
from memory_r1.memory import Memory
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Fact, Operation, Reply, Scope, Turn

ANN = Scope(user_id="ann")
HALF = "\ud83d"  # half of an emoji, as broken decoders leave it


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory(":memory:", llm=ScriptedLLM([]), embedder=HashEmbedder()) as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
        yield memory


def texts(memory: Memory) -> list[str]:
    return [item["memory"] for item in memory.get_all(user_id="ann")["results"]]


DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]

WRONG_CALLS: list[tuple[str, Callable[[Memory], Any]]] = [
    (f"{name} {value!a:.30}", call)
    for name, calls in {
        "add": [
            (value, lambda memory, value=value: memory.add(value, user_id="ann", infer=False))
            for value in (
                *("", "   ", "\n\t", HALF, "a\0b", "x" * 100_001, None, 5, b"tea", [], {}, [None], [5], [[]], [""]),
                *({"role": "user"}, {"content": None}, {"content": 5}, {"role": "user", "content": ""}),
                *({"content": "tea", "name": 5}, {"content": "tea", "name": HALF}, {"content": "tea", "name": "a\nb"}),
                *({"content": "tea", "id": 5}, {"content": "tea", "id": HALF}, {"content": "tea", "role": ["user"]}),
                *({"content": "tea", "timestamp": "soon"}, {"content": "tea", "timestamp": [1]}),
                *({"content": [{"type": "text", "text": 5}]}, {"content": [{"type": "image_url"}]}, {"content": []}),
                *([{"role": "system", "content": "tea"}], [{"content": "tea"}, {"content": ""}]),
                *(Turn("Ann", ""), Turn(5, "tea"), Turn("Ann", 5), Turn("Ann", "tea", "soon"), Turn("A", "tea", id=5)),  # type: ignore[arg-type]
                Turn(None, "tea"),  # type: ignore[arg-type]
            )
        ],
        "metadata": [
            (value, lambda memory, value=value: memory.add("x", user_id="ann", infer=False, metadata=value))
            for value in (
                *(5, "ab", ["a"], [("a", 1)], {"a": {1}}, {"a": b"x"}, {"a": float("nan")}, {"a": float("inf")}),
                *({"a": 2**64}, {"a": HALF}, {HALF: 1}, {"a": "a\0b"}, {"a\0b": 1}, {"a": DEEP}, {("a",): 1}),
                {"a": [{"b": 2**64}]},
            )
        ],
        "scope": [
            (value, lambda memory, value=value: memory.add("x", **value, infer=False))
            for value in (
                *({}, {"user_id": ""}, {"user_id": " "}, {"user_id": "ann "}, {"user_id": "*"}, {"agent_id": "*"}),
                *({"run_id": "*"}, {"user_id": 5}, {"user_id": ["ann"]}, {"user_id": HALF}, {"user_id": "a\0"}),
                *({"user_id": "x" * 257}, {"user_id": True}, {"user_id": "ann", "agent_id": ""}),
            )
        ],
        "time": [
            (value, lambda memory, value=value: memory.add("x", user_id="ann", infer=False, **value))
            for value in (
                *({"timestamp": "soon"}, {"timestamp": float("nan")}, {"timestamp": 1e300}, {"timestamp": []}),
                *({"expiration_date": "never"}, {"expiration_date": True}, {"timestamp": ""}),
            )
        ],
        "search": [
            (value, lambda memory, value=value: memory.search(**{"query": "tea", "user_id": "ann"} | value))
            for value in (
                *({"query": ""}, {"query": " "}, {"query": None}, {"query": 5}, {"query": HALF}, {"query": ["tea"]}),
                *({"query": "x" * 100_001}, {"user_id": None}, {"user_id": "*"}, {"filters": 5}, {"filters": "a"}),
                *({"filters": {"$or": []}}, {"filters": {"user_id": "bob"}}, {"filters": {"OR": [{"user_id": "bob"}]}}),
                *({"filters": {"a": {"like": "x"}}}, {"filters": {"a": HALF}}, {"filters": {HALF: 1}}, {"top_k": 0}),
                *({"top_k": -1}, {"top_k": "5"}, {"top_k": 2.0}, {"top_k": True}, {"limit": 0}, {"threshold": "0.5"}),
                *({"threshold": [1]}, {"as_of": "soon"}, {"as_of": []}, {"as_of": float("inf")}),
            )
        ],
        "get_all": [
            (value, lambda memory, value=value: memory.get_all(**{"user_id": "ann"} | value))
            for value in ({"user_id": None}, {"limit": 0}, {"top_k": "x"}, {"filters": []}, {"as_of": "x"})
        ],
        "answer": [
            (value, lambda memory, value=value: memory.answer(**{"question": "tea?", "user_id": "ann"} | value))
            for value in ({"question": ""}, {"question": HALF}, {"question": None}, {"user_id": None}, {"top_k": 0})
        ],
        "context": [
            (value, lambda memory, value=value: memory.context(**{"query": "tea", "user_id": "ann"} | value))
            for value in ({"query": ""}, {"query": HALF}, {"user_id": None}, {"max_tokens": "x"}, {"max_tokens": -1})
        ],
        "update": [
            (
                value,
                lambda memory, value=value: memory.update(memory.get_all(user_id="ann")["results"][0]["id"], **value),
            )
            for value in (
                *({}, {"data": ""}, {"text": " "}, {"data": 5}, {"text": HALF}, {"data": "x" * 100_001}),
                *({"metadata": 5}, {"metadata": {"a": {1}}}, {"metadata": [1]}, {"expiration_date": "soon"}),
            )
        ],
        "no entry": [
            (value, lambda memory, name=name, value=value, rest=rest: getattr(memory, name)(value, *rest))
            for name, rest in (("update", ["x"]), ("delete", []), ("history", []), ("undo", []), ("purge", []))
            for value in ("nobody", "", HALF, 5, 2**70, -1, 1.5, ["a"], {"a": 1}, b"x")
        ],
        "whole scope": [
            ((name, ids), lambda memory, name=name, ids=ids: getattr(memory, name)(**ids))
            for name in ("delete_all", "purge")
            for ids in ({}, {"user_id": "*"}, {"user_id": ""})
        ],
        "export": [
            (ids, lambda memory, ids=ids: list(memory.export(**ids))) for ids in ({"user_id": "*"}, {"run_id": 5})
        ],
        "import": [
            (lines, lambda memory, lines=lines: memory.import_(lines))
            for lines in (
                *([], [""], ["x"], ["5"], ["[]"], ["{}"], "text", ['{"format": "memory-r1-operations", "version": 2}']),
                ["[" * 100_000],
            )
        ],
    }.items()
    for value, call in calls
]


@pytest.mark.parametrize(("name", "call"), WRONG_CALLS, ids=[name for name, _ in WRONG_CALLS])
def test_a_wrong_argument_is_one_clear_error_and_changes_nothing(
    memory: Memory, name: str, call: Callable[[Memory], Any]
) -> None:
    before = list(memory.export())
    with pytest.raises((InvalidInput, EntryNotFound)) as caught:
        call(memory)
    assert len(str(caught.value)) > 20
    assert len(str(caught.value)) < 600
    str(caught.value).encode()
    assert list(memory.export()) == before, name
    memory.add("and milk", user_id="ann", infer=False)
    assert texts(memory) == ["Ann likes tea", "and milk"]


def test_without_any_id_the_error_says_what_to_give(memory: Memory) -> None:
    with pytest.raises(MissingScope, match="at least one of user_id, agent_id and run_id"):
        memory.search("tea")


def test_get_gives_none_for_ids_that_nobody_has(memory: Memory) -> None:
    assert [memory.get(value) for value in ("", "nobody", "' OR 1=1 --", "%")] == [None] * 4


def test_odd_but_valid_texts_come_back_as_they_were(memory: Memory) -> None:
    odd = [
        "x" * 100_000,
        "😀👩‍👩‍👧",
        "a\nb\tc",
        "'); DROP TABLE entry; --",
        "{}",
        "\u202eabc",
        "\ufeff",
        "é" * 999,
        "?",
    ]
    memory.add([{"role": "user", "content": text} for text in odd], user_id="ann", infer=False)
    assert texts(memory) == ["Ann likes tea", *odd]
    for text in odd:
        assert memory.search(text, user_id="ann", top_k=20)["results"]


@pytest.mark.parametrize("seed", range(4))
def test_an_import_of_a_damaged_export_takes_all_or_nothing(memory: Memory, seed: int) -> None:
    random_ = random.Random(seed)
    entry = memory.get_all(user_id="ann")["results"][0]["id"]
    memory.update(entry, text="Ann likes green tea", metadata={"a": 1})
    memory.delete(entry)
    memory.bank.apply(Operation("ADD", Fact("Ann likes milk", "Ann")), ANN)
    lines = list(memory.export())
    values = [None, 5, "x", [], {}, True, 1e300, HALF, "", {"a": 1}, 2**70]
    for _ in range(400):
        states = [json.loads(line) for line in lines]
        target = random_.choice(states[1:])
        while True:
            key = random_.choice(list(target))
            if isinstance(target[key], dict) and target[key] and random_.random() < 0.7:
                target = target[key]
                continue
            break
        if random_.random() < 0.3:
            del target[key]
        else:
            target[key] = random_.choice(values)
        with Memory(":memory:", llm=ScriptedLLM([]), embedder=HashEmbedder()) as other:
            error = None
            try:
                other.import_([json.dumps(state) for state in states])
            except InvalidInput as caught:
                error = caught
            if error:
                assert "line " in str(error), key
                assert list(other.export()) == [lines[0]]
            else:  # what was taken in can be read
                assert len(list(other.export())) == len(lines)
                for scope, _count in other.bank.scopes():
                    other.get_all(**scope.ids)
                    other.search("tea", **scope.ids)


# --- The model ---


class Down:
    """A model that is not reachable from its n-th prompt on."""

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)

    def complete(self, prompts: Any) -> list[Reply]:
        if not self.replies:
            raise ModelUnavailable("http://localhost:8000 refused the connection: is the server running?")
        return [Reply(self.replies.pop(0)) for _ in prompts]


@pytest.mark.parametrize("replies", [[], ['{"facts": ["Ann likes coffee"]}']])
def test_a_model_that_is_down_is_one_error_and_the_bank_stays_as_it_was(replies: list[str]) -> None:
    with Memory(":memory:", llm=Down(*replies), embedder=HashEmbedder()) as memory:
        memory.add([{"role": "Ann", "content": "Ann likes tea"}], user_id="ann", infer=False)
        before = list(memory.export())
        with pytest.raises(ModelUnavailable, match="is the server running"):
            memory.add([{"role": "Ann", "content": "Ann likes coffee"}], user_id="ann")
        assert list(memory.export()) == before
        with pytest.raises(ModelUnavailable):
            memory.answer("What does Ann like?", user_id="ann")
        assert texts(memory) == ["Ann likes tea"]
        assert memory.search("tea", user_id="ann")["results"][0]["memory"] == "Ann likes tea"


def test_replies_cut_off_in_the_middle_are_counted_and_what_is_whole_is_kept() -> None:
    def cut(prompt: Any) -> Reply:
        text = {
            "extract": '{"facts": ["Ann likes coffee", "Ann likes mi',
            "manage": '{"operation": "UPDATE", "index": 1, "text": "Ann likes te',
            "answer": '{"keep": [1], "answer": "tea and co',
        }[prompt.step]
        return Reply(text, stop="length")

    with Memory(":memory:", llm=ScriptedLLM(cut), embedder=HashEmbedder()) as memory:
        memory.add([{"role": "Ann", "content": "Ann likes tea"}], user_id="ann", infer=False)
        result = memory.add([{"role": "Ann", "content": "I like coffee and milk"}], user_id="ann")
        assert [(item["event"], item["memory"], item["reason"]) for item in result["results"]] == [
            ("NOOP", "Ann likes coffee", "unreadable")
        ]
        assert result["unreadable"] == 1
        answer = memory.answer("What does Ann like?", user_id="ann")
        assert (answer.readable, answer.used) == (False, ())
        assert texts(memory) == ["Ann likes tea"]


class Broken:
    """An embedder that fails from the n-th call on."""

    name, dimension = "hash-64", 64

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def embed(self, texts: Any, *, query: bool = False) -> Any:
        self.calls -= 1
        if self.calls < 0:
            raise ModelUnavailable("the embedder is not reachable: is its server running?")
        return HashEmbedder(64).embed(texts, query=query)


def test_an_embedder_that_is_down_is_one_error_and_the_bank_stays_as_it_was() -> None:
    with Memory(":memory:", llm=ScriptedLLM([]), embedder=Broken(1)) as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
        before = list(memory.export())
        for call in (
            lambda: memory.add("Ann likes coffee", user_id="ann", infer=False),
            lambda: memory.search("tea", user_id="ann"),
            lambda: memory.update(memory.get_all(user_id="ann")["results"][0]["id"], "coffee"),
        ):
            with pytest.raises(ModelUnavailable, match="embedder"):
                call()
        assert list(memory.export()) == before


# --- The file ---


def filled(path: Path, count: int = 60) -> list[str]:
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        lines = [f"Ann tells line {number} " + "and more " * 20 for number in range(count)]
        bank.add_many(NewEntry(line, ANN, metadata={"n": 1}) for line in lines)
    return lines


def use(path: Path) -> None:
    """Everything one does with a bank."""
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        bank.search("line", ANN, 100, filters={"n": 1})
        entries = bank.all()
        bank.log()
        bank.check()
        bank.recalls()
        bank.add_many([NewEntry("new", ANN)])
        bank.update(entries[0].id, text="changed", metadata={"a": 1})
        bank.fork(ANN).close()
        bank.delete_all(ANN)


def test_a_damaged_file_is_a_clear_error_or_works_but_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    filled(path)
    whole = path.read_bytes()
    random_ = random.Random(5)
    outcomes: dict[str, int] = {}
    for number in range(60):
        for old in tmp_path.glob("memory.db-*"):
            old.unlink()
        damaged = bytearray(whole)
        if number % 3 == 0:
            del damaged[random_.randrange(1, len(damaged)) :]
        elif number % 3 == 1:
            page = random_.randrange(len(damaged) // 4096) * 4096
            damaged[page : page + 4096] = random_.randbytes(4096)
        else:
            for _ in range(200):
                damaged[random_.randrange(100, len(damaged))] = random_.randrange(256)
        path.write_bytes(damaged)
        error = None
        try:
            use(path)
        except MemoryR1Error as caught:
            error = caught
        assert not isinstance(error, BankError) or str(path) in str(error)
        outcome = type(error).__name__ if error else "works"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes.keys() <= {"works", "BankCorrupt", "BankError", "BankTooNew", "EntryNotFound", "EmbedderMismatch"}
    assert outcomes["BankCorrupt"] > 20, outcomes


def test_the_error_for_a_damaged_file_says_how_to_recover(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    filled(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BankCorrupt, match="restore it from a copy"):
        use(path)


def test_a_full_disk_is_one_error_nothing_is_lost_and_with_space_work_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    lines = filled(path, 20)
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        (pages,) = bank._db.execute("PRAGMA page_count").fetchone()
        bank._db.execute(f"PRAGMA max_page_count={pages + 8}")
        acknowledged = []

        def fill() -> None:
            for number in range(1000):
                text = f"line {number} " + "and more " * 100
                bank.add_many([NewEntry(text, ANN)])
                acknowledged.append(text)

        with pytest.raises(BankFull, match="free some space"):
            fill()
        assert acknowledged
        assert [entry.text for entry in bank.all(ANN)] == lines + acknowledged
        assert len(bank.search("line", ANN, 1000)) == len(lines + acknowledged)
        assert len(bank.log()) == len(lines + acknowledged)
        bank._db.execute("PRAGMA max_page_count=1000000")
        bank.add_many([NewEntry("there is space", ANN)])
        assert bank.check() == []
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        assert [entry.text for entry in bank.all(ANN)] == [*lines, *acknowledged, "there is space"]


def script(code: str, *arguments: str) -> list[str]:
    """Run code in a process of its own; what it prints, line by line. It must end by itself and well."""
    prelude = """
import os, sys
from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.errors import BankFull, MemoryR1Error
from memory_r1.testing import HashEmbedder
from memory_r1.types import Scope
ANN = Scope(user_id="ann")
"""
    done = subprocess.run(
        [sys.executable, "-c", prelude + code, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no file size limits")
def test_a_file_that_may_not_grow_is_one_error_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    filled(path, 5)
    printed = script(
        """
import resource
bank = MemoryBank(sys.argv[1], embedder=HashEmbedder())
bank.search("line", ANN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    for number in range(1000):
        bank.add_many([NewEntry(f"line {number} " + "and more " * 100, ANN)])
        print("acknowledged", number)
except MemoryR1Error as error:
    print(type(error).__name__)
print(len(bank.all(ANN)))
try:
    bank.close()
except MemoryR1Error as error:
    print(type(error).__name__)
""",
        str(path),
    )
    acknowledged = [line for line in printed if line.startswith("acknowledged")]
    assert len(acknowledged) > 5
    assert printed[len(acknowledged) :][:2] == ["BankFull", str(5 + len(acknowledged))]
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        assert bank.check() == []
        assert len(bank.all(ANN)) == 5 + len(acknowledged)
        bank.add_many([NewEntry("there is space", ANN)])


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work otherwise")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_or_folder_that_may_not_be_written_is_one_clear_error(what: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = folder / "memory.db"
        if what == "file":
            filled(path)
            path.chmod(0o444)
        folder.chmod(0o555)
        printed = script(
            """
if os.geteuid() == 0:  # root may write anything
    os.setgid(65534); os.setuid(65534)
try:
    with MemoryBank(sys.argv[1], embedder=HashEmbedder()) as bank:
        bank.add_many([NewEntry("tea", ANN)])
    print("written")
except BankFull as error:
    print(error)
""",
            str(path),
        )
        folder.chmod(0o755)
        assert len(printed) == 1
        assert str(path) in printed[0]
        assert "check that its folder exists and is yours" in printed[0]


@pytest.mark.parametrize("name", ["", "no/such/folder/memory.db"])
def test_a_path_that_is_a_folder_or_lies_in_none_is_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(BankFull, match="check that its folder exists"):
        MemoryBank(tmp_path / name, embedder=HashEmbedder())


def test_a_closed_bank_says_so(tmp_path: Path) -> None:
    bank = MemoryBank(tmp_path / "memory.db", embedder=HashEmbedder())
    bank.close()
    bank.close()
    for call in (bank.all, lambda: bank.add_many([NewEntry("x", ANN)]), lambda: bank.search("x", ANN)):
        with pytest.raises(BankError, match="closed"):
            call()
