"""What is learned from: one turn before a bank, or one question before memories, each with the gold answers.

Made once from any data set, by a teacher (or the policy) that reads the dialogues, and kept as JSON lines:

    ManagerSample   a turn, its facts, the bank that the preceding turns left, and the questions it tells about
    SegmentSample   many turns in a row, with the same
    AnswerSample    a question, the memories retrieved for it, best first, and which of them tell

As in Memory-R1 the facts of a turn are not the policy's to find: they are extracted when the sample is made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memory_r1.answer import RETRIEVED, retrieve
from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.bank.rows import fact_of, fact_state, moment, seconds
from memory_r1.bench.data import Dataset, Dialogue, Question
from memory_r1.embed import Embedder
from memory_r1.errors import CheckpointFailed, InvalidInput
from memory_r1.files import json_lines
from memory_r1.flow import LLM, run
from memory_r1.manager import RELATED, decide_and_apply, extract
from memory_r1.types import Fact, MemoryEntry, Message, Prompt, Provenance, Reply, Scope, Turn

SCOPE = Scope(user_id="dialogue")  # of every bank in training: each holds one dialogue

GUARDED = 4  # questions besides those that a turn tells about

Link = Literal["last", "every"]


@dataclass(frozen=True, slots=True)
class Known:
    """A memory as a sample keeps it; `turns` are those that wrote it."""

    text: str
    speaker: str | None = None
    event_time: datetime | None = None
    turns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its gold answer, which no prompt but a judge's sees. Unanswerable: abstaining is right.

    `evidence` are the turns that tell.
    """

    id: str
    text: str
    answer: str
    category: str = ""
    answerable: bool = True
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ManagerSample:
    """One turn to be remembered in `bank`, after which the questions are answered.

    They are those that the turn tells about, and those that the bank told about before and may no longer afterwards.
    """

    id: str
    turn: Turn
    facts: tuple[Fact, ...]
    bank: tuple[Known, ...]
    questions: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class AnswerSample:
    """One question with its memories, best first; `supporting` are the places, from 0, of those its evidence wrote."""

    id: str
    question: Asked
    memories: tuple[Known, ...]
    supporting: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """A turn with an id, its facts, and the questions of which it is the last evidence: answerable from here on."""

    turn: Turn
    facts: tuple[Fact, ...]
    questions: tuple[Asked, ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentSample:
    """Turns of a dialogue, to be remembered one by one in `bank`, which tells about the `earlier` questions."""

    id: str
    heard: tuple[Heard, ...]
    bank: tuple[Known, ...]
    earlier: tuple[Asked, ...] = ()

    @property
    def questions(self) -> tuple[Asked, ...]:
        """All that can be answered at the end."""
        return (*(asked for heard in self.heard for asked in heard.questions), *self.earlier)


Sample = ManagerSample | AnswerSample | SegmentSample


class Remembering:
    """An LLM that is asked no prompt twice. For greedy models: overlapping windows ask much the same."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._replies: dict[tuple[Message, ...], Reply] = {}

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        fresh = {prompt.messages: prompt for prompt in prompts if prompt.messages not in self._replies}
        if fresh:
            self._replies |= zip(fresh, self._llm.complete(list(fresh.values())), strict=True)
        return [self._replies[prompt.messages] for prompt in prompts]


class RememberedTexts:
    """An embedder that embeds no text twice: a sample's bank is filled anew each time that it is played.

    4 bytes a dimension and text stay in memory.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder, self.name, self.dimension = embedder, embedder.name, embedder.dimension
        self._known: dict[tuple[str, bool], NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        fresh = list(dict.fromkeys(text for text in texts if (text, query) not in self._known))
        if fresh:
            vectors = self._embedder.embed(fresh, query=query)
            self._known |= {(text, query): vector for text, vector in zip(fresh, vectors, strict=True)}
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        return np.stack([self._known[text, query] for text in texts])


def manager_samples(
    data: Dataset,
    llm: LLM,
    embedder: Embedder,
    *,
    window: int = 50,
    link: Link = "last",
    related: int = RELATED,
    guarded: int = GUARDED,
    unanswerable: bool = False,
) -> Iterator[ManagerSample]:
    """A sample for each turn that needs a decision and after which there is something to ask.

    The bank before a turn is what `llm`, greedy, makes of the `window` turns before it, beginning with nothing (the
    paper's text says 24, its algorithm 50). A question is linked to the last turn of its evidence, or with "every" to
    each. Turns that tell nothing, or only what is unrelated or known word for word, leave no decision to learn from.

    At most `guarded` questions come besides that earlier turns answered, out of memories that the manager is shown and
    so may wipe: with the linked ones alone, an UPDATE that puts the new fact in the place of another would cost
    nothing. They are also asked after turns that no question is linked to: what is said once more is asked about where
    it was first told, and its NOOP would else never be learned. 0 leaves them out, as the paper does.

    `unanswerable` links those questions, too, that nothing answers any more: after a turn that takes a thing back,
    abstaining is right, which a DELETE makes possible.
    """
    teacher = Remembering(llm)
    for dialogue in data.dialogues:
        linked = linked_to(dialogue, data.questions if unanswerable else data.answerable, link)
        turns = dialogue.turns
        wanted = [turn.id in linked or guarded > 0 for turn in turns]
        for place, facts, bank in remembered(turns, window, wanted, teacher, embedder, related):
            turn, known = turns[place], contents(bank)
            earlier = told_by(turns[max(0, place - window) : place], dialogue, data.answerable)
            risked = at_risk(bank, facts, earlier, written_by(bank), related)[:guarded]
            with bank.fork() as after:
                log = remember_facts(turn, facts, after, teacher, related)
            asked = (*map(asked_of, linked.get(turn.id, ())), *risked)
            if asked and any(one.provenance.prompt_version for one in log):
                yield ManagerSample(f"{dialogue.id}/{turn.id}", turn, facts, known, asked)


def answer_samples(
    data: Dataset,
    llm: LLM,
    embedder: Embedder,
    *,
    k: int = RETRIEVED,
    related: int = RELATED,
    unanswerable: bool = False,
    keep_turns: bool = False,
) -> Iterator[AnswerSample]:
    """A sample for each question, with the `k` memories retrieved for it from what `llm` made of the whole dialogue.

    `keep_turns`: with turns that are kept word for word among the memories.
    """
    for dialogue in data.dialogues:
        with replayed(dialogue.turns, llm, embedder, related, keep_turns=keep_turns) as bank:
            writers = written_by(bank)
            for question in data.questions if unanswerable else data.answerable:
                if question.dialogue == dialogue.id:
                    hits = retrieve(question.text, bank, SCOPE, k)
                    if not hits:  # the product answers by itself then
                        continue
                    memories = tuple(known_of(hit.entry, writers) for hit in hits)
                    tells = (i for i, one in enumerate(memories) if not set(one.turns).isdisjoint(question.evidence))
                    supporting = tuple(tells) if question.answerable else ()  # else evidence tells of something alike
                    yield AnswerSample(question.id, asked_of(question), memories, supporting)


def linked_to(dialogue: Dialogue, questions: Iterable[Question], link: Link) -> dict[str | None, list[Question]]:
    """Questions by the turn that they are asked after."""
    order = {turn.id: place for place, turn in enumerate(dialogue.turns) if turn.id}
    linked: dict[str | None, list[Question]] = {}
    for question in questions:
        if question.dialogue == dialogue.id and (evidence := sorted(question.evidence, key=order.__getitem__)):
            for turn in evidence if link == "every" else evidence[-1:]:
                linked.setdefault(turn, []).append(question)
    return linked


def told_by(turns: Iterable[Turn], dialogue: Dialogue, questions: Iterable[Question]) -> list[Asked]:
    """The questions about a dialogue whose whole evidence lies in these turns."""
    ids = {turn.id for turn in turns}
    return [
        asked_of(question)
        for question in questions
        if question.dialogue == dialogue.id and question.evidence and ids.issuperset(question.evidence)
    ]


def at_risk(
    bank: MemoryBank,
    facts: Iterable[Fact],
    questions: Sequence[Asked],
    writers: Mapping[str, Sequence[str]],
    related: int = RELATED,
) -> tuple[Asked, ...]:
    """Of questions that a bank can answer, those that deciding about these facts may cost; the nearest first.

    An operation can only touch an entry that the manager is shown, so these are the questions whose evidence wrote one
    (`writers`: turns by entry id).
    """
    shown = dict.fromkeys(entry.id for fact in facts for entry in bank.related(fact, SCOPE, related))
    turns = [set(writers.get(entry, ())) for entry in shown]
    return tuple(dict.fromkeys(asked for wrote in turns for asked in questions if not wrote.isdisjoint(asked.evidence)))


def asked_of(question: Question) -> Asked:
    return Asked(question.id, question.text, question.answer, question.category, question.answerable, question.evidence)


def replayed(
    turns: Iterable[Turn], llm: LLM, embedder: Embedder, related: int = RELATED, *, keep_turns: bool = False
) -> MemoryBank:
    """A bank in memory that holds what `llm` makes of these turns, beginning with nothing."""
    bank = MemoryBank(embedder=embedder)
    for turn in turns:
        if keep_turns:
            bank.begin_turn(SCOPE, turn, (), keep=True)
        remember_facts(turn, facts_of(turn, llm), bank, llm, related)
    return bank


def remembered(
    turns: Sequence[Turn], window: int, wanted: Sequence[bool], llm: LLM, embedder: Embedder, related: int = RELATED
) -> Iterator[tuple[int, tuple[Fact, ...], MemoryBank]]:
    """Of each wanted turn that tells something its place, its facts, and the bank that the `window` turns before left.

    To be read before the next is asked for: as long as the window reaches back to the first turn it is one that grows.
    """
    with replayed((), llm, embedder, related) as growing:
        for place, turn in enumerate(turns):
            facts = facts_of(turn, llm)
            if place <= window:
                if wanted[place] and facts:
                    yield place, facts, growing
                remember_facts(turn, facts, growing, llm, related)
            elif wanted[place] and facts:
                with replayed(turns[place - window : place], llm, embedder, related) as bank:
                    yield place, facts, bank


def facts_of(turn: Turn, llm: LLM) -> tuple[Fact, ...]:
    return tuple(run(extract(turn), llm)[0])


def remember_facts(turn: Turn, facts: Iterable[Fact], bank: MemoryBank, llm: LLM, related: int = RELATED) -> list[Any]:
    return [run(decide_and_apply(fact, turn, bank, SCOPE, related), llm) for fact in facts]


def contents(bank: MemoryBank) -> tuple[Known, ...]:
    """What a bank holds, in the order it was added."""
    writers = written_by(bank)
    return tuple(known_of(one, writers) for one in bank.all(SCOPE))


def known_of(entry: MemoryEntry, writers: Mapping[str, tuple[str, ...]]) -> Known:
    """An entry as a sample keeps it; a kept turn was written by itself."""
    turns = (entry.kept_turn,) if entry.kept_turn else writers[entry.id]
    return Known(entry.text, entry.speaker, entry.event_time, turns)


def written_by(bank: MemoryBank) -> dict[str, tuple[str, ...]]:
    """The turns that each entry's text comes from, by entry id."""
    writers: dict[str, dict[str, None]] = {}
    for one in bank.log(SCOPE):
        if one.entry_id and one.kind in ("ADD", "UPDATE"):
            turn = one.provenance.turn_id
            writers.setdefault(one.entry_id, {}).update({turn: None} if turn else {})
    return {entry: tuple(turns) for entry, turns in writers.items()}


def bank_of(known: Iterable[Known], embedder: Embedder) -> MemoryBank:
    """A bank in memory that holds these, in order."""
    bank = MemoryBank(embedder=embedder)
    bank.add_many(
        NewEntry(
            one.text,
            SCOPE,
            one.speaker,
            one.event_time,
            provenance=Provenance(turn_id=one.turns[-1] if one.turns else None, reason="stored as given"),
        )
        for one in known
    )
    return bank


# -- as JSON lines ----------------------------------------------------------------------------------------------------


def write_samples(path: Path, samples: Iterable[Sample]) -> int:
    """One line each; returns how many. The file appears whole or not at all: CheckpointFailed then says why."""
    return write_lines(path, map(sample_state, samples))


def write_lines(path: Path, states: Iterable[Mapping[str, Any]]) -> int:
    """JSON lines; returns how many. The file appears whole or not at all: CheckpointFailed then says why."""
    partial, count = path.with_name(f"{path.name}.{os.getpid()}.partial"), 0  # processes may write the same
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            for state in states:
                file.write(json.dumps(state, ensure_ascii=False) + "\n")
                count += 1
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(partial), str(path), str(path.parent)):
            raise CheckpointFailed(
                f"{path} could not be written ({error}); make room and run the same command again"
            ) from error
        raise
    return count


def read_samples(path: Path) -> list[Sample]:
    """Raises InvalidInput, naming the line, for what `write_samples` did not write, and for a file without samples."""
    samples = []
    for number, state in json_lines(path, "sample"):
        try:
            samples.append(sample_of(state))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"{path.name} line {number} is not a sample: {error!r}") from error
    if not samples:
        raise InvalidInput(f"{path.name} holds no sample")
    return samples


