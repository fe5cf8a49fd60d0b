"""`memory-r1 data`, end to end."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from memory_r1.cli import main

MINE: dict[str, Any] = {
    "name": "mine",
    "dialogues": [
        {
            "id": "talk",
            "speakers": ["Ann"],
            "sessions": [{"time": "2026-05-08", "turns": [{"speaker": "Ann", "text": "I got a cat."}]}],
            "questions": [{"question": "What?", "answer": "a cat"}, {"question": "Why?", "answer": None}],
        }
    ],
}


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, words)])


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and where it is served."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_fetch_names_the_licence_and_refuses_another_file(mirror: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = mirror
    (folder / "locomo10.json").write_text("[]", encoding="utf-8")
    result = run("fetch", "locomo", "--to", tmp_path / "got.json", "--url", f"{url}/locomo10.json")
    assert result.exit_code == 1
    assert "LoCoMo is licensed CC BY-NC 4.0" in result.stderr
    assert "gave another file than it should" in result.stderr
    assert not (tmp_path / "got.json").exists()


def test_fetch_without_a_network_says_what_to_do(tmp_path: Path) -> None:
    to = tmp_path / "got.json"
    result = run("fetch", "locomo", "--to", to, "--url", "http://127.0.0.1:1/locomo10.json")
    assert result.exit_code == 1
    assert f"bring the file from elsewhere as {to} and run this again to check it" in result.stderr


@pytest.mark.locomo
@pytest.mark.skipif("MEMORY_R1_LOCOMO" not in os.environ, reason="set MEMORY_R1_LOCOMO to the path of locomo10.json")
def test_fetch_takes_the_official_file_and_show_counts_it(mirror: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = mirror
    shutil.copyfile(os.environ["MEMORY_R1_LOCOMO"], folder / "locomo10.json")
    words = ("fetch", "locomo", "--to", tmp_path / "got.json", "--url", f"{url}/locomo10.json")
    assert run(*words).stdout == f"{tmp_path / 'got.json'}: downloaded; the checksum is right\n"
    assert run(*words).stdout == f"{tmp_path / 'got.json'}: is there already; the checksum is right\n"
    value = json.loads(run("show", f"locomo:{tmp_path / 'got.json'}", "--json").stdout)
    assert {name: sum(counts["questions"].values()) for name, counts in value["splits"].items()} == {
        "train": 152,
        "validation": 81,
        "test": 1307,
        "all": 1540,
    }
    assert list(value["samples"]) == ["temporal", "open-domain", "multi-hop", "single-hop", "adversarial"]


def test_show_counts_a_data_set_and_shows_a_question_of_each_category(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(MINE), encoding="utf-8")
    assert run("show", f"json:{path}").stdout.splitlines() == [
        "mine: 2 questions",
        "     dialogues  sessions  turns  other  unanswerable",
        "all  1          1         1      1      1",
        "",
        "other  talk/0",
        "  What?",
        "  a cat",
        "unanswerable  talk/1",
        "  Why?",
        "  (the dialogue does not tell)",
    ]
    assert json.loads(run("show", f"json:{path}", "--json").stdout) == {
        "name": "mine",
        "splits": {"all": {"dialogues": 1, "sessions": 1, "turns": 1, "questions": {"other": 1}, "unanswerable": 1}},
        "printed": {},
        "notes": {},
        "samples": {
            "other": {"id": "talk/0", "question": "What?", "answer": "a cat"},
            "unanswerable": {"id": "talk/1", "question": "Why?", "answer": None},
        },
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "locomo10.json"), "'locomo10.json' names no data set; give locomo:PATH, longmemeval:PATH, msc:PATH"),
        (("show", "locomo:"), "'locomo:' names no data set"),
        (("show", "msc:none"), "none cannot be read (No such file or directory); get msc_self_instruct.jsonl from"),
        (("show", "longmemeval:none"), "none cannot be read (No such file or directory); get it from"),
        (("show", "json:none", "--repairs", __file__), "repairs are known for locomo alone"),
        (("fetch", "squad"), "Invalid value for '{locomo}'"),
    ],
)
def test_what_cannot_be_meant_is_said(words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code in (1, 2)
    assert message in result.stderr


def test_generate_writes_dialogues_that_show_reads_and_the_gold_beside_them(tmp_path: Path) -> None:
    out = tmp_path / "made.json"
    result = run("generate", "--dialogues", 2, "--sessions", 2, "--seed", 5, "--split", "test", "--out", out)
    assert result.exit_code == 0, result.output
    made = json.loads(out.read_text(encoding="utf-8"))
    assert [dialogue["id"] for dialogue in made["dialogues"]] == ["test-5-0", "test-5-1"]
    gold = json.loads((tmp_path / "made.gold.json").read_text(encoding="utf-8"))
    assert list(gold) == ["test-5-0", "test-5-1"]
    assert set(gold["test-5-0"]) == {"turns", "bank", "support"}
    assert run("show", f"json:{out}").stdout.startswith("synthetic-test-5: ")


def test_generate_makes_the_folder_that_it_writes_to(tmp_path: Path) -> None:
    out = tmp_path / "new" / "made.json"
    assert run("generate", "--dialogues", 1, "--sessions", 1, "--out", out).exit_code == 0
    assert sorted(file.name for file in out.parent.iterdir()) == ["made.gold.json", "made.json"]


def test_a_full_disk_is_said_in_a_line() -> None:
    result = run("generate", "--dialogues", 1, "--sessions", 1, "--out", "/dev/full")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: the disk is full; make room and run the same command again\n",
    )
