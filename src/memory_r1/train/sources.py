"""Where samples and pairs come from: generated dialogues, data sets, files of samples, the log of a bank.

synthetic[:N]              N generated dialogues (200), read by their own gold
locomo:PATH, json:PATH …   a data set, read by a teacher
jsonl:PATH                 samples that were made before; to be cloned, examples (`train examples`)
bank:PATH                  a bank's operations, to be cloned (sft)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from memory_r1.bank import MemoryBank
from memory_r1.bench.data import Dataset
from memory_r1.bench.datasets import open_dataset
from memory_r1.embed import Embedder
from memory_r1.errors import InvalidInput
from memory_r1.files import remedy
from memory_r1.flow import LLM, Roles
from memory_r1.manager import UNDECIDED, manager_prompt
from memory_r1.train.config import STEP_OF, TrainConfig
from memory_r1.train.episodes import AnswerTask, ManagerTask, Task
from memory_r1.train.examples import read_examples
from memory_r1.train.generate import dataset, dialogues
from memory_r1.train.samples import (
    AnswerSample,
    ManagerSample,
    Sample,
    SegmentSample,
    answer_samples,
    manager_samples,
    read_samples,
    write_samples,
)
from memory_r1.train.segments import SegmentTask, segment_samples
from memory_r1.train.teacher import examples
from memory_r1.types import KINDS, Message, Prompt, Reply, Step

DIALOGUES = 200
WINDOW = 50  # turns
WHOLE = 1_000_000  # turns: a generated dialogue's gold knows every turn before, not a window of them


class Reciting:
    """An LLM that gives to each prompt the reply it was told; to another, that there is nothing to do but add.

    The latter is right where the entry that a fact is about is not shown: what is not seen cannot be changed. `missed`
    counts, by step, the prompts that it was told nothing about.
    """

    def __init__(self, told: Iterable[tuple[Prompt, str]]) -> None:
        self._replies: dict[tuple[Message, ...], str] = {prompt.messages: reply for prompt, reply in told}
        self.missed: dict[Step, int] = {}

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        return [Reply(self._reply(prompt), model="gold") for prompt in prompts]

    def _reply(self, prompt: Prompt) -> str:
        if (known := self._replies.get(prompt.messages)) is not None:
            return known
        self.missed[prompt.step] = self.missed.get(prompt.step, 0) + 1
        return {"extract": '{"facts": []}', "manage": '{"operation": "ADD"}'}.get(prompt.step, "unknown")


def opened(given: str, config: TrainConfig, embedder: Embedder, split: str = "all") -> tuple[Dataset, LLM | None]:
    """(the data set, its own gold as a teacher where it has one). Raises InvalidInput for dialogues of a test split."""
    kind, _, _ = given.partition(":")
    if kind != "synthetic":
        whole = open_dataset(given)
        chosen = whole.split(split)
        if not {one.id for one in chosen.dialogues}.isdisjoint(whole.splits.get("test", ())):
            raise InvalidInput(
                f"the split {split!r} of {whole.name} holds test dialogues, which are for measuring alone; "
                "give --split train or validation"
            )
        return chosen, None
    count = _dialogues(given)
    replayed: Sequence[Step] = ("extract", "manage")
    gold = examples("train", config.seed, embedder, replayed, count=count, related=config.related)
    told = [(one.prompt, one.reply) for one in gold]
    return dataset(dialogues("train", config.seed, count)), Reciting(told)


def _dialogues(given: str) -> int:
    """How many synthetic[:N] asks for."""
    number = given.partition(":")[2]
    if number and not number.isdigit():
        raise InvalidInput(f"{given!r} must be synthetic or synthetic:NUMBER of dialogues")
    return int(number or DIALOGUES)


def samples_for(
    given: str,
    config: TrainConfig,
    embedder: Embedder,
    kept: Path,
    *,
    teacher: LLM | None,
    manager: LLM | None = None,
    split: str = "all",
    window: int | None = None,
) -> list[Sample]:
    """The samples of the agent that is trained, made once and then read from the file `kept`.

    Dialogues are read by `teacher`, or by their own gold; `manager` decides in its place where one is given. The bank
    before a turn is made from the `window` turns before it; by default all where gold reads them, else WINDOW.
    """
    if given.startswith("jsonl:"):
        with remedy("samples are what an earlier run wrote into its folder's samples.jsonl"):
            return read_samples(Path(given.partition(":")[2]))
    if not kept.exists():
        data, gold = opened(given, config, embedder, split)
        reader: LLM | None = teacher or gold
        if reader is None:
            raise InvalidInput(f"{given} needs a teacher that reads its dialogues: give --teacher")
        if manager is not None:
            reader = Roles(reader, {"manage": manager})
        if config.agent == "manager":
            by_gold = gold is not None and teacher is None
            before = window if window is not None else WHOLE if by_gold else WINDOW
            made = _managing(data, reader, embedder, config, before)
        else:
            shown: dict[str, Any] = {"k": config.retrieved, "related": config.related, "keep_turns": config.keep_turns}
            made = answer_samples(data, reader, embedder, unanswerable=config.unanswerable, **shown)
        if not write_samples(kept, made):
            kept.unlink()
            raise InvalidInput(f"{given} has no question that the {config.agent} could learn from")
    return read_samples(kept)


def _managing(data: Dataset, reader: LLM, embedder: Embedder, config: TrainConfig, window: int) -> Iterator[Sample]:
    related = config.related
    if config.segmented:
        asked: dict[str, Any] = {"turns": config.logo.turns, "unanswerable": config.unanswerable}
        return segment_samples(data, reader, embedder, window=window, related=related, **asked)
    asked = {"guarded": config.guarded, "unanswerable": config.unanswerable}
    return manager_samples(data, reader, embedder, window=window, related=related, **asked)


def task_of(samples: Sequence[Sample], config: TrainConfig, embedder: Embedder) -> Task:
    """Raises InvalidInput when no sample is the trained agent's."""
    managing = [one for one in samples if isinstance(one, ManagerSample)]
    answering = [one for one in samples if isinstance(one, AnswerSample)]
    segments = [one for one in samples if isinstance(one, SegmentSample)]
    wanted: Sequence[Sample] = answering if config.agent == "answer" else segments if config.segmented else managing
    if not wanted:
        kind = "segment for the manager" if config.segmented else f"sample of the {config.agent}"
        raise InvalidInput(f"there is no {kind} among the {len(samples)}")
    if config.segmented:
        return SegmentTask(
            segments, embedder, config.logo, config.reward, config.related, config.retrieved, config.guarded
        )
    if config.agent == "manager":
        return ManagerTask(managing, embedder, config.reward, config.related, config.retrieved)
    return AnswerTask(answering, config.reward, config.retrieved, config.distil)


