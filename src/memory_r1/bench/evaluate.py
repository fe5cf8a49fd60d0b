"""Run one system over a data set: read each dialogue, answer its questions, leave one record a question.

    read(dialogue) -> for each question: find k memories -> the Answer Agent answers -> scores -> one line

A run is a folder: `config.json` says what it is, `read.json` what reading took, `records.jsonl` has one line for each
question, `judgements.jsonl` one for each that a judge graded, `result.json` the figures. `commits.json` names the code
of every sitting, and `reading.json` is there while a dialogue is read: what that has cost so far. Stopped at any point,
the same command goes on and repeats no question.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from memory_r1.answer import answer_from
from memory_r1.bench import metrics, results, summary
from memory_r1.bench.causes import counted
from memory_r1.bench.data import Dataset, Dialogue, Question
from memory_r1.bench.judge import Reading, judge, judge_version
from memory_r1.bench.records import Answered, Record, published
from memory_r1.bench.systems import Found, System
from memory_r1.bench.systems.ours import bank_file
from memory_r1.dates import format_date
from memory_r1.errors import InvalidInput
from memory_r1.flow import LLM, Flow, Usage, run, run_batch, watched
from memory_r1.types import Answer, MemoryEntry, Prompt, Reply, Retrieved, Scope

CONFIG, READ, RECORDS, RESULT = "config.json", "read.json", "records.jsonl", "result.json"
JUDGEMENTS, LOCK, COMMITS, READING = "judgements.jsonl", "lock.db", "commits.json", "reading.json"
COST = frozenset({"turns", "seconds", "tokens", "uncounted", "remembered_before", "step_seconds"})
"""What is noted of a dialogue about reading it; the rest is about what there was to answer from."""
BANKS = "banks"  # folder of what a system keeps, a file a dialogue

Meter = Callable[[], Mapping[str, Usage]]


@dataclass(frozen=True, slots=True)
class Config:
    """What a run measures. A folder holds one run, and another config for the same folder is refused."""

    system: str
    data: str
    split: str
    dialogues: tuple[str, ...]
    model: str
    embedder: str
    k: int = 60
    sessions: int | None = None
    limit: int | None = None
    distil: bool = True
    repaired: bool = False
    seed: int = 0
    source: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


class Progress(Protocol):
    """What a run tells while it works."""

    def reading(self, dialogue: Dialogue, done: int) -> None: ...

    def answered(self, record: Record, done: int, total: int) -> None: ...


class Silent:
    """A Progress for nobody."""

    def reading(self, dialogue: Dialogue, done: int) -> None: ...

    def answered(self, record: Record, done: int, total: int) -> None: ...


_SILENT = Silent()


def evaluate(
    system: System,
    dataset: Dataset,
    llm: LLM,
    folder: Path,
    config: Config,
    *,
    meter: Meter = dict,
    progress: Progress = _SILENT,
    read_by: Path | None = None,
    together: int = 1,
) -> dict[str, Any]:
    """Run what is missing and return the result. `llm` plays the step "answer"; `meter` tells what was spent so far.

    So many questions are answered `together`, which a model on a GPU does as fast as one.

    `read_by`: another run of the same system (for memory-r1-turns also of memory-r1), from whose memories this one
    answers: one model's memories, another's answers. Raises InvalidInput when the folder holds a run with another
    config, or another process is at work in it, when there is no question, and when `read_by` did not read the same.
    """
    metrics.check_installed()
    questions = chosen(dataset, config.limit)
    if not questions:
        raise InvalidInput(f"no question is left of {dataset.name}: its first sessions answer none, or it has none")
    with _at_work_in(folder):
        _claim(folder, config)
        if read_by is not None:
            _take_over(read_by, folder, config)
        records = read_records(folder)
        done = {record["question"] for record in records}
        read: dict[str, Any] = _json(folder / READ) or {}
        result = _json(folder / RESULT)
        for dialogue in dataset.dialogues:
            asked = [one for one in questions if one.dialogue == dialogue.id]
            missing = [one for one in asked if one.id not in done]
            if not asked or (not missing and dialogue.id in read):
                continue
            result = None
            _sit_down(folder)
            if not system.repeatable:  # what it answered before was from a bank that is gone
                records, missing = _forgotten(folder, dialogue.id), asked
                read.pop(dialogue.id, None)
                (folder / READING).unlink(missing_ok=True)
            took = _read(system, dialogue, meter, progress, folder / READING)
            # What is left of a reading that was interrupted is cheap: of the cost, the first figures count.
            if (before := read.get(dialogue.id)) is not None:
                took = {name: value for name, value in took.items() if name not in COST}
                took |= {name: value for name, value in before.items() if name in COST}
            read[dialogue.id] = took
            _write(folder / READ, read)
            (folder / READING).unlink(missing_ok=True)
            for start in range(0, len(missing), together):
                for one in answered(system, missing[start : start + together], llm, config):
                    record = asdict(one)
                    _append(folder / RECORDS, record)
                    records.append(record)
                    progress.answered(record, len(records), len(questions))
        return result or concluded(folder, dataset)


def concluded(folder: Path, dataset: Dataset) -> dict[str, Any]:
    """The result of a run that has answered all its questions, written into its folder too."""
    config, records, read = _json(folder / CONFIG), read_records(folder), _json(folder / READ) or {}
    result = {
        "benchmark": "answers",
        **results.provenance(),
        "commits": _json(folder / COMMITS) or [],
        "config": config,
        "categories": list(dataset.categories),
        "printed": dict(dataset.printed),
        "data": dict(dataset.notes),
        "read": read,
        "scores": summary.summarise(records, dataset.categories, dataset.printed, config["seed"]),
        "causes": counted(records, dataset, read, distilled=config["distil"]),
    }
    _write(folder / RESULT, result)
    return result


def _take_over(source: Path, folder: Path, config: Config) -> None:
    """Let a run begin with what another run of the same system has read: its banks, and what reading them cost.

    memory-r1-turns takes over memory-r1's, too, and puts the turns beside them. A run that has begun is left as it is.
    Raises InvalidInput where the other run is of another system, did not read the same to the end, or no longer has
    its banks.
    """
    if (folder / READ).exists():
        return
    theirs, read = _json(source / CONFIG), _json(source / READ) or {}
    if theirs is None:
        raise InvalidInput(f"{source} is no run: give the folder that `memory-r1 bench run` wrote for {config.system}")
    if (theirs["system"], config.system) != ("memory-r1", "memory-r1-turns") and theirs["system"] != config.system:
        raise InvalidInput(f"{source} has another system: {theirs['system']}, not {config.system}")
    for name in ("data", "sessions", "embedder", "source"):
        mine = getattr(config, name)
        if theirs.get(name, mine) != mine:  # runs of before the source was noted do not say it
            raise InvalidInput(f"{source} has another {name}: {theirs[name]}, not {mine}")
    (folder / BANKS).mkdir(parents=True, exist_ok=True)
    for dialogue in config.dialogues:
        bank = bank_file(source / BANKS, dialogue)
        if dialogue not in read or not bank.exists():
            raise InvalidInput(f"{source} has not read {dialogue} to the end, or its bank is gone")
        with closing(sqlite3.connect(bank)) as there, closing(sqlite3.connect(folder / BANKS / bank.name)) as here:
            there.backup(here)
    _write(folder / READ, {dialogue: read[dialogue] for dialogue in config.dialogues})


def reader(source: Path) -> str:
    """The model and the adapters that made a run's memories."""
    config = _json(source / CONFIG) or {}
    about = config.get("about") or {}
    played = [*about.get("adapters", ()), *filter(None, [about.get("lora")])]
    told = f"{config.get('model')} ({', '.join(played)})" if played else str(config.get("model"))
    return str(about.get("reader") or told)


