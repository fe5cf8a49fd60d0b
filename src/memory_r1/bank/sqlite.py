"""MemoryBank: entries, their vectors, their words and every operation, in one SQLite file (or ":memory:").

Every change goes through `_writing`: one transaction that holds the entry, its vector, its words and the logged
operation, durable when the call returns. DELETE and UPDATE destroy nothing; `purge` alone erases.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank import schema
from memory_r1.bank.adding import NewEntry as NewEntry
from memory_r1.bank.adding import add_entries, new_states
from memory_r1.bank.embedding import Passages, check_embedder, record_embedder, replace_vectors
from memory_r1.bank.erasing import purge_one, purge_scope
from memory_r1.bank.filters import compile_filter
from memory_r1.bank.history import UNDONE_BY, check_undoable, not_yet_here, read_log, reversal, take_in
from memory_r1.bank.kept import KEPT_TURN, UNSAID, entry_keeping, standing, words_behind, words_of
from memory_r1.bank.quarantine import end, held, keep_apart
from memory_r1.bank.retrieval import Retriever
from memory_r1.bank.rows import ENTRY_COLUMNS, MEMORY, PUT, TURN, entry_of, moment, scope_sql, seconds
from memory_r1.bank.terms import term_codes
from memory_r1.bank.turns import (
    TurnProgress,
    check_undecided,
    is_remembered,
    note_facts,
    note_remembered,
    read_progress,
)
from memory_r1.bank.writes import (
    BY_HAND,
    change_entry,
    check_text,
    clean,
    copy_scope,
    fold,
    holds_only,
    log_operation,
    searched_text,
)
from memory_r1.embed import Embedder
from memory_r1.errors import Conflict, EntryNotFound, InvalidInput
from memory_r1.spans import Span, no_span
from memory_r1.types import Fact, Logged, MemoryEntry, Operation, Provenance, Retrieved, Scope, Turn

_NO_TURN = " AND kept_turn IS NULL"
_Check = Callable[[sqlite3.Connection], None]  # raises, within the transaction that would write, where it may not


def _unchecked(_: sqlite3.Connection) -> None:
    """Nothing forbids the write."""


class MemoryBank:
    """A memory bank. Thread-safe; several processes may open the same file.

    Raises EmbedderMismatch when the file's vectors come from another embedder, BankTooNew, BankCorrupt, BankFull
    and BankBusy where the file cannot be used, InvalidInput for text that cannot be stored.
    """

    def __init__(
        self,
        path: str | Path = ":memory:",
        *,
        embedder: Embedder,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        index_bytes: int = 1 << 30,
        span: Span = no_span,
    ) -> None:
        self.path = str(path)
        self._span = span
        self.embedder = embedder
        self._db = schema.connect(self.path)
        self._setup(now, index_bytes)
        try:
            self._check_embedder()
        except BaseException:
            self._db.close()
            raise

    def _setup(self, now: Callable[[], datetime], index_bytes: int) -> None:
        self._db.row_factory = sqlite3.Row
        self._now = now
        self._lock = threading.RLock()
        self._index_bytes = index_bytes
        self._begin_anew(self.embedder)
        self._recalled: dict[int, int] = {}

    def _begin_anew(self, embedder: Embedder) -> None:
        """Keep nothing in memory of what the file held until now."""
        self.embedder = embedder
        self._retriever = Retriever(embedder.dimension, self._index_bytes)
        self._passages = Passages(embedder)

    def _check_embedder(self) -> None:
        with self._reading() as db:
            known = db.execute("SELECT 1 FROM meta WHERE key = 'embedder'").fetchone()
        if not known:
            with self._writing() as db:
                record_embedder(db, self.embedder)
        with self._reading() as db:
            check_embedder(db, self.embedder, self.path)

    def now(self) -> datetime:
        """The bank's clock."""
        return self._now()

    # -- transactions ---------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot, so that what one call reads fits together whatever other processes write."""
        with self._lock, schema.translated_errors(self.path):
            if self._db.in_transaction:
                yield self._db
                return
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, schema.translated_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                if self._recalled:
                    self._write_recalls(self._db)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._recalled.clear()

    def _write_recalls(self, db: sqlite3.Connection) -> None:
        db.executemany(
            "INSERT INTO recall VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET times = times + excluded.times, last = excluded.last",
            [(key, times, seconds(self._now())) for key, times in self._recalled.items()],
        )

    # -- writing --------------------------------------------------------------------------------------------------

    def apply(
        self,
        operation: Operation,
        scope: Scope,
        *,
        metadata: Mapping[str, Any] | None = None,
        expires_at: datetime | None = None,
    ) -> Logged:
        """Carry out one decision and log it (NOOP too), in one durable transaction.

        An UPDATE takes the fact's event time where it has one, lasts as long as the longer of entry and fact, and
        merges `metadata` over what was there. Raises Conflict when the entry is no longer as `operation.entry` shows
        it, and AlreadyDecided when the fact at `operation.place` of its turn was decided before; then nothing is
        written.
        """
        with self._span("memory_r1.apply", **{"memory_r1.operation": operation.kind}):
            return self._apply(operation, scope, metadata, expires_at)

    def _apply(
        self,
        operation: Operation,
        scope: Scope,
        metadata: Mapping[str, Any] | None,
        expires_at: datetime | None,
    ) -> Logged:
        text = operation.text if operation.text is not None else operation.fact.text
        turn_id, place = operation.provenance.turn_id, operation.place

        def check(db: sqlite3.Connection) -> None:
            if turn_id is not None and place is not None:
                check_undecided(db, scope, turn_id, place)

        if operation.kind == "ADD":
            fact = operation.fact
            new = NewEntry(text, scope, fact.speaker, fact.event_time, expires_at, metadata, operation.provenance)
            return self._add([new], fact, check)[0]
        if operation.kind == "UPDATE":
            assert operation.entry is not None
            # What the entry told already lasts as long as it was to: an addition for a day does not end it.
            ends = (operation.entry.expires_at, expires_at)
            lasting = None if None in ends else max(filter(None, ends))
            changes: dict[str, Any] = {"text": text, "expires_at": seconds(lasting)}
            if operation.fact.event_time is not None:
                changes["event_time"] = seconds(operation.fact.event_time)
            if metadata:
                changes["metadata"] = {**operation.entry.metadata, **metadata}
            about = (operation.fact, operation.provenance)
            return self._change("UPDATE", operation.entry, changes, *about, told_in=scope, check=check)
        if operation.kind == "DELETE":
            assert operation.entry is not None
            gone = {"deleted_at": seconds(self._now())}
            about = (operation.fact, operation.provenance)
            return self._change("DELETE", operation.entry, gone, *about, told_in=scope, check=check)
        with self._writing() as db:
            check(db)
            related = operation.entry.id if operation.entry else None
            about = (operation.fact, operation.provenance)
            return log_operation(db, self._now(), "NOOP", related, scope, None, None, *about)

    def add_many(self, entries: Iterable[NewEntry]) -> list[Logged]:
        """Store entries as given, all in one transaction, each with its ADD in the log."""
        return self._add(list(entries), None)

    def store(self, entries: Sequence[NewEntry], apart: Sequence[bool]) -> list[Logged]:
        """Store entries as given, and keep those apart for which `apart` says so, all in one transaction.

        One logged operation each, in their order; none, and no entry, where `provenance.turn_id` names a turn that was
        remembered before in the entry's scope. A turn that was interrupted counts as remembered from now on.
        """
        with self._reading() as db:  # what was remembered before is not embedded again
            new = [
                (entry, held)
                for entry, held in zip(entries, apart, strict=True)
                if not is_remembered(db, entry.scope, entry.provenance.turn_id)
            ]
        if not new:
            return []
        now = self._now()
        states = new_states([entry for entry, _ in new], now)
        texts = [searched_text(entry.text, entry.speaker) for entry, held in new if not held]
        embedded = iter(self._passages.embed(texts))
        rows = [
            (entry, state, None if held else next(embedded)) for (entry, held), state in zip(new, states, strict=True)
        ]
        with self._writing() as db:
            check_embedder(db, self.embedder, self.path)
            rows = [row for row in rows if note_remembered(db, row[0].scope, row[0].provenance.turn_id)]
            kept = iter(keep_apart(db, now, [entry for entry, _, vector in rows if vector is None]))
            given = [(entry, state, vector) for entry, state, vector in rows if vector is not None]
            states, vectors = [state for _, state, _ in given], [vector for *_, vector in given]
            added = iter(add_entries(db, now, [entry for entry, *_ in given], states, vectors, None))
            return [next(kept if vector is None else added) for _, _, vector in rows]

    def update(self, entry_id: str, *, how: Provenance = BY_HAND, **changes: Any) -> Logged:
        """Change an entry by hand: any of text, metadata, event_time, expires_at (None removes the latter two).

        A new text, or an end, takes the words of turns that told it out, as `delete` does.
        """
        unknown = set(changes) - {"text", "metadata", "event_time", "expires_at"}
        if unknown:
            raise InvalidInput(f"an entry has no {sorted(unknown)}; text, metadata, event_time, expires_at can change")
        for name in ("event_time", "expires_at"):
            if name in changes:
                changes[name] = seconds(changes[name])
        corrected = "text" in changes or changes.get("expires_at") is not None
        return self._change("UPDATE", self.get(entry_id), changes, None, how, unsaid=lambda _: corrected)

    def delete(self, entry_id: str) -> Logged:
        """Remove an entry from what is so now. Its history stays and `undo` brings it back.

        The words of turns that told it go, too, where they are kept; that is logged for itself and undone for itself.
        """
        gone = {"deleted_at": seconds(self._now())}
        return self._change("DELETE", self.get(entry_id), gone, None, BY_HAND, unsaid=lambda _: True)

    def delete_all(self, scope: Scope) -> list[Logged]:
        """`delete` for every entry of a scope, kept turns too, in one transaction."""
        where, values = self._where(scope, None, show_expired=True)
        with self._writing() as db:
            rows = db.execute(f"SELECT {ENTRY_COLUMNS} FROM entry WHERE {where} ORDER BY key", values).fetchall()
            rows += standing(words_behind(db, rows))
            now = self._now()
            gone = {"deleted_at": seconds(now)}
            return [change_entry(db, now, "DELETE", row, gone, None, None, BY_HAND) for row in rows]

    def _add(self, entries: list[NewEntry], fact: Fact | None, check: _Check = _unchecked) -> list[Logged]:
        now = self._now()
        states = new_states(entries, now)
        vectors = self._passages.embed([searched_text(entry.text, entry.speaker) for entry in entries])
        with self._writing() as db:
            check_embedder(db, self.embedder, self.path)
            check(db)
            return add_entries(db, now, entries, states, vectors, fact)

    def _change(
        self,
        kind: str,
        seen: MemoryEntry,
        changes: Mapping[str, Any],
        fact: Fact | None,
        how: Provenance,
        undoes: int | None = None,
        told_in: Scope | None = None,
        unsaid: Callable[[sqlite3.Row], bool] = lambda _: False,
        check: _Check = _unchecked,
    ) -> Logged:
        """`unsaid`: which of the kept turns that told the entry go with it, so that it does not come back by them."""
        vector = None
        if "text" in changes:
            vector = self._passages.embed([searched_text(check_text(changes["text"]), seen.speaker)])[0]
        with self._writing() as db:
            check_embedder(db, self.embedder, self.path)
            check(db)
            row = db.execute(f"SELECT {ENTRY_COLUMNS} FROM entry WHERE id = ?", (seen.id,)).fetchone()
            if row is None or row["revision"] != seen.revision:
                raise Conflict(f"entry {seen.id} has been changed since it was read; read it again and decide anew")
            for kept in filter(unsaid, standing(words_behind(db, [row]))):
                gone = {"deleted_at": seconds(self._now())}
                change_entry(db, self._now(), "DELETE", kept, gone, None, None, UNSAID)
            return change_entry(db, self._now(), kind, row, changes, vector, fact, how, undoes, told_in)

    # -- quarantine -----------------------------------------------------------------------------------------------

    def keep_apart(self, entries: Sequence[NewEntry]) -> list[Logged]:
        """Keep what is suspicious out of the bank, durably: one QUARANTINE line each, in one transaction.

        Each needs `provenance.flags`; `provenance.reason` says whether it is to be stored as given or to be decided.
        """
        with self._writing() as db:
            return keep_apart(db, self._now(), entries)

    def held(self, scope: Scope | None = None, held_id: str | None = None) -> list[Logged]:
        """What is in quarantine, oldest first; with an id that one. Raises EntryNotFound when `scope` has it not."""
        with self._reading() as db:
            return held(db, scope, held_id)

    def release(self, held_id: str, entries: Sequence[NewEntry] = ()) -> tuple[Logged, list[Logged]]:
        """End a quarantine and add entries, in one transaction. Raises EntryNotFound when it has ended already."""
        now = self._now()
        states = new_states(entries, now)
        vectors = self._passages.embed([searched_text(entry.text, entry.speaker) for entry in entries])
        with self._writing() as db:
            check_embedder(db, self.embedder, self.path)
            ended = end(db, now, held_id, "RELEASE")
            return ended, add_entries(db, now, entries, states, vectors, None)

    def discard(self, held_id: str) -> Logged:
        """End a quarantine without remembering anything. The log keeps what it was until it is purged."""
        with self._writing() as db:
            return end(db, self._now(), held_id, "DISCARD")

    def flagged(self, scope: Scope | None = None) -> dict[str, tuple[str, ...]]:
        """Entry id -> why what it was made from reads like instructions for a model."""
        where, values = scope_sql(scope)
        with self._reading() as db:
            log = read_log(db, f"flags IS NOT NULL AND kind IN ('ADD', 'UPDATE') AND {where}", values)
        return {logged.entry_id: logged.provenance.flags for logged in log if logged.entry_id is not None}

    # -- turns ----------------------------------------------------------------------------------------------------

    def turn_progress(self, scope: Scope, turn_id: str) -> TurnProgress | None:
        """How far a turn has been remembered, or None when it is new."""
        with self._reading() as db:
            return read_progress(db, scope, turn_id)

    def begin_turn(
        self,
        scope: Scope,
        turn: Turn,
        facts: Sequence[Fact],
        *,
        keep: bool = False,
        metadata: Mapping[str, Any] | None = None,
        expires_at: datetime | None = None,
        flags: tuple[str, ...] = (),
    ) -> str | None:
        """Note the facts of a turn that has an id, so that an interruption resumes after the last one decided.

        `keep` keeps its words, too, in the same transaction, as an entry that no decision changes; of a turn that was
        begun before never. Returns the id of the entry that keeps them, where one does.
        """
        words, states, vectors = [], list[dict[str, Any]](), list[NDArray[np.float32]]()
        if keep:
            words = [words_of(turn, scope, metadata, expires_at, flags)]
            states = new_states(words, self._now())
            vectors = list(self._passages.embed([searched_text(one.text, one.speaker) for one in words]))
        with self._writing() as db:
            check_embedder(db, self.embedder, self.path)
            if turn.id is not None and not note_facts(db, scope, turn.id, facts):
                return entry_keeping(db, scope, turn.id)
            added = add_entries(db, self._now(), words, states, vectors, None)
            return added[0].entry_id if added else None

    def entry_keeping(self, scope: Scope, turn_id: str) -> str | None:
        """The id of the entry that keeps the words of a turn."""
        with self._reading() as db:
            return entry_keeping(db, scope, turn_id)

    def keeps_turns(self, scope: Scope) -> bool:
        """Whether there are kept turns in a scope that have not been taken out, nor expired."""
        where, values = self._where(scope, None, show_expired=False)
        sql = f"SELECT 1 FROM entry WHERE {where} AND kept_turn IS NOT NULL"
        if scope.user_id is not None:
            sql += " AND home = (SELECT id FROM home WHERE name = ? AND value = ?)"
            values += scope.home
        with self._reading() as db:
            return db.execute(sql + " LIMIT 1", values).fetchone() is not None

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, entry_id: str, scope: Scope | None = None) -> MemoryEntry:
        """The entry as it is now. Raises EntryNotFound when there is none, it was deleted, or is not in `scope`."""
        where, values = scope_sql(scope)
        with self._reading() as db:
            sql = f"SELECT {ENTRY_COLUMNS} FROM entry WHERE id = ? AND deleted_at IS NULL AND {where}"
            row = db.execute(sql, (entry_id, *values)).fetchone()
        if row is None:
            raise EntryNotFound(f"no memory entry {entry_id!r}; `history` still shows one that was deleted")
        return entry_of(row)

    def ids_beginning(self, characters: str) -> list[str]:
        """Ids of entries, deleted ones too, that begin so: what people type instead of a whole id."""
        with self._reading() as db:
            sql = "SELECT DISTINCT entry_id FROM operation WHERE substr(entry_id, 1, ?) = ? LIMIT 10"
            return [row[0] for row in db.execute(sql, (len(characters), characters))]

    def all(
        self,
        scope: Scope | None = None,
        *,
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        skip: int = 0,
        newest_first: bool = False,
        show_expired: bool = False,
        turns: bool = False,
    ) -> list[MemoryEntry]:
        """Entries in the order they were added. `scope=None` reads every scope: for the file's owner only.

        `turns`: kept turns, too.
        """
        where, values = self._where(scope, filters, show_expired)
        where += "" if turns else _NO_TURN
        with self._reading() as db:
            order = "key DESC" if newest_first else "key"
            sql = f"SELECT {ENTRY_COLUMNS} FROM entry WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
            return [entry_of(row) for row in db.execute(sql, (*values, -1 if limit is None else limit, skip))]

    def count(self, scope: Scope | None = None, *, turns: bool = False) -> int:
        where, values = self._where(scope, None, show_expired=True)
        where += "" if turns else _NO_TURN
        with self._reading() as db:
            return int(db.execute(f"SELECT count(*) FROM entry WHERE {where}", values).fetchone()[0])

    def scopes(self) -> list[tuple[Scope, int]]:
        """Every scope that has entries, kept turns included, with how many are none: for the file's owner."""
        sql = (
            "SELECT user_id, agent_id, run_id, sum(kept_turn IS NULL) FROM entry WHERE deleted_at IS NULL "
            "GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3"
        )
        with self._reading() as db:
            return [(Scope(*row[:3]), row[3]) for row in map(tuple, db.execute(sql))]

    def search(
        self,
        query: str,
        scope: Scope,
        k: int = 10,
        *,
        filters: Mapping[str, Any] | None = None,
        mode: Literal["hybrid", "vector", "text"] = "hybrid",
        per_speaker: bool = False,
        show_expired: bool = False,
        turns: bool = False,
    ) -> list[Retrieved]:
        """The `k` best entries for a question, best first; `per_speaker`: half for each when there are two.

        `turns`: among memories and kept turns, ranked as one.
        """
        vector = None if mode == "text" else self.embedder.embed([clean(query)], query=True)[0]
        terms = None if mode == "vector" else term_codes(query)
        kinds = (MEMORY, PUT, TURN) if turns else (MEMORY, PUT)
        found = self._nearest(vector, terms, scope, k, filters, per_speaker, show_expired, kinds=kinds)
        with self._lock:
            for key, _ in found:
                self._recalled[key] = self._recalled.get(key, 0) + 1
        return [retrieved for _, retrieved in found]

    def related(self, fact: Fact, scope: Scope, k: int = 5) -> list[MemoryEntry]:
        """The `k` entries nearest to a new fact: what the Memory Manager decides among. Not counted as a recall.

        Only entries of just this scope: what is told to all of a user's agents is not written into what belongs to
        one, where that agent's key reads it and purging its scope would take it along. And only of the same speaker,
        or of nobody: what one tells never overwrites what another told, as in the paper, where each speaker has a
        bank. Nothing that a program put as it is (a store's item, a message of a
        transcript), and no kept turn: no decision may change it.
        """
        text = searched_text(fact.text, fact.speaker)
        vector, terms = self._passages.embed([text])[0], term_codes(text)
        found = self._nearest(vector, terms, scope, k, of=(fact.speaker, None), exact=True, kinds=(MEMORY,))
        return [retrieved.entry for _, retrieved in found]

    def _nearest(
        self,
        vector: NDArray[np.float32] | None,
        terms: NDArray[np.uint32] | None,
        scope: Scope,
        k: int,
        filters: Mapping[str, Any] | None = None,
        per_speaker: bool = False,
        show_expired: bool = False,
        of: Sequence[str | None] | None = None,
        exact: bool = False,
        kinds: Sequence[int] = (MEMORY, PUT),
    ) -> list[tuple[int, Retrieved]]:
        narrowed = self._where(scope, filters, show_expired)
        now = -math.inf if show_expired else self._now().timestamp()
        with self._reading() as db:
            check_embedder(db, self.embedder, self.path)
            return self._retriever.nearest(
                db,
                vector,
                terms,
                scope,
                k,
                now,
                narrowed,
                bool(filters),
                per_speaker=per_speaker,
                of=of,
                exact=exact,
                kinds=kinds,
            )

    def _where(
        self, scope: Scope | None, filters: Mapping[str, Any] | None, show_expired: bool
    ) -> tuple[str, list[Any]]:
        """The entries that are so now, in a scope and a filter: the scope is ANDed outside whatever the filter says."""
        where, values = scope_sql(scope)
        where += " AND deleted_at IS NULL"
        if not show_expired:
            where += " AND (expires_at IS NULL OR expires_at > ?)"
            values.append(self._now().timestamp())
        if filters:
            sql, more = compile_filter(filters)
            where += f" AND ({sql})"
            values += more
        return where, values

    # -- history --------------------------------------------------------------------------------------------------

    def history(self, entry_id: str, scope: Scope | None = None) -> list[Logged]:
        """Every operation on an entry, oldest first. Raises EntryNotFound when the bank, or `scope`, never had it."""
        where, values = scope_sql(scope)
        with self._reading() as db:
            logged = read_log(db, f"entry_id = ? AND {where}", (entry_id, *values))
        if not logged:
            raise EntryNotFound(f"no memory entry {entry_id!r} has ever been in this bank")
        return logged

    def log(
        self,
        scope: Scope | None = None,
        *,
        until: datetime | None = None,
        before: int | None = None,
        last: int | None = None,
        turns: bool = True,
    ) -> list[Logged]:
        """The operation log, oldest first: all of it, or the `last` ones, of those with a number below `before`.

        `turns=False` leaves out what only kept a turn's words.
        """
        where, values = scope_sql(scope)
        if not turns:
            where += " AND reason IS NOT ?"
            values.append(KEPT_TURN)
        if until is not None:
            where += " AND time <= ?"
            values.append(seconds(until))
        if before is not None:
            where += " AND id < ?"
            values.append(before)
        with self._reading() as db:
            return read_log(db, where, values, last)

    def undo(self, operation_id: int, scope: Scope | None = None) -> Logged:
        """Reverse an operation by a new one. Raises Conflict when the entry has been changed since.

        Raises EntryNotFound for a number that is no operation, or with `scope` none of that scope.
        """
        where, values = scope_sql(scope)
        with self._reading() as db:
            found = read_log(db, f"id = ? AND {where}", (operation_id, *values))
            if not found:
                raise EntryNotFound(f"no operation {operation_id}; `memory-r1 history` lists them")
            logged = found[0]
            check_undoable(logged, read_log(db, "entry_id = ?", (logged.entry_id,)))
            row = db.execute(f"SELECT {ENTRY_COLUMNS} FROM entry WHERE id = ?", (logged.entry_id,)).fetchone()
        changes = reversal(logged, row["text"], seconds(self._now()))
        told = logged.provenance.said if logged.kind in ("ADD", "UPDATE") else None

        def unsaid(kept: sqlite3.Row) -> bool:
            return bool(kept["id"] == told)

        kind = UNDONE_BY[logged.kind]
        return self._change(kind, entry_of(row), changes, None, BY_HAND, undoes=operation_id, unsaid=unsaid)

    def as_of(self, time: datetime, scope: Scope | None = None) -> MemoryBank:
        """The bank as it was at a record time, as a bank in memory of its own."""
        then = time if time.tzinfo else time.replace(tzinfo=UTC)
        bank = MemoryBank(embedder=self.embedder, now=lambda: then)
        bank.restore(self.log(scope, until=time))
        return bank

    @classmethod
    def replay(cls, log: Iterable[Logged], embedder: Embedder) -> MemoryBank:
        """A bank in memory rebuilt from an operation log alone."""
        bank = cls(embedder=embedder)
        bank.restore(log)
        return bank

    def restore(self, log: Iterable[Logged]) -> int:
        """Take in another bank's log, and return how many entries came with it, deleted ones included.

        What this bank has already is left alone, so that restoring twice is restoring once.
        """
        with self._reading() as db:
            fresh = not_yet_here(db, list(log))
        states = fold(fresh)
        vectors = self._passages.embed([searched_text(state["text"], state["speaker"]) for state in states.values()])
        with self._writing() as db:
            check_embedder(db, self.embedder, self.path)
            take_in(db, fresh, states, vectors)
        return len(states)

    # -- copies, erasure, upkeep ----------------------------------------------------------------------------------

    def fork(self, scope: Scope | None = None) -> MemoryBank:
        """A cheap private copy in memory: what happens in it stays in it. With `scope`, of that scope alone."""
        with self._reading() as db:
            twin = MemoryBank.__new__(MemoryBank)
            twin.path, twin.embedder, twin._span = ":memory:", self.embedder, no_span
            if scope is None or holds_only(db, scope):
                twin._db = schema.copy_to_memory(db)
                twin._setup(self._now, self._index_bytes)
            else:
                twin._db = schema.connect(":memory:")
                twin._setup(self._now, self._index_bytes)
                with twin._writing() as copy:
                    copy_scope(db, copy, scope)
            twin._passages = self._passages.copy()
        return twin

    def purge(self, *, entry_id: str | None = None, scope: Scope | None = None) -> int:
        """Erase for good, and return how many entries: one, or all of a scope with its log, turns and pending facts.

        Text, vectors and log are gone from the file, its free pages and its write-ahead log; that something was
        purged stays in the log. Nothing brings it back, `undo` neither.
        """
        if (entry_id is None) == (scope is None):
            raise InvalidInput("purge one entry (entry_id=…) or one scope (scope=…)")
        with self._writing() as db:
            if scope is not None:
                keys = purge_scope(db, self._now(), scope)
            else:
                assert entry_id is not None
                keys = purge_one(db, self._now(), entry_id)
            for key in keys:
                self._recalled.pop(key, None)
            schema.note_erasing(db)
        self._erase_freed()
        return len(keys)

    def reset(self) -> None:
        """Erase everything, for good."""
        with self._writing() as db:
            for table in ("entry", "vector", "operation", "turn", "recall", "home"):
                db.execute(f"DELETE FROM {table}")
            self._recalled.clear()
            schema.note_erasing(db)
        self._erase_freed()

    def _erase_freed(self) -> None:
        with self._lock:
            self._begin_anew(self.embedder)
            with schema.translated_errors(self.path):
                schema.erase_freed_pages(self._db, self.path)

    def reembed(
        self, embedder: Embedder, *, batch: int = 256, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Replace every vector by `embedder`'s, in one transaction, and log it. Returns how many."""
        with self._writing() as db:
            count = replace_vectors(db, embedder, batch, progress)
            reason = f"{self.embedder.name} -> {embedder.name}"
            how = Provenance(reason=reason)
            log_operation(db, self._now(), "REEMBED", None, None, None, None, None, how)
        with self._lock:
            self._begin_anew(embedder)
        return count

    def vectors(self, entries: Sequence[MemoryEntry]) -> NDArray[np.float32]:
        """(entries, dimension) unit vectors of entries of this bank, in their order."""
        wanted = {entry.id: place for place, entry in enumerate(entries)}
        vectors = np.zeros((len(entries), self.embedder.dimension), dtype=np.float32)
        with self._reading() as db:
            for entry_id, blob in db.execute("SELECT id, vector FROM entry JOIN vector USING (key)"):
                if entry_id in wanted:
                    vectors[wanted[entry_id]] = np.frombuffer(blob, "<f4")
        return vectors

    def recalls(self, scope: Scope | None = None) -> dict[str, tuple[int, datetime]]:
        """Entry id -> (times recalled by a search, last time). Lost by a crash, not by closing."""
        with self._writing() as db:
            self._write_recalls(db)
            self._recalled.clear()
            where, values = scope_sql(scope)
            sql = f"SELECT id, times, last FROM recall JOIN entry USING (key) WHERE {where}"
            rows = db.execute(sql, values).fetchall()
        return {row["id"]: (row["times"], moment(row["last"]) or self._now()) for row in rows}

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when all is well."""
        with self._reading() as db:
            found = [row[0] for row in db.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        """Flush the recall counts and close the file. Closing twice is harmless."""
        with self._lock:
            try:
                if self._recalled:
                    with self._writing():
                        pass
            finally:
                self._recalled.clear()
                self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
