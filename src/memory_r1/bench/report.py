"""`memory-r1 bench report`: the paper's table of some runs, for a terminal or as Markdown, and one plot.

Nothing is scored here: what stands in a table is what a run's result says, in per cent as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_r1.bench import results
from memory_r1.bench.causes import CAUSES, RIGHT, Cause, counted
from memory_r1.bench.data import Dataset
from memory_r1.bench.runs import Run, check_data, difference

METRICS: dict[str, str] = {
    "f1": "F1",
    "bleu1": "B1",
    "f1_locomo": "F1 LoCoMo",
    "exact_match": "EM",
    "judge_lenient": "J",
    "judge_strict": "J strict",
}
BY_CATEGORY = ("f1", "bleu1", "judge_lenient")  # the paper's three
OPERATIONS = ("ADD", "UPDATE", "DELETE", "NOOP")
SETTINGS = ("model", "adapters", "reader", "embedder", "k", "seed", "distil")
"""What is the same for all runs, or told of each."""
CERTAINTIES = (0.0, 0.05, 0.1, 0.2, 0.4)
NOTHING, NONE = "-", "none"

# Okabe and Ito's colours that stand on white and on black alike; a system beyond the eighth is drawn hollow.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a8a8a", "#b3a100")


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` are as long as `head`; the first cell of each names what the row is about."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(runs: Sequence[Run], data: Dataset | None = None) -> tuple[Table, ...]:
    """By category, over all questions, beside the first system, and what stood behind the answers: certainty, cost,
    what was remembered, what went wrong."""
    if data is not None:
        check_data(runs, data)
    scored = [_by_category(runs), _overall(runs), _beside(runs), _by_certainty(runs)]
    made = [*scored, _cost(runs), _remembered(runs), _wrong(runs, data)]
    return tuple(table for table in made if table.rows)


def about(runs: Sequence[Run]) -> list[str]:
    """What was asked of whom, in lines of text: the part above the tables."""
    config = runs[0].config
    dialogues = list(dict.fromkeys(record["dialogue"] for record in runs[0].records.values()))
    which = ", ".join(dialogues) if len(dialogues) <= 4 else f"{len(dialogues)} dialogues"
    sessions = f", first {config['sessions']} sessions" if config.get("sessions") else ""
    split = f", {config['split']}" if config.get("split") else ""
    unanswerable = runs[0].scores.get("unanswerable")
    of_them = f", {unanswerable} of them about what was never said" if unanswerable else ""
    asked = f"{len(runs[0].records)} questions{of_them}; {which}."
    lines = [f"{config.get('data', 'data')}{split}{sessions}: {asked}"]
    if config.get("repaired"):
        lines.append("Labels were repaired: gold answers and evidence are not all the data set's own.")
    same, differing = [], []
    for key in SETTINGS:
        who: dict[str, list[str]] = {}
        for run in runs:
            who.setdefault(_setting(run, key), []).append(run.title)
        if len(who) > 1:
            each = "; ".join(f"{value} ({' / '.join(titles)})" for value, titles in who.items())
            differing.append(f"Not the same {key}: {each}.")
        else:
            same += [f"{key} {value}" for value in who if value != NONE]
    lines += [f"Every system: {', '.join(same)}."] * bool(same)
    lines += differing
    units = {unit for run in runs if (unit := run.scores["metrics"].get("f1", {}).get("resampled"))}
    by = sorted({judge for run in runs for judge in (run.result.get("judge") or {}).values()})
    judge = ", J the lenient judge" if _present(runs, "judge_lenient") else ""
    judge += f" ({'; '.join(by)})" if by else ""
    lines.append(f"Scores are per cent: F1 the paper's, over sets of lower-cased words; B1 BLEU-1{judge}.")
    lines += [f"In brackets: 95 % intervals, {' or '.join(sorted(units))}s resampled."] * bool(units)
    return lines


def deviations(runs: Sequence[Run]) -> list[str]:
    """Where systems were not run as their authors run them, and runs not in one piece."""
    lines = []
    for run in runs:
        if len(commits := run.result.get("commits") or ()) > 1:
            lines.append(
                f"{run.title} went on by other code: commits {', '.join(commit or 'not told' for commit in commits)}."
            )
        told = [one for read in (run.result.get("read") or {}).values() for one in read.get("deviations") or ()]
        lines += [f"{run.title} deviates: {one}." for one in dict.fromkeys(told)]
    return lines


def _setting(run: Run, key: str) -> str:
    """As a run's config has it, or what that says about its model."""
    said = run.config.get("about") or {}
    value = run.config.get(key, said.get(key))
    if key == "adapters" and "lora" in said:  # what a server's numbers stand for
        value = [f"{', '.join(value)}: {said['lora']}"]
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    return {"True": "yes", "False": "no", "None": NONE}.get(str(value), str(value))