def judged(
    folder: Path,
    llm: LLM,
    name: str,
    readings: Sequence[Reading],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Grade what a run answered, by a model of this name that plays the step "judge"; goes on where it stopped.

    A judgement that cannot be read is None and counted as "unscored". Unanswerable questions are not graded. The
    result says under "judge" who graded, by which prompts. Raises InvalidInput for a run that has not ended, for one
    that was published (it has no text to grade), and when another judge or another prompt graded before: the figures
    of two judges are not one figure.
    """
    result = _ended(folder)
    records = read_records(folder)
    by: dict[str, str] = {f"judge_{reading}": f"{name}, {judge_version(reading)}" for reading in readings}
    for one in _lines(folder / JUDGEMENTS):
        before = one.get("by", "a judge whose name was not kept")
        if by.setdefault(one["metric"], before) != before:
            raise InvalidInput(
                f"{folder} was graded by {before}; delete its {JUDGEMENTS} to have it graded by {by[one['metric']]}"
            )
    if any("text" not in record for record in records):
        raise InvalidInput(f"{folder} was published without the data's text; have the run itself judged")
    gradable = [record for record in records if "abstained" not in record["scores"]]
    wanted = [(record, reading) for record in gradable for reading in readings]
    missing = [(record, reading) for record, reading in wanted if f"judge_{reading}" not in record["scores"]]
    with _at_work_in(folder):
        for number, (record, reading) in enumerate(missing, len(wanted) - len(missing) + 1):
            correct = run(judge(record["text"], record["gold"], record["answer"], reading), llm)
            metric, score = f"judge_{reading}", None if correct is None else float(correct)
            line = {"question": record["question"], "metric": metric, "score": score, "by": by[metric]}
            _append(folder / JUDGEMENTS, line)
            progress(number, len(wanted))
        seed = result["config"]["seed"]
        scores = summary.summarise(read_records(folder), result["categories"], result["printed"], seed)
        result |= {"scores": scores, "judge": by}
        _write(folder / RESULT, result)
    return result


def publish(folder: Path, to: Path) -> Path:
    """The run without the data set's text, in `to`/NAME: what may be shown where the data set may not.

    Raises InvalidInput for a run that has not ended, and where the run itself or another one lies in `to`.
    """
    target = to / folder.resolve().name
    result = _ended(folder)
    if target.resolve() == folder.resolve():
        raise InvalidInput(f"{folder} would lose its text: choose another folder with --to")
    there = _json(target / RESULT)
    if there is not None and there["config"] != result["config"]:
        raise InvalidInput(f"{target} holds another run; choose another folder with --to")
    target.mkdir(parents=True, exist_ok=True)
    _write(target / RESULT, result)
    lines = [json.dumps(published(record), ensure_ascii=False) for record in read_records(folder)]
    _replace(target / RECORDS, "\n".join(lines) + "\n")
    return target


def _ended(folder: Path) -> dict[str, Any]:
    """The result of a run that answered all its questions. Raises InvalidInput where there is none."""
    result: dict[str, Any] | None = _json(folder / RESULT)
    if result is None:
        raise InvalidInput(
            f"{folder} has no {RESULT}: give a run's own folder, and let `memory-r1 bench run` end first"
        )
    return result


def chosen(dataset: Dataset, limit: int | None) -> tuple[Question, ...]:
    """The first `limit` questions of each dialogue, in the data set's order."""
    if limit is None:
        return dataset.questions
    of = {dialogue.id: [q for q in dataset.questions if q.dialogue == dialogue.id] for dialogue in dataset.dialogues}
    return tuple(question for questions in of.values() for question in questions[:limit])


def answered(system: System, questions: Sequence[Question], llm: LLM, config: Config) -> list[Answered]:
    """Some questions side by side, from what the system finds to its scores: each has its share of the time.

    Only a question's text and its time reach the system's prompt.
    """
    start = time.perf_counter()
    found = [system.find(question, config.k) for question in questions]
    between = time.perf_counter()
    said: list[list[Reply]] = [[] for _ in questions]
    answers = run_batch(
        [
            watched(_answering(question, hits, config), after=_kept_in(replies))
            for question, hits, replies in zip(questions, found, said, strict=True)
        ],
        llm,
    )
    end = time.perf_counter()
    seconds = {
        "find": round((between - start) / len(questions), 4),
        "answer": round((end - between) / len(questions), 4),
    }
    return [_scored(*one, seconds) for one in zip(questions, found, answers, said, strict=True)]


def _kept_in(replies: list[Reply]) -> Callable[[Prompt, Reply], None]:
    return lambda _, reply: replies.append(reply)


def _answering(question: Question, found: Sequence[Found], config: Config) -> Flow[Answer]:
    asked = f"({format_date(question.asked_at)}) {question.text}" if question.asked_at else question.text
    return answer_from(asked, as_retrieved(found, question.dialogue), distil=config.distil)


def _scored(
    question: Question, found: Sequence[Found], answer: Answer, replies: Sequence[Reply], seconds: Mapping[str, float]
) -> Answered:
    if not answer.readable and not replies[-1].text.strip():  # which does not say that nothing is known
        answer = replace(answer, text="", known=True)
    return Answered(
        question=question.id,
        dialogue=question.dialogue,
        category=question.category,
        text=question.text,
        gold=question.answer,
        answer=answer.text,
        known=answer.known,
        readable=answer.readable,
        retrieved=tuple(_plain(one) for one in found),
        used=_places(answer),
        dropped=answer.dropped,
        logprob=None if answer.logprob is None else round(answer.logprob, 4),
        scores=metrics.scores(answer.text, answer.known, question),
        tokens={
            # A prompt that was refused as too long was counted by the model, and not read.
            "prompt": sum(reply.prompt_tokens for reply in replies if reply.stop != "overflow"),
            "completion": sum(reply.completion_tokens for reply in replies),
        },
        seconds=seconds,
    )


def as_retrieved(found: Sequence[Found], dialogue: str) -> list[Retrieved]:
    """A system's memories as the Answer Agent is shown its own: by position, each with its date."""
    return [
        Retrieved(
            MemoryEntry(
                id=str(place),
                text=one.text,
                scope=Scope(user_id=dialogue),
                created_at=_NO_TIME,
                updated_at=_NO_TIME,
                revision=0,
                speaker=one.speaker,
                event_time=one.time,
            ),
            score=one.score if one.score is not None else 1.0 / (1 + place),
            similarity=0.0,
        )
        for place, one in enumerate(found)
    ]


_NO_TIME = datetime.fromtimestamp(0, UTC)  # a baseline does not say when it wrote a memory


def read_records(folder: Path) -> list[Record]:
    """The records of a run in the order they were made, with what judges said of them."""
    records = _lines(folder / RECORDS)
    scores_of = {record["question"]: record["scores"] for record in records}
    for one in _lines(folder / JUDGEMENTS):
        scores_of[one["question"]][one["metric"]] = one["score"]
    return records


def _forgotten(folder: Path, dialogue: str) -> list[Record]:
    """The records without those of one dialogue, which will be answered again."""
    records = [one for one in read_records(folder) if one["dialogue"] != dialogue]
    _replace(folder / RECORDS, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records))
    return records


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that only grows. A last one that was cut off is taken away, and will be made again."""
    if not path.exists():
        return []
    found, whole = [], 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            found.append(json.loads(line))
            whole += len(line)
    if whole < path.stat().st_size:
        os.truncate(path, whole)
    return found


def _read(system: System, dialogue: Dialogue, meter: Meter, progress: Progress, noted: Path) -> dict[str, Any]:
    """What reading a dialogue took, what earlier sittings that were interrupted had spent on it included."""
    before, start = _spent(meter()), time.perf_counter()
    earlier = _json(noted) or {}
    if earlier.get("dialogue") != dialogue.id:
        earlier = {"turns": 0, "seconds": 0.0, "tokens": {}}

    def spent() -> dict[str, Any]:
        steps, now = earlier["tokens"], _spent(meter())
        return {
            "seconds": round(earlier["seconds"] + time.perf_counter() - start, 2),
            "tokens": {
                step: counts
                for step in {**steps, **now}
                if (counts := _added(steps.get(step), now.get(step), before.get(step)))["calls"]
            },
        }

    def tell(turns: int) -> None:
        progress.reading(dialogue, turns)
        _write(noted, {"dialogue": dialogue.id, "turns": max(turns, earlier["turns"]), **spent()})

    system.read(dialogue, tell)
    took, stats = spent(), system.stats()
    # What was remembered before and noted nowhere (by an older version of this) is in no figure.
    uncounted = max(0, stats.get("remembered_before", 0) - earlier["turns"])
    return {"turns": len(dialogue.turns) - uncounted, **took, **stats, "uncounted": uncounted}


_Counts = dict[str, int]


def _added(earlier: _Counts | None, now: _Counts | None, before: _Counts | None) -> _Counts:
    """Tokens of one step: what was spent earlier, and now since before."""
    nothing = {"calls": 0, "prompt": 0, "completion": 0}
    old, new, since = earlier or nothing, now or nothing, before or nothing
    return {name: old[name] + new[name] - since[name] for name in nothing}


def _spent(usage: Mapping[str, Usage]) -> dict[str, dict[str, int]]:
    return {
        step: {"calls": one.calls, "prompt": one.prompt_tokens, "completion": one.completion_tokens}
        for step, one in usage.items()
    }


def _places(answer: Answer) -> tuple[int, ...]:
    place_of = {id(one.entry): place for place, one in enumerate(answer.retrieved)}
    return tuple(place_of[id(entry)] for entry in answer.used)


def _plain(one: Found) -> dict[str, Any]:
    kept = asdict(one) | {"time": one.time.isoformat() if one.time else None}
    return kept if one.turns else {name: value for name, value in kept.items() if name != "turns"}


@contextmanager
def _at_work_in(folder: Path) -> Iterator[None]:
    """Nobody else works in this run's folder meanwhile. The lock is SQLite's, which goes when its process does."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = sqlite3.connect(folder / LOCK, timeout=0, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        raise InvalidInput(f"another process is at work in {folder}; wait for it, or choose another folder") from error
    try:
        yield
    finally:
        lock.close()


def _sit_down(folder: Path) -> None:
    """Note by which code the run is made from here on: one that goes on after an update is made by two."""
    commits, commit = _json(folder / COMMITS) or [], results.provenance()["commit"]
    if commits[-1:] != [commit]:
        _write(folder / COMMITS, [*commits, commit])


def _claim(folder: Path, config: Config) -> None:
    """Make the folder this run's, or see that it is."""
    folder.mkdir(parents=True, exist_ok=True)
    mine = json.loads(json.dumps(asdict(config)))
    theirs = _json(folder / CONFIG)
    if theirs is None:
        _write(folder / CONFIG, mine)
        return
    if "lora" not in theirs.get("about", {}):  # a run of before it was noted
        mine["about"].pop("lora", None)
    if theirs != mine:
        other = [name for name in mine if theirs.get(name) != mine[name]]
        raise InvalidInput(f"{folder} holds a run with another {', '.join(other)}; choose another folder with --out")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _write(path: Path, value: Any) -> None:
    _replace(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _append(path: Path, record: Record) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
