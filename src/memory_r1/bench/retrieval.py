"""How much of a data set's gold evidence a search finds: `memory-r1 bench retrieval --data locomo:PATH`.

Every turn of a dialogue becomes an entry of one bank, and every answerable question is searched for. Recall at k is the
share of gold evidence turns among the first k entries. Texts and constants were chosen on LoCoMo's first two dialogues
(Memory-R1's train and validation); "test" is the other eight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.bank.postings import BM25_B, BM25_K1
from memory_r1.bank.ranking import CARRIED, RRF_CONSTANT
from memory_r1.bench import results, statistics
from memory_r1.bench.data import Dataset, Dialogue, Question, describe
from memory_r1.dates import format_date
from memory_r1.embed import Embedder
from memory_r1.errors import InvalidInput
from memory_r1.types import Scope, Turn

CUTOFFS = (5, 10, 30, 60)
GOAL = 0.70  # hybrid recall at 10 over all dialogues

Mode = Literal["text", "vector", "hybrid"]
Ranking = Literal[Mode, "per speaker", "kept turns"]
RANKINGS: tuple[Ranking, ...] = ("text", "vector", "hybrid", "per speaker", "kept turns")
"""The bank's modes, and what `ask` does: hybrid, half of the entries for each of two speakers; where turns are kept,
the best of all, a reply also by what it replies to."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """The place (from 0) of each of a question's gold turns in one ranking; None where it is not in the first 60."""

    question: str
    dialogue: str
    category: str
    places: tuple[int | None, ...]

    def hits(self, k: int) -> int:
        """How many of the gold turns are among the first `k`."""
        return sum(place is not None and place < k for place in self.places)


def entry_text(turn: Turn) -> str:
    """What is embedded and indexed of a turn. Dates in words are what questions ask with; a bare text without its
    speaker finds half as much."""
    said = f"{turn.speaker}: {turn.text}"
    return f"({format_date(turn.time)}) {said}" if turn.time else said


def keep(bank: MemoryBank, dialogue: Dialogue) -> None:
    for turn in dialogue.turns:
        bank.begin_turn(Scope(user_id=dialogue.id), turn, (), keep=True)


def fill(bank: MemoryBank, dialogue: Dialogue) -> None:
    scope = Scope(user_id=dialogue.id)
    bank.add_many(
        NewEntry(entry_text(turn), scope, turn.speaker, turn.time, None, {"turn": turn.id}) for turn in dialogue.turns
    )


def search(bank: MemoryBank, questions: Iterable[Question], ranking: Ranking) -> list[Found]:
    """Where the gold turns of each question with any are; questions without evidence say nothing of a search."""
    found = []
    for question in questions:
        if not question.evidence:
            continue
        scope, k = Scope(user_id=question.dialogue), max(CUTOFFS)
        if ranking == "per speaker":
            hits = bank.search(question.text, scope, k, per_speaker=True)
        elif ranking == "kept turns":
            hits = bank.search(question.text, scope, k, turns=True)
        else:
            hits = bank.search(question.text, scope, k, mode=ranking)
        place_of = {hit.entry.kept_turn or hit.entry.metadata["turn"]: place for place, hit in enumerate(hits)}
        places = tuple(place_of.get(turn) for turn in question.evidence)
        found.append(Found(question.id, question.dialogue, question.category, places))
    return found


def recall(found: Sequence[Found], k: int) -> float:
    """Share of gold turns found at `k`, every gold turn counting alike."""
    gold = sum(len(one.places) for one in found)
    return sum(one.hits(k) for one in found) / gold if gold else float("nan")


def recall_per_question(found: Sequence[Found], k: int) -> float:
    """Mean over questions of the share of their gold turns found at `k`."""
    return float(np.mean([one.hits(k) / len(one.places) for one in found])) if found else float("nan")


