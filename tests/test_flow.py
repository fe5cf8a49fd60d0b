"""Drivers: the same flow under run, run_batch and arun."""

from __future__ import annotations

import asyncio

import pytest

from memory_r1.errors import InvalidInput, ModelUnavailable
from memory_r1.flow import Flow, Roles, Usage, arun, run, run_batch
from memory_r1.testing import ScriptedLLM
from memory_r1.types import Message, Prompt, Reply, Step


def prompt(text: str, step: Step = "manage") -> Prompt:
    return Prompt(step, (Message("user", text),))


def count_down(start: int) -> Flow[list[str]]:
    """Asks `start` questions."""
    heard = []
    for number in range(start, 0, -1):
        reply = yield prompt(str(number))
        heard.append(reply.text)
    return heard


def echo() -> ScriptedLLM:
    return ScriptedLLM(lambda asked: f"<{asked.messages[0].content}>")


def test_run_sends_each_reply_to_the_flow_and_returns_its_result() -> None:
    assert run(count_down(3), echo()) == ["<3>", "<2>", "<1>"]


def test_a_flow_that_asks_nothing_needs_no_model() -> None:
    assert run(count_down(0), ScriptedLLM([])) == []


def test_arun_gives_what_run_gives() -> None:
    assert asyncio.run(arun(count_down(3), echo())) == run(count_down(3), echo())


def test_run_batch_answers_all_waiting_prompts_in_one_batch_a_round() -> None:
    batches: list[list[str]] = []

    class Batches:
        def complete(self, prompts):  # type: ignore[no-untyped-def]
            batches.append([asked.messages[0].content for asked in prompts])
            return echo().complete(prompts)

    assert run_batch([count_down(2), count_down(0), count_down(3)], Batches()) == [
        ["<2>", "<1>"],
        [],
        ["<3>", "<2>", "<1>"],
    ]
    assert batches == [["2", "3"], ["1", "2"], ["1"]]


def test_an_error_of_the_model_reaches_the_caller() -> None:
    with pytest.raises(ModelUnavailable, match="no reply left"):
        run(count_down(2), ScriptedLLM(["one"]))


def test_roles_send_each_step_to_its_model_and_count_what_it_costs() -> None:
    def costing(tokens: int) -> ScriptedLLM:
        return ScriptedLLM(lambda asked: Reply(asked.step, prompt_tokens=tokens, completion_tokens=1))

    roles = Roles(costing(10), {"answer": costing(100)})
    replies = roles.complete([prompt("a", "answer"), prompt("b", "extract"), prompt("c", "answer")])
    assert [(reply.text, reply.prompt_tokens) for reply in replies] == [
        ("answer", 100),
        ("extract", 10),
        ("answer", 100),
    ]
    assert roles.usage == {"answer": Usage(2, 200, 2), "extract": Usage(1, 10, 1)}
    assert roles.usage["answer"].tokens == 202


def test_a_step_that_no_model_plays_is_an_error_that_names_it() -> None:
    with pytest.raises(InvalidInput, match="'judge'"):
        Roles(by_step={"answer": echo()}).complete([prompt("a", "judge")])
