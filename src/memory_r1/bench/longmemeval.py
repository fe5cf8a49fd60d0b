"""LongMemEval (Wu et al. 2025): 500 questions, each asked after a chat history of its own.

Reads the official JSON: longmemeval_s, longmemeval_m and longmemeval_oracle, cleaned or not, have one form. A history
becomes a dialogue with the id of its question. The oracle's sessions are not in the order of time: they are sorted
here, and a session's number is its place afterwards. A turn's id is "S3:5": the fifth turn of the third session.

Questions with "_abs" in the id ask for what was never said: they are unanswerable, of the category "abstention", and
their answers, which explain why, are not read. The whole file is held in memory: about twice its size.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.errors import InvalidInput
from memory_r1.files import at, member, read_json, remedy, typed
from memory_r1.types import Turn

CATEGORIES = (
    "single-session-user",
    "single-session-assistant",
    "single-session-preference",
    "multi-session",
    "knowledge-update",
    "temporal-reasoning",
)
ABSTENTION = "abstention"
SPEAKERS = ("user", "assistant")
WHERE = "get it from https://huggingface.co/datasets/xiaowu0162/longmemeval-cleaned"

_DATE = re.compile(r"(\d{4})/(\d\d)/(\d\d) \(\w+\) (\d\d):(\d\d)")


def load(path: str | Path) -> Dataset:
    """Raises InvalidInput when the file is absent or is something else.

    `notes` counts the turns without text, which are left out, and the answerable questions without evidence.
    """
    path = Path(path)
    dialogues, questions, notes = [], [], Counter({"empty_turns": 0, "without_evidence": 0})
    with remedy(WHERE):
        samples = read_json(path)
        with at(f"{path.name} is not in LongMemEval's format"):
            for number, sample in enumerate(typed(samples, list, "its top level"), 1):
                with at(f"question {number}"):
                    dialogue, question = _read(sample, notes)
                    dialogues.append(dialogue)
                    questions.append(question)
    ids = tuple(dialogue.id for dialogue in dialogues)
    return Dataset("longmemeval", tuple(dialogues), tuple(questions), CATEGORIES, {"all": ids}, notes=notes)


def _read(sample: Any, notes: Counter[str]) -> tuple[Dialogue, Question]:
    name, kind = member(sample, "question_id", str), member(sample, "question_type", str)
    if kind not in CATEGORIES:
        raise InvalidInput(f"{kind!r} is none of {', '.join(CATEGORIES)}")
    if "answer" not in sample:
        raise InvalidInput('"answer" is missing')
    held, dates = member(sample, "haystack_sessions", list), member(sample, "haystack_dates", list)
    if len(held) != len(dates):
        raise InvalidInput(f"it has {len(held)} sessions and {len(dates)} dates")
    dated = sorted(zip(map(_time, dates), held, strict=True), key=lambda pair: pair[0])
    sessions, evidence = [], []
    for place, (time, messages) in enumerate(dated, 1):
        turns = []
        for number, message in enumerate(typed(messages, list, "a session"), 1):
            text, turn_id = member(message, "content", str), f"S{place}:{number}"
            if not text.strip():
                notes["empty_turns"] += 1
                continue
            turns.append(Turn(member(message, "role", str), text, time, turn_id))
            if message.get("has_answer"):
                evidence.append(turn_id)
        sessions.append(Session(place, time, tuple(turns)))
    answerable = "_abs" not in name
    notes["without_evidence"] += answerable and not evidence
    question = Question(
        id=name,
        dialogue=name,
        text=member(sample, "question", str),
        answer=str(sample["answer"]) if answerable else "",  # some are numbers
        category=kind if answerable else ABSTENTION,
        evidence=tuple(evidence),
        answerable=answerable,
        asked_at=_time(member(sample, "question_date", str)),
    )
    return Dialogue(name, SPEAKERS, tuple(sessions)), question


def _time(text: Any) -> datetime:
    """ "2023/05/20 (Sat) 02:21": read by hand, as the names of days depend on the locale and there are 250,000."""
    match = _DATE.fullmatch(typed(text, str, "a date"))
    try:
        year, month, day, hour, minute = map(int, match.groups() if match else ())
        return datetime(year, month, day, hour, minute, tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(f'{text!r} is no date such as "2023/05/20 (Sat) 02:21"') from error
