"""What a perfect extractor, Memory Manager and Answer Agent reply, to the prompts that the product itself would ask.

The gold bank is a real MemoryBank: the memories a prompt shows are those that the product's search finds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from random import Random
from typing import Any, NamedTuple

from memory_r1.answer import answer_prompt, retrieve
from memory_r1.bank import MemoryBank
from memory_r1.embed import Embedder
from memory_r1.manager import RELATED, duplicate, extract_prompt, manager_prompt
from memory_r1.train.generate import SESSIONS, Generated, Told, dialogues
from memory_r1.train.wording import Split
from memory_r1.train.world import UNANSWERABLE
from memory_r1.types import AGENT_STEPS, Fact, MemoryEntry, Operation, Prompt, Scope, Step, Turn

LEFT_OUT = 0.5
"""Of the memories, where turns are kept: a small extractor leaves as many out, and turns alone tell then."""

ABSENT = "absent"
"""What a decision is about when the entry that the fact is about is not shown."""

RETRIEVED = 10  # fewer than the product's 60: a CPU reads the prompt in a sixth of the time
SCOPE = Scope(user_id="gold")


class Example(NamedTuple):
    """A prompt and the reply that is right. `about`: what is decided ("dogs.second"), or a question's category."""

    prompt: Prompt
    reply: str
    about: str


class GoldBank:
    """A bank that gold operations are applied to. `skipped` counts the examples that could not be made.

    `keep_turns`: turns are kept word for word beside the memories.
    """

    def __init__(self, embedder: Embedder, related: int = RELATED, *, keep_turns: bool = False) -> None:
        self.bank = MemoryBank(embedder=embedder)
        self.skipped: Counter[str] = Counter()
        self._related = related
        self._keep_turns = keep_turns
        self._ids: dict[str, str] = {}
        self._turns: dict[str, list[str]] = {}  # by entry, those that made it what it is

    def remember(self, generated: Generated, before: str | None = None) -> Iterator[Example]:
        """Examples for extraction and the Memory Manager, turn after turn, up to turn `before`.

        No example where the product asks no model: nothing is related, or the words are there already. None either
        where the entry that the gold operation acts on is not among those shown (`skipped["manage"]`): nothing that
        could be said there is right.

        After a decision about an entry comes the same fact before the others alone, where it is to be added: an agent
        that goes by how facts of change are worded, whatever is shown, would put them in the place of anything.
        """
        for turn in generated.dialogue.turns:
            if before is not None and turn.id == before:
                return
            yield finding(generated, turn)
            for told in generated.told.get(turn.id or "", ()):
                related = self.bank.related(told.fact, SCOPE, self._related)
                if related and duplicate(told.fact, related) is None:
                    reply = self._decision(told, related)
                    if reply is None:
                        self.skipped["manage"] += 1
                    else:
                        yield Example(manager_prompt(told.fact, related), reply, told.attribute)
                        others = [entry for entry in related if entry.id != self._ids.get(told.entry)]
                        if told.kind != "ADD" and others:
                            yield Example(manager_prompt(told.fact, others), _json(operation="ADD"), ABSENT)
                self._turns.setdefault(told.entry, []).extend([turn.id] if turn.id and told.kind != "NOOP" else [])
                self._apply(told)
            if self._keep_turns:
                self.bank.begin_turn(SCOPE, turn, (), keep=True)

    def ask(self, generated: Generated, retrieved: int = RETRIEVED, *, distil: bool = True) -> Iterator[Example]:
        """Examples for the Answer Agent, of the bank as it is: call it after `remember`.

        None where search shows not all of the entries that answer (`skipped["answer"]`). Where turns are kept,
        LEFT_OUT of the memories are taken out first, and all the turns that made an entry stand for it.
        """
        if self._keep_turns:
            self._leave_out(Random(generated.dialogue.id))
        for question in generated.questions:
            shown = retrieve(question.text, self.bank, SCOPE, retrieved)
            if not shown:
                continue
            places = {hit.entry.kept_turn or hit.entry.id: place for place, hit in enumerate(shown, 1)}
            telling = [self._telling(entry, places) for entry in generated.support[question.id]]
            if not all(telling):
                self.skipped["answer"] += 1
                continue
            answer = question.answer if question.answerable else "unknown"
            keep = sorted({place for found in telling for place in found})
            reply = _json(keep=keep, answer=answer) if distil else _json(answer=answer)
            about = question.category if question.answerable else UNANSWERABLE
            yield Example(answer_prompt(question.text, shown, distil), reply, about)

    def _telling(self, entry: str, places: Mapping[str, int]) -> list[int]:
        """Where an entry is shown, or else all the turns that made it; empty where neither is."""
        if (place := places.get(self._ids[entry])) is not None:
            return [place]
        turns = [places.get(turn) for turn in self._turns[entry]]
        return [] if None in turns else [place for place in turns if place is not None]

    def _leave_out(self, draw: Random) -> None:
        entries = self.bank.all(SCOPE)
        for entry in draw.sample(entries, round(LEFT_OUT * len(entries))):
            self.bank.apply(Operation("DELETE", Fact(entry.text, entry.speaker), entry), SCOPE)

    def _decision(self, told: Told, related: Sequence[MemoryEntry]) -> str | None:
        if told.kind == "ADD":
            return _json(operation="ADD")
        places = {entry.id: place for place, entry in enumerate(related, 1)}
        place = places.get(self._ids[told.entry])
        if place is None:
            return None
        if told.kind == "NOOP":
            return _json(operation="NOOP")
        if told.kind == "DELETE":
            return _json(operation="DELETE", index=place)
        return _json(operation="UPDATE", index=place, text=told.text)

    def _apply(self, told: Told) -> None:
        entry = None if told.kind == "ADD" else self.bank.get(self._ids[told.entry])
        logged = self.bank.apply(Operation(told.kind, told.fact, entry, told.text), SCOPE)
        if told.kind == "ADD":
            assert logged.entry_id is not None
            self._ids[told.entry] = logged.entry_id
        elif told.kind == "DELETE":
            del self._ids[told.entry], self._turns[told.entry]

    def close(self) -> None:
        self.bank.close()


