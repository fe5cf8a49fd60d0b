"""Three made-up runs about made-up dialogues, to test the report with and to look at its page.

To look: `python tests/bench/report_runs.py FOLDER` writes the runs and FOLDER/locomo.json, then
`memory-r1 bench report FOLDER/* --data locomo:FOLDER/locomo.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

from memory_r1.bench.summary import summarise

PETS = ["a cat called Miso", "two goats", "a parrot", "a tortoise", "three hens", "a greyhound"]
TOWNS = ["Ghent", "Oulu", "Porto", "Bergen", "Graz", "Tartu"]
CATEGORIES = {"multi-hop": 1, "temporal": 2, "open-domain": 3, "single-hop": 4, "adversarial": 5}
PRINTED = {"multi-hop": "Single Hop", "temporal": "Temporal", "open-domain": "Multi-Hop", "single-hop": "Open Domain"}

# good: how often an answer is right
SYSTEMS: list[dict[str, Any]] = [
    {
        "system": "memory-r1",
        "title": "memory-r1, untrained",
        "good": 0.55,
        "prompt": 900,
        "find": 0.004,
        "judged": True,
    },
    {
        "system": "rag-hybrid",
        "title": "RAG, hybrid, turns",
        "good": 0.45,
        "prompt": 1300,
        "find": 0.002,
        "judged": True,
    },
    {"system": "full-context", "title": "full context", "good": 0.3, "prompt": 14200, "find": None, "judged": False},
]


def dialogues(count: int = 2, sessions: int = 3) -> list[dict[str, Any]]:
    """Dialogues in LoCoMo's form, twelve questions each: ten scored ones and two that the dialogue does not answer."""
    made = []
    for number in range(count):
        random = Random(number)
        talk: dict[str, Any] = {"speaker_a": "Ines", "speaker_b": "Otto"}
        for session in range(1, sessions + 1):
            talk[f"session_{session}_date_time"] = f"1:0{session} pm on {session + 3} May, 2023"
            talk[f"session_{session}"] = [
                {
                    "speaker": ("Ines", "Otto")[turn % 2],
                    "dia_id": f"D{session}:{turn + 1}",
                    "text": f"I went to {random.choice(TOWNS)} with my sister and we met {random.choice(PETS)}.",
                }
                for turn in range(8)
            ]
        names = ["multi-hop", "temporal", "single-hop", "single-hop", "open-domain", "adversarial"] * 2
        questions = []
        for place, name in enumerate(names):
            evidence = [f"D{1 + place % sessions}:{1 + place % 8}"] + (
                [f"D{sessions}:2"] if name == "multi-hop" else []
            )
            one: dict[str, Any] = {
                "question": f"Which animal did they meet in {TOWNS[place % 6]}, time {place + 1}?",
                "category": CATEGORIES[name],
                "evidence": evidence,
            }
            one["adversarial_answer" if name == "adversarial" else "answer"] = PETS[place % 6]
            questions.append(one)
        made.append({"sample_id": f"talk-{number + 1}", "conversation": talk, "qa": questions})
    return made


