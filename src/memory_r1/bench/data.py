"""The one form every data set is read into: dialogues in dated sessions, and questions about them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from memory_r1.errors import InvalidInput
from memory_r1.types import Turn


@dataclass(frozen=True, slots=True)
class Session:
    """One sitting of a dialogue, number `id` from 1. `time` is when it began, where the data set says."""

    id: int
    time: datetime | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation over several sessions. A turn's `id` is unique within it."""

    id: str
    speakers: tuple[str, ...]
    sessions: tuple[Session, ...]

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(turn for session in self.sessions for turn in session.turns)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about dialogue `dialogue`. `evidence` names the turns that tell, each once.

    `answerable` is False where the dialogue does not tell and an answer would be made up; `answer` is then "".
    `asked_at` is when it is asked, where the data set says. Gold answers and evidence never reach a prompt.
    """

    id: str
    dialogue: str
    text: str
    answer: str
    category: str
    evidence: tuple[str, ...] = ()
    answerable: bool = True
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """`categories` in the order they are reported, without the unanswerable one; `printed`: what a paper calls them.

    `splits` names dialogues by id; "all" is always there. `notes` says what was repaired or left out, for results, and
    `source` which file it is, by a digest of its bytes: LongMemEval's three have the same questions.
    """

    name: str
    dialogues: tuple[Dialogue, ...]
    questions: tuple[Question, ...]
    categories: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    printed: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, int | str] = field(default_factory=dict)
    source: str = ""

    @property
    def answerable(self) -> tuple[Question, ...]:
        """The questions that are scored by their answers; the others are scored as abstention."""
        return tuple(question for question in self.questions if question.answerable)

    def split(self, name: str) -> Dataset:
        """The dialogues of one split and their questions. Raises InvalidInput for a split that is not there."""
        if name not in self.splits:
            raise InvalidInput(f"{self.name} has no split {name!r}; it has {', '.join(self.splits)}")
        return self.of(self.splits[name])

    def of(self, dialogues: Iterable[str]) -> Dataset:
        """Only the dialogues of these ids. Raises InvalidInput for one that is not there."""
        wanted = set(dialogues)
        there = [dialogue.id for dialogue in self.dialogues]
        if missing := wanted - set(there):
            some = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
            raise InvalidInput(f"no dialogue {', '.join(sorted(missing))} in this part of {self.name}; it has {some}")
        return replace(
            self,
            dialogues=tuple(dialogue for dialogue in self.dialogues if dialogue.id in wanted),
            questions=tuple(question for question in self.questions if question.dialogue in wanted),
            splits={name: tuple(one for one in ids if one in wanted) for name, ids in self.splits.items()},
        )

    def some(self, count: int, seed: int) -> Dataset:
        """Only `count` of its questions, drawn by a seed (of one, fewer are among more); at most all."""
        drawn = {question.id for question in random.Random(seed).sample(self.questions, len(self.questions))[:count]}
        return replace(self, questions=tuple(question for question in self.questions if question.id in drawn))

    def first_sessions(self, count: int) -> Dataset:
        """The first `count` sessions of each dialogue, and only the questions whose evidence lies in them whole."""
        dialogues = tuple(replace(dialogue, sessions=dialogue.sessions[:count]) for dialogue in self.dialogues)
        told = {dialogue.id: {turn.id for turn in dialogue.turns} for dialogue in dialogues}
        questions = tuple(
            question
            for question in self.questions
            if question.evidence and told[question.dialogue].issuperset(question.evidence)
        )
        return replace(self, dialogues=dialogues, questions=questions)


def describe(data: Dataset) -> dict[str, Any]:
    """Counts that tell one version of a data set from another, for a results file. Holds no text of the data set."""
    return {
        "name": data.name,
        "dialogues": len(data.dialogues),
        "sessions": sum(len(dialogue.sessions) for dialogue in data.dialogues),
        "turns": sum(len(dialogue.turns) for dialogue in data.dialogues),
        "questions": {name: sum(q.category == name for q in data.answerable) for name in data.categories},
        "unanswerable": len(data.questions) - len(data.answerable),
        "notes": dict(data.notes),
    }
