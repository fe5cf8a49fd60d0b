"""Examples from real talk: what LoCoMo's own annotators noted of each turn, and the answers to its questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from memory_r1.answer import MAX_ANSWER, MAX_KEPT
from memory_r1.bank.terms import words
from memory_r1.bench.data import Dataset
from memory_r1.dates import find_dates, format_date
from memory_r1.manager import MAX_FACT, extract_prompt, most_facts
from memory_r1.train.episodes import answer_episode
from memory_r1.train.examples import Placed
from memory_r1.train.samples import AnswerSample
from memory_r1.train.teacher import Example
from memory_r1.train.world import UNANSWERABLE
from memory_r1.types import Turn

_END = re.compile(r"[.!?]+\s+")


def noted(data: Dataset, observations: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[Placed]:
    """What is to be extracted from each turn that something was noted of (`observations`: dialogue -> turn -> facts).

    Turns without a note are left out: three in ten of those that questions are about have none, so that no note does
    not mean that there is nothing to remember. So are turns with a note that is longer than a fact may be.
    """
    for dialogue in data.dialogues:
        for turn in dialogue.turns:
            facts = [_dated(text, turn) for text in observations[dialogue.id].get(turn.id or "", ())]
            if facts and len(facts) <= most_facts(turn.text) and max(map(len, facts)) <= MAX_FACT:
                reply = json.dumps({"facts": facts}, ensure_ascii=False)
                yield Placed(dialogue.id, Example(extract_prompt(turn), reply, "facts"))


def _dated(text: str, turn: Turn) -> str:
    """A note with the date of the sentence that it was taken from, as facts of ours end: annotators left dates out.

    That sentence is the one with most of its words.
    """
    if turn.time is None or find_dates(text, turn.time) or len(told := find_dates(turn.text, turn.time)) != 1:
        return text
    [date] = told
    ends = [*(match.end() for match in _END.finditer(turn.text)), len(turn.text)]
    spans = list(zip([0, *ends], ends, strict=False))
    shared = [len(set(words(text)) & set(words(turn.text[start:end]))) for start, end in spans]
    start, end = spans[shared.index(max(shared))]
    if not max(shared) or not start <= date.start < end:
        return text
    return f"{text.rstrip('.')} ({format_date(date.time, date.precision)})."


def answered(samples: Iterable[AnswerSample], *, distil: bool = True) -> Iterator[Placed]:
    """What is to be answered from the memories of each sample (`answer_samples`).

    Kept are those that the question's evidence wrote; without `distil` the answer alone is asked for. A question of
    whose evidence some was not retrieved is left out, since nothing that could be said is right; so is one whose right
    reply the product's schema has no room for.
    """
    for sample in samples:
        asked = sample.question
        found = {turn for place in sample.supporting for turn in sample.memories[place].turns}
        keep = [place + 1 for place in sample.supporting] if asked.answerable else []
        if asked.answerable and not (asked.evidence and found >= set(asked.evidence)):
            continue
        if len(keep) > MAX_KEPT or len(asked.answer) > MAX_ANSWER:
            continue
        answer = {"answer": asked.answer if asked.answerable else "unknown"}
        reply = json.dumps({"keep": keep, **answer} if distil else answer, ensure_ascii=False)
        about = asked.category if asked.answerable else UNANSWERABLE
        yield Placed(sample.id.rpartition("/")[0], Example(next(answer_episode(sample, distil=distil)), reply, about))
