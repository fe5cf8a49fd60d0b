"""The command line, end to end: every command on a bank in a file, its JSON and what people see, and its errors.

Where a command asks a language model, a server on this machine plays it: it takes a message for one fact, adds it
unless told otherwise, and answers with the first memory.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from memory_r1.cli import main
from memory_r1.cli.options import beside
from memory_r1.embed import default_embedder
from memory_r1.memory import Memory
from memory_r1.serve.inbox import Inbox, Job
from memory_r1.types import Scope, Turn
from memory_r1.weights import CATALOGUE, cache_directory

embedder = functools.cache(default_embedder)  # what the commands open, once for the tests' own use of a bank
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Server:
    """Chat completions by step. `operations` are what the manager decides, in order; then it adds."""

    def __init__(self) -> None:
        self.operations: list[dict[str, Any]] = []
        self.facts: Callable[[str], list[str]] = lambda said: [said]
        self.hangs_after: int | None = None  # a number of prompts; then replies wait for `released`
        self.released = threading.Event()
        self.slow_by = 0.0  # seconds before each reply
        self.asked: list[tuple[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                step, message = request["response_format"]["json_schema"]["name"], request["messages"][-1]["content"]
                server.asked.append((step, message))
                time.sleep(server.slow_by)
                if server.hangs_after is not None and len(server.asked) > server.hangs_after:
                    server.released.wait(30)
                    return
                choice = {"message": {"content": json.dumps(server.reply(step, message))}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 10, "completion_tokens": 1}
                body = json.dumps({"model": "double", "choices": [choice], "usage": usage}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.options = ("--base-url", f"http://127.0.0.1:{self.httpd.server_port}/v1", "--model", "double")

    def reply(self, step: str, message: str) -> dict[str, Any]:
        if step == "extract":
            return {"facts": self.facts(message.partition(": ")[2])}
        if step == "manage":
            return self.operations.pop(0) if self.operations else {"operation": "ADD"}
        return {"keep": [1], "answer": message.splitlines()[1].partition(") ")[2]}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.httpd.shutdown()
    thread.join()
    server.httpd.server_close()


class Cli:
    """`memory-r1` on one bank: call it with a command's words."""

    def __init__(self, db: Path) -> None:
        self.db = db

    def result(self, *words: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, [*map(str, words), "--db", str(self.db)], input=stdin)

    def __call__(self, *words: object, stdin: str | None = None) -> str:
        """What a command that succeeds prints."""
        result = self.result(*words, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *words: object) -> Any:
        return json.loads(self(*words, "--json"))

    def make(self) -> None:
        """An empty bank."""
        Memory(self.db, embedder=embedder()).close()

    def add(self, *texts: str, user: str = "me") -> list[str]:
        """The ids of texts stored as they are."""
        with Memory(self.db, embedder=embedder()) as memory:
            items = [{"role": "user", "content": text, "timestamp": "2026-05-08"} for text in texts]
            return [item["id"] for item in memory.add(items, user_id=user, infer=False)["results"]]

    def texts(self, user: str = "me") -> list[str]:
        return [entry["memory"] for entry in self.json("list", "--user", user)["results"]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "bank.db")