def finding(generated: Generated, turn: Turn) -> Example:
    """The example for extraction from a turn, which asks for no bank."""
    facts = generated.told.get(turn.id or "", ())
    return Example(extract_prompt(turn), _json(facts=[told.fact.text for told in facts]), "facts")


def examples(
    split: Split,
    seed: int,
    embedder: Embedder,
    steps: Collection[Step] = AGENT_STEPS,
    *,
    count: int | None = None,
    sessions: int = SESSIONS,
    families: Sequence[str] = (),
    related: int = RELATED,
    retrieved: int = RETRIEVED,
    keep_turns: bool = False,
    distil: bool = True,
    skipped: Counter[str] | None = None,
) -> Iterator[Example]:
    """Examples of these steps from `count` dialogues, or without end, in the order in which they would be asked.

    `skipped`, where given, is increased by the examples that could not be made, by step.
    """
    made = dialogues(split, seed, count, sessions=sessions, families=families)
    shown: dict[str, Any] = {"related": related, "retrieved": retrieved, "keep_turns": keep_turns, "distil": distil}
    for _, of_dialogue in taught(made, embedder, steps, skipped=skipped, **shown):
        yield from of_dialogue


def taught(
    made: Iterable[Generated],
    embedder: Embedder,
    steps: Collection[Step] = AGENT_STEPS,
    *,
    related: int = RELATED,
    retrieved: int = RETRIEVED,
    keep_turns: bool = False,
    distil: bool = True,
    skipped: Counter[str] | None = None,
) -> Iterator[tuple[str, Iterator[Example]]]:
    """(its id, its examples) of each dialogue: read the one's examples before the next dialogue is asked for.

    What only a step that is not wanted would ask of the embedder is not computed.
    """
    for generated in made:
        if set(steps) == {"extract"}:
            yield generated.dialogue.id, (finding(generated, turn) for turn in generated.dialogue.turns)
            continue
        gold = GoldBank(embedder, related, keep_turns=keep_turns)
        asked = gold.ask(generated, retrieved, distil=distil) if "answer" in steps else iter(())
        every = chain(gold.remember(generated), asked)
        yield generated.dialogue.id, (example for example in every if example.prompt.step in steps)
        gold.close()
        if skipped is not None:
            skipped.update(gold.skipped)


def _json(**reply: Any) -> str:
    return json.dumps(reply, ensure_ascii=False)
