"""LoCoMo (Maharana et al. 2024): ten long dialogues and 1,986 questions with gold evidence turns.

Reads the official locomo10.json as it is, with what its labels get wrong handled here once. The file is CC BY-NC 4.0
and is not part of memory-r1: https://github.com/snap-research/locomo/blob/main/data/locomo10.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from memory_r1.dates import parse_time
from memory_r1.errors import InvalidInput
from memory_r1.types import Turn

T = TypeVar("T")

# Names follow the data set; the categories that are scored by their answers, in the order they are reported.
CATEGORIES: Mapping[int, str] = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
ADVERSARIAL = 5
WHERE = "get locomo10.json from https://github.com/snap-research/locomo (data/locomo10.json, CC BY-NC 4.0)"

_SESSION = re.compile(r"session_(\d+)")
_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class Session:
    """One sitting of a dialogue, number `id` from 1; every turn has the session's `time`, as LoCoMo gives no other."""

    id: int
    time: datetime
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Dialogue:
    id: str
    speakers: tuple[str, str]
    sessions: tuple[Session, ...]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns in order; a turn's `id` is its dia_id, unique within the dialogue."""
        return tuple(turn for session in self.sessions for turn in session.turns)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about dialogue `dialogue`. `evidence` names turns that exist, each once.

    The answer of an adversarial question (category 5) is "": the dialogue does not tell, and the file's
    `adversarial_answer` is the wrong one.
    """

    id: str
    dialogue: str
    text: str
    answer: str
    category: int
    evidence: tuple[str, ...]

    @property
    def adversarial(self) -> bool:
        return self.category == ADVERSARIAL


@dataclass(frozen=True, slots=True)
class Locomo:
    """The data set. `questions` are those of CATEGORIES in file order, duplicates included; `adversarial` the rest.

    `repaired` counts evidence labels that were misspelt and could be read, `dropped` those that name no turn.
    """

    dialogues: tuple[Dialogue, ...]
    questions: tuple[Question, ...]
    adversarial: tuple[Question, ...]
    repaired: int
    dropped: int

    def questions_of(self, dialogues: Sequence[Dialogue]) -> tuple[Question, ...]:
        """The questions about these dialogues, without the adversarial ones."""
        ids = {dialogue.id for dialogue in dialogues}
        return tuple(question for question in self.questions if question.dialogue in ids)


def split(dialogues: Sequence[T]) -> tuple[Sequence[T], Sequence[T], Sequence[T]]:
    """(train, validation, test) of Memory-R1, by position: the first, the second, all others."""
    return dialogues[:1], dialogues[1:2], dialogues[2:]


def load(path: str | Path) -> Locomo:
    """Read locomo10.json. Raises InvalidInput when it is absent or is something else."""
    path = Path(path)
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror}); {WHERE}") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise InvalidInput(f"{path} is not JSON ({error}); {WHERE}") from error
    try:
        if not samples or not isinstance(samples, list):
            raise TypeError("its top level is no list of conversations")
        return _dataset(samples)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # InvalidInput of a time is a ValueError
        what = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise InvalidInput(f"{path} is not in LoCoMo's format: {what}; {WHERE}") from error


def _dataset(samples: Sequence[Mapping[str, Any]]) -> Locomo:
    dialogues = tuple(_dialogue(sample) for sample in samples)
    questions: list[Question] = []
    repaired = dropped = 0
    for dialogue, sample in zip(dialogues, samples, strict=True):
        turns = {turn.id for turn in dialogue.turns}
        for number, qa in enumerate(sample["qa"]):
            labels = [str(label) for label in qa.get("evidence") or ()]
            read = [_turn_ids(label) for label in labels]
            repaired += sum(
                ids != [label] and bool(turns.intersection(ids)) for ids, label in zip(read, labels, strict=True)
            )
            dropped += sum(not turns.intersection(ids) for ids in read)
            evidence = dict.fromkeys(turn_id for ids in read for turn_id in ids if turn_id in turns)
            category = int(qa["category"])
            answer = "" if category == ADVERSARIAL else str(qa["answer"])
            name = f"{dialogue.id}/{number}"
            questions.append(Question(name, dialogue.id, str(qa["question"]), answer, category, tuple(evidence)))
    scored = tuple(question for question in questions if not question.adversarial)
    return Locomo(dialogues, scored, tuple(q for q in questions if q.adversarial), repaired, dropped)


def _turn_ids(label: str) -> list[str]:
    """The turns an evidence label names: "D8:6; D9:17" two, "D:11:26" and "D30:05" one, "D" none."""
    return [f"D{int(session)}:{int(turn)}" for session, turn in _EVIDENCE.findall(label)]


def _dialogue(sample: Mapping[str, Any]) -> Dialogue:
    talk = sample["conversation"]
    # There are more dates than sessions: the sessions say what was held.
    numbers = sorted(int(match[1]) for key in talk if (match := _SESSION.fullmatch(key)) and talk[key])
    if not numbers:
        raise ValueError(f"conversation {sample['sample_id']!r} has no session")
    sessions = tuple(_session(number, talk) for number in numbers)
    return Dialogue(str(sample["sample_id"]), (talk["speaker_a"], talk["speaker_b"]), sessions)


def _session(number: int, talk: Mapping[str, Any]) -> Session:
    time = parse_time(talk[f"session_{number}_date_time"])
    turns = tuple(Turn(turn["speaker"], _text(turn), time, turn["dia_id"]) for turn in talk[f"session_{number}"])
    return Session(number, time, turns)


def _text(turn: Mapping[str, Any]) -> str:
    """What was said, and the caption where a photo was shared. `query`, which found the photo, leaks labels."""
    caption = turn.get("blip_caption")
    return f"{turn['text']} [shares a photo: {caption}]" if caption else str(turn["text"])


def describe(data: Locomo) -> dict[str, Any]:
    """Counts that tell one version of the file from another, for a results file."""
    by_category = {
        CATEGORIES.get(category, str(category)): len(list(group))
        for category, group in groupby(sorted(question.category for question in data.questions))
    }
    return {
        "dialogues": len(data.dialogues),
        "sessions": sum(len(dialogue.sessions) for dialogue in data.dialogues),
        "turns": sum(len(dialogue.turns) for dialogue in data.dialogues),
        "questions": by_category,
        "adversarial": len(data.adversarial),
        "evidence_repaired": data.repaired,
        "evidence_dropped": data.dropped,
    }
