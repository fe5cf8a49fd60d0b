"""`memory-r1 serve` as a process of its own, and `memory-r1 keys`."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from test_cli import Cli, Server, error_of

from memory_r1.cli.serve import is_loopback


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "bank.db")


@contextmanager
def started(cli: Cli, server: Server, *words: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The process, and a client of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "memory_r1", "serve", "--port", str(port), "--db", str(cli.db), *server.options)
    process = subprocess.Popen((*command, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for _ in range(600):
                try:
                    client.get("/health")
                    break
                except httpx.ConnectError:
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    time.sleep(0.05)
            yield process, client
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.httpd.shutdown()
    thread.join()
    server.httpd.server_close()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a process can handle")
def test_a_server_that_is_told_to_end_finishes_what_it_is_doing(cli: Cli, server: Server) -> None:
    turns = [{"role": "user", "content": text} for text in ("I like tea", "My bike is red")]
    server.slow_by = 0.5
    with started(cli, server) as (process, client):
        replies: list[httpx.Response] = []
        body = {"messages": turns, "user_id": "me"}
        adding = threading.Thread(target=lambda: replies.append(client.post("/memories", json=body)))
        adding.start()
        while not server.asked:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        adding.join(60)
        assert process.wait(60) == 0
        assert [one["memory"] for one in replies[0].json()["results"]] == ["I like tea", "My bike is red"]
    names = {file.name for file in cli.db.parent.iterdir()}  # SQLite's own files beside them are gone: all was closed
    assert names == {"bank.db", "bank.keys.db", "bank.inbox.db"}
    assert cli.texts() == ["I like tea", "My bike is red"]


def test_what_was_queued_is_remembered_by_the_next_server_though_this_one_was_killed(cli: Cli, server: Server) -> None:
    with started(cli, server, "--when-model-down", "queue") as (process, client):
        server.httpd.shutdown()  # from now on nobody answers at the model's port
        server.httpd.server_close()
        reply = client.post("/memories", json={"messages": "I like tea", "user_id": "me"}, timeout=120)
        assert (reply.status_code, reply.json()["queued"]) == (202, 1)
        process.kill()
        process.wait()
    again = Server()
    thread = threading.Thread(target=again.httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with started(cli, again) as (_, client):
            for _ in range(600):
                if client.get("/ready").json()["waiting"] == 0:
                    break
                time.sleep(0.05)
            assert [entry["memory"] for entry in client.get("/memories?user_id=me").json()["results"]] == ["I like tea"]
    finally:
        again.httpd.shutdown()
        thread.join()
        again.httpd.server_close()


def test_keys_are_made_listed_and_revoked(cli: Cli) -> None:
    made = cli.json("keys", "create", "--user", "ann", "--run", "r", "--name", "laptop")
    assert re.fullmatch(r"mr1_[\w-]{43}", made["key"])
    alone = cli.result("keys", "create", "--everybody")
    assert re.fullmatch(r"mr1_[\w-]{43}\n", alone.stdout)
    assert alone.stderr == "opens everybody's memory; it cannot be shown again\n"
    listed = cli("keys", "list")
    assert made["key"] not in listed
    rows = [re.split(r"  +", line) for line in listed.splitlines()]
    today = made["created_at"][:10]
    assert rows[0] == [made["id"], "user_id=ann run_id=r", "laptop", today]
    assert rows[1][1:] == ["everybody's memory", today]
    assert cli("keys", "revoke", made["id"]) == f"{made['id']} opens nothing any more.\n"
    assert [bool(key["revoked_at"]) for key in cli.json("keys", "list")] == [True, False]


def test_a_key_is_for_somebody_or_for_everybody(cli: Cli) -> None:
    assert "say whose memory the key opens" in error_of(cli.result("keys", "create"))
    assert "say whose memory the key opens" in error_of(cli.result("keys", "create", "--everybody", "--user", "ann"))
    assert "make one with" in error_of(cli.result("keys", "list"))
    cli("keys", "create", "--user", "ann")
    assert "no key 'x'" in error_of(cli.result("keys", "revoke", "x"))


def test_no_server_is_open_to_other_machines_without_a_key(cli: Cli) -> None:
    error = error_of(cli.result("serve", "--host", "0.0.0.0"))
    assert error.startswith("--host 0.0.0.0 is open to other machines: make a key first")
    assert not cli.db.exists()


def test_a_port_that_is_taken_is_told_with_what_to_do(cli: Cli, server: Server) -> None:
    port = server.httpd.server_port
    error = error_of(cli.result("serve", "--port", port, *server.options))
    taken = f"port {port} of 127.0.0.1 cannot be listened at: another program may have it; choose --port"
    assert taken in error


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.1.2", False), ("memory.example", False), ("", False)),
    ],
)
def test_only_this_machines_own_addresses_are_its_own(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
