"""The server's own small SQLite files: keys, and what waits to be remembered."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memory_r1.errors import BankError

BUSY_SECONDS = 10.0


class Database:
    """One SQLite file that only its owner may read; ":memory:" keeps nothing. Thread-safe."""

    def __init__(self, path: str | Path, table: str) -> None:
        self.path = str(path)
        self._lock = threading.RLock()
        if self.path != ":memory:":
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise BankError(
                    f"{self.path} cannot be opened ({error.strerror}): check its folder and owner"
                ) from error
        with self._translated():
            self._db = sqlite3.connect(self.path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {table}")

    @contextmanager
    def __call__(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone; each statement is a transaction."""
        with self._lock, self._translated():
            yield self._db

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise BankError(
                f"{self.path}: {error}; check that it is this server's file and the disk has room"
            ) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()
