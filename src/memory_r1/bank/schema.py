"""The bank's file: numbered migrations, opening, and what SQLite's errors mean to a user.

docs/storage-format.md describes the tables for readers of the file.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from memory_r1.bank import filters
from memory_r1.bank.rows import NoTime
from memory_r1.errors import BankBusy, BankCorrupt, BankError, BankFull, BankTooNew, InvalidInput

log = logging.getLogger(__name__)

APPLICATION_ID = 0x4D52_3101  # "MR1" and a one: how `file` and we know a memory bank
BUSY_SECONDS = 60.0
_RESTORE = "restore it from a copy (memory-r1 export makes one)"


def m001_entries_and_operations(db: sqlite3.Connection) -> None:
    """What is so now, and every operation ever."""
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    # A home is the first id of a scope. The key of an entry is home << 32 | number, so that the rows of one
    # home lie together in the file. AUTOINCREMENT: an index cached for a home that was erased can never be taken
    # for that of a later one.
    db.execute(
        """CREATE TABLE home (
            id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, value TEXT NOT NULL,
            numbers INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0, rebuilt INTEGER NOT NULL DEFAULT 0,
            UNIQUE (name, value))"""
    )
    db.execute(
        """CREATE TABLE entry (
            key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, speaker TEXT,
            user_id TEXT, agent_id TEXT, run_id TEXT,
            created_at REAL NOT NULL, updated_at REAL NOT NULL, event_time REAL, expires_at REAL,
            metadata TEXT NOT NULL DEFAULT '{}', home INTEGER NOT NULL, revision INTEGER NOT NULL, deleted_at REAL)"""
    )
    db.execute("CREATE UNIQUE INDEX entry_by_revision ON entry (home, revision)")
    db.execute("CREATE INDEX entry_by_agent ON entry (agent_id) WHERE agent_id IS NOT NULL")
    db.execute("CREATE INDEX entry_by_run ON entry (run_id) WHERE run_id IS NOT NULL")
    db.execute("CREATE TABLE vector (key INTEGER PRIMARY KEY, terms BLOB NOT NULL, vector BLOB NOT NULL)")
    db.execute(
        """CREATE TABLE operation (
            id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, entry_id TEXT, time REAL NOT NULL,
            user_id TEXT, agent_id TEXT, run_id TEXT, before TEXT, after TEXT, fact TEXT, turn_id TEXT,
            model TEXT, adapter TEXT, prompt_version TEXT, logprob REAL, reason TEXT, undoes INTEGER)"""
    )
    db.execute("CREATE INDEX operation_by_entry ON operation (entry_id)")


def m002_turns_and_recalls(db: sqlite3.Connection) -> None:
    """How far each turn has been remembered (so that it can be resumed), and when entries were last recalled."""
    db.execute(
        """CREATE TABLE turn (
            scope TEXT NOT NULL, id TEXT NOT NULL, facts TEXT, decided INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (scope, id)) WITHOUT ROWID"""
    )
    db.execute("CREATE TABLE recall (key INTEGER PRIMARY KEY, times INTEGER NOT NULL, last REAL NOT NULL)")


def m003_flags(db: sqlite3.Connection) -> None:
    """Why what was said reads like instructions for a model. An older version would take what is quarantined for so."""
    db.execute("ALTER TABLE operation ADD COLUMN flags TEXT")
    db.execute("CREATE INDEX operation_flagged ON operation (id) WHERE flags IS NOT NULL")


def m004_kept_turns(db: sqlite3.Connection) -> None:
    """Entries that are turns, word for word. An older version would list them, and let the manager change them."""
    db.execute("ALTER TABLE entry ADD COLUMN kept_turn TEXT")
    db.execute("CREATE INDEX entry_kept ON entry (home, kept_turn) WHERE kept_turn IS NOT NULL")
    db.execute("ALTER TABLE operation ADD COLUMN said TEXT")
    db.execute("CREATE INDEX operation_said ON operation (said) WHERE said IS NOT NULL")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_entries_and_operations,
    m002_turns_and_recalls,
    m003_flags,
    m004_kept_turns,
)


@contextmanager
def translated_errors(path: str) -> Iterator[None]:
    """SQLite's errors as ours, each with its remedy."""
    try:
        yield
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidInput(f"half of a surrogate pair or a number of more than 64 bits: {error}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, NoTime) as error:
        raise BankCorrupt(f"{path} is damaged; {_RESTORE}: {error}") from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        if "binding parameter" in str(error):
            raise InvalidInput(f"an argument of a type that no database holds: {error}") from error
        if code.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE")):
            raise BankFull(f"the disk that holds {path} is full: nothing was written; free some space") from error
        if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            raise BankFull(f"{path} cannot be opened for writing: check that its folder exists and is yours") from error
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise BankBusy(f"another process has held {path} for {BUSY_SECONDS:.0f} s; try again") from error
        garbled = str(error).startswith(("Could not decode to UTF-8", "malformed JSON"))
        if garbled or code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise BankCorrupt(f"{path} is damaged or is not a memory bank; {_RESTORE}") from error
        raise BankError(f"{path}: {error}") from error


def connect(path: str) -> sqlite3.Connection:
    """Open (and create or migrate) the file, which nobody else may read. ":memory:" gives a private bank in memory."""
    _make_private(path)
    with translated_errors(path):
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _check_identity(db, path)
            if db.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
                db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA secure_delete=ON")  # builds of SQLite differ; what is purged is overwritten at once
            db.execute("PRAGMA synchronous=FULL")  # NORMAL loses acknowledged writes in a power cut
            filters.register(db)
            migrate(db, path)
            finish_erasing(db, path)
        except BaseException:
            db.close()
            raise
        return db


def _make_private(path: str) -> None:
    """Make a file that is not there readable by its owner alone; SQLite gives its log the same rights."""
    if path == ":memory:":
        return
    with suppress(OSError, ValueError):  # one that is there keeps its rights; what else is wrong, SQLite will say
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _check_identity(db: sqlite3.Connection, path: str) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID:
        return
    if application or db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise BankCorrupt(f"{path} is a database of another program, not a memory bank; choose another path")


def migrate(db: sqlite3.Connection, path: str, target: int = len(MIGRATIONS)) -> None:
    """Bring the file to version `target`, one transaction for all that is missing."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise BankTooNew(
            f"{path} was written by a later memory-r1 (format {version}, this one knows {len(MIGRATIONS)}): "
            "upgrade with `pip install -U memory-r1`"
        )
    if version >= target:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()  # another process may have been faster
        for migration in MIGRATIONS[version:target]:
            migration(db)
        if version < target:
            db.execute(f"PRAGMA user_version={target}")
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def copy_to_memory(db: sqlite3.Connection) -> sqlite3.Connection:
    """A private copy of the whole bank in memory, page by page: half a millisecond for 200 entries."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    db.backup(copy)
    filters.register(copy)
    return copy


def note_erasing(db: sqlite3.Connection) -> None:
    """In the transaction that deletes: what it frees stays readable in the file until `erase_freed_pages`."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('erasing', ?)", (uuid.uuid4().hex,))


def is_erasing(db: sqlite3.Connection) -> bool:
    """Whether something was purged whose traces in the file are still to be erased."""
    return db.execute("SELECT 1 FROM meta WHERE key = 'erasing'").fetchone() is not None


def erase_freed_pages(db: sqlite3.Connection, path: str) -> None:
    """Make deleted content unreadable: rewrite the file without free pages and empty the write-ahead log."""
    due = db.execute("SELECT value FROM meta WHERE key = 'erasing'").fetchone()
    db.execute("VACUUM")
    if path != ":memory:":
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise BankBusy(
                f"purged, but another process still reads {path}: close it, then purge again or open the bank anew "
                "to empty the log"
            )
    if due is not None:  # and not what another process has purged meanwhile
        db.execute("DELETE FROM meta WHERE key = 'erasing' AND value = ?", (due[0],))


def finish_erasing(db: sqlite3.Connection, path: str) -> None:
    """Erase what a purge freed that was cut short. Where that cannot be done now, it is left to the next opening."""
    if not is_erasing(db):
        return
    db.execute("PRAGMA busy_timeout=0")  # another process at work is no reason to wait: it may be the one that purges
    try:
        with translated_errors(path):
            erase_freed_pages(db, path)
    except BankError as error:  # in use, full or damaged: whoever opens the bank to read it still may
        told = "another process has it open" if isinstance(error, BankBusy) else error
        log.warning(
            "%s: traces of what was purged are still in the file (%s); the next opening tries again", path, told
        )
    finally:
        db.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