def labels(runs: Iterable[Run]) -> dict[str, str]:
    """What metrics are called here; one that somebody added, by its own name."""
    return METRICS | {name: METRICS.get(name, name) for run in runs for name in run.scores["metrics"]}


def _present(runs: Iterable[Run], metric: str) -> bool:
    return any(metric in run.scores["metrics"] for run in runs)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _number(value: float | None, digits: int = 0) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"


def _joined(*cells: str) -> str:
    return NOTHING if all(cell == NOTHING for cell in cells) else " / ".join(cells)


def _spread(seconds: Mapping[str, float] | None, times: int, digits: int) -> str:
    return _joined(*(_number(times * seconds[name], digits) for name in ("p50", "p95"))) if seconds else NOTHING


def _by_category(runs: Sequence[Run]) -> Table:
    first = runs[0]
    metrics = [name for name in BY_CATEGORY if _present(runs, name)]
    parts = (*first.categories, None)
    printed = {name: one["printed"] for name, one in first.categories.items()}
    rows = [["in the paper", *printed.values(), "Overall"]] if any(a != b for a, b in printed.items()) else []
    counts = [one["questions"] for one in first.categories.values()]
    rows.append(["questions", *(f"{count:,}" for count in (*counts, first.scores["questions"]))])
    rows += [
        [run.title, *(_joined(*(_percent(run.score(metric, part)[0]) for metric in metrics)) for part in parts)]
        for run in runs
    ]
    return Table(" / ".join(METRICS[name] for name in metrics), ["system", *first.categories, "overall"], rows)


def _overall(runs: Sequence[Run]) -> Table:
    label = labels(runs)
    others = [name for name in label if name != "f1" and _present(runs, name)]

    def cells(run: Run) -> list[str]:
        mean, ends = run.score("f1")
        abstained = run.scores.get("abstained")
        return [
            _percent(mean) + (f" ({_percent(ends[0])}-{_percent(ends[1])})" if ends else ""),
            _percent(run.scores["metrics"].get("f1", {}).get("macro")),
            *(_graded(run, name) for name in others),
            f"{_percent(abstained['mean'])} of {abstained['questions']}" if abstained else NOTHING,
            _percent(run.scores.get("unreadable")),
            _number(run.scores.get("answer_words"), 1),
        ]

    head = ["system", "F1 (95 %)", "F1 macro", *(label[name] for name in others)]
    head += ["abstained", "unreadable", "words"]
    return Table("Over all questions", head, [[run.title, *cells(run)] for run in runs])


def _graded(run: Run, metric: str) -> str:
    """With the number of questions where a judge's verdict on others could not be read."""
    found = run.scores["metrics"].get(metric) or {}
    return _percent(run.score(metric)[0]) + (f" of {found['questions']}" if found.get("unscored") else "")


