"""Segments of a dialogue: what they are made of, what a rollout is worth, and what is played again from a snapshot."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

from dialogues import ADD, EMBEDDER, HOUSE, JUNE, MAY, house_teach

from memory_r1.bank import MemoryBank
from memory_r1.bench.data import Question
from memory_r1.flow import Roles, run
from memory_r1.testing import ScriptedLLM
from memory_r1.train.config import LogoSettings
from memory_r1.train.episodes import play
from memory_r1.train.rewards import RewardConfig
from memory_r1.train.samples import Asked, Heard, Known, SegmentSample, bank_of, read_samples, write_samples
from memory_r1.train.segments import SegmentTask, segment_episode, segment_samples
from memory_r1.types import Fact, Prompt, Turn

DOGS = Asked("dogs", "How many dogs has Ann?", "two", "multi-hop", evidence=("1:1", "2:1"))
CAT = Asked("cat", "What is Ann's cat called?", "Tom", "single-hop", evidence=("1:2",))
BIKE = Asked("bike", "Which colour is Ann's bike?", "red", "single-hop", evidence=("2:2",))
NOOP = '{"operation": "NOOP"}'
ALL = LogoSettings(turns=10, snapshots=9, alternatives=2)


def segments(turns: int = 10, window: int = 50) -> list[SegmentSample]:
    return list(segment_samples(HOUSE, ScriptedLLM(house_teach), EMBEDDER, turns=turns, window=window))


def roles(manage: ScriptedLLM) -> Roles:
    return Roles(by_step={"manage": manage, "answer": ScriptedLLM(house_teach)})


def worth(manage: ScriptedLLM) -> float:
    [whole] = segments()
    bank = MemoryBank(embedder=EMBEDDER)
    return run(segment_episode(whole, bank, RewardConfig(), whole.questions), roles(manage)).total


def test_a_dialogue_is_cut_into_segments_with_what_can_be_asked_after_each() -> None:
    first, second = segments(turns=2)
    assert (first.id, first.bank, first.earlier) == ("d3/1:1..1:2", (), ())
    assert [[asked.id for asked in heard.questions] for heard in first.heard] == [[], ["cat"]]
    assert first.heard[1].facts == (Fact("Ann have a cat, Tom.", "Ann", MAY),)
    buddy = Known("Ann adopted a dog, Buddy.", "Ann", MAY, ("1:1",))
    assert (second.id, second.bank) == ("d3/2:1..2:2", (buddy, Known("Ann have a cat, Tom.", "Ann", MAY, ("1:2",))))
    assert (second.earlier, second.questions) == ((CAT,), (DOGS, BIKE, CAT))


def test_what_nothing_answers_any_more_is_asked_after_its_turn_where_that_is_wanted() -> None:
    gone = Question("gone", "d3", "What is Ann's bird called?", "", "adversarial", ("1:2",), answerable=False)
    asked = replace(HOUSE, questions=(*HOUSE.questions, gone))
    made = {
        wanted: segment_samples(asked, ScriptedLLM(house_teach), EMBEDDER, turns=10, unanswerable=wanted)
        for wanted in (False, True)
    }
    counts = {wanted: [len(one.questions) for one in samples] for wanted, samples in made.items()}
    assert counts == {False: [3], True: [4]}


def test_what_lies_before_the_window_is_not_asked_for() -> None:
    assert [(one.bank, one.earlier) for one in segments(turns=2, window=0)] == [((), ()), ((), ())]


def test_a_segment_without_questions_is_left_out() -> None:
    assert [one.id for one in segments(turns=1)] == ["d3/1:2..1:2", "d3/2:1..2:1", "d3/2:2..2:2"]


def test_segments_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples.jsonl", segments(turns=2))
    assert read_samples(tmp_path / "samples.jsonl") == segments(turns=2)


def test_a_rollout_is_worth_what_its_last_bank_answers() -> None:
    assert worth(ScriptedLLM(house_teach)) == 1.0
    assert worth(ScriptedLLM([ADD, ADD, ADD])) == 2 / 3  # two entries of one dog each

    def forgetful(prompt: Prompt) -> str:
        """Right until the bike, which takes the place of the nearest entry."""
        if "New fact: Ann have a red bike." in prompt.messages[-1].content:
            return '{"operation": "UPDATE", "index": 1, "text": "Ann has a cat and a red bike."}'
        return house_teach(prompt)

    assert worth(ScriptedLLM(forgetful)) == 2 / 3


def test_a_rollout_has_every_decision_of_its_segment() -> None:
    task = SegmentTask(segments(), EMBEDDER, ALL)
    assert (len(task), task.name(0)) == (1, "d3/1:1..2:2")
    [rollout] = play(task.maker(0), 1, roles(ScriptedLLM(house_teach)), "manage")
    assert rollout.reward.operations == ["ADD", "ADD", "UPDATE", "ADD"]  # nothing is related to the first
    assert len(rollout.exchanges) == 3


class RightThenBoth:
    """Plays both rollouts right, and whatever is played again once as NOOP and once right."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, prompt: Prompt) -> str:
        text = prompt.messages[-1].content
        self.asked[text] += 1
        return NOOP if self.asked[text] == 3 else house_teach(prompt)


