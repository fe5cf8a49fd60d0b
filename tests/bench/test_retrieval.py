from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bank import MemoryBank
from memory_r1.bench import retrieval
from memory_r1.bench.data import Dataset
from memory_r1.bench.locomo import load
from memory_r1.bench.retrieval import Found, entry_text, interval, recall, recall_per_question, run, table
from memory_r1.errors import InvalidInput
from memory_r1.testing import HashEmbedder
from memory_r1.types import Turn

TURNS = ["I adopted a dog.", "How sweet!", "He is called Rex.", "My sister moved to Bern.", "When?", "In spring."]
QUESTIONS: list[dict[str, Any]] = [
    {"question": "adopted dog", "answer": "yes", "evidence": ["D1:1"], "category": 4},
    {"question": "sister Bern called Rex", "answer": "x", "evidence": ["D1:3", "D1:4"], "category": 1},
    {"question": "quantum physics", "answer": "x", "evidence": ["D1:6"], "category": 2},
    {"question": "no evidence", "answer": "x", "evidence": [], "category": 3},
    {"question": "adopted cat", "adversarial_answer": "x", "evidence": ["D1:1"], "category": 5},
]


def dialogues(count: int) -> list[dict[str, Any]]:
    turns = [{"speaker": ("Ann", "Bob")[i % 2], "dia_id": f"D1:{i + 1}", "text": text} for i, text in enumerate(TURNS)]
    talk = {"speaker_a": "Ann", "speaker_b": "Bob", "session_1_date_time": "1:00 pm on 8 May, 2023", "session_1": turns}
    return [{"sample_id": f"conv-{i}", "conversation": talk, "qa": QUESTIONS} for i in range(count)]


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    path = tmp_path / "locomo.json"
    path.write_text(json.dumps(dialogues(3)), encoding="utf-8")
    return load(path)


def test_recall_counts_gold_turns_or_the_mean_over_questions() -> None:
    found = [
        Found("a", "x", "multi-hop", (0, 7)),
        Found("b", "x", "multi-hop", (None, 59, 4)),
        Found("c", "y", "single-hop", (10,)),
    ]
    assert [recall(found, k) for k in (5, 10, 30, 60)] == [2 / 6, 3 / 6, 4 / 6, 5 / 6]
    assert recall_per_question(found, 10) == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_the_interval_draws_whole_dialogues() -> None:
    found = [Found(name, name, "multi-hop", (0, None)) for name in "abcde"]
    assert interval(found, 5, seed=0) == (0.5, 0.5)  # alike, whatever their turns
    assert interval([replace(one, dialogue="a") for one in found], 5, seed=0) == (0.2, 0.8)


def test_an_entry_says_when_and_who(data: Dataset) -> None:
    turn = data.dialogues[0].turns[0]
    assert entry_text(turn) == "(8 May 2023) Ann: I adopted a dog."
    assert entry_text(Turn("Ann", "Hi")) == "Ann: Hi"


def test_each_question_is_searched_in_its_own_dialogue(data: Dataset) -> None:
    with MemoryBank(embedder=HashEmbedder()) as bank:
        for dialogue in data.dialogues:
            retrieval.fill(bank, dialogue)
        found = retrieval.search(bank, data.split("train").answerable, "text")
    assert [(one.question, one.category) for one in found] == [
        ("conv-0/0", "single-hop"),
        ("conv-0/1", "multi-hop"),
        ("conv-0/2", "temporal"),
    ]
    assert found[0].places == (0,)  # no other turn has a word of the question
    assert set(found[1].places) == {0, 1}
    assert found[2].places == (None,)  # no word in common with any turn: not found by text


def test_the_result_has_every_figure_by_hand(data: Dataset, tmp_path: Path) -> None:
    result = run(data, HashEmbedder(), tmp_path / "out")
    everywhere = result["all"]["text"]
    assert (everywhere["questions"], everywhere["gold_turns"]) == (9, 12)
    assert everywhere["recall"] == {"5": 0.75, "10": 0.75, "30": 0.75, "60": 0.75}
    assert everywhere["recall_per_question"]["5"] == pytest.approx(2 / 3, abs=1e-4)
    assert everywhere["by_category"] == {
        "multi-hop": dict.fromkeys(("5", "10", "30", "60"), 1.0),
        "temporal": dict.fromkeys(("5", "10", "30", "60"), 0.0),
        "single-hop": dict.fromkeys(("5", "10", "30", "60"), 1.0),
    }
    assert (everywhere["interval_95"]["10"], everywhere["resampled"]) == ((0.5, 1.0), "gold turn")  # of 3 dialogues
    assert result["all"]["vector"]["recall"]["10"] == 1.0  # six turns are all among the first ten
    assert result["test"]["hybrid"]["questions"] == 3
    assert [(goal["value"], goal["goal"], goal["met"]) for goal in result["goals"]] == [(1.0, 0.7, True)] * 2
    assert [record["question"] for record in result["records"]][:2] == ["conv-0/0", "conv-0/1"]
    saved = (tmp_path / "out" / "retrieval.json").read_text(encoding="utf-8")
    assert json.loads(saved)["all"]["text"]["recall"] == everywhere["recall"]
    assert not any(text in saved for text in [*TURNS, *(question["question"] for question in QUESTIONS)])
    assert "hybrid, gold turns found" in table(result)
    assert "hybrid recall at 10, all dialogues, mean over questions" in table(result)


def test_only_locomos_test_dialogues_are_a_test_and_only_locomo_has_a_goal(data: Dataset) -> None:
    other = replace(data.split("train"), name="other")
    result = run(other, HashEmbedder(), rankings=["hybrid"])
    assert (list(result["all"]), "test" in result, result["goals"]) == (["hybrid"], False, [])
    assert "goal" not in table(result)


def test_a_data_set_without_evidence_is_refused(data: Dataset) -> None:
    without = replace(data, questions=tuple(replace(question, evidence=()) for question in data.questions))
    with pytest.raises(InvalidInput, match="locomo does not say which turns tell the answers"):
        run(without, HashEmbedder())


@pytest.mark.locomo
@pytest.mark.skipif("MEMORY_R1_LOCOMO" not in os.environ, reason="set MEMORY_R1_LOCOMO to the path of locomo10.json")
def test_text_search_finds_half_of_what_locomo_asks_for() -> None:
    result = run(load(os.environ["MEMORY_R1_LOCOMO"]), HashEmbedder(), rankings=["text"])
    assert result["all"]["text"]["questions"] == 1536
    assert result["all"]["text"]["recall_per_question"]["10"] > 0.5
