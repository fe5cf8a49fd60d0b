"""The judge: what it is shown, and what is made of its reply."""

from __future__ import annotations

import pytest

from memory_r1.bench.judge import READINGS, Reading, judge
from memory_r1.flow import run, run_batch
from memory_r1.prompts import instructions
from memory_r1.testing import ScriptedLLM


@pytest.mark.parametrize("reading", READINGS)
def test_the_judge_is_shown_question_gold_and_answer_under_its_own_instructions(reading: Reading) -> None:
    llm = ScriptedLLM(['{"reason": "same day", "correct": true}'])
    assert run(judge("When did Ann adopt Rex?", "7 May 2023", "May 7th", reading), llm) is True
    (prompt,) = llm.prompts
    text, version = instructions("judge_lenient" if reading == "lenient" else "judge_strict")
    assert (prompt.step, prompt.version, prompt.temperature) == ("judge", version, 0.0)
    assert [message.role for message in prompt.messages] == ["system", "user"]
    assert prompt.messages[0].content == text
    assert prompt.messages[1].content == (
        "Question: When did Ann adopt Rex?\nReference answer: 7 May 2023\nAnswer to grade: May 7th"
    )
    assert prompt.schema is not None
    assert list(prompt.schema["properties"]) == ["reason", "correct"]


def test_the_two_readings_are_two_prompts_with_names_of_their_own() -> None:
    (lenient, first), (strict, second) = instructions("judge_lenient"), instructions("judge_strict")
    assert lenient != strict
    assert (first.split("@")[0], second.split("@")[0]) == ("judge_lenient", "judge_strict")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"reason": "x", "correct": true}', True),
        ('{"reason": "x", "correct": false}', False),
        ('```json\n{"correct": false}\n```', False),
        ('{"reason": "x", "correct": "true"}', None),
        ('{"reason": "x", "correct": 1}', None),
        ('{"reason": "x"}', None),
        ('{"reason": "cut off in the mid', None),
        ("CORRECT", None),
        ("", None),
    ],
)
def test_an_unreadable_judgement_is_no_verdict(reply: str, verdict: bool | None) -> None:
    assert run(judge("q", "g", "a", "strict"), ScriptedLLM([reply])) is verdict


def test_many_answers_are_judged_in_one_batch() -> None:
    llm = ScriptedLLM(
        lambda prompt: f'{{"correct": {"true" if "grade: yes" in prompt.messages[1].content else "false"}}}'
    )
    assert run_batch([judge("q", "yes", answer, "lenient") for answer in ("yes", "no", "yes")], llm) == [
        *(True, False, True)
    ]
