"""How close the agents come to a perfect one, step by step, in generated worlds that no training has seen.

    held-out dialogues ─ a gold bank ─ the product's own prompts ─► the model's replies ─ graded against the gold

A step is graded by itself: each prompt shows the gold bank, whatever was replied before. What whole agents reach, with
what their own mistakes left in the bank, is the benchmark's to say (`bench run`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from memory_r1.answer import parse_answer
from memory_r1.bank.terms import words
from memory_r1.bench.metrics import abstained, exact_match, f1
from memory_r1.bench.results import provenance
from memory_r1.bench.statistics import interval, means_by, micro_mean, paired_difference
from memory_r1.embed import Embedder
from memory_r1.errors import InvalidInput
from memory_r1.files import read_json
from memory_r1.flow import LLM
from memory_r1.manager import UNREADABLE, parse_facts, parse_operation
from memory_r1.replies import json_object
from memory_r1.train.examples import Placed
from memory_r1.train.generate import SESSIONS, dialogues
from memory_r1.train.rewards import overlap
from memory_r1.train.teacher import RETRIEVED, Example, taught
from memory_r1.train.wording import Split
from memory_r1.train.world import UNANSWERABLE
from memory_r1.types import Fact, MemoryEntry, Prompt, Reply, Scope, Step

MEASURES: dict[Step, str] = {"extract": "facts", "manage": "decision", "answer": "right"}
"""The figure by which each step is mostly judged."""

BATCH = 32

T = TypeVar("T")


class Graded(NamedTuple):
    """A reply and its grades, each from 0 to 1; a measure that says nothing about this reply is not there."""

    dialogue: str
    example: Example
    reply: str
    grades: dict[str, float]


def placed_examples(
    embedder: Embedder,
    steps: Sequence[Step],
    *,
    count: int,
    seed: int,
    split: Split = "test",
    families: Sequence[str] = (),
    related: int,
    retrieved: int = RETRIEVED,
    sessions: int = SESSIONS,
    keep_turns: bool = False,
    distil: bool = True,
) -> Iterator[Placed]:
    """Examples for these steps, of `count` dialogues."""
    made = dialogues(split, seed, count, sessions=sessions, families=families)
    shown: dict[str, Any] = {"related": related, "retrieved": retrieved, "keep_turns": keep_turns, "distil": distil}
    for dialogue, of_dialogue in taught(made, embedder, steps, **shown):
        yield from (Placed(dialogue, example) for example in of_dialogue)


def evaluate(
    examples: Sequence[Placed],
    llm: LLM,
    *,
    free: bool = False,
    progress: Callable[[int], None] = lambda _done: None,
) -> Iterator[Graded]:
    """Each example asked and graded. `free`: without the schema that constrains replies when the product serves."""
    # Step by step, so that what a step's prompts begin with stays computed.
    ordered = sorted(examples, key=lambda one: one.example.prompt.step)
    for start in range(0, len(ordered), BATCH):
        part = ordered[start : start + BATCH]
        replies = llm.complete([_asked(example.prompt, free) for _, example in part])
        for (dialogue, example), reply in zip(part, replies, strict=True):
            yield Graded(dialogue, example, reply.text, grades(example, reply.text))
        progress(len(part))


def _asked(prompt: Prompt, free: bool) -> Prompt:
    return replace(prompt, temperature=0.0, logprobs=False, schema=None if free else prompt.schema)


def grades(example: Example, reply: str) -> dict[str, float]:
    """extract: `facts`; manage: `decision`, `operation`, `text`; answer: `right` and `kept`; all: `readable`.

    `facts` and `text` are mean F1 of words, `decision` asks for the same operation on the same entry. `right` is the
    answer's F1, or whether it abstains where nothing tells, and `exact_match` as in evaluation. `kept` is the F1 of the
    memories kept.
    """
    step = example.prompt.step
    return {"extract": _facts, "manage": _decision, "answer": _answer}[step](example, reply)


def _facts(example: Example, reply: str) -> dict[str, float]:
    facts, readable = parse_facts(reply)
    gold = json.loads(example.reply)["facts"]
    return {"facts": _matching(facts, gold), "readable": float(readable)}


def _matching(found: Sequence[str], gold: Sequence[str]) -> float:
    """Mean over both sides of how well each text is met by the best of the other; 1 where both are empty."""
    if not found and not gold:
        return 1.0
    met = [max((f1(one, other) for other in gold), default=0.0) for one in found]
    met += [max((f1(one, other) for other in found), default=0.0) for one in gold]
    return sum(met) / len(met)


def _decision(example: Example, reply: str) -> dict[str, float]:
    """By what the product does: an UPDATE that it would not apply is none."""
    fact, related = _shown(example.prompt.messages[-1].content)
    gold, done = (parse_operation(Reply(text), fact, related) for text in (example.reply, reply))
    readable = done.provenance.reason not in UNREADABLE
    same = readable and done.kind == gold.kind
    measured = {
        "decision": float(same and (done.entry == gold.entry or gold.kind == "NOOP")),
        "operation": float(same),
        "readable": float(readable),
    }
    return measured | ({"text": f1(done.text, gold.text)} if same and done.text and gold.text else {})


def _shown(asked: str) -> tuple[Fact, list[MemoryEntry]]:
    """The fact and the memories of a manager's prompt. A fact begins with the name of the person that it is about."""
    memories, _, told = asked.partition("\nNew fact: ")
    texts = [line.partition(". ")[2] for line in memories.splitlines()[1:]]
    now = datetime(1970, 1, 1, tzinfo=UTC)  # shown nowhere
    related = [MemoryEntry(str(place), text, Scope(user_id="graded"), now, now, 0) for place, text in enumerate(texts)]
    return Fact(told, next(iter(words(told)), None)), related


