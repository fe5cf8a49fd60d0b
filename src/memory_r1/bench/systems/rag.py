"""LoCoMo's retrieval baseline: the dialogue's own turns, or its sessions, found by words, vectors or both.

No model reads the dialogue. Texts and constants are those that `bench retrieval` chose on the first two dialogues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from memory_r1.bank import MemoryBank
from memory_r1.bench.data import Dialogue, Question
from memory_r1.bench.retrieval import Mode, fill, keep
from memory_r1.bench.systems import Found
from memory_r1.bench.systems.plain import said
from memory_r1.embed import Embedder
from memory_r1.recall import estimated_tokens
from memory_r1.types import Scope

METHODS: Mapping[str, Mode] = {"bm25": "text", "dense": "vector", "hybrid": "hybrid", "kept": "hybrid"}


class Rag:
    """`method` ranks turns; with unit "session", a session ranks as its best turn and is shown whole.

    Method "kept" ranks as memory-r1 does turns that it keeps: a reply is also found by what it replies to.
    """

    repeatable = True

    def __init__(self, embedder: Embedder, method: str = "hybrid", unit: Literal["turn", "session"] = "turn") -> None:
        self.name = f"rag-{method}-{unit}s"
        self._mode: Mode = METHODS[method]
        self._kept = method == "kept"
        self._unit = unit
        self._embedder = embedder
        self._bank = MemoryBank(embedder=embedder)
        self._scope = Scope(user_id="nobody yet")
        self._shown: dict[str, Found] = {}
        self._session: dict[str, Found] = {}

    def read(self, dialogue: Dialogue, progress: Callable[[int], None]) -> None:
        self._bank.close()
        self._bank = MemoryBank(embedder=self._embedder)
        self._scope = Scope(user_id=dialogue.id)
        (keep if self._kept else fill)(self._bank, dialogue)
        self._shown = {one.turn: one for turn in dialogue.turns if (one := said(turn)).turn}
        self._session = {}
        for session in dialogue.sessions:
            turns = [said(turn) for turn in session.turns]
            ids = tuple(one.turn for one in turns if one.turn)
            whole = Found("\n".join(one.text for one in turns), session.time, None, next(iter(ids), None), turns=ids)
            self._session |= dict.fromkeys(ids, whole)
        progress(len(dialogue.turns))

    def find(self, question: Question, k: int) -> Sequence[Found]:
        """`k` turns, or as many whole sessions as `k` turns of mean length would fill (at least one)."""
        depth = k if self._unit == "turn" else len(self._shown)
        hits = self._bank.search(question.text, self._scope, depth, mode=self._mode, turns=self._kept)
        turns = [hit.entry.kept_turn or str(hit.entry.metadata["turn"]) for hit in hits]
        if self._unit == "turn":
            return [self._shown[turn] for turn in turns]
        sessions = list(dict.fromkeys(self._session[turn] for turn in turns))
        per_session = len(self._shown) / max(1, len(set(self._session.values())))
        return sessions[: max(1, round(k / per_session))]

    def stats(self) -> Mapping[str, Any]:
        tokens = sum(estimated_tokens(one.text) for one in self._shown.values())
        return {"entries": len(self._shown), "memory_tokens": tokens}

    def close(self) -> None:
        self._bank.close()
