"""Whole segments of a dialogue as episodes, and single decisions of them played again from snapshots of the bank.

    the bank before ─┬─ rollout 1: remember every turn of the segment ─ ask what can be answered at the end ─► reward
                     ├─ rollout 2 ──── · ──── · ────
                     └─ rollout G              │ snapshot before a decision
                                               ├─ alternative 1: remember the rest of this turn ─ ask what is at stake
                                               └─ alternative M

So the rollouts say what a whole way of managing is worth, and the alternatives what one operation is worth in a bank
that is the same for all of them (LoGo-GRPO of Memory-R2, arXiv 2605.21768; `train/credit.py` has its advantages).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from memory_r1.answer import RETRIEVED
from memory_r1.bank import MemoryBank
from memory_r1.bench.data import Dataset
from memory_r1.embed import Embedder
from memory_r1.flow import LLM, Flow, watched
from memory_r1.manager import RELATED
from memory_r1.train.config import LogoSettings
from memory_r1.train.episodes import Group, played, remembering, rewarded
from memory_r1.train.rewards import Reward, RewardConfig
from memory_r1.train.samples import (
    GUARDED,
    SCOPE,
    Asked,
    Heard,
    Remembering,
    SegmentSample,
    asked_of,
    at_risk,
    bank_of,
    contents,
    facts_of,
    linked_to,
    replayed,
    told_by,
    written_by,
)
from memory_r1.types import Fact, Logged, Prompt, Step, Turn

_PLAIN = RewardConfig()


def segment_samples(
    data: Dataset,
    llm: LLM,
    embedder: Embedder,
    *,
    turns: int,
    window: int = 50,
    related: int = RELATED,
    unanswerable: bool = False,
) -> Iterator[SegmentSample]:
    """Each dialogue in segments of `turns` turns, those left out after which no question can be answered.

    A question is answerable after the last turn of its evidence. The bank before a segment is what `llm`, greedy, makes
    of the `window` turns before it; the earlier questions are those whose whole evidence lies there. `unanswerable`
    also asks what nothing answers any more after a turn.
    """
    teacher = Remembering(llm)
    for dialogue in data.dialogues:
        linked = linked_to(dialogue, data.questions if unanswerable else data.answerable, "last")
        for start in range(0, len(dialogue.turns), turns):
            segment = dialogue.turns[start : start + turns]
            if not any(turn.id in linked for turn in segment):
                continue
            heard = tuple(
                Heard(turn, facts_of(turn, teacher), tuple(map(asked_of, linked.get(turn.id, ())))) for turn in segment
            )
            before = dialogue.turns[max(0, start - window) : start]
            with replayed(before, teacher, embedder, related) as bank:
                name = f"{dialogue.id}/{segment[0].id}..{segment[-1].id}"
                yield SegmentSample(name, heard, contents(bank), tuple(told_by(before, dialogue, data.answerable)))


class Snapshot(NamedTuple):
    """A bank that a rollout had in the midst of a turn, with what is still to be decided and asked there."""

    bank: MemoryBank
    turn: Turn
    facts: tuple[Fact, ...]
    questions: tuple[Asked, ...]


See = Callable[[int, MemoryBank], None]


def segment_episode(
    sample: SegmentSample,
    bank: MemoryBank,
    config: RewardConfig,
    questions: Sequence[Asked],
    *,
    related: int = RELATED,
    retrieved: int = RETRIEVED,
    see: See | None = None,
) -> Flow[Reward]:
    """Remember every turn in `bank`, which is changed; then answer the questions from it.

    `see` is told of each decision before it is made: the place of its turn, and the bank as it is then.
    """
    facts = [fact for heard in sample.heard for fact in heard.facts]
    work = _all_turns(sample.heard, bank, related, see)
    return (yield from rewarded(work, facts, questions, bank, config, retrieved))


def _all_turns(heard: Sequence[Heard], bank: MemoryBank, related: int, see: See | None) -> Flow[list[Logged]]:
    logged: list[Logged] = []
    for place, one in enumerate(heard):
        turn = remembering(one.turn, one.facts, bank, related)
        if see is not None:
            turn = watched(turn, before=_decisions(see, place, bank))
        logged += yield from turn
    return logged


def _decisions(see: See, place: int, bank: MemoryBank) -> Callable[[Prompt], None]:
    """Tells `see` of those prompts that ask for a decision."""
    return lambda prompt: see(place, bank) if prompt.step == "manage" else None


def alternative_episode(
    snapshot: Snapshot, config: RewardConfig, *, related: int = RELATED, retrieved: int = RETRIEVED
) -> Flow[Reward]:
    """Decide anew in a fork of the snapshot, finish the turn, and answer what was at stake."""
    bank = snapshot.bank.fork()
    work = remembering(snapshot.turn, snapshot.facts, bank, related)
    return (yield from rewarded(work, snapshot.facts, snapshot.questions, bank, config, retrieved))


@dataclass(slots=True)
class SegmentTask:
    """Rollouts of a segment act on forks of the one bank before it, alternatives on forks of one rollout's bank.

    `guarded`: at most so many questions that earlier turns answered are asked after an alternative.
    """

    samples: Sequence[SegmentSample]
    embedder: Embedder
    settings: LogoSettings
    reward: RewardConfig = _PLAIN
    related: int = RELATED
    retrieved: int = RETRIEVED
    guarded: int = GUARDED
    step: Step = "manage"

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, place: int) -> str:
        return self.samples[place].id

    def maker(self, place: int) -> Callable[[], Flow[Reward]]:
        """Rollouts alone, asked all questions."""
        sample = self.samples[place]
        bank = bank_of(sample.bank, self.embedder)
        return lambda: self._rollout(sample, bank, sample.questions)

    def play(self, place: int, G: int, llm: LLM, chance: Random) -> Group:
        """G rollouts, and alternatives to some decisions of one of them, drawn by `chance`.

        All rollouts are asked the same questions. What may be played again are the decisions at which a question is at
        stake: one that the turn tells about, or one that was answered by a memory which the manager is shown.
        """
        sample, settings = self.samples[place], self.settings
        bank = bank_of(sample.bank, self.embedder)
        questions = chance.sample(sample.questions, min(settings.questions, len(sample.questions)))
        source, found = chance.randrange(G), list[Snapshot]()
        before = dict(zip((entry.id for entry in bank.all(SCOPE)), (one.turns for one in sample.bank), strict=True))

        def see(turn: int, there: MemoryBank) -> None:
            if snapshot := self._snapshot(sample, turn, there, before):
                found.append(snapshot)

        watched = source if settings.local_weight and settings.snapshots else None
        rollouts = played(
            [self._rollout(sample, bank, questions, see if g == watched else None) for g in range(G)], llm, self.step
        )
        chosen = chance.sample(found, min(settings.snapshots, len(found)))
        return Group(sample.id, rollouts, self._alternatives(sample.id, chosen, llm))

    def _rollout(
        self, sample: SegmentSample, bank: MemoryBank, questions: Sequence[Asked], see: See | None = None
    ) -> Flow[Reward]:
        sizes = {"related": self.related, "retrieved": self.retrieved}
        return segment_episode(sample, bank.fork(), self.reward, questions, see=see, **sizes)

    def _snapshot(
        self, sample: SegmentSample, place: int, bank: MemoryBank, before: Mapping[str, tuple[str, ...]]
    ) -> Snapshot | None:
        """The bank before a decision, or None where no question is at stake."""
        turn, facts, told = sample.heard[place].turn, sample.heard[place].facts, sample.heard[place].questions
        assert turn.id is not None
        if (progress := bank.turn_progress(SCOPE, turn.id)) is not None:
            facts = facts[progress.decided :]
        writers = {entry: (*before.get(entry, ()), *turns) for entry, turns in written_by(bank).items()}
        earlier = [*sample.earlier, *(asked for heard in sample.heard[:place] for asked in heard.questions)]
        risked = at_risk(bank, facts[:1], earlier, writers, self.related)[: self.guarded]
        return Snapshot(bank.fork(), turn, facts, (*told, *risked)) if told or risked else None

    def _alternatives(self, name: str, snapshots: Sequence[Snapshot], llm: LLM) -> tuple[Group, ...]:
        """A group for each snapshot; of each alternative only the exchange that began in the shared bank."""
        count, sizes = self.settings.alternatives, {"related": self.related, "retrieved": self.retrieved}
        episodes = [alternative_episode(one, self.reward, **sizes) for one in snapshots for _ in range(count)]
        rollouts = [replace(one, exchanges=one.exchanges[:1]) for one in played(episodes, llm, self.step)]
        return tuple(
            Group(f"{name} at {one.turn.id}", rollouts[place * count : (place + 1) * count])
            for place, one in enumerate(snapshots)
        )