def interval(found: Sequence[Found], k: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of `recall`, whole dialogues drawn with replacement (of a few, their gold turns)."""
    places = [(place, one.dialogue) for one in found for place in one.places]
    hits = [place is not None and place < k for place, _ in places]
    drawn = statistics.interval(hits, [dialogue for _, dialogue in places], seed)
    return round(drawn.low, 4), round(drawn.high, 4)


def resampled(found: Sequence[Found]) -> str:
    """What `interval` draws."""
    return "dialogue" if len({one.dialogue for one in found}) >= statistics.FEWEST else "gold turn"


def scores(found: Sequence[Found], categories: Sequence[str], seed: int) -> dict[str, Any]:
    """Every figure of one ranking over some dialogues, by cut-off."""
    return {
        "questions": len(found),
        "gold_turns": sum(len(one.places) for one in found),
        "recall": {str(k): round(recall(found, k), 4) for k in CUTOFFS},
        "interval_95": {str(k): interval(found, k, seed) for k in CUTOFFS},
        "resampled": resampled(found),
        "recall_per_question": {str(k): round(recall_per_question(found, k), 4) for k in CUTOFFS},
        "by_category": {
            name: {str(k): round(recall(some, k), 4) for k in CUTOFFS}
            for name in categories
            if (some := [one for one in found if one.category == name])
        },
    }


def run(
    data: Dataset,
    embedder: Embedder,
    out: Path | None = None,
    progress: Progress | None = None,
    *,
    seed: int = 0,
    rankings: Sequence[Ranking] = RANKINGS,
) -> dict[str, Any]:
    """Measure, write retrieval.json and retrieval.png into the folder `out`, and return the result.

    "all" and "test" hold the `scores` by ranking, "records" the places of the gold turns of every question, without
    any text of the data set. Raises InvalidInput for a data set that names no evidence.
    """
    if not any(question.evidence for question in data.answerable):
        raise InvalidInput(f"{data.name} does not say which turns tell the answers, so recall cannot be measured on it")
    say = progress or (lambda _: None)
    found: dict[str, list[Found]] = {ranking: [] for ranking in rankings}
    with MemoryBank(embedder=embedder) as bank, MemoryBank(embedder=embedder) as kept:
        for dialogue in data.dialogues:
            say(f"{dialogue.id}: {len(dialogue.turns)} turns")
            fill(bank, dialogue)
            if "kept turns" in rankings:
                keep(kept, dialogue)
            questions = data.of([dialogue.id]).answerable
            for ranking in rankings:
                found[ranking] += search(kept if ranking == "kept turns" else bank, questions, ranking)
    result: dict[str, Any] = {
        "benchmark": "retrieval",
        **results.provenance(),
        "config": {
            "data": describe(data),
            "embedder": embedder.name,
            "entry": "(D Month YYYY) Speaker: text [shares a photo: caption]",
            "rrf_constant": RRF_CONSTANT,
            "bm25": {"k1": BM25_K1, "b": BM25_B},
            "carried": CARRIED,
            "tuned_on": [*data.splits.get("train", ()), *data.splits.get("validation", ())],
            "seed": seed,
            "resamples": statistics.RESAMPLES,
        },
    }
    for name in ("all", "test"):
        ids = set(data.splits.get(name, ()))
        of = {ranking: [one for one in found[ranking] if one.dialogue in ids] for ranking in rankings}
        if all(of.values()):
            result[name] = {ranking: scores(of[ranking], data.categories, seed) for ranking in rankings}
    result["goals"] = _goals(result) if data.name == "locomo" else []
    result["records"] = [
        {
            "question": one.question,
            "category": one.category,
            "places": {ranking: found[ranking][i].places for ranking in rankings},
        }
        for i, one in enumerate(found[rankings[0]])
    ]
    if out:
        results.save(result, out, plot, say)
    return result


def _goals(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The goal beside both ways to count; LoCoMo's published BM25 figures are means over questions."""
    if "hybrid" not in result["all"]:
        return []
    score = result["all"]["hybrid"]
    counted = {"mean over questions": score["recall_per_question"]["10"], "over gold turns": score["recall"]["10"]}
    return [
        {"what": f"hybrid recall at 10, all dialogues, {how}", "value": value, "goal": GOAL, "met": value >= GOAL}
        for how, value in counted.items()
    ]


def table(result: Mapping[str, Any]) -> str:
    """All figures for a terminal."""
    parts = []
    for name in ("all", "test"):
        if name not in result:
            continue
        rows = []
        for ranking, score in result[name].items():
            low_high = [f"{low:.3f}-{high:.3f}" for low, high in score["interval_95"].values()]
            rows += [
                [f"{ranking}, gold turns found", *_cells(score["recall"])],
                ["  95 % interval", *low_high],
                ["  mean over questions", *_cells(score["recall_per_question"])],
                *([f"  {category}", *_cells(recalls)] for category, recalls in score["by_category"].items()),
            ]
        which = "all dialogues" if name == "all" else "test dialogues"
        parts.append(results.table([f"{which}, recall at", *map(str, CUTOFFS)], rows))
    rows = [
        [goal["what"], f"{goal['value']:.3f}", f">= {goal['goal']:.2f}", "met" if goal["met"] else "missed"]
        for goal in result["goals"]
    ]
    return "\n\n".join([*parts, *([results.table(["goal", "measured", "wanted", ""], rows)] if rows else [])])


def _cells(recalls: Mapping[str, float]) -> list[str]:
    return [f"{recalls[str(k)]:.3f}" for k in CUTOFFS]


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Recall by cut-off with its intervals, and recall at 10 by category."""
    plt = results.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    found = result["all"]
    categories = list(result["config"]["data"]["questions"])
    for place, (ranking, score) in enumerate(found.items()):
        values = np.array([score["recall"][str(k)] for k in CUTOFFS])
        low, high = np.array([score["interval_95"][str(k)] for k in CUTOFFS]).T
        x = np.array(CUTOFFS) * (1 + 0.04 * (place - (len(found) - 1) / 2))  # beside each other
        left.errorbar(x, values, np.maximum([values - low, high - values], 0), fmt="o-", capsize=3, label=ranking)
        shares = [score["by_category"].get(name, {}).get("10", 0.0) for name in categories]
        bars = np.arange(len(categories)) + (place - (len(found) - 1) / 2) * 0.2
        right.bar(bars, shares, 0.18, label=ranking)
    left.set(xscale="log", ylim=(0, 1), xlabel="entries retrieved", ylabel="share of gold evidence turns found")
    left.set_xticks(CUTOFFS, [str(k) for k in CUTOFFS], minor=False)
    left.minorticks_off()
    right.set(ylim=(0, 1), title="at 10, by category")
    right.set_xticks(range(len(categories)), categories)
    drawn = next(iter(found.values()))["resampled"]
    left.set_title(
        f"{result['config']['data']['name']}, {len(result['records']):,} questions, 95 % intervals over {drawn}s"
    )
    for axes in (left, right):
        axes.grid(alpha=0.3, axis="y")
        axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
