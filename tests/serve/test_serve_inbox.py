"""What waits to be remembered is on the disk until the bank has it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from serving import Switch, said, serving

from memory_r1 import Memory
from memory_r1.errors import BankError, InvalidInput, ModelRefused, ModelUnavailable
from memory_r1.serve.app import Settings
from memory_r1.serve.inbox import Inbox, Job, with_ids
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Prompt, Scope, Turn

ANN = Scope(user_id="ann", run_id="r")
WHEN = datetime(2026, 3, 2, 12, tzinfo=UTC)
JOB = Job((Turn("Ann", "I like tea", WHEN, "t1"), Turn("Ann", "I like jazz", None, "t2")), ANN, {"a": [1]}, WHEN)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def nothing(job: Job, _: Callable[[], None]) -> None:
    raise AssertionError(f"not started, but {job} was done")


def test_a_job_is_the_same_after_a_restart_and_gone_once_done(tmp_path: Path) -> None:
    Inbox(tmp_path / "inbox.db", nothing).put(JOB)
    done: list[Job] = []
    inbox = Inbox(tmp_path / "inbox.db", lambda job, _: done.append(job))
    assert inbox.waiting() == 1
    inbox.start()
    until(lambda: inbox.waiting() == 0)
    inbox.stop()
    assert done == [JOB]
    assert Inbox(tmp_path / "inbox.db", nothing).waiting() == 0


def test_jobs_wait_in_order_while_the_model_is_down() -> None:
    tries: list[str] = []

    def remember(job: Job, _: Callable[[], None]) -> None:
        tries.append(job.turns[0].text)
        if len(tries) < 3:
            raise ModelUnavailable("down")

    inbox = Inbox(":memory:", remember, delay=0.01)
    for text in ("first", "second"):
        inbox.put(Job((Turn("user", text, None, text),), ANN))
    inbox.start()
    until(lambda: inbox.waiting() == 0)
    inbox.stop()
    assert tries == ["first", "first", "first", "second"]


def test_a_job_that_cannot_be_done_is_set_aside_and_counted() -> None:
    def remember(job: Job, _: Callable[[], None]) -> None:
        if job.turns[0].text == "bad":
            raise InvalidInput("cannot be meant")

    inbox = Inbox(":memory:", remember)
    for text in ("bad", "good"):
        inbox.put(Job((Turn("user", text, None, text),), ANN))
    inbox.start()
    until(lambda: inbox.waiting() == 0)
    inbox.stop()
    assert inbox.failed() == 1


def test_a_job_that_the_model_refuses_holds_up_nobody_behind_it() -> None:
    done: list[str] = []

    def remember(job: Job, _: Callable[[], None]) -> None:
        if job.turns[0].text == "refused":
            raise ModelRefused("answered 400: against our policy")
        done.append(job.turns[0].text)

    inbox = Inbox(":memory:", remember, delay=0.01)
    for text in ("refused", "second"):
        inbox.put(Job((Turn("Ann", text, None, text),), ANN))
    inbox.start()
    until(lambda: inbox.waiting() == 0)
    inbox.stop()
    assert (done, inbox.failed()) == (["second"], 1)


def test_a_job_that_is_given_up_when_the_server_ends_waits_for_the_next_start(tmp_path: Path) -> None:
    closed = threading.Event()

    def remember(_: Job, __: Callable[[], None]) -> None:
        assert closed.wait(20)
        raise BankError("the bank is closed")

    inbox = Inbox(tmp_path / "inbox.db", remember)
    inbox.put(JOB)
    inbox.start()
    inbox.stop(0)
    closed.set()
    inbox.stop()
    assert (inbox.waiting(), inbox.failed()) == (1, 0)


def test_stopping_ends_after_the_turn_and_the_rest_goes_on_at_the_next_start(tmp_path: Path) -> None:
    """With a real memory: no turn is lost, and none is remembered twice."""
    asked, go = threading.Event(), threading.Event()
    path = tmp_path / "inbox.db"

    def slowly(prompt: Prompt) -> str:
        asked.set()
        assert go.wait(20)
        return said(prompt)

    with Memory(tmp_path / "memory.db", llm=ScriptedLLM(slowly), embedder=HashEmbedder()) as memory:

        def remember(job: Job, check: Callable[[], None]) -> None:
            memory.add(job.turns, user_id="ann", progress=lambda *_: check())

        inbox = Inbox(path, remember)
        inbox.put(Job(with_ids([Turn("user", "I like tea"), Turn("user", "My bike is red")]), Scope(user_id="ann")))
        inbox.start()
        assert asked.wait(20)
        stopping = threading.Thread(target=inbox.stop)
        stopping.start()
        until(inbox._stopping.is_set)
        go.set()
        stopping.join()
        assert [entry["memory"] for entry in memory.get_all(user_id="ann")["results"]] == ["I like tea"]
        assert inbox.waiting() == 1
        again = Inbox(path, remember)
        again.start()
        until(lambda: again.waiting() == 0)
        again.stop()
        assert [logged.kind for logged in memory.bank.log()] == ["ADD", "ADD"]


def test_jobs_wait_while_their_own_file_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    broken = threading.Event()
    path = tmp_path / "inbox.db"

    def remember(job: Job, _: Callable[[], None]) -> None:
        done.append(job.turns[0].text)
        if not broken.is_set():
            with closing(sqlite3.connect(path)) as other:
                other.execute("ALTER TABLE job RENAME TO elsewhere")
            broken.set()

    inbox = Inbox(path, remember, delay=0.01)
    inbox.put(Job((Turn("user", "I like tea", None, "1"),), ANN))
    inbox.start()
    until(lambda: "BankError" in caplog.text)
    with closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE elsewhere RENAME TO job")
    until(lambda: inbox.waiting() == 0)
    assert inbox.works
    inbox.stop()
    assert (done, inbox.works) == (["I like tea"] * 2, False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_remembers_nothing_any_more_is_not_ready_and_says_why(tmp_path: Path) -> None:
    def end(_: Prompt) -> str:
        raise SystemExit  # which ends a thread without a word

    path = tmp_path / "inbox.db"
    with serving(end, settings=Settings(inbox=path)) as client:
        assert client.get("/ready").json() == {"status": "ready", "waiting": 0}
    Inbox(path, nothing).put(JOB)
    with serving(end, settings=Settings(inbox=path)) as client:
        until(lambda: client.get("/ready").status_code == 503)
        message = "nothing that waits is remembered any more"
        error = {"code": "not_ready", "message": message, "remedy": "Restart the server."}
        assert client.get("/ready").json() == {"error": error}


def test_an_add_while_the_model_is_down_is_kept_when_so_set_and_remembered_later(tmp_path: Path) -> None:
    settings = Settings(when_model_down="queue", inbox=tmp_path / "inbox.db", retry_seconds=0.01)
    switch = Switch()
    switch.down = True
    with serving(switch, settings=settings) as client:
        body = {"messages": "I like tea", "user_id": "ann", "metadata": {"source": "chat"}}
        reply = client.post("/memories", json=body)
        assert (reply.status_code, reply.json()) == (202, {"results": [], "unreadable": 0, "queued": 1})
        assert client.get("/ready").json()["waiting"] == 1
        assert client.post("/memories", json={**body, "dry_run": True}).status_code == 503
        switch.down = False
        until(lambda: client.get("/ready").json()["waiting"] == 0)
        (entry,) = client.get("/memories?user_id=ann").json()["results"]
        assert (entry["memory"], entry["metadata"]) == ("I like tea", {"source": "chat"})


def test_what_the_model_refuses_is_not_queued() -> None:
    def refuses(_: Prompt) -> str:
        raise ModelRefused("answered 400: against our policy")

    with serving(refuses, settings=Settings(when_model_down="queue")) as client:
        reply = client.post("/memories", json={"messages": "I like tea", "user_id": "ann"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (422, "model_refused")
        assert client.get("/ready").json()["waiting"] == 0


def test_what_is_added_later_waits_behind_what_was_queued() -> None:
    settings = Settings(when_model_down="queue", retry_seconds=30)
    switch = Switch()
    with serving(switch, settings=settings) as client:
        switch.down = True
        for said_first, user in (("Ann lives in Paris", "ann"), ("Bob lives in Rome", "bob")):
            client.post("/memories", json={"messages": said_first, "user_id": user})
        switch.down = False
        reply = client.post("/memories", json={"messages": "Ann lives in Oslo", "user_id": "ann"})
        assert (reply.status_code, reply.json()["queued"]) == (202, 1)
        assert client.post("/memories", json={"messages": "Cy lives in Bern", "user_id": "cy"}).status_code == 200
        until(lambda: client.get("/ready").json()["waiting"] == 0)
        told = client.get("/operations?user_id=ann").json()["results"]
        assert sorted((one["id"], one["new_memory"]) for one in told) == [
            (told[-1]["id"], "Ann lives in Paris"),
            (told[0]["id"], "Ann lives in Oslo"),
        ]


def test_turns_that_were_remembered_before_the_model_went_down_are_not_remembered_again() -> None:
    switch = Switch()
    asked: list[Prompt] = []

    def at_the_second(prompt: Prompt) -> str:
        asked.append(prompt)
        switch.down = 1 < len(asked) < 4
        return switch(prompt)

    with serving(at_the_second, settings=Settings(when_model_down="queue", retry_seconds=0.01)) as client:
        body = {"messages": [{"content": "Alice likes tea"}, {"content": "Her bike is red"}], "user_id": "ann"}
        reply = client.post("/memories", json=body).json()
        assert ([one["memory"] for one in reply["results"]], reply["queued"]) == (["Alice likes tea"], 1)
        until(lambda: client.get("/ready").json()["waiting"] == 0)
        events = [one["event"] for one in client.get("/operations?user_id=ann").json()["results"]]
        assert events == ["ADD", "ADD"]


def test_a_reset_ends_what_is_being_remembered_and_nothing_of_it_comes_back(tmp_path: Path) -> None:
    asked, go = threading.Event(), threading.Event()

    def slowly(prompt: Prompt) -> str:
        asked.set()
        assert go.wait(20)
        return said(prompt)

    path = tmp_path / "inbox.db"
    turns = [Turn("user", "My PIN is 4711"), Turn("user", "My door code is 0815")]
    Inbox(path, nothing).put(Job(with_ids(turns), Scope(user_id="mia", run_id="r")))
    with serving(slowly, settings=Settings(inbox=path)) as client:
        assert asked.wait(20)
        replies: list[int] = []
        resetting = threading.Thread(target=lambda: replies.append(client.post("/reset?run_id=r").json()["count"]))
        resetting.start()
        until(lambda: Inbox(path, nothing).waiting() == 0)
        Inbox(path, nothing).put(Job(with_ids([Turn("user", "I like tea")]), Scope(user_id="mia")))
        go.set()
        resetting.join()
        until(lambda: client.get("/ready").json()["waiting"] == 0)
        kept = [entry["memory"] for entry in client.get("/memories?user_id=mia").json()["results"]]
        assert (replies, kept) == ([1], ["I like tea"])


def test_a_reset_erases_what_waits_too(tmp_path: Path) -> None:
    switch = Switch()
    switch.down = True
    path = tmp_path / "inbox.db"
    with serving(switch, settings=Settings(when_model_down="queue", inbox=path)) as client:
        for user in ("ann", "bob"):
            client.post("/memories", json={"messages": f"a secret of {user}", "user_id": user})
        client.post("/reset?user_id=ann")
        assert client.get("/ready").json()["waiting"] == 1
    assert b"a secret of ann" not in path.read_bytes()
    assert b"a secret of bob" in path.read_bytes()
