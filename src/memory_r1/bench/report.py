"""`memory-r1 bench report`: the paper's table, and one page to read every answer in, from the folders that runs leave.

A run folder holds result.json (scores, costs and config) and records.jsonl (a record a question, see records.py).
Nothing is scored here: what stands in a table is what a run's result says, in per cent as in the paper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from memory_r1.bench import results
from memory_r1.bench.causes import CAUSES, RIGHT, Cause, counted
from memory_r1.bench.data import Dataset, Question
from memory_r1.bench.records import Record
from memory_r1.bench.summary import compare
from memory_r1.errors import InvalidInput

BENCHMARK = "answers"
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
NOTHING, NONE = "-", "none"

# Okabe and Ito's colours that stand on white and on black alike; a system beyond the eighth is drawn hollow.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a8a8a", "#b3a100")


@dataclass(frozen=True, slots=True)
class Run:
    """One system's answers. `records` by question; `title` is unique among the runs it was loaded with."""

    title: str
    result: Mapping[str, Any]
    records: Mapping[str, Record]

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.result["config"]
        return config

    @property
    def scores(self) -> Mapping[str, Any]:
        """The figures as `summary.summarise` makes them."""
        scores: Mapping[str, Any] = self.result["scores"]
        return scores

    @property
    def categories(self) -> Mapping[str, Mapping[str, Any]]:
        """{"printed", "questions"} by category, in the order of the report."""
        categories: Mapping[str, Mapping[str, Any]] = self.scores["categories"]
        return categories

    @property
    def tokens(self) -> float | None:
        """Prompt and reply of an answer, the mean over questions; reading the dialogue is not in it."""
        tokens = self.scores.get("tokens")
        return tokens["prompt"] + tokens["completion"] if tokens else None

    def score(self, metric: str, category: str | None = None) -> tuple[float | None, Sequence[float] | None]:
        """(mean over questions, its 95 % interval) overall or of a category; None where the run has none."""
        found = self.scores["metrics"].get(metric, {})
        if category is not None:
            found = found.get("by_category", {}).get(category, {})
        return found.get("micro" if category is None else "mean"), found.get("interval_95")


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` are as long as `head`; the first cell of each names what the row is about."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def load(folders: Sequence[Path]) -> tuple[Run, ...]:
    """The runs of these folders, in order. Raises InvalidInput when one cannot be read, or when they do not answer
    the same questions after reading the same sessions: their figures would not stand beside each other."""
    if not folders:
        raise InvalidInput("give at least one run's folder")
    folders = [folder.resolve() for folder in folders]
    read = [(_result(folder / "result.json"), _records(folder)) for folder in folders]
    titles = [str(result["config"].get("title") or result["config"]["system"]) for result, _ in read]
    runs = tuple(Run(title, *one) for title, one in zip(_told_apart(titles, folders), read, strict=True))
    for other in runs[1:]:
        _check_same(runs[0], other)
    _check_judges(runs)
    return runs


def _told_apart(titles: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Titles that several runs have are followed by as much of the folder as tells these apart: [x], [a/x]."""
    if len(set(folders)) < len(folders):
        raise InvalidInput("the same run is named twice")
    parts, told = 0, list(titles)
    while len(set(told)) < len(told):
        parts += 1
        ends = ["/".join(folder.parts[-parts:]) for folder in folders]
        told = [
            title if titles.count(title) == 1 else f"{title} [{end}]" for title, end in zip(titles, ends, strict=True)
        ]
    return told


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda _: None)  # the mean of nothing, NaN, is shown as nothing
    except ValueError as error:
        raise InvalidInput(f"{where} is not JSON ({error}); run the same evaluation again to complete it") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} cannot be read ({error}); give the folder that `memory-r1 bench run` wrote"
        ) from error


def _result(path: Path) -> Mapping[str, Any]:
    if not path.exists() and (path.parent / "config.json").exists():
        raise InvalidInput(f"{path.parent} has not ended: the same `memory-r1 bench run` command goes on with it")
    result = _json(_text(path), str(path))
    if not isinstance(result, dict) or result.get("benchmark") != BENCHMARK:
        raise InvalidInput(f"{path} is no result of answers; give the folder that `memory-r1 bench run` wrote")
    if missing := [key for key in ("config", "scores") if key not in result]:
        raise InvalidInput(f"{path} lacks {', '.join(missing)}: the run is not finished; run the same command again")
    return result


def _records(folder: Path) -> dict[str, Record]:
    """By question, each with what a judge said of it."""
    path, records = folder / "records.jsonl", dict[str, Record]()
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        record = _json(line, f"{path}, line {number},")
        question = record.get("question") if isinstance(record, dict) else None
        if not isinstance(question, str):
            raise InvalidInput(f"{path}, line {number}, is no record of a question")
        if question in records:
            raise InvalidInput(f"{path}, line {number}: question {question} was recorded before")
        records[question] = record
    if not records:
        raise InvalidInput(f"{path} holds no record; run the same command again to answer the questions")
    judgements = folder / "judgements.jsonl"
    for line in _text(judgements).splitlines() if judgements.exists() else ():
        one = _json(line, str(judgements))
        records[one["question"]]["scores"][one["metric"]] = one["score"]
    return records


def _check_same(first: Run, other: Run) -> None:
    remedy = "compare runs made with the same --data, --repairs, --split, --sessions and --limit"
    for key in ("data", "sessions", "repaired", "source"):
        if key == "source" and not (first.config.get(key) and other.config.get(key)):
            continue  # results of before it was noted
        if (first.config.get(key) or None) != (other.config.get(key) or None):
            raise InvalidInput(
                f"{first.title} and {other.title} were not run on the same {key} "
                f"({first.config.get(key)}, {other.config.get(key)}); {remedy}"
            )
    for one, beside in ((first, other), (other, first)):
        if missing := [question for question in one.records if question not in beside.records]:
            some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise InvalidInput(
                f"{beside.title} does not answer {len(missing)} of {len(one.records)} questions that "
                f"{one.title} answers ({some}); {remedy}"
            )


def _check_judges(runs: Sequence[Run]) -> None:
    """Raises InvalidInput where two runs were graded by different judges."""
    graded: dict[str, tuple[Run, str]] = {}
    for run in runs:
        for metric, judge in (run.result.get("judge") or {}).items():
            first, before = graded.setdefault(metric, (run, judge))
            if judge != before:
                raise InvalidInput(
                    f"{first.title} and {run.title} were graded by two judges ({before}; {judge}), whose figures "
                    "cannot be compared; have one of them graded again"
                )


def _check_data(runs: Sequence[Run], data: Dataset) -> None:
    """Raises InvalidInput where `data` is not the file that the runs read: its turns and labels may be others."""
    for run in runs:
        read, given = (re.findall(r"sha256 (\w+)", source or "") for source in (run.config.get("source"), data.source))
        if read and given and read != given:
            raise InvalidInput(
                f"{run.title} was run on {run.config['source']}, not on {data.source}: give the same files as --data "
                "and, where it had them, as --repairs"
            )


# Tables


def tables(runs: Sequence[Run], data: Dataset | None = None) -> tuple[Table, ...]:
    """By category, over all questions, beside the first system, what it cost, what was remembered, what went wrong."""
    if data is not None:
        _check_data(runs, data)
    made = [_by_category(runs), _overall(runs), _beside(runs), _cost(runs), _remembered(runs), _wrong(runs, data)]
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


def _labels(runs: Iterable[Run]) -> dict[str, str]:
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
    label = _labels(runs)
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


def difference(first: Run, second: Run, metric: str = "f1") -> dict[str, Any] | None:
    """The first's scores over the second's on the same questions, as `summary.compare` has them; None without any."""
    if first.score(metric)[0] is None or second.score(metric)[0] is None:
        return None
    seed = first.config.get("seed") or 0
    return compare(list(first.records.values()), list(second.records.values()), metric, seed)


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


# The page


def page(runs: Sequence[Run], data: Dataset | None = None) -> str:
    """One HTML document that loads nothing. With `data`, records without the data set's text are joined with it.

    Raises InvalidInput when `data` does not have a question that the runs answered.
    """
    template = resources.files("memory_r1.bench").joinpath("report.html").read_text(encoding="utf-8")
    return template.replace("__DATA__", embedded(content(runs, data)), 1)


def embedded(value: Any) -> str:
    """JSON in ASCII that can stand inside a <script>: no character of it can end the element or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content(runs: Sequence[Run], data: Dataset | None = None) -> dict[str, Any]:
    """What the page shows. Memories stand once in "memories", as most are found for many questions.

    "records" are by run, in the order of "questions"; their "retrieved" are [place in "memories", score].
    """
    if data:
        _check_data(runs, data)
    gold = {question.id: question for question in data.questions} if data else {}
    if data and (missing := [question for question in runs[0].records if question not in gold]):
        raise InvalidInput(f"{data.name} is not the data of these runs: it has no question {missing[0]}")
    memories: dict[tuple[Any, ...], int] = {}
    records = [[_shown(run.records[question], memories) for question in runs[0].records] for run in runs]
    questions = [_question([run.records[name] for run in runs], gold.get(name)) for name in runs[0].records]
    named = {(key[0], turn) for key in memories for turn in (key[1], *key[2])}
    named |= {(question["dialogue"], turn) for question in questions for turn in question["evidence"] or ()}
    return {
        "about": about(runs),
        "deviations": deviations(runs),
        "tables": [asdict(table) for table in tables(runs, data)],
        "bars": [
            {"name": name, **one, "values": [run.score("f1", name) for run in runs]}
            for name, one in runs[0].categories.items()
        ],
        "metrics": {**_labels(runs), "abstained": "abstained"},
        "operations": OPERATIONS,
        "differences": {
            f"{i} {j}": difference(one, two) for i, one in enumerate(runs) for j, two in enumerate(runs) if i < j
        },
        "colours": COLOURS,
        "runs": [
            {"title": run.title, "tokens": run.tokens, "f1": run.score("f1")}
            | {key: run.result.get(key) for key in ("config", "date", "commit", "versions", "machine", "read")}
            for run in runs
        ],
        "questions": questions,
        "turns": _turns(data, named) if data else {},
        "memories": [dict(zip(MEMORY, key, strict=True)) for key in memories],
        "records": records,
    }


MEMORY = ("dialogue", "turn", "turns", "text", "time", "speaker")


def _shown(record: Record, memories: dict[tuple[Any, ...], int]) -> dict[str, Any]:
    """A record without what all runs share, its memories as places in `memories`, which grows."""
    found = []
    for one in record["retrieved"]:
        told = one | {"turns": tuple(one.get("turns") or ())}
        key = (record["dialogue"], *(told.get(name) for name in MEMORY[1:]))
        found.append([memories.setdefault(key, len(memories)), one.get("score")])
    shared = ("question", "dialogue", "category", "text", "gold")
    return {key: value for key, value in record.items() if key not in shared} | {"retrieved": found}


def _question(records: Sequence[Record], gold: Question | None) -> dict[str, Any]:
    """A question as it was asked and scored, where any run's record tells; else as the data has it."""
    told = next((record for record in records if "text" in record), None)
    first = records[0]
    return {
        "id": first["question"],
        "dialogue": first["dialogue"],
        "category": first["category"],
        "text": told["text"] if told else gold.text if gold else None,
        "gold": told["gold"] if told else gold.answer if gold else None,
        "evidence": gold.evidence if gold else None,
    }


def _turns(data: Dataset, named: set[tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """The named turns by dialogue and id."""
    return {
        dialogue.id: {
            str(turn.id): {
                "speaker": turn.speaker,
                "time": turn.time.isoformat() if turn.time else None,
                "text": turn.text,
            }
            for turn in dialogue.turns
            if (dialogue.id, turn.id) in named
        }
        for dialogue in data.dialogues
    }


def without_text(runs: Sequence[Run]) -> bool:
    """Whether some question's text is in no run's record, so that only the data set can tell it."""
    return any(all("text" not in run.records[question] for run in runs) for question in runs[0].records)


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