def sample_state(sample: Sample) -> dict[str, Any]:
    if isinstance(sample, AnswerSample):
        return {
            "id": sample.id,
            "question": _asked_state(sample.question),
            "memories": [_known_state(one) for one in sample.memories],
            "supporting": list(sample.supporting),
        }
    bank = [_known_state(one) for one in sample.bank]
    if isinstance(sample, SegmentSample):
        earlier = [_asked_state(one) for one in sample.earlier]
        return {"id": sample.id, "heard": [_heard_state(one) for one in sample.heard], "bank": bank, "earlier": earlier}
    heard = _heard_state(Heard(sample.turn, sample.facts, sample.questions))
    return {"id": sample.id, **heard, "bank": bank}


def sample_of(state: dict[str, Any]) -> Sample:
    if "question" in state:
        memories = tuple(map(_known_of, state["memories"]))
        return AnswerSample(state["id"], _asked_of(state["question"]), memories, tuple(state["supporting"]))
    bank = tuple(map(_known_of, state["bank"]))
    if "heard" in state:
        heard, earlier = tuple(map(_heard_of, state["heard"])), tuple(map(_asked_of, state["earlier"]))
        return SegmentSample(state["id"], heard, bank, earlier)
    one = _heard_of(state)
    return ManagerSample(state["id"], one.turn, one.facts, bank, one.questions)


def _heard_state(heard: Heard) -> dict[str, Any]:
    turn = heard.turn
    return {
        "turn": {"id": turn.id, "speaker": turn.speaker, "text": turn.text, "time": seconds(turn.time)},
        "facts": [fact_state(fact) for fact in heard.facts],
        "questions": [_asked_state(one) for one in heard.questions],
    }


def _heard_of(state: dict[str, Any]) -> Heard:
    turn = state["turn"]
    return Heard(
        Turn(turn["speaker"], turn["text"], moment(turn["time"]), turn["id"]),
        tuple(map(fact_of, state["facts"])),
        tuple(map(_asked_of, state["questions"])),
    )


def _asked_state(asked: Asked) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in Asked.__slots__}


def _asked_of(state: dict[str, Any]) -> Asked:
    return Asked(**{**state, "evidence": tuple(state.get("evidence", ()))})


def _known_state(known: Known) -> dict[str, Any]:
    return {
        "text": known.text,
        "speaker": known.speaker,
        "event_time": seconds(known.event_time),
        "turns": list(known.turns),
    }


def _known_of(state: dict[str, Any]) -> Known:
    return Known(state["text"], state["speaker"], moment(state["event_time"]), tuple(state["turns"]))