def _answer(example: Example, reply: str) -> dict[str, float]:
    gold, found = json.loads(example.reply), json_object(reply) or {}
    answer, keep = parse_answer(Reply(reply), (), ()), found.get("keep")
    measured = {"readable": float(answer.readable)}
    if "keep" in gold:  # not where the answer alone was asked for
        kept = {place for place in keep if isinstance(place, int)} if isinstance(keep, list) else set[int]()
        measured["kept"] = overlap(kept, gold["keep"])
    if example.about == UNANSWERABLE:
        return measured | {"right": abstained(answer.text, answer.known)}
    return measured | {
        "right": f1(answer.text, gold["answer"]),
        "exact_match": exact_match(answer.text, gold["answer"]),
    }


def spread(placed: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of them in their order, evenly from the first to the last: of all dialogues, not the first."""
    if len(placed) <= limit:
        return list(placed)
    return [placed[number * len(placed) // limit] for number in range(limit)]


def summary(graded: Sequence[Graded], seed: int = 0) -> dict[str, Any]:
    """By step: each measure's mean with its interval over dialogues, and the step's main measure by what it is about.

    A manager's `by_operation` says how often each gold operation was met.
    """
    steps: dict[str, Any] = {}
    for step, main in MEASURES.items():
        of_step = [one for one in graded if one.example.prompt.step == step]
        if not of_step:
            continue
        names = sorted({name for one in of_step for name in one.grades}, key=lambda name: (name != main, name))
        steps[step] = {
            "examples": len(of_step),
            "dialogues": len({one.dialogue for one in of_step}),
            "measures": {name: _measured([one for one in of_step if name in one.grades], name, seed) for name in names},
            "by_about": _by(of_step, main, lambda one: one.example.about),
        }
        if step == "manage":
            steps[step]["by_operation"] = _by(of_step, main, lambda one: json.loads(one.example.reply)["operation"])
    return steps


def _measured(graded: Sequence[Graded], name: str, seed: int) -> dict[str, Any]:
    values = [one.grades[name] for one in graded]
    found = interval(values, [one.dialogue for one in graded], seed)
    return {"mean": micro_mean(values), "low": found.low, "high": found.high, "n": len(values), "unit": found.unit}


def _by(graded: Sequence[Graded], name: str, key: Callable[[Graded], str]) -> dict[str, dict[str, float]]:
    means = means_by([one.grades[name] for one in graded], [key(one) for one in graded])
    return {group: {"n": n, "mean": mean} for group, (n, mean) in means.items()}


def result(graded: Sequence[Graded], about: dict[str, Any]) -> dict[str, Any]:
    """What a results file holds: its origin, what was evaluated (`about`), the summary, each wrong reply, all scores.

    `scores` are each prompt's main measure, by step: (dialogue, the prompt's digest, score).
    """
    scores: dict[str, list[list[Any]]] = {}
    for one in graded:
        step = one.example.prompt.step
        score = round(one.grades[MEASURES[step]], 4)
        scores.setdefault(step, []).append([one.dialogue, _digest(one.example.prompt), score])
    wrong = [
        {"step": one.example.prompt.step, "about": one.example.about, "gold": one.example.reply, "reply": one.reply}
        for one in graded
        if one.grades[MEASURES[one.example.prompt.step]] < 1
    ]
    return {**provenance(), **about, "steps": summary(graded), "wrong": wrong, "scores": scores}


def _digest(prompt: Prompt) -> str:
    told = json.dumps([[message.role, message.content] for message in prompt.messages])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def read_result(path: Path) -> dict[str, Any]:
    """What `result` gave, from its file. Raises InvalidInput for another file, or one without scores."""
    done = read_json(path)
    if not isinstance(done, dict) or not isinstance(done.get("scores"), dict):
        raise InvalidInput(f"{path.name} is no result of `train evaluate --out` with scores; evaluate anew to compare")
    return done


def against(done: Mapping[str, Any], other: Mapping[str, Any], seed: int = 0) -> Iterator[str]:
    """By step, how much better one result is than another on the prompts that both were asked. Both as `result`."""
    for step, ours in done["scores"].items():
        theirs = {digest: score for _, digest, score in other["scores"].get(step, ())}
        both = [(dialogue, score, theirs[digest]) for dialogue, digest, score in ours if digest in theirs]
        if both:
            dialogues, first, second = zip(*both, strict=True)
            found = paired_difference(first, second, dialogues, seed)
            low, high = 100 * found.interval.low, 100 * found.interval.high
            difference = f"{100 * found.mean:+.1f} ({low:+.1f} to {high:+.1f})"
            yield f"{step}: {difference} on {len(both):,} prompts that both were asked"
        else:
            yield f"{step}: no prompt that both were asked"


def table(steps: dict[str, Any]) -> Iterator[str]:
    """The summary in lines for people."""
    for step, found in steps.items():
        means = [
            f"{name} {100 * one['mean']:.1f} ({100 * one['low']:.1f}-{100 * one['high']:.1f})"
            for name, one in found["measures"].items()
        ]
        yield f"{step}: {found['examples']:,} prompts, {', '.join(means)}"
        for group, one in (found.get("by_operation", {}) | found["by_about"]).items():
            yield f"  {group:<24} {100 * one['mean']:5.1f}  of {one['n']:,}"
