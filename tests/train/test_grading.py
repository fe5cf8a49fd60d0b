"""Grading replies in held-out worlds, on hand-worked ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dialogues import MAY

from memory_r1.cli import main
from memory_r1.errors import InvalidInput
from memory_r1.manager import manager_prompt
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.train.evaluate import (
    Graded,
    against,
    evaluate,
    grades,
    placed_examples,
    read_result,
    result,
    spread,
    summary,
    table,
)
from memory_r1.train.examples import Placed
from memory_r1.train.teacher import Example
from memory_r1.types import Fact, MemoryEntry, Message, Prompt, Scope, Step

EMBEDDER = HashEmbedder(256)


def example(step: Step, about: str = "dogs.second", **reply: Any) -> Example:
    return Example(Prompt(step, (Message("user", "?"),), {"type": "object"}), json.dumps(reply), about)


ASKED = manager_prompt(
    Fact("Ann has a second dog, Bo.", "Ann"),
    [
        MemoryEntry(str(place), text, Scope(user_id="ann"), MAY, MAY, 0, "Ann")
        for place, text in enumerate(["Ann has a cat.", "Ann has a dog, Rex."])
    ],
)


def decided(**reply: Any) -> Example:
    return Example(ASKED, json.dumps(reply), "dogs.second")


UPDATE = decided(operation="UPDATE", index=2, text="Ann has two dogs, Rex and Bo.")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (UPDATE.reply, {"decision": 1.0, "operation": 1.0, "readable": 1.0, "text": 1.0}),
        (
            '{"operation": "update", "index": "1", "text": "Ann has a cat and a dog, Bo."}',
            {"decision": 0.0, "operation": 1.0, "readable": 1.0, "text": pytest.approx(2 * 4 / (7 + 7))},
        ),
        (  # the product adds the fact instead
            '{"operation": "UPDATE", "index": 2, "text": "Ann lives in Rome."}',
            {"decision": 0.0, "operation": 0.0, "readable": 1.0},
        ),
        ('{"operation": "ADD"}', {"decision": 0.0, "operation": 0.0, "readable": 1.0}),
        ("I would update it.", {"decision": 0.0, "operation": 0.0, "readable": 0.0}),
    ],
)
def test_a_decision_is_right_when_it_is_the_same_operation_on_the_same_entry(
    reply: str, expected: dict[str, float]
) -> None:
    assert grades(UPDATE, reply) == expected


def test_an_answer_that_was_asked_for_alone_has_no_grade_for_what_was_kept() -> None:
    alone = example("answer", "temporal", answer="May 2024")
    assert grades(alone, '{"answer": "May 2024"}') == {"readable": 1.0, "right": 1.0, "exact_match": 1.0}


def test_what_cannot_be_read_is_not_right_where_nothing_was_to_be_done() -> None:
    noop = decided(operation="NOOP")
    assert grades(noop, '{"operation": "NOOP", "index": 2}')["decision"] == 1.0
    assert grades(noop, "nothing to do") == {"decision": 0.0, "operation": 0.0, "readable": 0.0}


def test_an_answer_is_graded_with_the_memories_it_kept() -> None:
    asked = example("answer", "single-hop", keep=[1, 3], answer="two dogs")
    assert grades(asked, '{"keep": [3, 4], "answer": "two cats"}') == {
        "right": 0.5,
        "exact_match": 0.0,
        "kept": 0.5,
        "readable": 1.0,
    }


def test_where_nothing_tells_abstaining_is_right() -> None:
    asked = example("answer", "adversarial", keep=[], answer="unknown")
    assert grades(asked, '{"keep": [], "answer": "unknown"}') == {"right": 1.0, "kept": 1.0, "readable": 1.0}
    assert grades(asked, '{"keep": [1], "answer": "a dog"}') == {"right": 0.0, "kept": 0.0, "readable": 1.0}


def test_facts_are_graded_both_ways() -> None:
    asked = example("extract", facts=["Ann has a dog.", "Ann is a nurse."])
    assert grades(asked, asked.reply)["facts"] == 1.0
    assert grades(asked, '{"facts": []}') == {"facts": 0.0, "readable": 1.0}
    # "Ann has a dog" is met whole; "Ann is a nurse" by it with 2 of 4 words.
    assert grades(asked, '{"facts": ["Ann has a dog."]}')["facts"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert grades(example("extract", facts=[]), '{"facts": []}')["facts"] == 1.0


def test_a_perfect_agent_has_full_marks_in_every_step() -> None:
    made = list(placed_examples(EMBEDDER, ("extract", "manage", "answer"), count=2, seed=0, related=3))
    told = {one.prompt.messages: one.reply for _, one in made}
    graded = list(evaluate(made, ScriptedLLM(lambda prompt: told[prompt.messages])))
    steps = summary(graded)
    assert {step: found["examples"] for step, found in steps.items()} == {
        step: sum(one.prompt.step == step for _, one in made) for step in ("extract", "manage", "answer")
    }
    assert all(measure["mean"] == 1.0 for found in steps.values() for measure in found["measures"].values())
    assert {group["mean"] for group in steps["manage"]["by_operation"].values()} == {1.0}


def test_a_limit_spreads_over_all_dialogues() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 4) == [0, 1, 2]


def test_free_replies_are_asked_for_without_a_schema() -> None:
    asked = [Placed("d", UPDATE)]
    for free, schema in ((True, None), (False, ASKED.schema)):
        llm = ScriptedLLM([UPDATE.reply])
        list(evaluate(asked, llm, free=free))
        assert llm.prompts[0].schema == schema


def test_two_results_are_compared_on_the_prompts_that_both_were_asked() -> None:
    def done(replies: dict[str, str]) -> dict[str, Any]:
        asked = {text: replace(ASKED, messages=(Message("system", text), ASKED.messages[-1])) for text in replies}
        made = {text: Example(prompt, UPDATE.reply, "dogs") for text, prompt in asked.items()}
        graded = [Graded(text, made[text], reply, grades(made[text], reply)) for text, reply in replies.items()]
        return result(graded, {})

    better, worse = done({"a": UPDATE.reply, "b": UPDATE.reply}), done({"b": "nothing", "c": "nothing"})
    assert list(against(better, worse)) == ["manage: +100.0 (+100.0 to +100.0) on 1 prompts that both were asked"]
    assert list(against(better, done({"c": "nothing"}))) == ["manage: no prompt that both were asked"]


@pytest.mark.parametrize("text", ["[]", '{"steps": {}}'])
def test_a_file_that_holds_no_scores_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "before.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"before\.json is no result of `train evaluate --out` with scores"):
        read_result(file)


def test_the_table_of_two_decisions() -> None:
    add = example("manage", "jobs.first", operation="ADD")
    graded = [
        Graded("one", UPDATE, UPDATE.reply, grades(UPDATE, UPDATE.reply)),
        Graded("two", add, "nothing", grades(add, "nothing")),
    ]
    assert list(table(summary(graded))) == [
        "manage: 2 prompts, decision 50.0 (0.0-100.0), operation 50.0 (0.0-100.0), readable 50.0 (0.0-100.0), "
        "text 100.0 (100.0-100.0)",
        "  ADD                        0.0  of 1",
        "  UPDATE                   100.0  of 1",
        "  dogs.second              100.0  of 1",
        "  jobs.first                 0.0  of 1",
    ]


def test_a_family_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["train", "evaluate", "--model", str(tmp_path / "none.gguf"), "--family", "dragons"]
    )
    assert done.exit_code == 1
    assert "no model" in done.output