def _beside(runs: Sequence[Run]) -> Table:
    """What the first system scores over each other one, question by question."""
    first, *others = runs
    rows = []
    for other in others:
        found = difference(first, other)
        if found is None:
            continue
        low, high = (100 * end for end in found["interval_95"])
        chance = _percent(found["above_zero"])
        rows.append([other.title, f"{100 * found['difference']:+.1f}", f"{low:+.1f} to {high:+.1f}", chance])
    return Table(f"F1 of {first.title} over that of", ["system", "points", "95 %", "resamples above 0, %"], rows)


def _by_certainty(runs: Sequence[Run]) -> Table:
    """What remains where answers of less certainty are not given, of runs whose model told it."""
    rows = [
        [run.title, *(_given_from(run.records.values(), least) for least in CERTAINTIES)]
        for run in runs
        if any(one.get("logprob") is not None for one in run.records.values())
    ]
    title = "Answers of less certainty left out: F1 / F1 of those given / unanswerable left open"
    return Table(title, ["system", *(f"{least:.0%}" for least in CERTAINTIES)], rows)


def _given_from(records: Iterable[Mapping[str, Any]], least: float) -> str:
    """Over all questions what is not given scores 0, and what is given to an unanswerable one, too."""
    f1, given, answerable, unanswerable, left_open = 0.0, 0, 0, 0, 0
    for one in records:
        logprob = one.get("logprob")
        told = one["known"] and (logprob is None or math.exp(min(logprob, 0.0)) >= least)
        given += told
        if "abstained" in one["scores"]:
            unanswerable += 1
            left_open += not told
        else:
            answerable += 1
            f1 += one["scores"]["f1"] if told else 0.0
    shares = [(f1, answerable), (f1, given), (float(left_open), unanswerable)]
    return _joined(*(_percent(part / whole if whole else None) for part, whole in shares))


def _cost(runs: Sequence[Run]) -> Table:
    def cells(run: Run) -> list[str]:
        tokens, seconds = run.scores.get("tokens") or {}, run.scores.get("seconds") or {}
        return [
            _number(run.tokens),
            _number(tokens.get("prompt")),
            _number(tokens.get("completion"), 1),
            _spread(seconds.get("find"), 1000, 0),
            _spread(seconds.get("answer"), 1, 2),
        ]

    head = ["system", "tokens", "prompt", "reply", "find ms, p50 / p95", "answer s, p50 / p95"]
    return Table("A question costs", head, [[run.title, *cells(run)] for run in runs])


def _remembered(runs: Sequence[Run]) -> Table:
    """Means over dialogues of what the bank holds, what a turn cost to read, and how long each step's reply took."""
    all_read = [one for run in runs for one in (run.result.get("read") or {}).values()]
    steps = dict.fromkeys(step for one in all_read for step in one.get("step_seconds") or ())

    def cells(run: Run) -> list[str]:
        read = list((run.result.get("read") or {}).values())
        turns = sum(one.get("turns", 0) for one in read)
        seconds = sum(one.get("seconds", 0) for one in read)
        operations = [one["operations"] for one in read if one.get("operations")]
        return [
            _number(_mean(read, "entries")),
            _number(_mean(read, "memory_tokens")),
            tokens_a_turn(run),
            _number(seconds / turns if turns else None, 2),
            *(_step_seconds(read, step) for step in steps),
            _joined(*(f"{sum(one.get(name, 0) for one in operations):,}" for name in OPERATIONS if operations)),
            _number(sum(one.get("unreadable", 0) for one in read) if operations else None),
            _number(sum(one["failed"] for one in read) if all("failed" in one for one in read) else None),
        ]

    head = ["system", "entries", "memory tokens", "tokens a turn", "s a turn"]
    head += [*(f"{step} s, p50 / p95" for step in steps), " / ".join(OPERATIONS), "unreadable", "failed"]
    return Table("Remembering a dialogue", head, [[run.title, *cells(run)] for run in runs if run.result.get("read")])


