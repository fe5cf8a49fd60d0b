"""The teacher: its replies are what the product's parsers read as the gold."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest

from memory_r1.answer import parse_answer
from memory_r1.bank import MemoryBank
from memory_r1.bank.kept import words_of
from memory_r1.flow import run
from memory_r1.manager import parse_facts, parse_operation, remember
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.train.generate import generate
from memory_r1.train.teacher import ABSENT, SCOPE, GoldBank, examples
from memory_r1.train.wording import SPLITS, Split
from memory_r1.types import Prompt, Reply

EMBEDDER = HashEmbedder(256)


@pytest.mark.parametrize("split", SPLITS)
def test_the_product_driven_by_the_teacher_ends_with_the_gold_bank(split: Split) -> None:
    for seed in range(5):
        generated = generate(split, seed)
        gold = GoldBank(EMBEDDER, related=60)
        taught = list(gold.remember(generated))
        assert gold.skipped["manage"] == 0
        script = iter([one for one in taught if one.about != ABSENT])

        def reply(prompt: Prompt, script=script) -> str:  # type: ignore[no-untyped-def]
            example = next(script)
            assert prompt.messages == example.prompt.messages
            return str(example.reply)

        bank = MemoryBank(embedder=EMBEDDER)
        for turn in generated.dialogue.turns:
            run(remember(turn, bank, SCOPE, k=60), ScriptedLLM(reply))
        assert next(script, None) is None
        assert sorted(entry.text for entry in bank.all(SCOPE)) == sorted(generated.bank().values())
        assert sorted(entry.text for entry in gold.bank.all(SCOPE)) == sorted(generated.bank().values())


def test_replies_are_read_as_the_gold_by_the_products_parsers() -> None:
    skipped: Counter[str] = Counter()
    made = list(examples("train", 1, EMBEDDER, count=3, skipped=skipped))
    steps = Counter(example.prompt.step for example in made)
    assert set(steps) == {"extract", "manage", "answer"}
    assert skipped["manage"] < steps["manage"] / 10
    for example in made:
        if example.prompt.step == "extract":
            assert parse_facts(example.reply) == (json.loads(example.reply)["facts"], True)
        elif example.prompt.step == "answer":
            reply = json.loads(example.reply)
            answer = parse_answer(Reply(example.reply), (), ())
            assert answer.readable
            assert answer.known == (example.about != "adversarial")
            assert not answer.known or answer.text == reply["answer"]
            assert bool(reply["keep"]) == answer.known


def test_an_operation_is_read_as_the_gold_one() -> None:
    generated = generate("test", 2)
    told = {(one.fact.text, one.attribute): (turn, one) for turn, facts in generated.told.items() for one in facts}
    gold = GoldBank(EMBEDDER)
    seen: Counter[str] = Counter()
    for example in gold.remember(generated):
        if example.prompt.step == "manage" and example.about != ABSENT:
            memories, _, fact = example.prompt.messages[1].content.partition("\nNew fact: ")
            turn, wanted = told[fact, example.about]
            shown = [line.split(". ", 1)[1] for line in memories.splitlines()[1:]]
            related = [next(one for one in gold.bank.all(SCOPE) if one.text == text) for text in shown]
            operation = parse_operation(Reply(example.reply), wanted.fact, related)
            assert (operation.kind, operation.provenance.reason) == (wanted.kind, None)
            if operation.entry:
                assert operation.entry.text == generated.bank(before=turn)[wanted.entry]
                assert operation.text == wanted.text
            seen[operation.kind] += 1
    assert set(seen) == {"ADD", "UPDATE", "DELETE", "NOOP"}


def test_a_fact_about_an_entry_that_is_not_shown_is_added() -> None:
    """The prompt is that of the decision before it, without the entry that was decided about."""
    taught = [one for one in GoldBank(EMBEDDER).remember(generate("train", 0)) if one.prompt.step == "manage"]
    pairs = [(before, one) for before, one in pairwise(taught) if one.about == ABSENT]
    assert len(pairs) > 10
    for before, absent in pairs:
        decision = json.loads(before.reply)
        memories, _, fact = before.prompt.messages[1].content.partition("\nNew fact: ")
        shown = [line.partition(". ")[2] for line in memories.splitlines()[1:]]
        others, _, same_fact = absent.prompt.messages[1].content.partition("\nNew fact: ")
        left = [line.partition(". ")[2] for line in others.splitlines()[1:]]
        assert (absent.reply, same_fact, len(left)) == ('{"operation": "ADD"}', fact, len(shown) - 1)
        assert decision["operation"] != "ADD"
        if "index" in decision:
            assert left == [text for place, text in enumerate(shown, 1) if place != decision["index"]]


def test_the_bank_before_a_turn_is_the_gold_bank_before_it() -> None:
    generated = generate("train", 7)
    turn = generated.dialogue.turns[40].id
    gold = GoldBank(EMBEDDER)
    list(gold.remember(generated, before=turn))
    assert {entry.text for entry in gold.bank.all(SCOPE)} == set(generated.bank(before=turn).values())


def test_where_turns_are_kept_they_stand_for_memories_that_are_left_out() -> None:
    generated = generate("train", 3)
    gold = GoldBank(EMBEDDER, related=60, keep_turns=True)
    list(gold.remember(generated))
    memories = {entry.text for entry in gold.bank.all(SCOPE)}
    said = {words_of(turn, SCOPE).text for turn in generated.dialogue.turns}
    kinds: Counter[str] = Counter()
    for example in gold.ask(generated, 200):
        lines = example.prompt.messages[-1].content.splitlines()[1:-1]
        for place in json.loads(example.reply)["keep"]:
            kept = lines[place - 1].partition(") ")[2]
            kinds["memory" if kept in memories else "turn" if kept in said else "neither"] += 1
    assert set(kinds) == {"memory", "turn"}
    left = gold.bank.count(SCOPE)
    assert (left, gold.bank.count(SCOPE, turns=True)) == (
        len(memories) - round(len(memories) / 2),
        left + len(generated.dialogue.turns),
    )
    assert gold.skipped["answer"] == 0


def test_without_distillation_an_answer_is_taught_without_the_memories_it_is_from() -> None:
    generated = generate("train", 3)
    gold = GoldBank(EMBEDDER)
    list(gold.remember(generated))
    distilled, plain = list(gold.ask(generated)), list(gold.ask(generated, distil=False))
    assert [json.loads(one.reply) for one in plain] == [
        {"answer": json.loads(one.reply)["answer"]} for one in distilled
    ]
    assert [one.prompt.messages[-1] for one in plain] == [one.prompt.messages[-1] for one in distilled]
    assert '"keep"' not in plain[0].prompt.messages[0].content