def gold_pairs(given: str, config: TrainConfig, embedder: Embedder) -> Iterator[tuple[Prompt, str]]:
    """The trained agent's prompts with their gold replies: of generated dialogues, a file of them, or a bank's log."""
    kind, _, rest = given.partition(":")
    step = STEP_OF[config.agent]
    if kind == "jsonl":
        with remedy("examples are what `memory-r1 train examples` writes"):
            yield from (one.example[:2] for one in read_examples(Path(rest), [step]))
        return
    if kind == "bank":
        if config.agent != "manager":
            raise InvalidInput("a bank's log shows what a manager did; nothing else can be learned from it")
        if not Path(rest).is_file():  # else a new bank would be made there
            raise InvalidInput(f"{rest} is not there: give the file of a bank, as bank:memory.db")
        with MemoryBank(Path(rest), embedder=embedder) as bank:
            yield from logged_pairs(bank, config.related)
        return
    count = _dialogues(given)
    shown: dict[str, Any] = {
        "related": config.related,
        "retrieved": config.retrieved,
        "keep_turns": config.keep_turns,
        "distil": config.distil,
    }
    for one in examples("train", config.seed, embedder, [step], count=count, **shown):
        yield one.prompt, one.reply


def logged_pairs(bank: MemoryBank, related: int) -> Iterator[tuple[Prompt, str]]:
    """What was decided in a bank, as the manager would be asked it: people's undoings are left out with what they undo.

    Also left out is what no manager decided (a duplicate, a reply that could not be read or followed), an UPDATE that
    changes no word, and a decision about an entry that would not have been shown.
    """
    log = bank.log()
    undone = {one.undoes for one in log if one.undoes is not None}
    for one in log:
        if one.fact is None or one.scope is None or one.kind not in KINDS or one.id in undone:
            continue
        if one.provenance.reason in UNDECIDED:
            continue
        with bank.as_of(one.time - timedelta(microseconds=1), one.scope) as before:
            shown = before.related(one.fact, one.scope, related)
        places = {entry.id: place for place, entry in enumerate(shown, 1)}
        decision: dict[str, Any] = {"operation": one.kind}
        if one.kind in ("UPDATE", "DELETE"):
            if one.entry_id not in places:
                continue
            decision["index"] = places[one.entry_id]
        if one.kind == "UPDATE":
            earlier, later = one.before or {}, one.after or {}
            if earlier["text"] == later["text"]:
                continue
            decision["text"] = later["text"]
        if shown:
            yield manager_prompt(one.fact, shown), json.dumps(decision, ensure_ascii=False)
