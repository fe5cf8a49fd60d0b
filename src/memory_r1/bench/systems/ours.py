"""memory-r1 itself: the product's own `remember` on a file per dialogue, and its own retrieval."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from memory_r1.answer import retrieve
from memory_r1.bank import MemoryBank
from memory_r1.bank.kept import words_of
from memory_r1.bank.terms import words
from memory_r1.bench.data import Dialogue, Question
from memory_r1.bench.statistics import quantiles
from memory_r1.bench.systems import Found
from memory_r1.embed import Embedder
from memory_r1.flow import LLM, run
from memory_r1.manager import RELATED, UNREADABLE, remember
from memory_r1.recall import estimated_tokens
from memory_r1.types import KINDS, Logged, MemoryEntry, Prompt, Reply, Scope

_EVERY = 10  # turns between two points of the curves


def bank_file(folder: Path, dialogue: str) -> Path:
    """Where the bank of a dialogue lies in a run's folder of banks, whatever the dialogue is called."""
    return folder / f"{quote(dialogue, safe=' ')}.db"


class AddsOnly:
    """A model as it is, but for the Memory Manager, in whose place every fact is added: memory that never changes."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        replies = iter(self._llm.complete([prompt for prompt in prompts if prompt.step != "manage"]))
        return [Reply('{"operation": "ADD"}') if prompt.step == "manage" else next(replies) for prompt in prompts]


class Timed:
    """A model, and how long its replies took, by step."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self.seconds: dict[str, list[float]] = {}

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        start = time.perf_counter()
        replies = self._llm.complete(prompts)
        for prompt in prompts:
            self.seconds.setdefault(prompt.step, []).append((time.perf_counter() - start) / len(prompts))
        return replies


class MemoryR1:
    """Banks are kept in `folder`, so that reading goes on after the last turn that was remembered.

    `keep_turns`: what was said is kept beside the memories, and both are found; also beside those of a bank that was
    read without. `adds_only`: no manager is asked.
    """

    repeatable = True  # it goes on where it stopped

    def __init__(
        self,
        llm: LLM,
        embedder: Embedder,
        folder: Path,
        *,
        name: str = "memory-r1",
        related: int = RELATED,
        keep_turns: bool = False,
        adds_only: bool = False,
    ) -> None:
        self.name = name
        self._keep_turns = keep_turns
        self._timed, self._embedder, self._folder, self._related = Timed(llm), embedder, folder, related
        self._llm: LLM = AddsOnly(self._timed) if adds_only else self._timed
        self._bank: MemoryBank | None = None
        self._scope = Scope(user_id="nobody yet")
        self._turns_of: dict[str, str] = {}
        self._log: list[Logged] = []
        self._order: dict[str, int] = {}
        self._before = 0

    def read(self, dialogue: Dialogue, progress: Callable[[int], None]) -> None:
        self.close()
        self._timed.seconds.clear()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._bank = MemoryBank(bank_file(self._folder, dialogue.id), embedder=self._embedder)
        self._scope = Scope(user_id=dialogue.id)
        remembered = [turn for turn in dialogue.turns if self._remembers(turn.id)]
        self._before = len(remembered)
        if self._keep_turns:
            silent = [turn for turn in remembered if turn.id and not self._bank.entry_keeping(self._scope, turn.id)]
            self._bank.add_many(words_of(turn, self._scope) for turn in silent if words(turn.text))
        for number, turn in enumerate(dialogue.turns, 1):
            run(remember(turn, self._bank, self._scope, k=self._related, keep_turn=self._keep_turns), self._llm)
            progress(number)
        self._log = self._bank.log(self._scope, turns=False)
        self._order = {turn.id: number for number, turn in enumerate(dialogue.turns, 1) if turn.id}
        written = [one for one in self._log if one.kind in ("ADD", "UPDATE") and one.entry_id]
        self._turns_of = {str(one.entry_id): one.provenance.turn_id for one in written if one.provenance.turn_id}

    def _remembers(self, turn: str | None) -> bool:
        """Whether an earlier sitting, which was interrupted, remembered the turn."""
        progress = self._bank.turn_progress(self._scope, turn) if self._bank is not None and turn is not None else None
        return progress is not None and progress.done

    def find(self, question: Question, k: int) -> Sequence[Found]:
        """The search of `ask`. `turn` is the one that wrote an entry last."""
        assert self._bank is not None, "read a dialogue first"
        hits = retrieve(question.text, self._bank, self._scope, k)
        return [
            Found(one.text, one.event_time, one.speaker, one.kept_turn or self._turns_of.get(one.id), hit.score)
            for hit in hits
            for one in [hit.entry]
        ]

    def stats(self) -> Mapping[str, Any]:
        assert self._bank is not None, "read a dialogue first"
        entries = self._bank.all(self._scope, turns=True)
        reasons = Counter(one.provenance.reason for one in self._log)
        return {
            "entries": len(entries),
            "kept_turns": sum(entry.kept_turn is not None for entry in entries),
            "remembered_before": self._before,
            "memory_tokens": sum(estimated_tokens(entry.text) for entry in entries),
            "written": self._written(entries),
            "operations": {kind: sum(one.kind == kind for one in self._log) for kind in KINDS},
            "unreadable": sum(reasons[reason] for reason in UNREADABLE),
            "reasons": {str(reason): count for reason, count in reasons.most_common() if reason},
            "over_time": self._over_time(),
            "step_seconds": {step: quantiles(seconds) for step, seconds in self._timed.seconds.items()},
        }

    def _written(self, entries: Sequence[MemoryEntry]) -> list[str]:
        """The turns that wrote last what the bank holds, in order: those that `find` can name."""
        writers = {entry.kept_turn or self._turns_of.get(entry.id) for entry in entries} - {None}
        return sorted(filter(None, writers), key=lambda turn: self._order[turn])

    def _over_time(self) -> list[dict[str, int]]:
        """Operations and memories, without kept turns, by turn: how the bank grew."""
        by_turn: dict[int, list[str]] = {}
        for one in self._log:
            by_turn.setdefault(self._order.get(one.provenance.turn_id or "", 0), []).append(one.kind)
        counts: Counter[str] = Counter()
        points: list[dict[str, int]] = []
        last = max(self._order.values(), default=0)
        for number in range(last + 1):
            counts.update(by_turn.get(number, ()))
            if number and (number % _EVERY == 0 or number == last):
                kinds: dict[str, int] = {kind: counts[kind] for kind in KINDS}
                points.append({"turn": number, "entries": counts["ADD"] - counts["DELETE"], **kinds})
        return points

    def close(self) -> None:
        if self._bank is not None:
            self._bank.close()
            self._bank = None
