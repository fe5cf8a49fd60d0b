"""Episodes: the product's own flows with a reward at the end, and what the trained agent said on the way.

An episode acts on a bank of its own (a fork). Nothing of the agents is written a second time here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from memory_r1.answer import RETRIEVED, answer_from, ask
from memory_r1.bank import MemoryBank
from memory_r1.embed import Embedder
from memory_r1.flow import LLM, Flow, run_batch, watched
from memory_r1.manager import ADDED_INSTEAD, RELATED, UNREADABLE, remember
from memory_r1.train.rewards import Reward, RewardConfig, combined, growth, overlap, rightness
from memory_r1.train.samples import SCOPE, AnswerSample, Asked, Known, ManagerSample, bank_of
from memory_r1.types import Fact, Logged, MemoryEntry, Prompt, Reply, Retrieved, Step, Turn

_PLAIN = RewardConfig()
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)  # shown nowhere


class Exchange(NamedTuple):
    """What the trained agent was asked, and what it said."""

    prompt: Prompt
    reply: Reply


@dataclass(slots=True)
class Rollout:
    """One episode that was played: its reward, and every exchange of the trained agent, in order."""

    reward: Reward
    exchanges: list[Exchange] = field(default_factory=list)


class Group(NamedTuple):
    """The episodes of one sample. `local`: groups that began from snapshots of the bank within one of them."""

    sample: str
    rollouts: list[Rollout]
    local: tuple[Group, ...] = ()

    @property
    def rewards(self) -> list[float]:
        return [rollout.reward.total for rollout in self.rollouts]

    @property
    def varied(self) -> bool:
        """Whether there is anything to learn from: rewards that differ."""
        return len(set(self.rewards)) > 1 or any(one.varied for one in self.local)

    @property
    def episodes(self) -> list[Rollout]:
        """The rollouts, and after them those of the local groups."""
        return [*self.rollouts, *(rollout for group in self.local for rollout in group.rollouts)]

    @property
    def exchanges(self) -> list[tuple[int, Exchange]]:
        """Each exchange that has a reply, with the number of its episode."""
        return [(e, one) for e, played in enumerate(self.episodes) for one in played.exchanges if one.reply.token_ids]


def manager_episode(
    sample: ManagerSample,
    bank: MemoryBank,
    config: RewardConfig = _PLAIN,
    *,
    related: int = RELATED,
    retrieved: int = RETRIEVED,
) -> Flow[Reward]:
    """Decide what each fact of the turn does to `bank`, which is changed; then answer the questions from it."""
    turn = sample.turn if sample.turn.id else replace(sample.turn, id=sample.id)
    work = remembering(turn, sample.facts, bank, related)
    return (yield from rewarded(work, sample.facts, sample.questions, bank, config, retrieved))


def remembering(turn: Turn, facts: Sequence[Fact], bank: MemoryBank, related: int = RELATED) -> Flow[list[Logged]]:
    """The product's `remember` of a turn with an id whose facts were found before: what is left is to decide.

    In a fork of a bank that was in the midst of the turn it goes on there.
    """
    bank.begin_turn(SCOPE, turn, facts)  # does nothing where the turn has begun
    return (yield from remember(turn, bank, SCOPE, k=related))


def rewarded(
    work: Flow[list[Logged]],
    facts: Sequence[Fact],
    questions: Sequence[Asked],
    bank: MemoryBank,
    config: RewardConfig,
    retrieved: int,
) -> Flow[Reward]:
    """Let `work` change `bank` by these facts, and answer the questions from what it left."""
    before, parts = bank.all(SCOPE), dict[str, float]()
    if config.increment:
        parts["before"], _ = yield from _answered(questions, bank, config, retrieved)
    logged = yield from work
    parts["metric"], answers = yield from _answered(questions, bank, config, retrieved)
    wrong = UNREADABLE | ADDED_INSTEAD
    readable = [one.provenance.reason not in wrong for one in logged if one.provenance.prompt_version]
    parts["unreadable"] = readable.count(False) / max(1, len(readable))
    parts["growth"] = growth(before, bank.all(SCOPE), [fact.text for fact in facts])
    return Reward(combined(config, parts), parts, [one.kind for one in logged], answers, readable)


def _answered(
    questions: Sequence[Asked], bank: MemoryBank, config: RewardConfig, retrieved: int
) -> Flow[tuple[float, list[str]]]:
    """(mean rightness over the questions, the answers)."""
    right, answers = 0.0, []
    for asked in questions:
        answer = yield from ask(asked.text, bank, SCOPE, k=retrieved)
        right += yield from rightness(answer, asked, config.metric)
        answers.append(answer.text)
    return right / max(1, len(questions)), answers


def answer_episode(sample: AnswerSample, config: RewardConfig = _PLAIN, *, distil: bool = True) -> Flow[Reward]:
    """Keep the memories that tell, and answer; without `distil` answer alone."""
    memories = [_retrieved(known, place) for place, known in enumerate(sample.memories)]
    answer = yield from answer_from(sample.question.text, memories, distil=distil)
    parts = {
        "metric": (yield from rightness(answer, sample.question, config.metric)),
        "unreadable": float(not answer.readable),
        "support": overlap([int(entry.id) for entry in answer.used], sample.supporting),
    }
    return Reward(combined(config, parts), parts, (), [answer.text], [answer.readable])


def _retrieved(known: Known, place: int) -> Retrieved:
    """A memory as a search gives it; its id is its place."""
    when = known.event_time or _LONG_AGO
    entry = MemoryEntry(str(place), known.text, SCOPE, when, when, 0, known.speaker, known.event_time)
    return Retrieved(entry, 1.0 / (place + 1), 0.0)


def play(make: Callable[[], Flow[Reward]], count: int, llm: LLM, step: Step) -> list[Rollout]:
    """`count` episodes in lockstep, with the exchanges of the step that is trained."""
    return played([make() for _ in range(count)], llm, step)


def played(episodes: Sequence[Flow[Reward]], llm: LLM, step: Step) -> list[Rollout]:
    """These episodes in lockstep, with the exchanges of the step that is trained."""
    exchanges: list[list[Exchange]] = [[] for _ in episodes]

    def noted(into: list[Exchange]) -> Callable[[Prompt, Reply], None]:
        return lambda prompt, reply: into.append(Exchange(prompt, reply)) if prompt.step == step else None

    flows = [watched(episode, after=noted(into)) for episode, into in zip(episodes, exchanges, strict=True)]
    return [Rollout(*one) for one in zip(run_batch(flows, llm), exchanges, strict=True)]


class Task(Protocol):
    """What is trained: the step that the policy plays, and for each sample a maker of episodes."""

    step: Step

    def __len__(self) -> int: ...

    def maker(self, place: int) -> Callable[[], Flow[Reward]]: ...

    def name(self, place: int) -> str: ...


@dataclass(slots=True)
class ManagerTask:
    """Every episode of a sample acts on a fork of the one bank before it."""

    samples: Sequence[ManagerSample]
    embedder: Embedder
    reward: RewardConfig = _PLAIN
    related: int = RELATED
    retrieved: int = RETRIEVED
    step: Step = "manage"

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, place: int) -> str:
        return self.samples[place].id

    def maker(self, place: int) -> Callable[[], Flow[Reward]]:
        sample = self.samples[place]
        bank = bank_of(sample.bank, self.embedder)
        return lambda: manager_episode(sample, bank.fork(), self.reward, related=self.related, retrieved=self.retrieved)


@dataclass(slots=True)
class AnswerTask:
    """`retrieved`: the best so many of each sample's memories are shown. `distil`: those that tell are kept first."""

    samples: Sequence[AnswerSample]
    reward: RewardConfig = _PLAIN
    retrieved: int = RETRIEVED
    distil: bool = True
    step: Step = "answer"

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, place: int) -> str:
        return self.samples[place].id

    def maker(self, place: int) -> Callable[[], Flow[Reward]]:
        sample = self.samples[place]
        shown = replace(
            sample,
            memories=sample.memories[: self.retrieved],
            supporting=tuple(one for one in sample.supporting if one < self.retrieved),
        )
        return lambda: answer_episode(shown, self.reward, distil=self.distil)
