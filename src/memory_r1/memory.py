"""Memory: the face that agent builders use. One local file, no key, no server.

Names, arguments and results follow Mem0's (1.x keywords and 2.x filters), so that code written for it runs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs

from memory_r1 import transfer
from memory_r1.answer import RETRIEVED, ask, retrieve
from memory_r1.bank.adding import AS_GIVEN
from memory_r1.bank.filters import split_scope
from memory_r1.bank.quarantine import as_given, check_turn_id, released_turn
from memory_r1.bank.rows import moment
from memory_r1.bank.sqlite import MemoryBank, NewEntry
from memory_r1.bank.writes import BY_HAND, check_text
from memory_r1.dates import parse_time, zoned_time
from memory_r1.embed import Embedder, default_embedder
from memory_r1.errors import EntryNotFound, InvalidInput, Suspicious
from memory_r1.flow import LLM, Roles, run
from memory_r1.manager import remember
from memory_r1.messages import Messages, turns_of
from memory_r1.recall import fenced, without_recall
from memory_r1.results import added, entry_dict, found_dict, held_dict, operation_dict
from memory_r1.scrub import Scrubber
from memory_r1.spans import Span, WatchedLLM, no_span
from memory_r1.suspicion import suspicions
from memory_r1.types import Answer, Logged, Provenance, Scope, Step, Turn

When = str | int | float | datetime
OnSuspicion = Literal["allow", "flag", "quarantine"]
_TO_DECIDE = Provenance(reason="to be decided")
_UNSET: Any = object()


class Memory:
    """Long-term memory in one file.

    `path` defaults to a file in the platform's data folder; ":memory:" keeps nothing. `llm` and `embedder` default
    to the embedded models, loaded at first use. `adapters` are LoRA files for the embedded model by step ("extract",
    "manage", "answer"); a step that none is given for plays with the trained one that comes with memory-r1, where
    there is one and unless `untrained`. `suspicious` is what becomes of texts that read like instructions for a model
    (suspicion.py): "flag" notes why in the log, "quarantine" keeps them apart until `release`, "allow" does not look.
    `scrub` replaces secrets and personal identifiers before a model, a log or the disk has them. `keep_turns` keeps
    what is said word for word beside the memories made of it; `answer` and `context` find both where both are there.
    `span` watches what takes how long (telemetry.py).

    Every method that reads or writes memories needs at least one of user_id,
    agent_id and run_id, as a keyword or at the top level of `filters`.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        llm: LLM | None = None,
        embedder: Embedder | None = None,
        adapters: Mapping[Step, str | Path] | None = None,
        untrained: bool = False,
        suspicious: OnSuspicion = "flag",
        scrub: Scrubber | None = None,
        keep_turns: bool = False,
        span: Span = no_span,
    ) -> None:
        if llm is not None and adapters:
            raise InvalidInput("adapters belong to the embedded model: give them to your own llm instead")
        if suspicious not in OnSuspicion.__args__:  # type: ignore[attr-defined]
            raise InvalidInput(f'suspicious is "allow", "flag" or "quarantine", not {suspicious!r}')
        self.suspicious = suspicious
        self.scrub = scrub
        self.keep_turns = keep_turns
        self.span = span
        chosen = embedder or default_embedder()
        self.bank = MemoryBank(default_path() if path is None else path, embedder=chosen, span=span)
        self._llm = llm
        self._adapters = {step: Path(path) for step, path in (adapters or {}).items()}
        self._untrained = untrained
        self._roles: Roles | None = None
        self._lock = threading.RLock()
        self._writers: dict[str, threading.Lock] = {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From a Mem0-style dict: {"llm": {"provider", "config"}, "embedder": …, "path" or "vector_store": …}."""
        from memory_r1.config import parts_from_config

        return cls(**parts_from_config(config))

    @property
    def _watched(self) -> LLM:
        return WatchedLLM(self.llm, self.span)

    @property
    def llm(self) -> Roles:
        """The models by step, with what they have cost (`llm.usage`)."""
        with self._lock:
            if self._roles is None:
                llm = self._llm or _embedded_llm(self._adapters, self._untrained)
                self._roles = llm if isinstance(llm, Roles) else Roles(llm)
            return self._roles

    # -- writing --------------------------------------------------------------------------------------------------

    def add(
        self,
        messages: Messages,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: When | None = None,
        expiration_date: When | None = None,
        infer: bool = True,
        dry_run: bool = False,
        progress: Callable[[int, list[Logged]], None] | None = None,
    ) -> dict[str, Any]:
        """Remember messages: a text, {"role", "content"} dicts, Turns, or a list of these.

        Returns {"results": [{"id", "memory", "event", …}], "unreadable": n}: what each fact did, with
        "previous_memory" for UPDATE and DELETE, and "scrubbed": {"email": 1} where something was replaced.
        `infer=False` stores each message as given, without a model. A message with an "id" that was remembered before,
        either way, does nothing and has no result. `dry_run=True` returns what would happen and changes nothing.
        `timestamp` is when it was said (default: now). `progress(turns_done, operations)` is called after each turn,
        and with `infer=False` once.
        """
        scope = Scope(user_id, agent_id, run_id)
        time = self.bank.now() if timestamp is None else zoned_time(timestamp)
        turns, metadata, scrubbed = self.scrubbed(turns_of(messages, time), metadata)
        expires_at = None if expiration_date is None else parse_time(expiration_date)
        bank = self.bank.fork(scope) if dry_run else self.bank
        logged: list[Logged] = []
        if not infer:
            logged = self._store(turns, bank, scope, metadata, expires_at)
            if progress:
                progress(len(turns), logged)
        else:
            with self._one_writer(scope):
                for done, turn in enumerate(turns, 1):
                    told = self._remember(turn, bank, scope, metadata, expires_at)
                    logged += told
                    if progress:
                        progress(done, told)
        return added(logged, scrubbed)

    def add_many(
        self,
        items: Iterable[Messages],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        infer: bool = True,
        progress: Callable[[int, list[Logged]], None] | None = None,
    ) -> dict[str, Any]:
        """`add` for many items. With `infer=False` all in one transaction (thousands a second).

        Turns that carry an id are remembered once: after an interruption, call it again with the same items.
        `progress(turns_done, operations)` is called after each turn.
        """
        scope = Scope(user_id, agent_id, run_id)
        now = self.bank.now()
        said = [turn for item in items for turn in turns_of(item, now)]
        turns, metadata, scrubbed = self.scrubbed(said, metadata)
        if not infer:
            return added(self._store(turns, self.bank, scope, metadata), scrubbed)
        logged: list[Logged] = []

        def collect(done: int, _: Turn, operations: list[Logged]) -> None:
            logged.extend(operations)
            if progress:
                progress(done, operations)

        self.remember_turns(turns, scope, metadata=metadata, progress=collect)
        return added(logged, scrubbed)

    def remember_turns(
        self,
        turns: Sequence[Turn],
        scope: Scope,
        *,
        metadata: Mapping[str, Any] | None = None,
        progress: Callable[[int, Turn, list[Logged]], None] | None = None,
    ) -> None:
        """Remember turns in order. `progress(turns done, turn, its operations)` is called after each.

        Turns with an id that were remembered before cost nothing, so that an interrupted call can be repeated.
        """
        for turn in turns:
            check_turn_id(turn.id)
        clean, metadata, _ = self.scrubbed(turns, metadata)
        with self._one_writer(scope):
            for done, turn in enumerate(clean, 1):
                operations = self._remember(turn, self.bank, scope, metadata)
                if progress:
                    progress(done, turn, operations)

    def scrubbed(
        self, turns: Sequence[Turn], metadata: Mapping[str, Any] | None = None
    ) -> tuple[list[Turn], Mapping[str, Any] | None, Counter[str]]:
        """Turns and metadata as they may be kept, and how many of each kind were replaced. Ids are left as they are."""
        if self.scrub is None:
            return list(turns), metadata, Counter()
        cleaned, found = [], Counter[str]()
        for turn in turns:
            (speaker, one), (text, other) = self.scrub(turn.speaker), self.scrub(turn.text)
            cleaned.append(replace(turn, speaker=speaker, text=text))
            found += one + other
        clean_metadata, more = self.scrub.value(metadata)
        return cleaned, clean_metadata, found + more

    def _asked(self, question: str) -> str:
        """A question as a model or an embedder may have it."""
        _check_question(question)
        return question if self.scrub is None else self.scrub(question)[0]

    def _store(
        self,
        turns: Sequence[Turn],
        bank: MemoryBank,
        scope: Scope,
        metadata: Mapping[str, Any] | None,
        expires_at: datetime | None = None,
    ) -> list[Logged]:
        """Store turns as given, but for those that are kept apart, and none that was remembered before."""
        new = []
        for turn in turns:
            flags = self._flags(turn.speaker, turn.text)
            how = replace(AS_GIVEN, turn_id=turn.id, flags=flags)
            new.append(NewEntry(turn.text, scope, turn.speaker, turn.time, expires_at, metadata, how))
        return bank.store(new, [bool(one.provenance.flags) and self.suspicious == "quarantine" for one in new])

    def _remember(
        self,
        turn: Turn,
        bank: MemoryBank,
        scope: Scope,
        metadata: Mapping[str, Any] | None,
        expires_at: datetime | None = None,
    ) -> list[Logged]:
        """Remember a turn, or keep it apart before a model sees it."""
        flags = self._flags(turn.speaker, without_recall(turn.text))
        known = flags and turn.id is not None and bank.turn_progress(scope, turn.id) is not None
        if flags and not known and self.suspicious == "quarantine":
            how = replace(_TO_DECIDE, turn_id=turn.id, flags=flags)
            return bank.keep_apart([NewEntry(turn.text, scope, turn.speaker, turn.time, expires_at, metadata, how)])
        with self.span("memory_r1.remember") as note:
            logged = self._decide(turn, bank, scope, metadata, expires_at, flags)
            note({"memory_r1.operations": len(logged)})
        return logged

    def _decide(
        self,
        turn: Turn,
        bank: MemoryBank,
        scope: Scope,
        metadata: Mapping[str, Any] | None,
        expires_at: datetime | None,
        flags: tuple[str, ...],
    ) -> list[Logged]:
        carried: dict[str, Any] = {"metadata": metadata, "expires_at": expires_at, "flags": flags}
        return run(remember(turn, bank, scope, **carried, keep_turn=self.keep_turns), self._watched)

    def _flags(self, *texts: str) -> tuple[str, ...]:
        return () if self.suspicious == "allow" else suspicions(*texts)

    def update(
        self,
        memory_id: str,
        data: str | None = None,
        *,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: Any = _UNSET,
    ) -> dict[str, Any]:
        """Change an entry by hand. `data` is Mem0 1.x's name for `text`. Raises EntryNotFound.

        Raises Suspicious for a text that would be kept apart if it were added.
        """
        changes: dict[str, Any] = {}
        new = text if text is not None else data
        scrubbed: Counter[str] = Counter()
        if new is not None:
            changes["text"] = check_text(new)
        if metadata is not None:
            changes["metadata"] = metadata
        if self.scrub is not None:
            changes, scrubbed = self.scrub.value(changes)
        if expiration_date is not _UNSET:
            changes["expires_at"] = None if expiration_date is None else parse_time(expiration_date)
        if not changes:
            raise InvalidInput("nothing to update: give text, metadata or expiration_date")
        flags = self._flags(changes["text"]) if new is not None else ()
        if flags and self.suspicious == "quarantine":
            raise Suspicious(
                f"the text reads like instructions for a model ({', '.join(flags)}); add it for a person to see"
            )
        logged = self.bank.update(memory_id, how=replace(BY_HAND, flags=flags), **changes)
        done = {"message": "Memory updated successfully!", "operation": logged.id}
        return {**done, "scrubbed": dict(scrubbed)} if scrubbed else done

    def delete(self, memory_id: str) -> dict[str, Any]:
        """Remove an entry; its history stays and `undo(result["operation"])` brings it back. Raises EntryNotFound."""
        return {"message": "Memory deleted successfully!", "operation": self.bank.delete(memory_id).id}

    def delete_all(
        self, *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> dict[str, Any]:
        """Remove every entry of a scope, in one transaction; each stays undoable."""
        gone = self.bank.delete_all(Scope(user_id, agent_id, run_id))
        return {"message": "Memories deleted successfully!", "count": len(gone)}

    def undo(self, operation_id: int) -> dict[str, Any]:
        """Reverse one logged operation. Raises Conflict when the entry has been changed since."""
        return operation_dict(self.bank.undo(operation_id))

    def purge(
        self,
        memory_id: str | None = None,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> int:
        """Erase one entry, or a whole scope, for good: text, vectors, log, free pages. Returns how many entries."""
        given = memory_id is None or any(value is not None for value in (user_id, agent_id, run_id))
        return self.bank.purge(entry_id=memory_id, scope=Scope(user_id, agent_id, run_id) if given else None)

    def reset(self) -> None:
        """Erase everything in the file, for good."""
        self.bank.reset()

    # -- quarantine -----------------------------------------------------------------------------------------------

    def quarantined(
        self, *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> dict[str, Any]:
        """What is kept apart in a scope, oldest first: {"results": [{"id", "memory", "flags", …}]}."""
        held = self.bank.held(Scope(user_id, agent_id, run_id))
        return {"results": [held_dict(logged) for logged in held]}

    def release(self, quarantine_id: str) -> dict[str, Any]:
        """Remember what was kept apart, as it was to be, and return what `add` returns. Raises EntryNotFound.

        A release that was interrupted is repeated by calling it again; nothing is remembered twice.
        """
        (held,) = self.bank.held(None, quarantine_id)
        state, scope, how = held.after, held.scope, held.provenance
        assert state is not None
        assert scope is not None
        turn = Turn(state["speaker"], state["text"], moment(state["event_time"]), released_turn(quarantine_id))
        expires_at = moment(state["expires_at"])
        if as_given(how):
            how = replace(AS_GIVEN, turn_id=turn.id, flags=how.flags)
            new = NewEntry(turn.text, scope, turn.speaker, turn.time, expires_at, state["metadata"], how)
            return added(self.bank.release(quarantine_id, [new])[1])
        with self._one_writer(scope):
            logged = self._decide(turn, self.bank, scope, state["metadata"], expires_at, how.flags)
            self.bank.release(quarantine_id)
        return added(logged)

    def discard(self, quarantine_id: str) -> dict[str, Any]:
        """Never remember what was kept apart. The log keeps its words; `purge` erases them. Raises EntryNotFound."""
        return {"message": "Discarded.", "operation": self.bank.discard(quarantine_id).id}

    # -- reading --------------------------------------------------------------------------------------------------

    def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
        top_k: int | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        as_of: When | None = None,
        show_expired: bool = False,
        turns: bool = False,
    ) -> dict[str, Any]:
        """The best entries for a query (default 20): {"results": [{"id", "memory", "score", …}]}, best first.

        `score` is the fused rank in 0..1 and `similarity` the cosine; `threshold` drops lower scores. `as_of` searches
        the bank as it was at that (record) time. `turns` finds kept turns, too. Mem0 1.x calls `top_k` `limit`.
        """
        scope, rest = split_scope(filters, user_id=user_id, agent_id=agent_id, run_id=run_id)
        k = how_many(limit, top_k, 20)
        query = self._asked(query)
        if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
            raise InvalidInput(f"threshold must be a number from 0 to 1, not {threshold!r}")
        with self.span("memory_r1.search") as note, self._bank_at(as_of, scope) as bank:
            found = bank.search(query, scope, k, filters=rest, show_expired=show_expired, turns=turns)
            note({"memory_r1.found": len(found)})
        return {"results": [found_dict(item) for item in found if threshold is None or item.score >= threshold]}

    def answer(
        self,
        question: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Mapping[str, Any] | None = None,
        top_k: int = RETRIEVED,
        as_of: When | None = None,
        least_certainty: float = 0.0,
    ) -> Answer:
        """Ask the Answer Agent: a brief answer, what was retrieved, and the entries it kept (`used`).

        An answer of less `certainty` than `least_certainty`, 0 to 1, becomes that it does not know.
        """
        if not 0 <= least_certainty <= 1:
            raise InvalidInput(f"least_certainty is a probability, 0 to 1, not {least_certainty}")
        scope, rest = split_scope(filters, user_id=user_id, agent_id=agent_id, run_id=run_id)
        question = self._asked(question)
        k = how_many(None, top_k, RETRIEVED)
        with self.span("memory_r1.ask") as note, self._bank_at(as_of, scope) as bank:
            asked = ask(question, bank, scope, k=k, filters=rest, least_certainty=least_certainty)
            answer = run(asked, self._watched)
            note({"memory_r1.retrieved": len(answer.retrieved), "memory_r1.kept": len(answer.used)})
        return answer

    def context(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Mapping[str, Any] | None = None,
        max_tokens: int = 1000,
    ) -> str:
        """The best entries for a query as a fenced block for another model's prompt; "" when there are none.

        At most `max_tokens` (a safe estimate). Messages that quote the block are remembered without it.
        """
        scope, rest = split_scope(filters, user_id=user_id, agent_id=agent_id, run_id=run_id)
        query = self._asked(query)
        how_many(None, max_tokens, 0, "max_tokens")
        with self.span("memory_r1.context") as note:
            found = retrieve(query, self.bank, scope, filters=rest)
            note({"memory_r1.found": len(found)})
        return fenced([item.entry for item in found], max_tokens)

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """One entry, or None."""
        try:
            return entry_dict(self.bank.get(memory_id))
        except EntryNotFound:
            return None

    def get_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
        top_k: int | None = None,
        skip: int = 0,
        newest_first: bool = False,
        filters: Mapping[str, Any] | None = None,
        as_of: When | None = None,
        show_expired: bool = False,
        turns: bool = False,
    ) -> dict[str, Any]:
        """Every entry of a scope, oldest first: {"results": [{"id", "memory", …}]}. `skip` leaves the first out.

        `turns` gives kept turns, too, each with its "turn_id".
        """
        scope, rest = split_scope(filters, user_id=user_id, agent_id=agent_id, run_id=run_id)
        k = None if limit is None and top_k is None else how_many(limit, top_k, 0)
        with self._bank_at(as_of, scope) as bank:
            found = bank.all(
                scope,
                filters=rest,
                limit=k,
                skip=skip,
                newest_first=newest_first,
                show_expired=show_expired,
                turns=turns,
            )
        return {"results": [entry_dict(entry) for entry in found]}

    def history(self, memory_id: str) -> list[dict[str, Any]]:
        """Every operation on an entry, oldest first. Raises EntryNotFound when the bank never had it."""
        return [operation_dict(logged) for logged in self.bank.history(memory_id)]

    # -- whole banks ----------------------------------------------------------------------------------------------

    def export(
        self, *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> Iterator[str]:
        """JSON lines that rebuild the bank, history and all; of one scope, or without arguments of the whole file."""
        given = any(value is not None for value in (user_id, agent_id, run_id))
        return transfer.export_lines(self.bank, Scope(user_id, agent_id, run_id) if given else None)

    def import_(self, lines: Iterable[str]) -> int:
        """Take in what `export` wrote and return how many entries came; those that are here already are left alone.

        Raises InvalidInput where texts are scrubbed: a log is taken in as it is, or not at all.
        """
        if self.scrub is not None:
            raise InvalidInput("an export is taken in as it is: open the memory without scrub for it")
        return transfer.import_lines(self.bank, lines)

    def close(self) -> None:
        """Close the file and free the embedded model."""
        self.bank.close()
        with self._lock:
            if self._llm is None and self._roles is not None:
                closing = getattr(self._roles.default, "close", None)
                if closing:
                    closing()
            self._roles = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _one_writer(self, scope: Scope) -> Iterator[None]:
        """Facts of one home are decided one after another, so that each sees what the last one changed."""
        with self._lock:
            lock = self._writers.setdefault(repr(scope.home), threading.Lock())
        with lock:
            yield

    @contextmanager
    def _bank_at(self, as_of: When | None, scope: Scope) -> Iterator[MemoryBank]:
        if as_of is None:
            yield self.bank
        else:
            with self.bank.as_of(parse_time(as_of), scope) as bank:
                yield bank


def _embedded_llm(adapters: Mapping[Step, Path], untrained: bool) -> LLM:
    from memory_r1.adapters import playing  # these are slow to import, and only the default needs them
    from memory_r1.llm.embedded import EmbeddedLLM
    from memory_r1.weights import CATALOGUE, DEFAULT, pull

    return EmbeddedLLM(pull(DEFAULT), adapters=playing(CATALOGUE[DEFAULT], adapters, untrained=untrained))


def default_path() -> Path:
    """Where memory lies when nobody says: a file in the platform's data folder, which is made if need be."""
    return platformdirs.user_data_path("memory-r1", appauthor=False, ensure_exists=True) / "memory.db"


def _check_question(text: object) -> None:
    if isinstance(text, str) and not text.strip():
        raise InvalidInput("the question is empty: say what to look for")
    check_text(text)


def how_many(limit: int | None, top_k: int | None, default: int, name: str = "top_k") -> int:
    k = top_k if top_k is not None else limit if limit is not None else default
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InvalidInput(f"{name} must be a whole number from 1, not {k!r}")
    return min(k, 2**31)