def records(system: dict[str, Any], talks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Full records, as a run writes them."""
    random = Random(system["system"])
    made = []
    for talk in talks:
        turns = [
            {**turn, "time": talk["conversation"][f"{session}_date_time"]}
            for session in ("session_1", "session_2", "session_3")
            for turn in talk["conversation"].get(session, [])
        ]
        for number, question in enumerate(talk["qa"]):
            name = next(name for name, value in CATEGORIES.items() if value == question["category"])
            found = random.sample(turns, min(len(turns), 12 if system["find"] else 99))
            good, gold = random.random() < system["good"], str(question.get("answer", ""))
            f1 = 1.0 if good else random.choice([0.0, 0.0, 0.4])
            scores = {"f1": f1, "f1_locomo": f1, "bleu1": 0.8 * f1, "exact_match": float(good)}
            if system["judged"]:
                scores |= {"judge_lenient": float(f1 > 0), "judge_strict": float(good)}
            if name == "adversarial":
                scores = {"abstained": float(good)}
            find = {} if system["find"] is None else {"find": system["find"]}
            made.append(
                {
                    "question": f"{talk['sample_id']}/{number}",
                    "dialogue": talk["sample_id"],
                    "category": name,
                    "text": question["question"],
                    "gold": gold,
                    "answer": gold if good else random.choice(PETS),
                    "known": not (good and name == "adversarial"),
                    "readable": random.random() > 0.1,
                    "retrieved": [
                        {
                            "text": one["text"],
                            "time": "2023-05-08T13:56:00+00:00",
                            "speaker": one["speaker"],
                            "turn": one["dia_id"],
                            "score": round(1 / (place + 60), 4),
                        }
                        for place, one in enumerate(found)
                    ],
                    "used": sorted(random.sample(range(len(found)), 2)),
                    "dropped": 0,
                    "scores": scores,
                    "tokens": {
                        "prompt": system["prompt"] + random.randrange(100),
                        "completion": random.randrange(9, 30),
                    },
                    "seconds": find | {"answer": round(random.uniform(0.6, 1.9), 2)},
                    "about": {},
                }
            )
    return made


def reading(system: dict[str, Any], talk: dict[str, Any]) -> dict[str, Any]:
    """What a result says of reading one dialogue; only memory-r1 decides anything there."""
    turns = sum(len(session) for name, session in talk["conversation"].items() if isinstance(session, list))
    if system["system"] != "memory-r1":
        over_time = [{"turn": turn, "entries": turn} for turn in range(8, turns + 1, 8)]
        return {
            "turns": turns,
            "seconds": 0.2,
            "tokens": {},
            "entries": turns,
            "memory_tokens": 31 * turns,
            "over_time": over_time,
            "deviations": [] if system["find"] else ["the oldest turns are left out where the context is full"],
        }
    over_time = [
        {
            "turn": turn,
            "entries": turn - turn // 6,
            "ADD": turn,
            "UPDATE": turn // 5,
            "DELETE": turn // 12,
            "NOOP": turn // 4,
        }
        for turn in range(4, turns + 1, 4)
    ]
    return {
        "turns": turns,
        "seconds": 96.0,
        "tokens": {
            "extract": {"calls": turns, "prompt": 7200, "completion": 1200},
            "manage": {"calls": turns, "prompt": 4800, "completion": 600},
        },
        "entries": over_time[-1]["entries"],
        "memory_tokens": 640,
        "operations": {name: over_time[-1][name] for name in ("ADD", "UPDATE", "DELETE", "NOOP")},
        "unreadable": 1,
        "over_time": over_time,
    }


def result(system: dict[str, Any], talks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "benchmark": "answers",
        "date": "2026-03-04T12:00:00+00:00",
        "commit": "0123abc",
        "versions": {"memory_r1": "0.1.0", "python": "3.11.9"},
        "machine": {"system": "Linux", "cpu": "a small one", "cpus": 2},
        "config": {
            "system": system["system"],
            "title": system["title"],
            "data": "locomo",
            "split": "validation",
            "sessions": 3,
            "dialogues": [talk["sample_id"] for talk in talks],
            "limit": None,
            "model": "Tiny-1B",
            "embedder": "e5-small-int8",
            "k": 12 if system["find"] else None,
            "seed": 0,
            "distil": True,
        },
        "read": {talk["sample_id"]: reading(system, talk) for talk in talks},
        "scores": summarise(records(system, talks), list(PRINTED), PRINTED, seed=0),
    }


def write_runs(folder: Path, talks: list[dict[str, Any]]) -> list[Path]:
    """The run folders of SYSTEMS, in their order."""
    made = []
    for system in SYSTEMS:
        run = folder / system["system"]
        run.mkdir(parents=True)
        (run / "result.json").write_text(json.dumps(result(system, talks)), encoding="utf-8")
        lines = [json.dumps(record) + "\n" for record in records(system, talks)]
        (run / "records.jsonl").write_text("".join(lines), encoding="utf-8")
        made.append(run)
    return made


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(*write_runs(target, dialogues()), sep="\n")
    (target / "locomo.json").write_text(json.dumps(dialogues()), encoding="utf-8")
