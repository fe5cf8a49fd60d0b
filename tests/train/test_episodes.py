"""Episodes are the product's flows: what each is worth, and what was said on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dialogues import ADD, DATA, EMBEDDER, PETS, UPDATE, answer, pets_teach, pets_teacher, teacher

from memory_r1.bank import MemoryBank
from memory_r1.flow import Roles, run
from memory_r1.manager import remember
from memory_r1.testing import ScriptedLLM
from memory_r1.train.episodes import answer_episode, manager_episode, play
from memory_r1.train.rewards import Reward, RewardConfig, combined, overlap
from memory_r1.train.samples import SCOPE, answer_samples, bank_of, contents, manager_samples

[SECOND_DOG] = manager_samples(DATA, teacher(), EMBEDDER)
DOGS, ROME = answer_samples(DATA, teacher(), EMBEDDER)


def before() -> MemoryBank:
    return bank_of(SECOND_DOG.bank, EMBEDDER)


def test_what_a_group_leaves_in_its_own_banks_decides_its_rewards() -> None:
    bank = before()
    roles = Roles(by_step={"manage": ScriptedLLM([UPDATE, ADD, "no JSON"]), "answer": ScriptedLLM(answer)})
    rollouts = play(lambda: manager_episode(SECOND_DOG, bank.fork()), 3, roles, "manage")
    assert [rollout.reward.total for rollout in rollouts] == [1.0, 0.0, 0.0]
    assert [rollout.reward.operations for rollout in rollouts] == [["UPDATE"], ["ADD"], ["NOOP"]]
    assert [rollout.reward.answers for rollout in rollouts] == [["two"], ["I don't know."], ["I don't know."]]
    assert [rollout.reward.readable for rollout in rollouts] == [[True], [True], [False]]
    assert [[e.reply.text for e in rollout.exchanges] for rollout in rollouts] == [[UPDATE], [ADD], ["no JSON"]]
    assert {e.prompt.step for rollout in rollouts for e in rollout.exchanges} == {"manage"}
    assert bank.count(SCOPE) == 2  # the forks' doings stay in them


def test_an_update_that_wipes_a_needed_memory_costs_what_the_memory_told() -> None:
    [bike] = manager_samples(PETS, pets_teacher(), EMBEDDER)
    assert [asked.id for asked in bike.questions] == ["bike", "cat"]  # the turn tells of the bike
    replies = {
        ADD: 1.0,
        '{"operation": "NOOP"}': 0.5,
        '{"operation": "UPDATE", "index": 1, "text": "Ann has a cat, Tom, and a red bike."}': 1.0,
        '{"operation": "UPDATE", "index": 1, "text": "Ann has a cat and a red bike."}': 0.5,
        '{"operation": "UPDATE", "index": 1, "text": "Ann has a red bike."}': 1.0,  # added instead
        '{"operation": "DELETE", "index": 1}': 0.0,
    }
    bank = bank_of(bike.bank, EMBEDDER)
    roles = Roles(by_step={"manage": ScriptedLLM(list(replies)), "answer": ScriptedLLM(pets_teach)})
    rollouts = play(lambda: manager_episode(bike, bank.fork()), len(replies), roles, "manage")
    assert {one.exchanges[0].reply.text: one.reward.total for one in rollouts} == replies
    assert [one.reward.readable for one in rollouts] == [[True], [True], [True], [True], [False], [True]]


def test_with_the_linked_questions_alone_wiping_costs_nothing() -> None:
    [bike] = manager_samples(PETS, pets_teacher(), EMBEDDER, guarded=0)
    wiping = ScriptedLLM(['{"operation": "UPDATE", "index": 1, "text": "Ann has a cat and a red bike."}'])
    roles = Roles(by_step={"manage": wiping, "answer": ScriptedLLM(pets_teach)})
    assert run(manager_episode(bike, bank_of(bike.bank, EMBEDDER)), roles).total == 1.0


def test_an_episode_is_remember_itself() -> None:
    by_hand, played = before(), before()
    llm = Roles(by_step={"manage": ScriptedLLM([UPDATE] * 2), "answer": ScriptedLLM(answer)})
    by_hand.begin_turn(SCOPE, SECOND_DOG.turn, SECOND_DOG.facts)
    run(remember(SECOND_DOG.turn, by_hand, SCOPE, k=3), llm)
    run(manager_episode(SECOND_DOG, played), llm)
    assert contents(played) == contents(by_hand)
    nameless = replace(SECOND_DOG, turn=replace(SECOND_DOG.turn, id=None))
    llm = Roles(by_step={"manage": ScriptedLLM([UPDATE]), "answer": ScriptedLLM(answer)})
    assert run(manager_episode(nameless, before()), llm).operations == ["UPDATE"]


def test_growth_is_measured_against_the_facts() -> None:
    parts = []
    for reply in (UPDATE, ADD, '{"operation": "NOOP"}', '{"operation": "DELETE", "index": 1}'):
        llm = Roles(by_step={"manage": ScriptedLLM([reply]), "answer": ScriptedLLM(answer)})
        parts.append(run(manager_episode(SECOND_DOG, before()), llm).parts["growth"])
    # in tokens of three bytes: the fact has 11; "…two dogs, Buddy and Scout." 13 in place of 9
    assert parts == pytest.approx([4 / 11, 1.0, 0.0, -9 / 11])


def test_the_increment_is_over_the_bank_left_as_it_was() -> None:
    config = RewardConfig(increment=True)
    llm = Roles(by_step={"manage": ScriptedLLM([UPDATE]), "answer": ScriptedLLM(answer)})
    reward = run(manager_episode(SECOND_DOG, before(), config), llm)
    assert (reward.total, reward.parts["before"], reward.parts["metric"]) == (1.0, 0.0, 1.0)
    rome = replace(SECOND_DOG, questions=(ROME.question,))
    llm = Roles(by_step={"manage": ScriptedLLM([UPDATE]), "answer": ScriptedLLM(answer)})
    assert run(manager_episode(rome, before(), config), llm).total == 0.0  # known before as well


def test_an_answer_is_worth_its_metric_and_what_it_keeps() -> None:
    config = RewardConfig(metric="f1", support=0.1, format=0.2)
    replies = ['{"keep": [1], "answer": "two"}', '{"keep": [2], "answer": "two dogs"}', "two"]
    rewards = [run(answer_episode(DOGS, config), ScriptedLLM([reply])) for reply in replies]
    assert [reward.total for reward in rewards] == pytest.approx([1.1, 2 / 3, 1.0 - 0.2])
    assert rewards[1].parts == {"metric": pytest.approx(2 / 3), "unreadable": 0.0, "support": 0.0}


def test_an_episode_may_be_judged() -> None:
    llm = ScriptedLLM(['{"keep": [], "answer": "both"}', '{"reason": "same", "correct": true}'])
    assert run(answer_episode(DOGS, RewardConfig(metric="judge_strict")), llm).total == 1.0
    llm = ScriptedLLM(['{"keep": [], "answer": "both"}', "?"])
    assert run(answer_episode(DOGS, RewardConfig(metric="judge_lenient")), llm).total == 0.0


def test_abstaining_is_right_where_nothing_tells() -> None:
    cat = list(answer_samples(DATA, teacher(), EMBEDDER, unanswerable=True))[2]
    rewards = [run(answer_episode(cat), ScriptedLLM([f'{{"answer": "{said}"}}'])) for said in ("unknown", "Tom")]
    assert [reward.total for reward in rewards] == [1.0, 0.0]


def test_the_terms_are_added_with_their_weights() -> None:
    parts = {"metric": 1.0, "before": 0.25, "unreadable": 0.5, "growth": 2.0, "support": 0.5}
    assert combined(RewardConfig(format=0.1, size=0.05, support=0.2), parts) == pytest.approx(0.75 - 0.05 - 0.1 + 0.1)
    assert combined(RewardConfig(), {"metric": 1.0, "growth": 3.0}) == 1.0
    assert Reward(1.0, {}).operations == ()


def test_the_overlap_of_kept_and_supporting_places() -> None:
    assert [overlap([], []), overlap([0, 3], [0]), overlap([1], [0]), overlap([], [0])] == [
        1.0,
        pytest.approx(2 / 3),
        0.0,
        0.0,
    ]
