"""A data set of your own, as one JSON file:

    {"name": "family",
     "dialogues": [
       {"id": "ann-and-bob", "speakers": ["Ann", "Bob"],
        "sessions": [
          {"time": "2026-05-08T13:56:00Z", "turns": [{"speaker": "Ann", "text": "I got a cat.", "id": "D1:1"}]}],
        "questions": [
          {"question": "What did Ann get?", "answer": "a cat", "category": "single-hop", "evidence": ["D1:1"]}]}]}

`time` may be null. May be left out: a turn's `id` (then "D2:3", the third turn of the second session), a question's
`category` ("other", or "unanswerable") and `evidence`. An `answer` of null says that the dialogue does not tell.
Question ids are "ann-and-bob/0". Any other name is an error, so that a misspelt one does not go unseen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.dates import parse_time
from memory_r1.errors import InvalidInput
from memory_r1.files import at, member, read_json, remedy, typed
from memory_r1.types import Turn

CATEGORY, UNANSWERABLE = "other", "unanswerable"
HELP = "memory_r1/bench/plain.py describes the form"


def load(path: str | Path) -> Dataset:
    """Raises InvalidInput, naming the place, for whatever is not as described above.

    Categories are those of the answerable questions, in the order in which they first occur.
    """
    path = Path(path)
    with remedy(HELP):
        value = read_json(path)
        with at(path.name):
            return _dataset(value)


def save(data: Dataset, path: str | Path) -> None:
    """Write a data set in this form, which has no place for splits, notes and the time at which a question is asked."""
    dialogues = [
        {
            "id": dialogue.id,
            "speakers": list(dialogue.speakers),
            "sessions": [
                {
                    "time": session.time and session.time.isoformat(),
                    "turns": [{"speaker": turn.speaker, "text": turn.text, "id": turn.id} for turn in session.turns],
                }
                for session in dialogue.sessions
            ],
            "questions": [
                {
                    "question": question.text,
                    "answer": question.answer if question.answerable else None,
                    "category": question.category,
                    "evidence": list(question.evidence),
                }
                for question in data.questions
                if question.dialogue == dialogue.id
            ],
        }
        for dialogue in data.dialogues
    ]
    text = json.dumps({"name": data.name, "dialogues": dialogues}, indent=1, ensure_ascii=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def _dataset(value: Any) -> Dataset:
    _no_others(value, "name", "dialogues")
    dialogues: list[Dialogue] = []
    questions: list[Question] = []
    for number, given in enumerate(member(value, "dialogues", list), 1):
        with at(f"dialogue {number}"):
            _no_others(given, "id", "speakers", "sessions", "questions")
            dialogue = _dialogue(given)
            if dialogue.id in {one.id for one in dialogues}:
                raise InvalidInput(f"there is a dialogue {dialogue.id!r} before it")
            dialogues.append(dialogue)
            turns = {turn.id for turn in dialogue.turns if turn.id}
            for place, asked in enumerate(member(given, "questions", list)):
                with at(f"question {place}"):
                    questions.append(_question(asked, f"{dialogue.id}/{place}", dialogue.id, turns))
    ids = tuple(dialogue.id for dialogue in dialogues)
    categories = tuple(dict.fromkeys(question.category for question in questions if question.answerable))
    return Dataset(member(value, "name", str), tuple(dialogues), tuple(questions), categories, {"all": ids})


def _dialogue(given: Any) -> Dialogue:
    speakers = tuple(typed(one, str, "a speaker") for one in member(given, "speakers", list))
    sessions: list[Session] = []
    seen: set[str] = set()
    for number, held in enumerate(member(given, "sessions", list), 1):
        with at(f"session {number}"):
            _no_others(held, "time", "turns")
            time = None if held.get("time") is None else parse_time(held["time"])
            turns = []
            for place, said in enumerate(member(held, "turns", list), 1):
                with at(f"turn {place}"):
                    _no_others(said, "speaker", "text", "id")
                    turn_id = member(said, "id", str) if "id" in said else f"D{number}:{place}"
                    speaker = member(said, "speaker", str)
                    if speaker not in speakers:
                        raise InvalidInput(f'{speaker!r} is none of "speakers"')
                    if turn_id in seen:
                        raise InvalidInput(f"there is a turn {turn_id!r} before it")
                    seen.add(turn_id)
                    text = member(said, "text", str)
                    if not text.strip():
                        raise InvalidInput('"text" is empty')
                    turns.append(Turn(speaker, text, time, turn_id))
            sessions.append(Session(number, time, tuple(turns)))
    return Dialogue(member(given, "id", str), speakers, tuple(sessions))


def _question(given: Any, name: str, dialogue: str, turns: set[str]) -> Question:
    _no_others(given, "question", "answer", "category", "evidence")
    evidence = [typed(turn, str, "evidence") for turn in typed(given.get("evidence", []), list, '"evidence"')]
    if missing := [turn for turn in evidence if turn not in turns]:
        raise InvalidInput(f"its evidence {missing[0]!r} is no turn of the dialogue")
    if "answer" not in given:
        raise InvalidInput('"answer" is missing; null says that the dialogue does not tell')
    answerable = given["answer"] is not None
    return Question(
        id=name,
        dialogue=dialogue,
        text=member(given, "question", str),
        answer=member(given, "answer", str) if answerable else "",
        category=typed(given.get("category", CATEGORY if answerable else UNANSWERABLE), str, '"category"'),
        evidence=tuple(dict.fromkeys(evidence)),
        answerable=answerable,
    )


def _no_others(value: Any, *names: str) -> None:
    if others := typed(value, dict, "this").keys() - set(names):
        raise InvalidInput(f"{min(others)!r} means nothing here; there may be {', '.join(names)}")