def _step_seconds(read: Sequence[Mapping[str, Any]], step: str) -> str:
    timed = [one["step_seconds"][step] for one in read if step in (one.get("step_seconds") or ())]
    return _joined(*(_number(_mean(timed, name), 2) for name in ("p50", "p95")))


def tokens_a_turn(run: Run) -> str:
    """What reading a turn cost, and over how many turns where not all were counted."""
    read = list((run.result.get("read") or {}).values())
    turns = sum(one.get("turns", 0) for one in read)
    used = sum(
        step.get("prompt", 0) + step.get("completion", 0)
        for one in read
        for name, step in (one.get("tokens") or {}).items()
        if name != "embed"  # the endpoint counts an embedder's words, and ours is not asked through it
    )
    uncounted = sum(one.get("uncounted", 0) for one in read)
    return _number(used / turns if turns else None) + (f" (last {turns} turns)" if turns and uncounted else "")


def _wrong(runs: Sequence[Run], data: Dataset | None) -> Table:
    """Counts of causes, as the results say or, with `data`, counted anew; systems that name no turn are left out."""

    def of(run: Run) -> Mapping[Cause, int | None] | None:
        if data is None:
            return run.result.get("causes")
        read, distilled = run.result.get("read") or {}, bool(run.config.get("distil", True))
        return counted(run.records.values(), data, read, distilled=distilled)

    found = [(run.title, causes) for run in runs if (causes := of(run)) is not None]
    rows = [[title, *(_number(causes[one]) for one in CAUSES)] for title, causes in found]
    return Table(f"Where answers go wrong (right: an F1 of {RIGHT:g} and more)", ["system", *CAUSES], rows)


def _mean(read: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [one[key] for one in read if one.get(key) is not None]
    return sum(values) / len(values) if values else None


def text(runs: Sequence[Run], data: Dataset | None = None) -> str:
    """Everything for a terminal."""
    parts = [f"{table.title}\n{results.table(table.head, table.rows)}" for table in tables(runs, data)]
    return "\n\n".join(["\n".join([*about(runs), *deviations(runs)]), *parts])


def markdown(runs: Sequence[Run], data: Dataset | None = None) -> str:
    """The same as Markdown."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    parts = ["\n".join(f"- {line}" for line in [*about(runs), *deviations(runs)])]
    for table in tables(runs, data):
        rule = "|---" + "|---:" * (len(table.head) - 1) + "|"
        parts.append("\n".join([f"**{table.title}**\n", row(table.head), rule, *map(row, table.rows)]))
    return "\n\n".join(parts)


def plot(runs: Sequence[Run], path: Path) -> None:
    """F1 by category with its intervals, as a PNG for a README."""
    plt = results.pyplot()
    parts = (None, *runs[0].categories)
    width = 0.8 / len(runs)
    figure, axes = plt.subplots(figsize=(10, 4.4), layout="constrained")
    for place, run in enumerate(runs):
        x = [group + (place - (len(runs) - 1) / 2) * width for group in range(len(parts))]
        scores = [run.score("f1", part) for part in parts]
        means = [100 * (mean or 0) for mean, _ in scores]
        lows = [mean - 100 * ends[0] if ends else 0 for mean, (_, ends) in zip(means, scores, strict=True)]
        highs = [100 * ends[1] - mean if ends else 0 for mean, (_, ends) in zip(means, scores, strict=True)]
        colour = COLOURS[place % len(COLOURS)]
        hollow = {"facecolor": "none", "edgecolor": colour, "linewidth": 2}
        axes.bar(x, means, width * 0.92, label=run.title, **({"color": colour} if place < len(COLOURS) else hollow))
        axes.errorbar(x, means, [lows, highs], fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    names = [f"{name}\n(paper: {one['printed']})" for name, one in runs[0].categories.items()]
    axes.set_xticks(range(len(parts)), ["overall", *names])
    axes.set(ylabel="F1, per cent", ylim=(0, None), title=about(runs)[0].partition(";")[0])
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)