def test_alternatives_are_worth_what_they_leave_right_after_their_turn() -> None:
    group = SegmentTask(segments(), EMBEDDER, ALL).play(0, 2, roles(ScriptedLLM(RightThenBoth())), Random(0))
    assert (group.sample, group.rewards) == ("d3/1:1..2:2", [1.0, 1.0])
    found = {one.sample: (one.rewards, [len(played.reward.answers) for played in one.rollouts]) for one in group.local}
    assert found == {
        # asked of the cat; of the dogs nothing can be asked before the second
        "d3/1:1..2:2 at 1:2": ([0.0, 1.0], [1, 1]),
        # of the dogs, and of the cat that is shown and could be wiped
        "d3/1:1..2:2 at 2:1": ([0.5, 1.0], [2, 2]),
        "d3/1:1..2:2 at 2:2": ([2 / 3, 1.0], [3, 3]),
    }


def test_alternatives_answer_the_very_prompt_of_the_rollout_they_leave() -> None:
    group = SegmentTask(segments(), EMBEDDER, ALL).play(0, 2, roles(ScriptedLLM(RightThenBoth())), Random(0))
    rolled = {exchange.prompt.messages for exchange in group.rollouts[0].exchanges}
    again = [
        {exchange.prompt.messages for one in local.rollouts for exchange in one.exchanges} for local in group.local
    ]
    assert [len(prompts) for prompts in again] == [1, 1, 1]
    assert set.union(*again) == rolled
    assert [len(one.exchanges) for one in group.episodes] == [3, 3, 1, 1, 1, 1, 1, 1]


def test_of_a_turn_with_two_facts_the_second_is_played_again_alone_and_the_first_with_what_follows() -> None:
    facts = (Fact("Ann has a cat, Tom.", "Ann", JUNE), Fact("Ann has a red bike.", "Ann", JUNE))
    both = Heard(Turn("Ann", "I have a cat, Tom, and a red bike.", JUNE, "1:2"), facts, (CAT, BIKE))
    sample = SegmentSample("two", (both,), (Known("Ann adopted a dog, Buddy.", "Ann", MAY, ("1:1",)),))
    group = SegmentTask([sample], EMBEDDER, ALL).play(0, 2, roles(ScriptedLLM(RightThenBoth())), Random(0))
    found = sorted(
        (tuple(played.reward.operations), played.reward.total, len(played.exchanges))
        for one in group.local
        for played in one.rollouts
    )
    assert found == [
        (("ADD",), 1.0, 1),
        (("ADD", "ADD"), 1.0, 1),
        (("NOOP",), 0.5, 1),
        (("NOOP", "ADD"), 0.5, 1),
    ]


def test_what_is_asked_is_the_same_for_all_rollouts_and_at_most_so_many() -> None:
    few = LogoSettings(turns=10, questions=2, local_weight=0.0)
    group = SegmentTask(segments(), EMBEDDER, few).play(0, 3, roles(ScriptedLLM(house_teach)), Random(1))
    answers = [rollout.reward.answers for rollout in group.rollouts]
    assert answers == [answers[0]] * 3
    assert len(answers[0]) == 2
    assert group.local == ()  # a local weight of 0 plays no alternatives


def test_the_rollouts_leave_the_bank_before_them_as_it_was() -> None:
    second = segments(turns=2)[1]
    task = SegmentTask([second], EMBEDDER, ALL)
    for _ in range(2):
        group = task.play(0, 2, roles(ScriptedLLM(house_teach)), Random(0))
        assert group.rewards == [1.0, 1.0]
    with bank_of(second.bank, EMBEDDER) as bank:
        assert bank.count() == 2
