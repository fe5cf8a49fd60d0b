from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from memory_r1.bench.data import Dialogue, Question, Session
from memory_r1.bench.systems import Found
from memory_r1.bench.systems.environments import ENVIRONMENTS, environment
from memory_r1.bench.systems.external import WORKERS, External, Models, installed, plain
from memory_r1.errors import InvalidInput, ModelUnavailable
from memory_r1.types import Turn

MODELS = Models("http://127.0.0.1:9/v1", "tiny", "hash", 8, seed=3)
WHEN = datetime(2023, 5, 8, 13, 56)
DIALOGUE = Dialogue(
    "d",
    ("Ann", "Bob"),
    (
        Session(1, WHEN, (Turn("Ann", "I moved to Rome.", None, "1:1"), Turn("Bob", "Nice.", WHEN, "1:2"))),
        Session(2, None, (Turn("Ann", "I left Rome.", None, "2:1"),)),
    ),
)

# Remembers every turn, prints as careless libraries do, and obeys some words in what it reads and is asked.
WORKER = """
import os, sys
sys.path.insert(0, WORKERS)
from channel import Endpoint, Tally, batches, serve, share

class Notes:
    def __init__(self, config):
        print("loading", config["model"], config["seed"])
        os.write(1, b'{"ok": {"printed": "by C code"}}')
        self.turns, self.tally = [], Tally(Endpoint(config))
        self.tally._endpoint.check = lambda: None
        self.empty = os.listdir(config["folder"]) == []
        open(config["folder"] + "/left", "w").close()
    def read(self, dialogue, done):
        for batch in batches(dialogue["turns"], 2):
            with self.tally.attempt("note"):
                if any("left" in turn["text"] for turn in batch):
                    raise KeyError("no such town")
                self.turns += batch
                self.tally.operations["ADD"] += len(batch)
            print("noise while reading")
            done(len(self.turns))
    def find(self, question, asked_at, k):
        if question == "die":
            print("I cannot go on", file=sys.stderr)
            os._exit(3)
        if question == "fail":
            raise ValueError("no idea")
        return [{"text": turn["text"], "time": turn["time"], "turn": turn["id"], "score": 0.5} for turn in self.turns]
    def stats(self):
        return {**self.tally.report(), "texts": [turn["text"] for turn in self.turns], "empty": self.empty}

serve(Notes)
"""


def ignore(turns: int) -> None:
    del turns


def question(text: str) -> Question:
    return Question("q", "d", text, "", "single-hop")


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[External]:
    worker = tmp_path / "notes.py"
    worker.write_text(WORKER.replace("WORKERS", repr(str(WORKERS))), encoding="utf-8")
    system = External("notes", [sys.executable, str(worker)], MODELS, tmp_path, lambda text: len(text.split()))
    yield system
    system.close()


def log(tmp_path: Path) -> str:
    return (tmp_path / "notes" / "worker.log").read_text(encoding="utf-8")


def test_a_worker_reads_finds_and_tells_what_it_took(notes: External, tmp_path: Path) -> None:
    done: list[int] = []
    notes.read(DIALOGUE, done.append)
    assert done == [2, 2]
    assert notes.find(question("Where is Ann?"), 1) == [Found("I moved to Rome.", WHEN, None, "1:1", 0.5)]
    assert notes.stats() == {
        "entries": 2,
        "memory_tokens": 5,
        "operations": {"ADD": 2, "UPDATE": 0, "DELETE": 0, "NOOP": 0},
        "unreadable": 0,
        "failed": 1,
        "failures": {"note: KeyError": 1},
        "empty": True,
    }
    notes.close()
    assert "KeyError: 'no such town'" in log(tmp_path)


def test_words_that_bear_the_date_when_they_were_said_tell_what_yesterday_means(tmp_path: Path) -> None:
    reply = {"memories": [{"text": "Ann moved yesterday.", name: "2023-05-08T13:56:00"} for name in ("said", "time")]}
    code = f"for line in __import__('sys').stdin: print({json.dumps(json.dumps({'ok': reply}))}, flush=True)"
    system = External("notes", [sys.executable, "-c", code], MODELS, tmp_path, len)
    system.read(DIALOGUE, ignore)
    assert system.find(question("When?"), 5) == [
        Found("Ann moved yesterday (7 May 2023).", WHEN),
        Found("Ann moved yesterday.", WHEN),
    ]
    system.close()


