"""What waits to be remembered: turns that were accepted, in a file of their own, until the bank has them.

A turn leaves the file only when it has been remembered. Every turn carries an id, so that one that was interrupted goes
on and none is remembered twice.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memory_r1.bank.rows import scope_sql
from memory_r1.errors import BankBusy, BankFull, MemoryR1Error, ModelError, ModelRefused
from memory_r1.serve.database import Database
from memory_r1.types import Scope, Turn

log = logging.getLogger("memory_r1.serve")

LONGEST_DELAY = 60.0
"""Seconds between two attempts while the model is down, at most."""

_TABLE = """job (
    id INTEGER PRIMARY KEY, user_id TEXT, agent_id TEXT, run_id TEXT, turns TEXT NOT NULL, metadata TEXT NOT NULL,
    expires_at REAL, queued_at REAL NOT NULL, error TEXT
)"""


@dataclass(frozen=True, slots=True)
class Job:
    """Turns of one scope, each with an id."""

    turns: tuple[Turn, ...]
    scope: Scope
    metadata: Mapping[str, Any] | None = None
    expires_at: datetime | None = None


class Stopped(MemoryR1Error):
    """Raised between two turns when the server ends: the rest of the job waits for the next start."""


class Erased(MemoryR1Error):
    """Raised between two turns when the job is no longer in the file: the rest of it must not be remembered."""


_Key = tuple[int, float]  # a job's number and when it came: SQLite gives the number of the last one anew
_THIS = "id = ? AND queued_at = ?"


class Inbox:
    """Jobs in the order they came, done one after another by one thread from `start` to `stop`.

    `remember(job, check)` does one; it calls `check` after each turn. While the model is down, or the bank or the
    inbox's own file cannot be written, jobs wait, and are tried again after `delay` seconds, then after twice as many.
    One that fails otherwise is set aside with its error, and the next is done.
    """

    def __init__(
        self, path: str | Path, remember: Callable[[Job, Callable[[], None]], None], *, delay: float = 1.0
    ) -> None:
        self._first_delay = delay
        self._database = Database(path, _TABLE)
        self._remember = remember
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._doing = threading.Lock()  # held while a job is done
        self._current: _Key | None = None  # that job; read and changed within the database's lock
        self._thread: threading.Thread | None = None

    def put(self, job: Job, *, wake: bool = True) -> int:
        """Keep a job; it is on the disk when this returns its number. It is begun at once, or at the next `wake`."""
        ids = job.scope.ids
        row = (
            *(ids.get(name) for name in ("user_id", "agent_id", "run_id")),
            json.dumps([_turn_state(turn) for turn in job.turns]),
            json.dumps(job.metadata),
            job.expires_at.timestamp() if job.expires_at else None,
            datetime.now(UTC).timestamp(),
        )
        with self._database() as db:
            number = db.execute(
                "INSERT INTO job (user_id, agent_id, run_id, turns, metadata, expires_at, queued_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            ).lastrowid
        assert number is not None
        if wake:
            self.wake()
        return number

    def wake(self) -> None:
        """Begin what waits."""
        self._wake.set()

    def waiting(self) -> int:
        return self._count("error IS NULL")

    def holds(self, scope: Scope) -> bool:
        """Whether something waits of the scope's home, whose turns are decided in order."""
        with self._database() as db:
            sql = "SELECT 1 FROM job WHERE error IS NULL AND coalesce(user_id, agent_id, run_id) = ? LIMIT 1"
            return db.execute(sql, (scope.home[1],)).fetchone() is not None

    def failed(self) -> int:
        """Jobs that were set aside."""
        return self._count("error IS NOT NULL")

    def erase(self, scope: Scope) -> None:
        """Drop what waits for a scope, so that what is purged next does not come back.

        A job that is being done ends after the turn under way, which is waited for.
        """
        where, values = scope_sql(scope)
        with self._database() as db:
            gone = db.execute(f"DELETE FROM job WHERE {where} RETURNING id, queued_at", values).fetchall()
            under_way = self._current in gone
        if under_way:
            with self._doing:
                pass

    @property
    def works(self) -> bool:
        """Whether nothing but `stop` has ended the thread that remembers."""
        return self._thread is None or self._thread.is_alive()

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._work, name="memory-r1-inbox", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 60.0) -> None:
        """End after the turn that is being remembered, or give it up after some seconds: it stays in the file."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def close(self) -> None:
        self._database.close()

    def _count(self, where: str) -> int:
        with self._database() as db:
            return int(db.execute(f"SELECT count(*) FROM job WHERE {where}").fetchone()[0])

    def _next(self) -> tuple[_Key, Job] | None:
        with self._database() as db:
            row = db.execute(
                "SELECT id, user_id, agent_id, run_id, turns, metadata, expires_at, queued_at FROM job "
                "WHERE error IS NULL ORDER BY id LIMIT 1"
            ).fetchone()
            self._current = None if row is None else (row[0], row[7])
        if row is None:
            return None
        turns = tuple(_turn(state) for state in json.loads(row[4]))
        expires_at = None if row[6] is None else datetime.fromtimestamp(row[6], UTC)
        return (row[0], row[7]), Job(turns, Scope(*row[1:4]), json.loads(row[5]), expires_at)

    def _work(self) -> None:
        delay = self._first_delay
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                with self._doing:
                    found = self._do_next()
            except Exception as error:  # noqa: BLE001 - of the file, too: whatever it is, the thread goes on
                log.warning("inbox: waits %.0f s: %s", delay, type(error).__name__)
                self._wake.wait(delay)  # what comes in tries again, too
                delay = min(2 * delay, LONGEST_DELAY)
                continue
            delay = self._first_delay
            if not found:
                self._wake.wait()

    def _do_next(self) -> bool:
        """Do the next job, or set it aside; whether there was one. What another try may do is raised."""
        found = self._next()
        if found is None:
            return False
        key, job = found
        try:
            self._remember(job, self._check)
        except (ModelError, BankBusy, BankFull) as error:
            if not isinstance(error, ModelRefused):
                raise
            self._set_aside(key, error)
        except Exception as error:  # noqa: BLE001 - a job that cannot be done must not hold up those behind it
            if self._stopping.is_set():  # the bank or the model may be closed by now: the job waits for the next start
                return True
            if not isinstance(error, Erased):
                self._set_aside(key, error)
        else:
            with self._database() as db:
                db.execute(f"DELETE FROM job WHERE {_THIS}", key)
        return True

    def _set_aside(self, key: _Key, error: Exception) -> None:
        log.error("inbox: job %d is set aside: %s", key[0], type(error).__name__)
        with self._database() as db:
            db.execute(f"UPDATE job SET error = ? WHERE {_THIS}", (f"{type(error).__name__}: {error}", *key))

    def _check(self) -> None:
        if self._stopping.is_set():
            raise Stopped
        with self._database() as db:
            if not db.execute(f"SELECT 1 FROM job WHERE {_THIS}", self._current or ()).fetchone():
                raise Erased


def with_ids(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns, each with an id: its own, or a new one."""
    made = uuid.uuid4().hex
    return tuple(turn if turn.id is not None else replace(turn, id=f"{made}-{i}") for i, turn in enumerate(turns))


def _turn_state(turn: Turn) -> dict[str, Any]:
    return {
        "speaker": turn.speaker,
        "text": turn.text,
        "time": turn.time.isoformat() if turn.time else None,
        "id": turn.id,
    }


def _turn(state: Mapping[str, Any]) -> Turn:
    time = datetime.fromisoformat(state["time"]) if state["time"] else None
    return Turn(state["speaker"], state["text"], time, state["id"])