def error_of(result: Result) -> str:
    """The one line that says what is wrong, of a command that failed on purpose."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.stderr.rstrip("\n").endswith(line), "the error is the last line, and all of it"
    return line.removeprefix("Error: ")


def steady(value: Any) -> Any:
    """JSON without what differs from run to run: ids as <id>, and no record times."""
    if isinstance(value, dict):
        changing = ("certainty", "created_at", "updated_at", "time", "logprob", "prompt_version", "hash")
        return {name: steady(item) for name, item in value.items() if name not in changing}
    if isinstance(value, list):
        return [steady(item) for item in value]
    return ID.sub("<id>", value) if isinstance(value, str) else value


def entry(text: str, user: str = "me", when: str | None = "2026-05-08T00:00:00+00:00") -> dict[str, Any]:
    """An entry that was added raw, as JSON shows it."""
    return {
        "id": "<id>",
        "memory": text,
        "metadata": None,
        "event_time": when,
        "expiration_date": None,
        "speaker": "user",
        "user_id": user,
    }


def operation(number: int, kind: str, old: str | None, new: str | None, **more: Any) -> dict[str, Any]:
    """A logged operation by hand, as JSON shows it."""
    return {
        "id": number,
        "memory_id": "<id>",
        "event": kind,
        "old_memory": old,
        "new_memory": new,
        "is_deleted": kind == "DELETE",
        "fact": None,
        "turn_id": None,
        "model": None,
        "adapter": None,
        "reason": "by hand",
        "undoes": None,
        "flags": [],
        **more,
    }


class TestWithoutModels:
    """What needs no model at all."""

    def test_help_begins_with_what_to_try(self) -> None:
        shown = CliRunner().invoke(main, ["--help"])
        assert shown.exit_code == 0
        assert 'memory-r1 add "I adopted a second dog, Pepper"' in shown.stdout
        assert "..." not in shown.stdout.partition("Commands:")[2]  # what a command is for is not cut off

    @pytest.mark.parametrize(
        "words", [[name] for name in main.commands] + [["models", "pull"], ["bench", "store"], ["data", "show"]]
    )
    def test_every_command_explains_itself_on_lines_that_fit(self, words: list[str]) -> None:
        shown = CliRunner().invoke(main, [*words, "-h"])
        assert shown.exit_code == 0
        assert shown.stdout.startswith(f"Usage: main {' '.join(words)}")
        assert max(map(len, shown.stdout.splitlines())) <= 110

    def test_the_version_is_the_packages(self) -> None:
        assert CliRunner().invoke(main, ["--version"]).stdout.rstrip().endswith(version("memory-r1"))

    def test_models_list_shows_the_catalogue(self) -> None:
        value = json.loads(CliRunner().invoke(main, ["models", "list", "--json"]).stdout)
        assert [(one["name"], one["licence"]) for one in value] == [(w.name, w.licence) for w in CATALOGUE.values()]
        assert {one["name"]: one["megabytes"] for one in value}["smollm2"] == 98
        lines = CliRunner().invoke(main, ["models", "list"]).stdout.splitlines()
        assert [line.split()[0] for line in lines] == [*CATALOGUE, "in"]
        assert lines[-1] == f"in {cache_directory()}"

    def test_an_empty_cache_has_no_model_here(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(main, ["models", "list", "--json"], env={"MEMORY_R1_MODELS": str(tmp_path)})
        assert {one["here"] for one in json.loads(result.stdout)} == {False}

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                ["add", "x", "--base-url", "http://localhost:1/v1"],
                "--base-url needs --model, the name the server knows",
            ),
            (["add", "x", "--base-url", "localhost:1", "--model", "m"], "base_url must begin with http:// or https://"),
            (
                ["add", "x", "--base-url", "http://localhost:1/v1", "--model", "m", "--adapter", "cook=mine"],
                "--adapter 'cook=mine' must be STEP=LORA",
            ),
            (
                ["add", "x", "--adapter", "manage"],
                "--adapter 'manage' must be STEP=LORA with STEP one of extract, manage",
            ),
            (["add", "x", "--adapter", "cook=a.gguf"], "--adapter 'cook=a.gguf' must be STEP=LORA"),
            (
                ["add", "x", "--model", "gone.gguf"],
                "no model 'gone.gguf': give a GGUF file that is there, or one of smollm2, qwen2.5-coder-0.5b, ",
            ),
            (
                ["add", "x", "--model", "e5-small"],
                "no model 'e5-small': give a GGUF file that is there, or one of smollm2",
            ),
            (["models", "pull", "gpt-5"], "unknown model 'gpt-5'; known: smollm2, e5-small"),
            (["import", "gone.jsonl"], "Invalid value for 'PATH': Path 'gone.jsonl' does not exist."),
            (["search", "x", "-k", "0"], "Invalid value for '-k' / '--top-k': 0 is not in the range x>=1."),
            (["history", "-n", "-1"], "Invalid value for '-n' / '--last': -1 is not in the range x>=1."),
            (["undo", "first"], "Invalid value for 'OPERATION': 'first' is not a valid integer."),
            (["ad", "x"], "No such command 'ad'"),
            (["add"], "Missing argument 'TEXT...'."),
            (["bench", "store", "--sizes", "10,x"], "Invalid value for --sizes: give whole numbers with commas"),
            (["bench", "retrieval", "--data", "mine"], "'mine' names no data set; give locomo:PATH"),
        ],
    )
    def test_what_cannot_be_meant_is_said_in_one_line(self, words: list[str], message: str) -> None:
        assert error_of(CliRunner().invoke(main, words)).startswith(message)

    @pytest.mark.parametrize(
        "words",
        [
            *(["ask", "x"], ["search", "x"], ["list"], ["show", "x"], ["history"], ["undo", "1"], ["delete", "x"]),
            *(["purge", "--yes"], ["export"], ["audit"], ["reembed"]),
        ],
        ids=lambda words: str(words[0]),
    )
    def test_a_command_that_adds_nothing_makes_no_bank(self, cli: Cli, words: list[str]) -> None:
        assert error_of(cli.result(*words)) == (
            f"no memory bank at {cli.db}: check --db, or make one with `memory-r1 add` or `import`"
        )
        assert list(cli.db.parent.iterdir()) == []

    def test_a_file_of_no_known_format_is_refused_by_name(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
        (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
        assert error_of(cli.result("import", tmp_path / "notes.txt")).startswith("notes.txt is no memory-r1 export")
        assert error_of(cli.result("import", tmp_path / "photo.jpg")).startswith("photo.jpg is not text in UTF-8")
        assert not cli.db.exists()


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small")
class TestCommands:
    """Each command with the real embedder."""

    def test_add_raw_stores_the_words_as_they_are(self, cli: Cli) -> None:
        words = ("add", "--raw", "--at", "2026-05-08", "--speaker", "Ann", "--user", "ann")
        assert cli(*words, "I", "have", "a", "dog") == "ADD     I have a dog\n"
        assert steady(cli.json(*words, "Called Bo")) == {
            "results": [
                {"id": "<id>", "memory": "Called Bo", "event": "ADD", "operation": 2, "reason": "stored as given"}
            ],
            "unreadable": 0,
        }
        expected = [{**entry(text, "ann"), "speaker": "Ann"} for text in ("I have a dog", "Called Bo")]
        assert steady(cli.json("list", "--user", "ann")) == {"results": expected}

    def test_add_asks_the_model_what_each_fact_does(self, cli: Cli, server: Server) -> None:
        add = ("add", "--at", "2026-05-08", *server.options)
        assert cli(*add, "Ann has a dog") == "ADD     Ann has a dog\n"
        server.operations = [{"operation": "UPDATE", "index": 1, "text": "Ann has two dogs"}, {"operation": "NOOP"}]
        assert steady(cli.json(*add, "Ann has a second dog")) == {
            "results": [
                {
                    "id": "<id>",
                    "memory": "Ann has two dogs",
                    "event": "UPDATE",
                    "operation": 2,
                    "previous_memory": "Ann has a dog",
                }
            ],
            "unreadable": 0,
        }
        assert cli(*add, "Ann owns dogs") == "NOOP    Ann owns dogs  [known already]\n"
        assert cli(*add, "Ann has two dogs!") == "NOOP    Ann has two dogs!  [duplicate]\n"
        server.operations = [{"operation": "DELETE", "index": 1}]
        assert cli(*add, "Ann gave all dogs away") == "DELETE  Ann has two dogs\n        was: Ann has two dogs\n"
        server.facts = lambda _: []
        assert cli(*add, "Thanks!").startswith("Nothing worth remembering was found in it (--raw")
        assert cli.texts() == []
        assert [step for step, _ in server.asked].count("manage") == 3

    def test_words_that_are_kept_are_answered_from_and_not_listed(self, cli: Cli, server: Server) -> None:
        server.facts = lambda _: []
        add = ("add", "--keep-turns", "--at", "2026-05-08", "--speaker", "Ann", *server.options)
        assert cli(*add, "My boots got soaked") == "Nothing worth remembering was found in it (its words are kept).\n"
        assert cli.texts() == []
        said = "Ann: My boots got soaked"
        answered = f"{said}\n  kept: {said}\n  from 1 retrieved memory\n"
        assert cli("ask", *server.options, "What got soaked?") == answered

    def test_a_dry_run_of_add_says_what_would_happen_and_changes_nothing(self, cli: Cli, server: Server) -> None:
        cli.add("Ann has a dog")
        elsewhere = Cli(cli.db.with_name("elsewhere.db"))
        for words in (("add", "--raw", "--dry-run"), ("add", "--dry-run", *server.options)):
            assert "ADD     Ann has a cat\n" in elsewhere(*words, "Ann has a cat")
            assert not elsewhere.db.exists()
            assert cli(*words, "Ann has a cat") == "ADD     Ann has a cat\nNothing was changed: this was a dry run.\n"
            assert [item["event"] for item in cli.json(*words, "Ann has a cat")["results"]] == ["ADD"]
        assert cli.texts() == ["Ann has a dog"]
        assert len(cli.json("history")) == 1

    def test_ask_shows_the_answer_and_what_it_rests_on(self, cli: Cli, server: Server) -> None:
        cli.add("Ann's dog is called Pepper", "Bob lives in Rome")
        words = ("ask", *server.options, "What", "is", "the", "dog", "called?")
        assert cli(*words) == (
            "Ann's dog is called Pepper\n  kept: Ann's dog is called Pepper\n  from 2 retrieved memories\n"
        )
        assert steady(cli.json(*words)) == {
            "answer": "Ann's dog is called Pepper",
            "known": True,
            "used": [entry("Ann's dog is called Pepper")],
            "retrieved": 2,
            "dropped": 0,
        }
        assert server.asked[-1][1].endswith("\nQuestion: What is the dog called?")

    def test_ask_of_an_empty_bank_is_not_known_and_costs_nothing(self, cli: Cli, server: Server) -> None:
        cli.make()
        assert cli.json("ask", "Who?", *server.options) == {
            "answer": "I don't know.",
            "known": False,
            "used": [],
            "retrieved": 0,
            "dropped": 0,
            "logprob": None,
            "certainty": None,
        }
        assert server.asked == []

    def test_search_finds_the_best_first(self, cli: Cli) -> None:
        first, _ = cli.add("Ann adopted a puppy named Bo", "Bob sold his car")
        line, *_ = cli("search", "Which", "pet?").splitlines()
        assert re.fullmatch(rf"{first[:8]}  [01]\.\d\d  2026-05-08  Ann adopted a puppy named Bo", line)
        (found,) = cli.json("search", "-k", 1, "Which pet?")["results"]
        assert 0 < found.pop("score") <= 1
        assert 0.7 < found.pop("similarity") <= 1
        assert steady(found) == entry("Ann adopted a puppy named Bo")
        assert cli("search", "--user", "bob", "pet") == "Nothing found.\n"
        assert cli("search", "--as-of", "2020-01-01", "pet") == "Nothing found.\n"

    def test_list_shows_one_scope_and_with_all_the_scopes(self, cli: Cli) -> None:
        cli.make()
        assert cli("list").startswith('No memories here yet: memory-r1 add "…" makes one')
        assert cli("list", "--all") == "The bank is empty.\n"
        (mine, _) = cli.add("Likes tea", "Likes jazz")
        cli.add("Likes tea", user="ann")
        assert cli("list").splitlines()[0] == f"{mine[:8]}  2026-05-08  Likes tea"
        assert steady(cli.json("list")) == {"results": [entry("Likes tea"), entry("Likes jazz")]}
        assert cli("list", "--all") == "user_id=me   2\nuser_id=ann  1\n"
        assert cli.json("list", "--all") == [
            {"scope": "user_id=me", "entries": 2},
            {"scope": "user_id=ann", "entries": 1},
        ]
        assert cli.json("list", "--as-of", "2020-01-01") == {"results": []}

    def test_a_memory_of_many_lines_or_words_takes_one_line_of_a_list_and_is_whole_in_json(self, cli: Cli) -> None:
        texts = ("line one\nline two", "word " * 200)
        cli.add(*texts)
        lines = cli("list").splitlines()
        assert lines[0].endswith("  line one line two")
        assert lines[1].endswith(f"  {('word ' * 200)[:499]}…")
        assert cli.texts() == list(texts)
        assert len(cli("history").splitlines()) == 4

    def test_show_shows_one_memory_whole_by_the_beginning_of_its_id(self, cli: Cli) -> None:
        (whole,) = cli.add("Likes tea")
        assert steady(cli.json("show", whole[:8])) == entry("Likes tea")
        lines = dict(line.split(maxsplit=1) for line in cli("show", whole).splitlines())
        assert (lines["id"], lines["memory"], lines["user_id"]) == (whole, "Likes tea", "me")
        assert "expiration_date" not in lines

    def test_history_shows_the_operations_of_a_scope_or_of_one_memory(self, cli: Cli) -> None:
        first, second = cli.add("Likes tea", "Likes jazz")
        cli("delete", first)
        added = operation(1, "ADD", None, "Likes tea", reason="stored as given")
        gone = operation(3, "DELETE", "Likes tea", None)
        assert steady(cli.json("history", first[:8])) == [added, gone]
        assert [(one["id"], one["memory_id"]) for one in cli.json("history")] == [(1, first), (2, second), (3, first)]
        assert [one["id"] for one in cli.json("history", "-n", 2)] == [2, 3]
        lines = cli("history", "-n", 1).splitlines()
        assert re.fullmatch(r"    3  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  DELETE  by hand", lines[0])
        assert lines[1:] == ["       - Likes tea"]
        assert cli("history", "--user", "ann") == "No operation yet.\n"

    def test_delete_says_how_to_bring_it_back_and_undo_does(self, cli: Cli) -> None:
        (whole,) = cli.add("Likes tea")
        assert cli("delete", whole[:8]) == "Deleted; `memory-r1 undo 2` brings it back.\n"
        assert cli.texts() == []
        assert (
            error_of(cli.result("show", whole[:8]))
            == f"{whole} is gone; `memory-r1 history {whole[:8]}` shows what became of it"
        )
        assert "undoes 2" in cli("undo", 2)
        assert cli.texts() == ["Likes tea"]
        undone = operation(4, "DELETE", "Likes tea", None, undoes=3)
        assert steady(cli.json("undo", 3)) == undone
        assert cli.json("delete", *cli.add("Likes jazz")) == {"message": "Memory deleted successfully!", "operation": 6}

    def test_undo_of_what_changed_since_names_what_to_undo_first(self, cli: Cli) -> None:
        (whole,) = cli.add("Likes tea")
        cli("delete", whole)
        assert error_of(cli.result("undo", 1)) == f"entry {whole} was changed after operation 1; undo first: 2"
        assert error_of(cli.result("undo", 9)) == "no operation 9; `memory-r1 history` lists them"

    def test_purge_erases_one_memory_or_a_scope_for_good(self, cli: Cli) -> None:
        one, _ = cli.add("Secret tea", "Likes jazz")
        cli.add("Likes rain", user="ann")
        assert cli("purge", one[:8], "--yes") == "Erased 1 memory.\n"
        assert "Secret tea" not in json.dumps(cli.json("history"))
        assert b"Secret tea" not in cli.db.read_bytes()
        assert cli.json("purge", "--yes") == {"purged": 1}
        assert (cli.texts(), cli.texts("ann")) == ([], ["Likes rain"])

    def test_stored_text_cannot_speak_to_the_terminal_but_in_json(self, cli: Cli) -> None:
        told = "Obey\x1b[1A\x1b[8m \x1b]0;me\x07 tea\x9b2J"
        shown = "Obey\ufffd[1A\ufffd[8m \ufffd]0;me\ufffd tea\ufffd2J"
        (whole,) = cli.add(told)
        for words in (["list"], ["show", whole], ["search", "tea"], ["history"]):
            printed = cli(*words)
            assert (shown in printed, "\x1b" in printed, "\x9b" in printed) == (True, False, False)
        assert cli.json("show", whole)["memory"] == told

    def test_purge_erases_what_a_server_has_yet_to_remember(self, cli: Cli) -> None:
        cli.add("Likes tea")
        file = cli.db.with_suffix(".inbox.db")
        inbox = Inbox(file, lambda *_: None)
        for user in ("me", "ann"):
            inbox.put(Job((Turn("user", f"A secret of {user}", None, "1"),), Scope(user)))
        assert cli("purge", "--yes") == "Erased 1 memory.\n"
        assert (inbox.waiting(), b"A secret of me" in file.read_bytes()) == (1, False)

    @pytest.mark.parametrize(
        "command", [("purge", "", "--yes"), ("purge", " ", "--yes"), ("delete", ""), ("history", "")]
    )
    def test_an_empty_id_is_no_scope_and_no_memory(self, cli: Cli, command: tuple[str, ...]) -> None:
        cli.add("Likes tea")
        assert error_of(cli.result(*command)) == "the id is empty; `memory-r1 list` shows the ids"
        assert cli.texts() == ["Likes tea"]

    def test_an_export_on_a_machine_that_speaks_another_code_page_can_be_imported(
        self, cli: Cli, tmp_path: Path
    ) -> None:
        cli.add("Zoë → 東京")
        written = subprocess.run(
            [sys.executable, "-m", "memory_r1", "export", "--db", str(cli.db)],
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
        )
        (tmp_path / "export.jsonl").write_bytes(written.stdout)
        other = Cli(tmp_path / "other.db")
        other("import", tmp_path / "export.jsonl")
        assert other.texts() == ["Zoë → 東京"]

    def test_two_banks_in_one_folder_share_no_keys_and_no_inbox(self, tmp_path: Path) -> None:
        names = ["memory.db", "acme.prod", "acme.staging", "memory.sqlite", "memory"]
        assert [beside(tmp_path / name, "keys").name for name in names] == [
            "memory.keys.db",
            "acme.prod.keys.db",
            "acme.staging.keys.db",
            "memory.sqlite.keys.db",
            "memory.keys.db",
        ]

    def test_purge_asks_first(self, cli: Cli) -> None:
        (whole,) = cli.add("Likes tea")
        refused = cli.result("purge", stdin="n\n")
        assert (refused.exit_code, refused.stderr) == (1, "Aborted!\n")
        assert refused.stdout.startswith("Erase user_id=me (1 memory and all history) for good? [y/N]: n")
        assert cli.texts() == ["Likes tea"]
        assert cli("purge", whole, stdin="y\n").endswith("Erased 1 memory.\n")

    def test_an_export_carries_a_whole_bank_or_one_scope_to_another_file(self, cli: Cli, tmp_path: Path) -> None:
        (tea, _) = cli.add("Likes tea", "Likes jazz")
        cli.add("Likes rain", user="ann")
        cli("delete", tea)
        out = tmp_path / "out.jsonl"
        done = cli.result("export", out)
        assert (done.stdout, done.stderr) == ("", f"{out}: 4 operations\n")
        assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl"]
        assert cli("export") == out.read_text(encoding="utf-8")
        assert len(cli("export", "--user", "ann").splitlines()) == 2

        other = Cli(tmp_path / "other.db")
        assert other("import", out, "--dry-run") == "3 entries would be imported, history and all.\n"
        assert not other.db.exists()
        assert other("import", out) == "3 entries imported, history and all.\n"
        assert other.json("import", out) == {"entries": 0}
        assert other.json("list", "--all") == cli.json("list", "--all")
        assert other.json("history", tea) == cli.json("history", tea)
        other("undo", 4)
        assert sorted(other.texts()) == ["Likes jazz", "Likes tea"]

    def test_an_export_to_a_folder_that_is_not_there_is_an_error(self, cli: Cli, tmp_path: Path) -> None:
        cli.make()
        path = tmp_path / "gone" / "out.jsonl"
        assert error_of(cli.result("export", path)) == f"{path}.part: No such file or directory"

    def test_an_export_cut_short_is_refused_by_line_and_changes_nothing(self, cli: Cli, tmp_path: Path) -> None:
        cli.add("Likes tea", "Likes jazz")
        (tmp_path / "cut.jsonl").write_text(cli("export")[:-20], encoding="utf-8")
        other = Cli(tmp_path / "other.db")
        assert error_of(other.result("import", tmp_path / "cut.jsonl")).startswith("line 3 is not JSON")
        assert other.json("list", "--all") == []

    def test_a_mem0_export_is_stored_as_it_is_and_only_once(self, cli: Cli, tmp_path: Path) -> None:
        memories = [
            {
                "id": str(uuid.uuid4()),
                "memory": "Ann has a dog",
                "user_id": "ann",
                "created_at": "2026-05-08T00:00:00Z",
            },
            {"id": str(uuid.uuid4()), "memory": "Likes tea", "metadata": {"topic": "drinks"}},
        ]
        path = written(tmp_path / "mem0.json", {"results": memories})
        told = "2 memories {} with 2 operations of history.\n  user_id=ann  1\n  user_id=me   1\n"
        assert cli("import", path, "--dry-run") == told.format("would be imported,")
        assert not cli.db.exists()
        assert cli("import", path) == told.format("imported,")
        memories.append({"id": "m3", "user_id": "ann"})
        written(path, {"results": memories})
        assert cli.json("import", path) == {
            "entries": 0,
            "operations": 0,
            "here_already": 2,
            "scopes": {},
            "skipped": {'there is no text under "memory"': 1},
        }
        assert steady(cli.json("list", "--user", "ann")) == {
            "results": [{**entry("Ann has a dog", "ann"), "speaker": None}]
        }
        (mine,) = steady(cli.json("list"))["results"]
        assert mine == {**entry("Likes tea", when=None), "speaker": None, "metadata": {"topic": "drinks"}}

    def test_a_chat_is_remembered_turn_by_turn_and_only_once(self, cli: Cli, server: Server, tmp_path: Path) -> None:
        path = written(tmp_path / "chat.jsonl", *chat(2))
        command = ("import", path, "--user", "ann", *server.options)
        assert cli(*command, "--dry-run") == "2 turns of user_id=ann\n"
        assert server.asked == []
        first = cli.json(*command)
        assert first.pop("seconds") >= 0
        assert first == {
            "turns": 2,
            "remembered_before": 0,
            "operations": {"ADD": 2, "UPDATE": 0, "DELETE": 0, "NOOP": 0},
            "unreadable": 0,
            "adapters": [],
            "usage": {"extract": {"calls": 2, "tokens": 22}, "manage": {"calls": 1, "tokens": 11}},
        }
        written(path, *chat(3))
        assert cli(*command, "--dry-run") == "3 turns of user_id=ann, 2 of them remembered before\n"
        assert re.fullmatch(
            "3 turns of user_id=ann, 2 of them remembered before: 1 ADD, 0 UPDATE, 0 DELETE, 0 NOOP; 0 unreadable\n"
            r"22 model tokens, 22 a turn; \d+ s\n",
            cli(*command),
        )
        assert cli.texts("ann") == [fact(0), fact(1), fact(2)]
        assert [one["turn_id"].split(":")[:2] for one in cli.json("history", "--user", "ann")] == [
            ["chat.jsonl", "1"],
            ["chat.jsonl", "2"],
            ["chat.jsonl", "3"],
        ]

    def test_a_locomo_file_goes_into_a_scope_for_each_conversation(
        self, cli: Cli, server: Server, tmp_path: Path
    ) -> None:
        talk: dict[str, Any] = {"speaker_a": "Ann", "speaker_b": "Bob"}
        for day in (1, 2):
            talk[f"session_{day}_date_time"] = f"1:00 pm on {day} May, 2023"
            talk[f"session_{day}"] = [{"dia_id": f"D{day}:1", "speaker": "Ann", "text": f"Ann said {day} words"}]
        samples = [{"sample_id": name, "conversation": talk, "qa": []} for name in ("conv-1", "conv-2")]
        path = written(tmp_path / "locomo.json", samples)
        assert cli.json("import", path, "--dry-run")["turns"] == 4
        words = ("import", path, "--dialogue", "conv-2", "--sessions", 1, *server.options)
        assert cli(*words).startswith("1 turn of user_id=conv-2: 1 ADD")
        assert cli.json("list", "--all") == [{"scope": "user_id=conv-2", "entries": 1}]
        wrong = cli.result("import", path, "--dialogue", "conv-26")
        assert error_of(wrong) == "locomo.json has no conversation 'conv-26'; it has conv-1, conv-2"

    def test_audit_lists_what_is_worth_a_look(self, cli: Cli) -> None:
        cli.make()
        assert cli("audit") == "Nothing to look at.\n"
        texts = ("Ann lives in Rome", "Ann lives in Oslo", "Bob has a car", "bob has the car!")
        ids = dict(zip(texts, cli.add(*texts), strict=True))
        cli.add("Ann lives in Rome", user="ann")
        cli("search", "Ann and Bob")
        assert cli("audit", "--user", "me") == (
            "exact duplicate  the same words\n"
            f"  {ids['Bob has a car'][:8]}  Bob has a car\n"
            f"  {ids['bob has the car!'][:8]}  bob has the car!\n"
            "possible contradiction  rome or oslo?\n"
            f"  {ids['Ann lives in Rome'][:8]}  Ann lives in Rome\n"
            f"  {ids['Ann lives in Oslo'][:8]}  Ann lives in Oslo\n"
        )
        value = cli.json("audit")
        assert [one["kind"] for one in value["findings"]] == [
            "exact duplicate",
            "possible contradiction",
            "never recalled",
        ]
        assert value["damage"] == []
        assert steady(value["findings"][2]["entries"]) == [entry("Ann lives in Rome", "ann")]

    def test_reembed_makes_a_file_of_another_embedder_usable(self, cli: Cli) -> None:
        cli.add("Likes tea")
        with sqlite3.connect(cli.db) as db:
            db.execute("UPDATE meta SET value = 'another' WHERE key = 'embedder'")
        db.close()
        refused = error_of(cli.result("list"))
        assert refused.endswith(f"or convert the file with: memory-r1 reembed --db {cli.db}")
        assert cli("reembed") == "1 entry embedded anew.\n"
        assert cli.texts() == ["Likes tea"]
        assert cli.json("reembed") == {"entries": 1}

    def test_the_demo_counts_what_the_model_got_right(self, server: Server) -> None:
        server.facts = lambda _: []
        quick = CliRunner().invoke(main, ["demo", "--quick", "--json", *server.options])
        assert json.loads(quick.stdout) == {
            "model": "double",
            "adapters": [],
            "decisions": 1,
            "of_decisions": 7,
            "answers": 0,
            "of_answers": 2,
            "tokens": 77,
        }
        shown = CliRunner().invoke(main, ["demo", *server.options])
        assert shown.exit_code == 0
        heads = ["1 · Remember", "2 · What the bank holds now", "3 · Ask", "4 · History and undo"]
        assert [line for line in shown.stdout.splitlines() if line in heads] == heads
        assert "double: 2 of 12 decisions and 1 of 6 answers as a careful reader would have them; 132 tokens." in (
            shown.stdout
        )

    def test_a_beginning_that_no_id_or_more_than_one_has_is_refused(self, cli: Cli) -> None:
        ids = cli.add(*(f"Likes {number}" for number in range(17)))  # two of 17 ids begin with the same character
        shared = next(id_[0] for id_ in ids if sum(other[0] == id_[0] for other in ids) > 1)
        count = sum(id_[0] == shared for id_ in ids)
        unknown = "00000000-0000-4000-8000-000000000000"
        for command in ("show", "history", "delete", "purge"):
            sure = ["--yes"] if command == "purge" else []
            message = error_of(cli.result(command, "zzz", *sure))
            assert message == "no entry begins with 'zzz'; `memory-r1 list` shows the ids"
            message = error_of(cli.result(command, shared, *sure))
            assert message == f"{count} entries begin with '{shared}'; `memory-r1 list` shows the ids"
            assert unknown in error_of(cli.result(command, unknown, *sure))
        assert len(cli.texts()) == 17

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("add", "--raw", "--at", "soon", "x"), "not a time: 'soon'; write"),
            (("search", "--as-of", "soon", "x"), "not a time: 'soon'; write"),
            (("list", "--as-of", "soon"), "not a time: 'soon'; write"),
            (("add", "--raw", " "), "text is empty: there is nothing to remember"),
            (("search", " "), "the question is empty: say what to look for"),
            (("ask", ""), "the question is empty: say what to look for"),
            (("list", "--user", "*"), 'user_id="*" would mean everybody; name one user_id'),
            (("add", "x", "--adapter", "manage=/gone.gguf"), "cannot read the model file /gone.gguf: No such file"),
        ],
    )
    def test_an_argument_that_cannot_be_meant_is_an_error(
        self, cli: Cli, words: tuple[str, ...], message: str, needs_smollm2: None
    ) -> None:
        del needs_smollm2
        cli.make()
        assert error_of(cli.result(*words)).startswith(message)

    def test_a_file_that_is_no_bank_is_left_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "notes.db").write_text("not a bank, but long enough to be read as one: " * 9, encoding="utf-8")
        before = (tmp_path / "notes.db").read_bytes()
        message = error_of(Cli(tmp_path / "notes.db").result("list"))
        assert message.startswith(f"{tmp_path / 'notes.db'} is damaged or is not a memory bank")
        assert (tmp_path / "notes.db").read_bytes() == before
        with sqlite3.connect(tmp_path / "other.db") as db:
            db.execute("CREATE TABLE song (name)")
        db.close()
        message = error_of(Cli(tmp_path / "other.db").result("list"))
        assert message.endswith("is a database of another program, not a memory bank; choose another path")
        message = error_of(Cli(tmp_path / "gone" / "bank.db").result("add", "--raw", "x"))
        assert message.endswith("cannot be opened for writing: check that its folder exists and is yours")

    def test_a_server_that_is_not_there_is_named(self, cli: Cli) -> None:
        words = ("add", "x", "--base-url", "http://127.0.0.1:9/v1", "--model", "m")
        message = error_of(cli.result(*words))
        assert message.startswith("the model m at http://127.0.0.1:9/v1 cannot be reached")
        assert message.endswith("check that the server runs and base_url is right")


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small", "needs_smollm2")
def test_add_and_ask_work_with_the_embedded_model(cli: Cli) -> None:
    added = cli.json("add", "--at", "2026-05-08", "--speaker", "Ann", "I adopted a dog called Pepper.")
    assert {item["event"] for item in added["results"]} == {"ADD"}
    asked = cli.json("ask", "What is Ann's dog called?")
    assert isinstance(asked["answer"], str)
    assert asked["retrieved"] == len(cli.texts()) >= 1


# -- in a process of its own --------------------------------------------------------------------------------------


def chat(turns: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "name": "Ann", "content": fact(number), "timestamp": f"2026-05-{number + 1:02}T10:00:00Z"}
        for number in range(turns)
    ]


def fact(number: int) -> str:
    things = ("bicycle", "guitar", "telescope", "kayak", "sewing machine", "camera", "tent", "piano")
    return f"Ann owns a {things[number]}"


def written(path: Path, *values: object) -> Path:
    path.write_text("\n".join(json.dumps(value) for value in values), encoding="utf-8")
    return path


def process(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "memory_r1", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
    )


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small")
def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    added = process("add", "--raw", "Ann lives in Málaga", "--db", tmp_path / "m.db")
    assert added.communicate(timeout=60) == ("ADD     Ann lives in Málaga\n", "")
    failed = process("show", "x", "--db", tmp_path / "m.db")
    assert failed.communicate(timeout=60) == ("", "Error: no entry begins with 'x'; `memory-r1 list` shows the ids\n")
    assert (added.returncode, failed.returncode) == (0, 1)


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small")
@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C alone there")
@pytest.mark.parametrize("prompts", [1, 4, 6])
def test_ctrl_c_during_an_import_loses_nothing_and_the_same_command_goes_on(
    tmp_path: Path, server: Server, prompts: int
) -> None:
    path = written(tmp_path / "chat.jsonl", *chat(6))
    whole, stopped = Cli(tmp_path / "whole.db"), Cli(tmp_path / "stopped.db")
    command = ("import", path, *server.options)
    whole(*command)

    server.asked.clear()
    server.hangs_after = prompts - 1
    running = process(*command, "--db", stopped.db)
    deadline = time.monotonic() + 60
    while len(server.asked) < prompts and time.monotonic() < deadline:
        time.sleep(0.01)
    sent = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, shown = running.communicate(timeout=60)
    assert time.monotonic() - sent < 5  # and not when the server answers
    assert running.returncode == 130
    assert shown.endswith("\nStopped. All that was done so far is kept; the same command goes on from there.\n")
    assert "Traceback" not in shown
    kept = stopped.texts()
    assert kept == whole.texts()[: len(kept)]
    assert len(kept) < 6

    server.hangs_after = None
    server.released.set()
    assert stopped.json(*command)["operations"]["ADD"] == 6 - len(kept)
    assert stopped.texts() == whole.texts() == [fact(number) for number in range(6)]
    assert [steady(one) for one in stopped.json("history")] == [steady(one) for one in whole.json("history")]
    again = stopped.json(*command)
    assert again.pop("seconds") >= 0
    assert again == {
        "turns": 6,
        "remembered_before": 6,
        "operations": {"ADD": 0, "UPDATE": 0, "DELETE": 0, "NOOP": 0},
        "unreadable": 0,
        "adapters": [],
        "usage": {},
    }