def test_a_failure_of_the_model_ends_the_reading_though_the_system_swallows_it(tmp_path: Path) -> None:
    def check() -> None:
        raise ModelUnavailable("out of memory")

    code = "for line in __import__('sys').stdin: print('{\"ok\": {}}', flush=True)"
    system = External("notes", [sys.executable, "-c", code], MODELS, tmp_path, len, check)
    with pytest.raises(ModelUnavailable, match="out of memory"):
        system.read(DIALOGUE, ignore)
    system.close()


def test_a_worker_inherits_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "secret")
    code = "import os\nfor line in __import__('sys').stdin: print(sorted(os.environ), '\\n{\"ok\": {}}', flush=True)"
    system = External("notes", [sys.executable, "-c", code], MODELS, tmp_path, len)
    system.read(DIALOGUE, ignore)
    system.close()
    assert "OPENROUTER_API_KEY" not in log(tmp_path)
    assert "'NO_PROXY'" in log(tmp_path)


def test_what_libraries_print_goes_to_the_log_and_corrupts_no_reply(notes: External, tmp_path: Path) -> None:
    notes.read(DIALOGUE, ignore)
    notes.close()
    said = log(tmp_path)
    assert "loading tiny 3" in said
    assert "by C code" in said
    assert "noise while reading" in said


def test_every_dialogue_gets_a_new_process_and_an_empty_folder(notes: External) -> None:
    notes.read(DIALOGUE, ignore)
    notes.read(DIALOGUE, ignore)
    assert (notes.stats()["entries"], notes.stats()["empty"]) == (2, True)


def test_an_error_in_the_worker_is_raised_with_its_text_and_the_worker_lives_on(notes: External) -> None:
    notes.read(DIALOGUE, ignore)
    with pytest.raises(ModelUnavailable, match=r"notes failed at 'find': ValueError: no idea; see .*worker\.log"):
        notes.find(question("fail"), 5)
    assert len(notes.find(question("go on"), 5)) == 2


def test_a_worker_that_dies_shows_the_end_of_its_log(notes: External) -> None:
    notes.read(DIALOGUE, ignore)
    with pytest.raises(ModelUnavailable, match=r"notes ended during 'find'(.|\n)*I cannot go on"):
        notes.find(question("die"), 5)
    with pytest.raises(InvalidInput, match=r"call read\(\) first"):
        notes.find(question("and now?"), 5)


def test_lines_that_are_no_replies_are_kept_in_the_log(tmp_path: Path) -> None:
    code = "for line in __import__('sys').stdin: print('warming up\\n[1]\\n{\"ok\": {}}', flush=True)"
    system = External("notes", [sys.executable, "-c", code], MODELS, tmp_path, len)
    system.read(DIALOGUE, ignore)
    system.close()
    assert log(tmp_path) == "warming up\n[1]\n" * 2


def test_a_program_that_is_not_there_names_the_remedy(tmp_path: Path) -> None:
    system = External("notes", [str(tmp_path / "no-python")], MODELS, tmp_path, len)
    with pytest.raises(ModelUnavailable, match="memory-r1 bench setup"):
        system.read(DIALOGUE, ignore)


def test_turns_without_a_time_have_their_session_s() -> None:
    assert plain(DIALOGUE) == {
        "id": "d",
        "speakers": ["Ann", "Bob"],
        "turns": [
            {"speaker": "Ann", "text": "I moved to Rome.", "time": "2023-05-08T13:56:00", "id": "1:1", "session": 1},
            {"speaker": "Bob", "text": "Nice.", "time": "2023-05-08T13:56:00", "id": "1:2", "session": 1},
            {"speaker": "Ann", "text": "I left Rome.", "time": None, "id": "2:1", "session": 2},
        ],
    }


def test_every_environment_has_its_worker_and_pins_what_it_measures() -> None:
    for known in ENVIRONMENTS:
        assert (WORKERS / f"{known.name.replace('-', '_')}_worker.py").is_file()
        assert any("==" in requirement for requirement in known.requirements)


def test_a_system_that_is_not_set_up_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidInput, match="run `memory-r1 bench setup langmem`"):
        installed("langmem", MODELS, tmp_path, len, lambda: None)
    with pytest.raises(InvalidInput, match="there are mem0-1, mem0-2"):
        environment("memgpt")
