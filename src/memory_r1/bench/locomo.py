"""LoCoMo (Maharana et al. 2024): ten long dialogues and 1,986 questions with gold evidence turns.

Reads the official locomo10.json as it is. The file is CC BY-NC 4.0 and is not part of memory-r1; `memory-r1 data fetch
locomo` downloads it. What its labels get wrong, and what becomes of it:

    more dates than sessions          the sessions say what was held
    captions without an image         shown, since the speakers talk about what they see
    `query`                           never read: it found the photo and leaks labels
    answers that are numbers          their text
    misspelt evidence                 read where it can be ("D8:6; D9:17", "D:11:26", "D30:05"), else left out; counted
    exact duplicates of questions     kept: every published count, 1,307 test questions among them, holds them
    answers with lost spaces, and     kept: these are the labels that others are measured by. The official scorer
    with an explanation after ";"     takes what stands before ";" of an open-domain answer; that is a metric's matter
    category 5                        unanswerable, with the answer ""; the file's `adversarial_answer` is the wrong one

`repairs` changes labels, and makes figures that compare with no others. It is a JSON list of objects that name a
question by "sample_id" and "qa_index" and say what to change:

    "duplicate_of"    the question is left out
    "evidence"        the turns that tell
    "answer"          the answer
    "audit"           {"error_type", "correct_answer", "correct_evidence"}: what a reader of the dialogue found. After
                      WRONG_CITATION the answer stays and the evidence changes. ATTRIBUTION_ERROR and AMBIGUOUS have no
                      right answer, and of the others some have no short one: these questions are left out.

With repairs, explanations after ";" are cut and lost spaces in dates put back, too. `notes` counts all of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.dates import parse_time
from memory_r1.errors import InvalidInput
from memory_r1.files import at, member, read_json, remedy, typed
from memory_r1.types import Turn

# Names follow the data set; in the order they are reported.
CATEGORIES: Mapping[int, str] = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
ADVERSARIAL = "adversarial"
# Memory-R1's tables, like those of the harness it descends from, print three of the names for each other.
PRINTED = {
    "multi-hop": "Single Hop",
    "temporal": "Temporal",
    "open-domain": "Multi-Hop",
    "single-hop": "Open Domain",
}

URL = "https://raw.githubusercontent.com/snap-research/locomo/main/data/locomo10.json"
SHA256 = "79fa87e90f04081343b8c8debecb80a9a6842b76a7aa537dc9fdf651ea698ff4"
LICENCE = "CC BY-NC 4.0: name the authors, no commercial use (https://creativecommons.org/licenses/by-nc/4.0/)"
WHERE = "get locomo10.json with `memory-r1 data fetch locomo`, or from https://github.com/snap-research/locomo"

NO_RIGHT_ANSWER = ("ATTRIBUTION_ERROR", "AMBIGUOUS")
SHORT = 12  # words; the audit's longer texts are remarks, or lists that nobody is asked to give whole

_SESSION = re.compile(r"session_(\d+)")
_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")
_ASIDE = re.compile(r"\s*\([^()]*\)")
_LOST_SPACE = re.compile(r"(?<=\d)(?=[A-Z][a-z]{2,})")


def load(path: str | Path, *, repairs: Path | None = None) -> Dataset:
    """Read locomo10.json. Raises InvalidInput when it, or the file of repairs, is absent or is something else.

    Splits are Memory-R1's, by position: "train" the first dialogue, "validation" the second, "test" the others.
    """
    path = Path(path)
    with remedy(WHERE):
        samples = read_json(path)
        with at(f"{path.name} is not in LoCoMo's format"):
            if not typed(samples, list, "its top level"):
                raise InvalidInput("it holds no conversation")
            data = _dataset(samples)
    return repaired(data, repairs) if repairs else data


def observations(path: str | Path) -> dict[str, dict[str, list[str]]]:
    """What the data set's own annotators noted about the speaker of each turn: dialogue -> turn -> sentences.

    To learn extraction from (CC BY-NC, as all of the file), never to answer from. Raises InvalidInput as `load` does.
    """
    path = Path(path)
    noted: dict[str, dict[str, list[str]]] = {}
    with remedy(WHERE), at(f"{path.name} is not in LoCoMo's format"):
        for number, sample in enumerate(typed(read_json(path), list, "its top level"), 1):
            with at(f"conversation {number}"):
                dialogue = _dialogue(sample)
                turns = {turn.id: turn.speaker for turn in dialogue.turns if turn.id}
                of_dialogue: dict[str, list[str]] = {}
                for speaker, text, where in _notes(sample):
                    for turn in _evidence(where, turns.keys(), Counter()):
                        if turns[turn] == speaker:  # some are about what the other one said
                            of_dialogue.setdefault(turn, []).append(text)
                noted[dialogue.id] = of_dialogue
    return noted


def _notes(sample: Any) -> Iterator[tuple[str, str, list[Any]]]:
    """(whom it is about, the note, its turns)."""
    for session, by_speaker in member(sample, "observation", dict).items():
        for speaker, notes in typed(by_speaker, dict, session).items():
            for note in typed(notes, list, f"{session} of {speaker}"):
                if not isinstance(note, list) or len(note) != 2 or not isinstance(note[0], str):
                    raise InvalidInput(f"{session} of {speaker} holds {note!r}, which is not a note with its turn")
                yield speaker, note[0], note[1] if isinstance(note[1], list) else [note[1]]


def _dataset(samples: Sequence[Any]) -> Dataset:
    dialogues: list[Dialogue] = []
    questions: list[Question] = []
    notes: Counter[str] = Counter({"evidence_repaired": 0, "evidence_dropped": 0})
    for number, sample in enumerate(samples, 1):
        with at(f"conversation {number}"):
            dialogue = _dialogue(sample)
            dialogues.append(dialogue)
            turns = {turn.id for turn in dialogue.turns if turn.id}
            for place, qa in enumerate(member(sample, "qa", list)):
                with at(f"question {place}"):
                    questions.append(_question(qa, f"{dialogue.id}/{place}", dialogue.id, turns, notes))
    ids = tuple(dialogue.id for dialogue in dialogues)
    splits = {"train": ids[:1], "validation": ids[1:2], "test": ids[2:], "all": ids}
    return Dataset("locomo", tuple(dialogues), tuple(questions), tuple(CATEGORIES.values()), splits, PRINTED, notes)


def _dialogue(sample: Any) -> Dialogue:
    name, talk = member(sample, "sample_id", str), member(sample, "conversation", dict)
    numbers = sorted(int(match[1]) for key in talk if (match := _SESSION.fullmatch(key)) and talk[key])
    if not numbers:
        raise InvalidInput(f"{name!r} has no session")
    speakers = (member(talk, "speaker_a", str), member(talk, "speaker_b", str))
    return Dialogue(name, speakers, tuple(_session(number, talk) for number in numbers))


def _session(number: int, talk: Any) -> Session:
    with at(f"session {number}"):
        time = parse_time(member(talk, f"session_{number}_date_time", str))  # LoCoMo dates no single turn
        turns = tuple(
            Turn(member(turn, "speaker", str), _text(turn), time, member(turn, "dia_id", str))
            for turn in member(talk, f"session_{number}", list)
        )
    return Session(number, time, turns)


def _text(turn: Any) -> str:
    said, caption = member(turn, "text", str), turn.get("blip_caption")
    return f"{said} [shares a photo: {caption}]" if caption else said


def _question(qa: Any, name: str, dialogue: str, turns: set[str], notes: Counter[str]) -> Question:
    text, category = member(qa, "question", str), member(qa, "category", int)
    if category not in (*CATEGORIES, 5):
        raise InvalidInput(f"there is no category {category}")
    evidence = _evidence(typed(qa.get("evidence") or [], list, '"evidence"'), turns, notes)
    if category == 5:
        return Question(name, dialogue, text, "", ADVERSARIAL, evidence, answerable=False)
    if "answer" not in qa:
        raise InvalidInput('"answer" is missing')
    return Question(name, dialogue, text, str(qa["answer"]), CATEGORIES[category], evidence)


def _evidence(labels: Sequence[Any], turns: Collection[str], notes: Counter[str]) -> tuple[str, ...]:
    """The turns that labels name: "D8:6; D9:17" two, "D:11:26" and "D30:05" one, "D" none."""
    evidence: dict[str, None] = {}
    for label in map(str, labels):
        named = [f"D{int(session)}:{int(turn)}" for session, turn in _EVIDENCE.findall(label)]
        there = [turn for turn in named if turn in turns]
        notes["evidence_repaired"] += bool(there) and named != [label]
        notes["evidence_dropped"] += not there
        evidence |= dict.fromkeys(there)
    return tuple(evidence)


def repaired(data: Dataset, repairs: Path) -> Dataset:
    """The data set with labels changed as the file says (see above). Raises InvalidInput for a file of another form."""
    changes = _changes(data, repairs)
    turns = {dialogue.id: {turn.id for turn in dialogue.turns if turn.id} for dialogue in data.dialogues}
    notes: Counter[str] = Counter(
        dict.fromkeys(("duplicates_left_out", "unclear_left_out", "answers_changed", "evidence_changed"), 0)
    )
    questions = []
    for before in data.questions:
        change = changes.get(before.id, {})
        with at(f"{repairs.name}, {before.id}"):
            after = _repaired(before, change, turns[before.dialogue], notes)
        if after:
            notes["answers_changed"] += after.answer != before.answer
            notes["evidence_changed"] += set(after.evidence) != set(before.evidence)
            questions.append(after)
    return replace(data, questions=tuple(questions), notes={**data.notes, **notes, "repairs": repairs.name})


def _changes(data: Dataset, repairs: Path) -> dict[str, Any]:
    known = {question.id for question in data.questions}
    changes = {}
    with remedy("`repairs` is a list of changed labels, described in memory_r1/bench/locomo.py"):
        for number, change in enumerate(typed(read_json(repairs), list, f"the top level of {repairs.name}"), 1):
            with at(f"{repairs.name}, repair {number}"):
                name = f"{member(change, 'sample_id', str)}/{member(change, 'qa_index', int)}"
                if name not in known:
                    raise InvalidInput(f"there is no question {name}")
                changes[name] = change
    return changes


def _repaired(question: Question, change: Mapping[str, Any], turns: set[str], notes: Counter[str]) -> Question | None:
    """The question with its labels changed; None, counted in `notes`, when it is left out."""
    if "duplicate_of" in change:
        notes["duplicates_left_out"] += 1
        return None
    answer, evidence = question.answer, question.evidence
    if "evidence" in change:
        evidence = _named(member(change, "evidence", list), turns)
    if "answer" in change:
        answer = member(change, "answer", str)
    if "audit" in change:
        audit = member(change, "audit", dict)
        kind, correct = member(audit, "error_type", str), _ASIDE.sub("", member(audit, "correct_answer", str))
        evidence = _named(member(audit, "correct_evidence", list), turns) or evidence
        if kind in NO_RIGHT_ANSWER or (kind != "WRONG_CITATION" and len(correct.split()) > SHORT):
            notes["unclear_left_out"] += 1
            return None
        if kind != "WRONG_CITATION":
            answer = correct
    if question.category == "open-domain":
        answer = answer.partition(";")[0].strip()
    if question.category == "temporal":
        answer = _LOST_SPACE.sub(" ", answer)
    return replace(question, answer=answer, evidence=evidence)


def _named(evidence: Sequence[Any], turns: set[str]) -> tuple[str, ...]:
    if missing := [turn for turn in evidence if turn not in turns]:
        raise InvalidInput(f"there is no turn {missing[0]}")
    return tuple(dict.fromkeys(evidence))
