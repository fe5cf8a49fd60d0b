"""The Answer Agent: what it is shown, what it keeps, and what it does not know."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from memory_r1.answer import UNKNOWN, answer_from, ask
from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.flow import run
from memory_r1.testing import ScriptedLLM
from memory_r1.types import Answer, Prompt, Reply, Scope

ANN = Scope(user_id="ann")


def filled(bank: MemoryBank, count: int) -> None:
    bank.add_many(
        NewEntry(f"Ann has dog {number}", ANN, event_time=datetime(2023, 5, 7, tzinfo=UTC)) for number in range(count)
    )


def asked(bank: MemoryBank, reply: str | Reply, question: str = "dog") -> Answer:
    return run(ask(question, bank, ANN), ScriptedLLM([reply]))


def shown_in(prompt: Prompt) -> int:
    return prompt.messages[1].content.count("Ann has dog")


def test_an_empty_bank_answers_that_it_does_not_know_and_asks_no_model(bank: MemoryBank) -> None:
    bank.add_many([NewEntry("Bob has a dog", Scope(user_id="bob"))])
    assert run(ask("dog", bank, ANN), ScriptedLLM([])) == Answer(UNKNOWN, (), (), known=False)


def test_the_answer_comes_with_what_was_retrieved_and_what_was_kept(bank: MemoryBank) -> None:
    filled(bank, 3)
    llm = ScriptedLLM(['{"keep": [2, 1], "answer": "two dogs"}'])
    retrieved = tuple(bank.search("dog", ANN, 60))
    answer = run(ask("dog", bank, ANN), llm)
    assert answer == Answer("two dogs", retrieved, (retrieved[1].entry, retrieved[0].entry))
    (prompt,) = llm.prompts
    assert prompt.step == "answer"
    assert prompt.messages[1].content == (
        "Memories:\n"
        + "\n".join(f"{place}. (7 May 2023) {hit.entry.text}" for place, hit in enumerate(retrieved, 1))
        + "\nQuestion: dog"
    )
    assert retrieved[0].entry.id not in prompt.messages[1].content


def test_an_answer_is_as_sure_as_the_reply_it_is_from(bank: MemoryBank) -> None:
    filled(bank, 1)
    sure = Reply('{"keep": [1], "answer": "a dog"}', logprobs=[-0.5, -0.25])
    assert [asked(bank, reply).logprob for reply in (sure, sure.text)] == [-0.75, None]
    assert [asked(bank, reply).certainty for reply in (sure, sure.text)] == [math.exp(-0.75), None]


def test_an_answer_that_the_model_is_too_little_sure_of_is_not_given(bank: MemoryBank) -> None:
    filled(bank, 1)
    half = Reply('{"keep": [1], "answer": "a dog"}', logprobs=[math.log(0.5)])
    untold = Reply(half.text)  # by a runtime that gives no probabilities

    def given(least: float, reply: Reply) -> tuple[str, int, bool]:
        answer = run(ask("dog", bank, ANN, least_certainty=least), ScriptedLLM([reply]))
        return answer.text, len(answer.used), answer.known

    assert given(0.49, half) == ("a dog", 1, True)
    assert given(0.51, half) == (UNKNOWN, 0, False)
    assert given(0.51, untold) == ("a dog", 1, True)


@pytest.mark.parametrize(
    ("reply", "text", "kept", "known", "readable"),
    [
        ('{"keep": [1], "answer": "a dog"}', "a dog", [0], True, True),
        ('{"keep": ["1", 1, 1.0, 0, 9, true, null, [1]], "answer": "a dog"}', "a dog", [0], True, True),
        ('{"keep": 1, "answer": "a dog"}', "a dog", [], True, True),
        ('{"answer": "a dog"}', "a dog", [], True, True),
        ('```json\n{"keep": [], "answer": " a \\n dog "}\n```', "a dog", [], True, True),
        ('{"keep": [1], "answer": "unknown"}', UNKNOWN, [], False, True),
        ('{"keep": [1], "answer": "I don\'t know."}', UNKNOWN, [], False, True),
        ('{"keep": [1], "answer": "Not mentioned"}', UNKNOWN, [], False, True),
        ('{"keep": [1], "answer": ""}', UNKNOWN, [], False, True),
        ('{"keep": [1], "answer": "\\ud83d"}', UNKNOWN, [], False, True),
        ("a dog", "a dog", [], True, False),
        ('{"keep": [1], "answer": "a do', '{"keep": [1], "answer": "a do', [], True, False),
        ('{"keep": [1], "answer": 5}', '{"keep": [1], "answer": 5}', [0], True, False),
        ("unknown", UNKNOWN, [], False, False),
        ("", UNKNOWN, [], False, False),
    ],
)
def test_replies(bank: MemoryBank, reply: str, text: str, kept: list[int], known: bool, readable: bool) -> None:
    filled(bank, 2)
    answer = asked(bank, reply)
    used = tuple(answer.retrieved[place].entry for place in kept)
    assert (answer.text, answer.used, answer.known, answer.readable) == (text, used, known, readable)


def test_what_does_not_fit_the_context_is_dropped_from_the_end_and_counted(bank: MemoryBank) -> None:
    filled(bank, 40)

    def model(prompt: Prompt) -> Reply:
        tokens = 100 + 20 * shown_in(prompt)
        if tokens + 120 > 600:
            return Reply("", prompt_tokens=tokens, context_tokens=600, stop="overflow")
        return Reply('{"keep": [1], "answer": "a dog"}', prompt_tokens=tokens, context_tokens=600)

    llm = ScriptedLLM(model)
    answer = run(ask("dog", bank, ANN), llm)
    shown = [shown_in(prompt) for prompt in llm.prompts]
    assert shown == [40, 20, 18]
    assert (answer.text, answer.dropped, len(answer.retrieved)) == ("a dog", 22, 40)
    assert answer.used == (answer.retrieved[0].entry,)
    for hit in answer.retrieved[:18]:
        assert f" {hit.entry.text}\n" in llm.prompts[-1].messages[1].content


def test_a_model_that_does_not_tell_its_context_is_shown_half_each_time(bank: MemoryBank) -> None:
    filled(bank, 10)
    replies = [Reply("", stop="overflow"), Reply("", stop="overflow"), '{"keep": [], "answer": "a dog"}']
    llm = ScriptedLLM(replies)
    answer = run(ask("dog", bank, ANN), llm)
    assert ([shown_in(prompt) for prompt in llm.prompts], answer.dropped) == ([10, 5, 2], 8)


def test_a_question_that_fits_no_context_is_not_known_and_ends(bank: MemoryBank) -> None:
    filled(bank, 10)
    llm = ScriptedLLM(lambda _: Reply("", prompt_tokens=99_999, context_tokens=512, stop="overflow"))
    answer = run(ask("dog", bank, ANN), llm)
    assert (answer.text, answer.known, answer.dropped, answer.used) == (UNKNOWN, False, 10, ())
    assert len(llm.prompts) <= 10


def test_sixty_entries_are_retrieved_thirty_of_each_of_two_speakers(bank: MemoryBank) -> None:
    bank.add_many(NewEntry(f"dog {number}", ANN, speaker) for number in range(50) for speaker in ("Ann", "Bo"))
    answer = asked(bank, "a dog")
    speakers = [hit.entry.speaker for hit in answer.retrieved]
    assert (speakers.count("Ann"), speakers.count("Bo")) == (30, 30)


def test_filters_narrow_what_is_shown(bank: MemoryBank) -> None:
    bank.add_many([NewEntry("dog one", ANN, metadata={"n": 1}), NewEntry("dog two", ANN, metadata={"n": 2})])
    answer = run(ask("dog", bank, ANN, filters={"n": 2}), ScriptedLLM(["x"]))
    assert [hit.entry.text for hit in answer.retrieved] == ["dog two"]


def test_without_distillation_only_the_answer_is_asked_for(bank: MemoryBank) -> None:
    filled(bank, 2)
    llm = ScriptedLLM(['{"answer": "a dog"}'])
    answer = run(ask("dog", bank, ANN, distil=False), llm)
    assert (answer.text, answer.used, answer.known, answer.readable) == ("a dog", (), True, True)
    (prompt,) = llm.prompts
    assert prompt.schema is not None
    assert list(prompt.schema["properties"]) == ["answer"]
    assert "keep" not in prompt.messages[0].content
    assert prompt.version.startswith("answer_plain@")


def test_memories_found_elsewhere_are_answered_from_and_none_at_all_is_said_so() -> None:
    llm = ScriptedLLM(['{"keep": [], "answer": "Rome"}'])
    assert run(answer_from("Where?", []), llm).text == "Rome"
    assert llm.prompts[0].messages[1].content == "Memories:\nnone\nQuestion: Where?"
