"""The Memory Manager: what a turn tells, and what each fact does to the bank.

turn -> facts -> for each: related entries -> ADD, UPDATE, DELETE or NOOP -> applied
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any

from memory_r1.bank.rows import seconds
from memory_r1.bank.sqlite import MemoryBank
from memory_r1.bank.terms import words
from memory_r1.bank.turns import TurnProgress
from memory_r1.bank.writes import MAX_TEXT
from memory_r1.dates import annotate, event_time, find_dates, format_date
from memory_r1.errors import AlreadyDecided, Conflict
from memory_r1.flow import Flow
from memory_r1.joining import flaw
from memory_r1.prompts import instructions
from memory_r1.recall import harmless, without_recall
from memory_r1.replies import complete_strings, json_object, position, sentence
from memory_r1.types import Fact, Logged, MemoryEntry, Message, Operation, Prompt, Provenance, Reply, Scope, Turn

RELATED = 3  # of the same speaker; the paper shows five of both
MAX_FACTS = 16
MAX_FACT = 120  # characters
MAX_PIECE = 6_000  # characters read at once; fewer where so many do not fit into the model's context
_SHORTEST_PIECE = 100
UNREADABLE = frozenset({"unreadable", "invented position"})
ADDED_INSTEAD = frozenset({"its update invents", "its update loses"})
_WITHOUT_ASKING = frozenset({"not in the turn", "duplicate", "nothing related", "too long to decide", "conflict"})
UNDECIDED = UNREADABLE | ADDED_INSTEAD | _WITHOUT_ASKING
"""Reasons of what was logged though no manager decided it, or not so."""
_TRIES = 3
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_NAME, _ALIKE = 4, 0.8  # letters of a name; likeness of a misspelt one
_ARTICLES = frozenset({"a", "an", "the"})
_AROUND_WORDS = ".,;:!?…\"'“”‘’«»()[]。，、！？"


def remember(
    turn: Turn,
    bank: MemoryBank,
    scope: Scope,
    *,
    k: int = RELATED,
    metadata: Mapping[str, Any] | None = None,
    expires_at: datetime | None = None,
    flags: tuple[str, ...] = (),
    keep_turn: bool = False,
) -> Flow[list[Logged]]:
    """Remember a turn: one logged operation per fact, each fact seeing what the one before it changed.

    First come NOOPs for what the extraction got wrong: a reply that cannot be read, a fact that is not in the turn.

    A turn with an id that was remembered before does nothing, and one that was interrupted goes on. Where several
    processes remember the same turn at once, each of its facts is decided by one of them. `flags` go into the
    provenance of every operation. `keep_turn`: keep its own words, too, beside what is made of them.
    """
    undecided, said, logged = yield from undecided_facts(turn, bank, scope, metadata, expires_at, flags, keep_turn)
    for place, fact in undecided:
        with suppress(AlreadyDecided):
            applied = yield from decide_and_apply(
                fact, turn, bank, scope, k, metadata, expires_at, flags, said, place=place
            )
            logged.append(applied)
    return logged


def undecided_facts(
    turn: Turn,
    bank: MemoryBank,
    scope: Scope,
    metadata: Mapping[str, Any] | None = None,
    expires_at: datetime | None = None,
    flags: tuple[str, ...] = (),
    keep_turn: bool = False,
) -> Flow[tuple[Sequence[tuple[int | None, Fact]], str | None, list[Logged]]]:
    """The facts of a turn that no operation has been applied for yet, what keeps its words, and what was logged.

    With an id each fact has its place among the turn's.
    """
    if turn.id is not None and (progress := bank.turn_progress(scope, turn.id)) is not None:
        left = _undecided(progress)
        return left, bank.entry_keeping(scope, turn.id) if left else None, []
    facts, unusable = yield from extract(turn)
    said = None
    told = replace(turn, text=without_recall(turn.text))
    keep = keep_turn and bool(words(told.text))
    if turn.id is not None or keep:
        said = bank.begin_turn(scope, told, facts, keep=keep, metadata=metadata, expires_at=expires_at, flags=flags)
    logged = [
        bank.apply(replace(operation, provenance=replace(operation.provenance, flags=flags, said=said)), scope)
        for operation in unusable
    ]
    if turn.id is not None and (progress := bank.turn_progress(scope, turn.id)) is not None:
        return _undecided(progress), said, logged  # what another process noted first, where one was faster
    return [(None, fact) for fact in facts], said, logged


def _undecided(progress: TurnProgress) -> list[tuple[int | None, Fact]]:
    return [(place, fact) for place, fact in enumerate(progress.facts) if place >= progress.decided]


def extract(turn: Turn) -> Flow[tuple[list[Fact], list[Operation]]]:
    """The facts a turn tells, and a NOOP for each reply or fact that could not be used: counted, not hidden."""
    turn = replace(turn, text=without_recall(turn.text))
    if not words(turn.text):
        return [], []
    facts: list[Fact] = []
    unusable: list[Operation] = []
    left = list(pieces(turn.text))
    while left:
        piece = left.pop(0)
        reply = yield extract_prompt(replace(turn, text=piece))
        if reply.stop == "overflow" and len(piece) > _SHORTEST_PIECE:
            left[:0] = pieces(piece, len(piece) // 2 + 1)
            continue
        texts, readable = parse_facts(reply.text)
        how = provenance(reply, "extract")
        if not readable:
            unusable.append(Operation("NOOP", Fact(piece, turn.speaker), provenance=replace(how, reason="unreadable")))
        told = frozenset(words(piece))
        for text in texts:
            fact = fact_from(with_name(text, turn), turn)
            if told.isdisjoint(set(words(text)) - set(words(turn.speaker))):
                unusable.append(Operation("NOOP", fact, provenance=replace(how, reason="not in the turn")))
            else:
                facts.append(fact)
    return facts, unusable


def with_name(text: str, turn: Turn) -> str:
    """A fact with the speaker's name as it is written: a small model makes "Winnona" of a rare "Winona".

    Only a word with a capital that the turn does not hold, and that is much like a part of the name which the fact
    lacks, is taken for it: Christina may join a Christian group.
    """
    said = {word.casefold() for word in _WORD.findall(turn.text)}
    lacking = set(_WORD.findall(turn.speaker)) - set(_WORD.findall(text))
    names = sorted(name for name in lacking if len(name) >= _LEAST_NAME and name[0].isupper())

    def spelled(match: re.Match[str]) -> str:
        word = match[0]
        if not word[0].isupper() or len(word) < _LEAST_NAME or word.casefold() in said:
            return word
        alike = [name for name in names if SequenceMatcher(None, word.casefold(), name.casefold()).ratio() >= _ALIKE]
        return alike[0] if alike else word

    return _WORD.sub(spelled, _begun_once(text, turn.speaker, said))


def _begun_once(text: str, speaker: str, said: Set[str]) -> str:
    """Without the beginning of a name before that name, as in "Car Caroline", unless the turn says that word."""
    names = set(_WORD.findall(speaker))
    for name in names:
        for begun in set(re.findall(rf"\b([^\W\d_]+) {re.escape(name)}\b", text)) - names:
            if name.startswith(begun) and begun[0].isupper() and begun.casefold() not in said:
                text = text.replace(f"{begun} {name}", name)
    return text


def pieces(text: str, most: int = MAX_PIECE) -> Iterator[str]:
    """A long text in parts that a small model's context holds, cut between words where there are any."""
    while len(text) > most:
        cut = text.rfind(" ", most // 2, most)
        cut = most if cut < 0 else cut
        yield text[:cut]
        text = text[cut:].lstrip()
    yield text


def decide_and_apply(
    fact: Fact,
    turn: Turn,
    bank: MemoryBank,
    scope: Scope,
    k: int,
    metadata: Mapping[str, Any] | None = None,
    expires_at: datetime | None = None,
    flags: tuple[str, ...] = (),
    said: str | None = None,
    place: int | None = None,
) -> Flow[Logged]:
    """Decide an operation and apply it; when another writer was faster, look again, and at last just add.

    Raises AlreadyDecided where another process decided about the fact at this `place` of the turn's.
    """
    for _ in range(_TRIES):
        operation = yield from decide(fact, bank.related(fact, scope, k), expires_at)
        how = replace(operation.provenance, turn_id=turn.id, flags=flags, said=said)
        operation = replace(operation, provenance=how, place=place)
        try:
            return bank.apply(operation, scope, metadata=metadata, expires_at=expires_at)
        except Conflict:
            continue
    how = Provenance(turn_id=turn.id, reason="conflict", flags=flags, said=said)
    added = Operation("ADD", fact, provenance=how, place=place)
    return bank.apply(added, scope, metadata=metadata, expires_at=expires_at)


def decide(fact: Fact, related: Sequence[MemoryEntry], expires_at: datetime | None = None) -> Flow[Operation]:
    """The operation for one fact. A model is asked only when something is related and nothing says it already.

    Where what says it already would expire before the fact, it is to last as long: an UPDATE to the same words.
    """
    if not related:
        return Operation("ADD", fact, provenance=Provenance(reason="nothing related"))
    if (same := duplicate(fact, related)) is not None:
        if _outlasts(expires_at, same.expires_at):
            return Operation("UPDATE", fact, same, same.text, Provenance(reason="lasts longer"))
        return Operation("NOOP", fact, same, provenance=Provenance(reason="duplicate"))
    for shown in range(len(related), 0, -1):  # what does not fit into the model's context is not shown, the last first
        reply = yield manager_prompt(fact, related[:shown])
        if reply.stop != "overflow":
            return parse_operation(reply, fact, related[:shown], expires_at)
    return Operation("ADD", fact, provenance=replace(provenance(reply, "manage"), reason="too long to decide"))


def duplicate(fact: Fact, related: Iterable[MemoryEntry]) -> MemoryEntry | None:
    """An entry with the same wording, but for case, articles and the punctuation around words.

    What stands inside or after a word is part of it: O+ is not O-, C++ not C, and vitamin A no vitamin. The same words
    about another day are another event: a dated fact is a duplicate only on the same date. Of several entries it is the
    one that lasts longest.
    """
    wanted = _wording(fact.text)
    found = None
    for entry in related:
        if fact.dated and fact.event_time and entry.event_time and fact.event_time != entry.event_time:
            continue
        if fact.speaker != entry.speaker or _wording(entry.text) != wanted:
            continue
        if found is None or _outlasts(entry.expires_at, found.expires_at):
            found = entry
    return found


def _wording(text: str) -> list[str]:
    """A text's words as they are compared: without articles, which are written small or begin the text."""
    said = [word for each in unicodedata.normalize("NFKC", text).split() if (word := each.strip(_AROUND_WORDS))]
    return [
        word.casefold()
        for place, word in enumerate(said)
        if word.casefold() not in _ARTICLES or place == len(said) - 1 or (place and not word.islower())
    ]


def _outlasts(expires_at: datetime | None, other: datetime | None) -> bool:
    """Whether what expires then (None: never) is there when the other is no longer."""
    end, before = seconds(expires_at), seconds(other)
    return before is not None and (end is None or end > before)


def fact_from(text: str, turn: Turn) -> Fact:
    """A fact with its event time: the date its words give, else that of the turn's only date, else the turn's time."""
    if turn.time is None:
        return Fact(text, turn.speaker)
    when, dated = event_time(text, turn.time)
    if when is None and len(mentions := find_dates(turn.text, turn.time)) == 1:
        when = mentions[0].time
    return Fact(annotate(text, turn.time), turn.speaker, when or turn.time, dated)


def extract_prompt(turn: Turn) -> Prompt:
    text, version = instructions("extract")
    said = annotate(turn.text, turn.time) if turn.time else turn.text
    when = f"({format_date(turn.time)}) " if turn.time else ""
    message = f"{when}{turn.speaker}: {said}"
    most = most_facts(turn.text)
    messages = (Message("system", text), Message("user", message))
    return Prompt("extract", messages, facts_schema(most), max_tokens=60 * most, version=version, logprobs=False)


def most_facts(text: str) -> int:
    """How many facts a text of its length may hold: a small model left free repeats itself to the end."""
    return min(MAX_FACTS, max(2, 1 + len(words(text)) // 20))


def facts_schema(most: int) -> Mapping[str, Any]:
    fact = {"type": "string", "minLength": 6, "maxLength": MAX_FACT}
    return {
        "type": "object",
        "properties": {"facts": {"type": "array", "items": fact, "maxItems": most}},
        "required": ["facts"],
        "additionalProperties": False,
    }


def manager_prompt(fact: Fact, related: Sequence[MemoryEntry]) -> Prompt:
    text, version = instructions("manage")
    memories = "\n".join(f"{i}. {harmless(entry.text)}" for i, entry in enumerate(related, 1))
    message = f"Memories:\n{memories}\nNew fact: {harmless(fact.text)}"
    messages = (Message("system", text), Message("user", message))
    return Prompt("manage", messages, operation_schema(len(related)), 160, version=version)


def operation_schema(count: int) -> Mapping[str, Any]:
    """The four operations; a position that is not there cannot be said."""

    def one(kind: str, **properties: Mapping[str, Any]) -> Mapping[str, Any]:
        fields = {"operation": {"const": kind}, **properties}
        return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}

    index = {"enum": list(range(1, count + 1))}
    text = {"type": "string", "minLength": 1, "maxLength": 400}
    return {"anyOf": [one("ADD"), one("NOOP"), one("UPDATE", index=index, text=text), one("DELETE", index=index)]}


def parse_facts(text: str) -> tuple[list[str], bool]:
    """(facts, readable). A list that was cut off gives the facts that are whole."""
    found = json_object(text)
    if found is None or not isinstance(found.get("facts"), list):
        texts: list[Any] = complete_strings(text) if found is None else []
        readable = bool(texts)
    else:
        texts, readable = found["facts"], True
    facts = dict.fromkeys(fact for item in texts if (fact := sentence(item)) is not None)
    return list(facts)[:MAX_FACTS], readable


def parse_operation(
    reply: Reply, fact: Fact, related: Sequence[MemoryEntry], expires_at: datetime | None = None
) -> Operation:
    """The operation a reply names. One that cannot be read, or an invented position, is a counted NOOP.

    An UPDATE that does not join its memory and the fact adds the fact instead: nothing is lost or made up.
    """
    how = provenance(reply, "manage")

    def nothing(reason: str) -> Operation:
        return Operation("NOOP", fact, provenance=replace(how, reason=reason))

    found = json_object(reply.text)
    named = found.get("operation") if found else None
    kind = named.strip().upper() if isinstance(named, str) else ""
    if found is None or kind not in ("ADD", "UPDATE", "DELETE", "NOOP", "NONE"):
        return nothing("unreadable")
    if kind in ("NOOP", "NONE"):
        return Operation("NOOP", fact, provenance=how)
    if kind == "ADD":
        return Operation("ADD", fact, provenance=how)
    place = position(found.get("index"), len(related))
    if place is None:
        return nothing("invented position")
    entry = related[place]
    if kind == "DELETE":
        return Operation("DELETE", fact, entry, provenance=how)
    text = sentence(found.get("text"), MAX_TEXT)
    if text is None:
        return nothing("unreadable")
    if text == entry.text and not _outlasts(expires_at, entry.expires_at):
        return Operation("NOOP", fact, entry, provenance=replace(how, reason="unchanged"))
    if (wrong := flaw(text, entry.text, fact.text, fact.speaker)) is not None:
        return Operation("ADD", fact, provenance=replace(how, reason=f"its update {wrong}"))
    return Operation("UPDATE", fact, entry, text, provenance=how)


def provenance(reply: Reply, step: str) -> Provenance:
    version = instructions("extract" if step == "extract" else "manage")[1]
    return Provenance(model=reply.model, adapter=reply.adapter, prompt_version=version, logprob=reply.logprob)
