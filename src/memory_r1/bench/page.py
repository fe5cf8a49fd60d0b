"""One page to read every answer in, from runs: `memory-r1 bench report` fills page.html with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from memory_r1.bench.data import Dataset, Question
from memory_r1.bench.records import Record
from memory_r1.bench.report import COLOURS, OPERATIONS, about, deviations, labels, tables
from memory_r1.bench.runs import Run, check_data, difference
from memory_r1.errors import InvalidInput


def page(runs: Sequence[Run], data: Dataset | None = None) -> str:
    """One HTML document that loads nothing. With `data`, records without the data set's text are joined with it.

    Raises InvalidInput when `data` does not have a question that the runs answered.
    """
    template = resources.files("memory_r1.bench").joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("__DATA__", embedded(content(runs, data)), 1)


def embedded(value: Any) -> str:
    """JSON in ASCII that can stand inside a <script>: no character of it can end the element or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content(runs: Sequence[Run], data: Dataset | None = None) -> dict[str, Any]:
    """What the page shows. Memories stand once in "memories", as most are found for many questions.

    "records" are by run, in the order of "questions"; their "retrieved" are [place in "memories", score].
    """
    if data:
        check_data(runs, data)
    gold = {question.id: question for question in data.questions} if data else {}
    if data and (missing := [question for question in runs[0].records if question not in gold]):
        raise InvalidInput(f"{data.name} is not the data of these runs: it has no question {missing[0]}")
    memories: dict[tuple[Any, ...], int] = {}
    records = [[_shown(run.records[question], memories) for question in runs[0].records] for run in runs]
    questions = [_question([run.records[name] for run in runs], gold.get(name)) for name in runs[0].records]
    named = {(key[0], turn) for key in memories for turn in (key[1], *key[2])}
    named |= {(question["dialogue"], turn) for question in questions for turn in question["evidence"] or ()}
    return {
        "about": about(runs),
        "deviations": deviations(runs),
        "tables": [asdict(table) for table in tables(runs, data)],
        "bars": [
            {"name": name, **one, "values": [run.score("f1", name) for run in runs]}
            for name, one in runs[0].categories.items()
        ],
        "metrics": {**labels(runs), "abstained": "abstained"},
        "operations": OPERATIONS,
        "differences": {
            f"{i} {j}": difference(one, two) for i, one in enumerate(runs) for j, two in enumerate(runs) if i < j
        },
        "colours": COLOURS,
        "runs": [
            {"title": run.title, "tokens": run.tokens, "f1": run.score("f1")}
            | {key: run.result.get(key) for key in ("config", "date", "commit", "versions", "machine", "read")}
            for run in runs
        ],
        "questions": questions,
        "turns": _turns(data, named) if data else {},
        "memories": [dict(zip(MEMORY, key, strict=True)) for key in memories],
        "records": records,
    }


MEMORY = ("dialogue", "turn", "turns", "text", "time", "speaker")


def _shown(record: Record, memories: dict[tuple[Any, ...], int]) -> dict[str, Any]:
    """A record without what all runs share, its memories as places in `memories`, which grows."""
    found = []
    for one in record["retrieved"]:
        told = one | {"turns": tuple(one.get("turns") or ())}
        key = (record["dialogue"], *(told.get(name) for name in MEMORY[1:]))
        found.append([memories.setdefault(key, len(memories)), one.get("score")])
    shared = ("question", "dialogue", "category", "text", "gold")
    return {key: value for key, value in record.items() if key not in shared} | {"retrieved": found}


def _question(records: Sequence[Record], gold: Question | None) -> dict[str, Any]:
    """A question as it was asked and scored, where any run's record tells; else as the data has it."""
    told = next((record for record in records if "text" in record), None)
    first = records[0]
    return {
        "id": first["question"],
        "dialogue": first["dialogue"],
        "category": first["category"],
        "text": told["text"] if told else gold.text if gold else None,
        "gold": told["gold"] if told else gold.answer if gold else None,
        "evidence": gold.evidence if gold else None,
    }


def _turns(data: Dataset, named: set[tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """The named turns by dialogue and id."""
    return {
        dialogue.id: {
            str(turn.id): {
                "speaker": turn.speaker,
                "time": turn.time.isoformat() if turn.time else None,
                "text": turn.text,
            }
            for turn in dialogue.turns
            if (dialogue.id, turn.id) in named
        }
        for dialogue in data.dialogues
    }
