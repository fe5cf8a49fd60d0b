"""Crashes and neighbours: kill -9, several processes on one file, several threads on one Memory."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.errors import EmbedderMismatch
from memory_r1.memory import Memory
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Fact, Operation, Scope

ANN = Scope(user_id="ann")

WRITER = """
import sys
from memory_r1.bank import MemoryBank
from memory_r1.testing import HashEmbedder
from memory_r1.types import Fact, Operation, Scope
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with MemoryBank(path, embedder=HashEmbedder()) as bank:
    for number in range(count):
        fact = Fact(f"{name} writes line {number}")
        print(bank.apply(Operation("ADD", fact), Scope(user_id="ann")).entry_id, fact.text, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def add(bank: MemoryBank, text: str) -> str:
    return str(bank.apply(Operation("ADD", Fact(text)), ANN).entry_id)


def texts(bank: MemoryBank, query: str) -> list[str]:
    return sorted(hit.entry.text for hit in bank.search(query, ANN, 1000))


def test_twenty_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    MemoryBank(path, embedder=HashEmbedder()).close()
    random_ = random.Random(1)
    acknowledged: dict[str, str] = {}
    for killed in range(20):
        process = writer(path, f"writer {killed}", 1_000_000)
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(random_.random() * 0.1)
        process.kill()
        lines += process.stdout.readlines()  # communicate() would lose what readline() has read ahead
        process.communicate()
        acknowledged |= dict(line.strip().split(" ", 1) for line in lines if line.endswith("\n"))
    embedder = HashEmbedder()
    with MemoryBank(path, embedder=embedder) as bank:
        assert bank.check() == []
        entries = {entry.id: entry.text for entry in bank.all(ANN)}
        assert acknowledged.items() <= entries.items()
        assert len(entries) - len(acknowledged) <= 20  # written, and killed before it could say so
        logged = {each.entry_id: each.after["text"] for each in bank.log() if each.after}
        assert logged == entries
        rows = bank._db.execute("SELECT id, text, vector FROM entry JOIN vector USING (key)").fetchall()
        assert {row["id"]: row["text"] for row in rows} == entries
        expected = embedder.embed([row["text"] for row in rows])
        assert np.array_equal(np.stack([np.frombuffer(row["vector"], "<f4") for row in rows]), expected)


def test_four_processes_write_one_file_while_a_fifth_searches_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        processes = [writer(path, f"writer {number}", 50) for number in range(4)]
        seen = 0
        while any(process.poll() is None for process in processes):
            found = len(texts(bank, "writes line"))
            assert found >= seen
            seen = found
        for process in processes:
            assert process.communicate()[1] == ""
            assert process.returncode == 0
        expected = sorted(f"writer {number} writes line {line}" for number in range(4) for line in range(50))
        assert texts(bank, "writes line") == expected
        assert sorted(str(logged.after and logged.after["text"]) for logged in bank.log()) == expected
        assert bank.check() == []


def test_a_warm_index_sees_what_another_connection_added_updated_deleted_and_purged(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with MemoryBank(path, embedder=HashEmbedder()) as mine, MemoryBank(path, embedder=HashEmbedder()) as other:
        first, second, third = (add(mine, f"line {number}") for number in "abc")
        assert texts(mine, "line") == ["line a", "line b", "line c"]
        add(other, "line d")
        assert texts(mine, "line") == ["line a", "line b", "line c", "line d"]
        other.update(first, text="line A")
        assert texts(mine, "line") == ["line A", "line b", "line c", "line d"]
        gone = other.delete(second)
        assert texts(mine, "line") == ["line A", "line c", "line d"]
        other.undo(gone.id)
        other.purge(entry_id=third)
        assert texts(mine, "line") == ["line A", "line b", "line d"]
        other.purge(scope=ANN)
        assert texts(mine, "line") == []
        add(other, "line e")
        assert texts(mine, "line") == ["line e"]


def test_a_reader_in_another_process_finds_what_is_written_here(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    reader = (
        "import sys; from memory_r1.bank import MemoryBank; from memory_r1.testing import HashEmbedder\n"
        "from memory_r1.types import Scope\n"
        "bank = MemoryBank(sys.argv[1], embedder=HashEmbedder())\n"
        "for line in sys.stdin:\n"
        "    print([hit.entry.text for hit in bank.search('line', Scope(user_id='ann'))], flush=True)"
    )
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        arguments = [sys.executable, "-c", reader, str(path)]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def search() -> str:
                print("search", file=process.stdin, flush=True)
                return process.stdout.readline().strip()  # type: ignore[union-attr]

            assert search() == "[]"
            entry = add(bank, "line one")
            assert search() == "['line one']"
            bank.update(entry, text="line two")
            assert search() == "['line two']"
            bank.purge(entry_id=entry)
            assert search() == "[]"
            process.stdin.close()


def test_a_process_that_holds_the_old_embedder_is_told_so_and_writes_no_old_vectors(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with MemoryBank(path, embedder=HashEmbedder(64)) as server:
        entry = add(server, "line one")
        assert texts(server, "line") == ["line one"]
        with MemoryBank(path, embedder=HashEmbedder(64)) as tool:
            tool.reembed(HashEmbedder(16))
        for attempt in (
            lambda: add(server, "line two"),
            lambda: server.update(entry, text="line three"),
            lambda: texts(server, "line"),
        ):
            with pytest.raises(EmbedderMismatch, match="hash-16"):
                attempt()
    with MemoryBank(path, embedder=HashEmbedder(16)) as bank:
        assert texts(bank, "line") == ["line one"]


def test_threads_that_add_through_one_memory_lose_nothing(tmp_path: Path) -> None:
    llm = ScriptedLLM(lambda prompt: '{"facts": []}' if prompt.step == "extract" else '{"operation": "ADD"}')
    errors: list[BaseException] = []
    with Memory(tmp_path / "memory.db", llm=llm, embedder=HashEmbedder()) as memory:

        def work(name: str) -> None:
            try:
                for number in range(30):
                    memory.add(f"{name} tells {number}", user_id="ann", infer=False)
                    memory.search("tells", user_id="ann")
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two", "three")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        found = {item["memory"] for item in memory.get_all(user_id="ann")["results"]}
        assert found == {f"{name} tells {number}" for name in ("one", "two", "three") for number in range(30)}
        assert memory.bank.check() == []


def test_facts_of_one_user_from_two_threads_are_decided_one_after_another() -> None:
    def slow(_: object) -> str:
        time.sleep(0.01)
        return '{"facts": ["Ann likes tea"]}'

    with Memory(":memory:", llm=ScriptedLLM(slow), embedder=HashEmbedder()) as memory:
        threads = [
            threading.Thread(target=memory.add, args=("Ann likes tea",), kwargs={"user_id": "ann"}) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [item["memory"] for item in memory.get_all(user_id="ann")["results"]] == ["Ann likes tea"]
        kinds = sorted(logged.kind for logged in memory.bank.log())
        assert kinds == ["ADD", "NOOP", "NOOP", "NOOP", "NOOP", "NOOP"]


def test_entries_stored_at_once_are_all_there_or_none(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with MemoryBank(path, embedder=HashEmbedder()) as bank:
        with pytest.raises(ValueError, match="empty"):
            bank.add_many([NewEntry("one", ANN), NewEntry("  ", ANN)])
        assert (bank.all(ANN), bank.log()) == ([], [])
