"""What two replies decide, and how far a runtime follows a reply: on replies made up here."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from memory_r1.train.material import product_prompts
from memory_r1.train.parity import Compared, agreeing, decision, summary
from memory_r1.types import Step


@pytest.mark.parametrize(
    ("step", "reply", "expected"),
    [
        ("manage", '{"operation": "UPDATE", "index": 2, "text": "Ann moved."}', ("UPDATE", 2)),
        ("manage", '{"operation": "UPDATE", "index": 2, "text": "other words"}', ("UPDATE", 2)),
        ("manage", 'Well: {"operation": "add", "index": 3}', ("ADD", None)),
        ("manage", '{"operation": "MOVE"}', None),
        ("manage", "ADD", None),
        ("extract", '{"facts": ["Ann moved."]}', ("Ann moved.",)),
        ("extract", "none", None),
        ("answer", '{"keep": [2, 1], "answer": " Oslo"}', (("2", "1"), "Oslo")),
        ("answer", "Oslo", None),
    ],
)
def test_a_reply_decides(step: Step, reply: str, expected: object) -> None:
    assert decision(step, reply) == expected


def test_a_runtime_is_led_on_after_each_token_it_would_not_have_chosen() -> None:
    asked = []
    most_likely = {7: 1, 1: 2, 2: 9, 3: 4, 4: 0}  # after the token: the next

    def follow(ids: list[int], count: int) -> Sequence[int]:
        asked.append((ids, count))
        made = list(ids)
        while len(made) < len(ids) + count and made[-1] in most_likely:
            made.append(most_likely[made[-1]])
        return made[len(ids) :]

    assert agreeing(follow, [7], [1, 2, 3, 4, 5]) == 3  # 1, 2 and 4; not 3, not 5
    assert asked == [([7], 5), ([7, 1, 2, 3], 2)]


def test_a_runtime_that_stops_early_is_asked_again() -> None:
    assert agreeing(lambda ids, _: [len(ids)], [9], [1, 2, 8, 4]) == 3
    assert agreeing(lambda *_: [], [9], [1, 2]) == 0


def one(same_decision: bool, tokens: int, same_tokens: int) -> Compared:
    return Compared("manage", True, True, same_decision, tokens, same_tokens, "", "")


def test_the_summary_counts_prompts_for_decisions_and_positions_for_tokens() -> None:
    assert summary([one(True, 50, 50), one(True, 150, 146)]) == {
        "prompts": 2,
        "tokens": 200,
        "same_prompt": 1.0,
        "readable": 1.0,
        "same_decision": 1.0,
        "same_token": 0.98,
        "reached": True,
    }
    assert not summary([one(True, 50, 50), one(True, 150, 145)])["reached"]
    assert not summary([one(True, 50, 50)] * 18 + [one(False, 50, 50)])["reached"]


@pytest.mark.parametrize("step", ["extract", "manage", "answer"])
def test_product_prompts_are_many_and_the_same_for_a_seed(step: Step) -> None:
    prompts = product_prompts(step, 100)
    assert prompts == product_prompts(step, 100)
    assert {prompt.step for prompt in prompts} == {step}
    assert len({prompt.messages for prompt in prompts}) >= 95
    assert prompts != product_prompts(step, 100, seed=1)


def test_prompts_read_as_the_product_writes_them() -> None:
    extract, manage, answer = (
        product_prompts(step, 1)[0].messages[1].content for step in ("extract", "manage", "answer")
    )
    assert extract == "(27 August 2026) Ann: Hi! I enjoy fencing. I work as a welder."
    assert manage == (
        "Memories:\n1. Ann enjoys fencing.\n2. Ann works as a plumber.\nNew fact: Ann has a second rabbit, Oscar."
    )
    assert answer.startswith("Memories:\n1. (8 February 2026) Fatou is allergic to soy.\n2. (30 May 2026) Kavya works")
    assert answer.endswith("\n12. (17 July 2026) Fatou has a cat called Pepper.\nQuestion: Which pet does Fatou have?")
