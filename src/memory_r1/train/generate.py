"""Generated dialogues: two people whose lives change over some sessions, and questions about what was told.

seed -> who lives what (threads) -> in which session each beat is told, and when it happened -> the talk -> questions

Everything that a perfect extractor, Memory Manager and Answer Agent would do is known and lies beside the dialogue.
The same split, seed, number of sessions and version give the same dialogue, whatever else was generated before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.dates import find_dates
from memory_r1.errors import InvalidInput
from memory_r1.manager import fact_from
from memory_r1.train.moments import Moment, future, past
from memory_r1.train.remarks import remarks
from memory_r1.train.wording import Split, filled, phrase, wording
from memory_r1.train.world import CATEGORIES, FAMILIES, UNANSWERABLE, Ask, Beat, Family
from memory_r1.types import Fact, Kind, Turn

SESSIONS = 6
_THREADS_A_SESSION = 1.3  # corners of life of each speaker: six sessions tell of eight
_REMARKS_A_SESSION = 2.0  # what each speaker mentions besides
_UNANSWERABLE_SHARE = 0.25  # of the answerable questions, as in LoCoMo
_TRIES = 60


@dataclass(frozen=True, slots=True)
class Told:
    """A fact that a turn tells, and what it does to the gold bank.

    `attribute` is the family and beat ("remarks.told" for every remark), `values` what the world knows of it, `moment`
    when it happened where the turn says so. `text` is the text of gold entry `entry` afterwards, None when it is gone.
    """

    fact: Fact
    subject: str
    attribute: str
    values: Mapping[str, str]
    moment: Moment | None
    kind: Kind
    entry: str
    text: str | None


@dataclass(frozen=True, slots=True)
class Generated:
    """A dialogue with its questions and its gold: what each turn tells, and which gold entries answer a question."""

    dialogue: Dialogue
    questions: tuple[Question, ...]
    told: Mapping[str, tuple[Told, ...]]
    support: Mapping[str, tuple[str, ...]]

    def bank(self, before: str | None = None) -> dict[str, str]:
        """The gold bank before a turn is read, or at the end: entry -> text."""
        entries: dict[str, str] = {}
        for turn in self.dialogue.turns:
            if turn.id == before:
                break
            for told in self.told.get(turn.id or "", ()):
                if told.text is None:
                    del entries[told.entry]
                else:
                    entries[told.entry] = told.text
        return entries


def dialogues(
    split: Split, seed: int, count: int | None = None, *, sessions: int = SESSIONS, families: Sequence[str] = ()
) -> Iterator[Generated]:
    """`count` dialogues, or one after the other without end. `families`: tell of these alone ("dogs"), where given."""
    number = 0
    while count is None or number < count:
        yield generate(split, seed, number, sessions=sessions, families=families)
        number += 1


def generate(
    split: Split, seed: int, number: int = 0, *, sessions: int = SESSIONS, families: Sequence[str] = ()
) -> Generated:
    """Dialogue `number` of a seed. Raises InvalidInput for no session, or a family that is not there."""
    if sessions < 1:
        raise InvalidInput(f"a dialogue has at least one session, not {sessions}")
    if unknown := set(families) - {family.name for family in FAMILIES}:
        raise InvalidInput(f"no family {min(unknown)!r}; there are {', '.join(one.name for one in FAMILIES)}")
    chosen = [family for family in FAMILIES if not families or family.name in families]
    mentioned = () if families else remarks(split).families
    return _World(split, f"{split}-{seed}-{number}", sessions, chosen, mentioned).generated()


def dataset(generated: Iterable[Generated], name: str = "synthetic") -> Dataset:
    """What the benchmarks read, with LoCoMo's category names."""
    made = list(generated)
    return Dataset(
        name=name,
        dialogues=tuple(one.dialogue for one in made),
        questions=tuple(question for one in made for question in one.questions),
        categories=CATEGORIES,
        splits={"all": tuple(one.dialogue.id for one in made)},
    )


def gold(generated: Iterable[Generated]) -> dict[str, Any]:
    """The gold as plain JSON: by dialogue what each turn tells, the final bank, and what answers each question."""
    return {
        one.dialogue.id: {
            "turns": {turn: [_told_json(told) for told in facts] for turn, facts in one.told.items()},
            "bank": one.bank(),
            "support": {name: list(entries) for name, entries in one.support.items()},
        }
        for one in generated
    }


def _told_json(told: Told) -> dict[str, Any]:
    return {
        "fact": told.fact.text,
        "attribute": told.attribute,
        "when": told.moment and told.moment.text,
        "operation": told.kind,
        "entry": told.entry,
        "text": told.text,
    }


@dataclass(slots=True)
class _Thread:
    """One corner of one speaker's life. `turns` and `values` fill as its beats are told."""

    speaker: str
    family: Family
    path: tuple[str, ...]
    values: dict[str, str]
    sessions: list[int]
    turns: dict[str, str] = field(default_factory=dict)
    since: datetime | None = None  # nothing of it happens before what was told last
    planned: datetime | None = None

    def entry(self, label: str) -> str:
        return f"{self.speaker}/{self.family.name}/{label}"


@dataclass(frozen=True, slots=True)
class _Due:
    """A beat that a session is to tell."""

    thread: _Thread
    beat: Beat
    until: datetime  # the session that tells the thread's next beat: a plan lies after it


class _World:
    def __init__(
        self, split: Split, name: str, sessions: int, families: Sequence[Family], mentioned: Sequence[Family]
    ) -> None:
        self._rng = Random(name)
        self._words = {**wording(split), **remarks(split).words}
        self._name = name
        self._families, self._mentioned = families, mentioned
        self._taken: set[str] = set()
        self._speakers = (self._draw("people"), self._draw("people"))
        self._times = self._calendar(sessions)
        self._told: dict[str, tuple[Told, ...]] = {}
        self._texts: dict[str, str] = {}

    def generated(self) -> Generated:
        threads = [thread for speaker in self._speakers for thread in self._lives(speaker)]
        sessions = []
        for number, time in enumerate(self._times):
            due: dict[str, list[_Due]] = {speaker: [] for speaker in self._speakers}
            for thread in threads:
                if number in thread.sessions:
                    place = thread.sessions.index(number)
                    after = thread.sessions[place + 1 :]
                    until = self._times[after[0]] if after else time
                    due[thread.speaker].append(_Due(thread, thread.family.beat(thread.path[place]), until))
            sessions.append(Session(number + 1, time, tuple(self._session(number + 1, time, due))))
        dialogue = Dialogue(self._name, self._speakers, tuple(sessions))
        questions, support = self._questions(threads)
        return Generated(dialogue, questions, self._told, support)

    # -- who lives what -------------------------------------------------------------------------------------------

    def _calendar(self, sessions: int) -> list[datetime]:
        rng = self._rng
        time = datetime(rng.randint(2021, 2025), rng.randint(1, 12), rng.randint(1, 28), tzinfo=UTC)
        times = []
        for _ in range(sessions):
            times.append(time.replace(hour=rng.randint(8, 21), minute=rng.randint(0, 59)))
            time += timedelta(days=rng.randint(6, 35))
        return times

    def _lives(self, speaker: str) -> Iterator[_Thread]:
        wanted = max(2, round(len(self._times) * _THREADS_A_SESSION))
        chosen: list[Family] = []
        for family in self._rng.sample(self._families, len(self._families)):
            if len(chosen) < wanted and not _clashes(family, chosen):
                chosen.append(family)
                path = self._rng.choice(family.paths)[: len(self._times)]
                yield self._thread(speaker, family, path)
        wanted = len(chosen) + round(len(self._times) * _REMARKS_A_SESSION)
        mentioned = [one for one in self._mentioned if one.name not in self._taken]
        for family in self._rng.sample(mentioned, len(mentioned)):
            if len(chosen) < wanted and not _clashes(family, chosen):
                chosen.append(family)
                self._taken.add(family.name)  # two people do not say the same
                yield self._thread(speaker, family, family.paths[0])

    def _thread(self, speaker: str, family: Family, path: Sequence[str]) -> _Thread:
        return _Thread(speaker, family, tuple(path), self._values(speaker, family), self._spread(family, path))

    def _values(self, speaker: str, family: Family) -> dict[str, str]:
        values = {"n": speaker, "friend": next(one for one in self._speakers if one != speaker)}
        for slot, pool in family.slots.items():
            first, *others = self._draw(pool, values.values()).split("|")
            values[slot] = first
            values |= {f"{slot}_{place}": other for place, other in enumerate(others, 1)}
        return values

    def _draw(self, pool: str, not_these: Iterable[str] = ()) -> str:
        """A value that nobody in this dialogue has yet, while there are any."""
        barred = set(not_these)
        values = [value for value in self._words[f"pools.{pool}"] if value.split("|")[0] not in barred]
        drawn = self._rng.choice([value for value in values if value not in self._taken] or values)
        self._taken.add(drawn)
        return drawn

    def _spread(self, family: Family, path: Sequence[str]) -> list[int]:
        """A session for each beat, in order. A plan is followed up at once: it must still lie ahead."""
        rng, count = self._rng, len(self._times)
        if any(beat.when == "future" for beat in family.beats):
            first = rng.randint(0, count - len(path))
            return list(range(first, first + len(path)))
        return sorted(rng.sample(range(count), len(path)))

    # -- the talk -------------------------------------------------------------------------------------------------

    def _session(self, number: int, time: datetime, due: dict[str, list[_Due]]) -> Iterator[Turn]:
        """Both speak in turn until everything is told: each reacts to what was said before telling something."""
        rng = self._rng
        for queue in due.values():
            rng.shuffle(queue)
        order = rng.sample(self._speakers, 2)
        heard: _Due | None = None
        place = 0
        while place < 4 or any(due.values()) or heard:
            speaker, friend = order[place % 2], order[(place + 1) % 2]
            telling: list[_Due] = []
            if due[speaker] and place and (rng.random() < 0.75 or not due[friend]):
                telling = self._next(due[speaker])
            place += 1
            yield self._turn(f"D{number}:{place}", speaker, friend, time, telling, heard, greet=place <= 2)
            heard = telling[-1] if telling else None
        for _ in range(2):
            text = self._say("talk.bye", {"friend": order[(place + 1) % 2]})
            yield Turn(order[place % 2], text, time, f"D{number}:{place + 1}")
            place += 1

    def _next(self, queue: list[_Due]) -> list[_Due]:
        """What is told next: sometimes two facts at once, both dated or neither, so that each keeps its own date."""
        first = queue.pop()
        if self._rng.random() < 0.3:
            for second in queue:
                alike = (second.beat.when is None) == (first.beat.when is None) and second.beat.sad == first.beat.sad
                if alike:
                    queue.remove(second)
                    return [first, second]
        return [first]

    def _turn(
        self,
        turn_id: str,
        speaker: str,
        friend: str,
        time: datetime,
        telling: Sequence[_Due],
        heard: _Due | None,
        *,
        greet: bool,
    ) -> Turn:
        """A turn whose dates are read as the world means them: others are drawn again."""
        for _ in range(_TRIES):
            moments = [self._moment(due, time) for due in telling]
            picks = [self._rng.randrange(len(self._words[f"{_key(due)}.say"])) for due in telling]
            sayings = [
                filled(self._words[f"{_key(due)}.say"][pick], self._with(due, moment))
                for due, moment, pick in zip(telling, moments, picks, strict=True)
            ]
            text = self._spoken(friend, sayings, telling, heard, greet)
            meant = sorted((moment.time, moment.precision) for moment in moments if moment)
            if sorted((found.time, found.precision) for found in find_dates(text, time)) == meant:
                break
        else:
            raise InvalidInput(f"no dates for {[_key(due) for due in telling]} are read as meant in {text!r}")
        turn = Turn(speaker, text, time, turn_id)
        told = [self._tell(due, moment, pick, turn) for due, moment, pick in zip(telling, moments, picks, strict=True)]
        if told:
            self._told[turn_id] = tuple(told)
        return turn

    def _moment(self, due: _Due, now: datetime) -> Moment | None:
        thread = due.thread
        if due.beat.when == "past":
            return past(self._rng, now, thread.since)
        if due.beat.when == "future":
            after = max(due.until, thread.planned or due.until)
            return future(self._rng, now, after)
        return None

    def _with(self, due: _Due, moment: Moment | None) -> dict[str, str]:
        dates = {"when": moment.phrase, "on": moment.text, f"{due.beat.name}_on": moment.text} if moment else {}
        return due.thread.values | dates

    def _spoken(
        self, friend: str, sayings: Sequence[str], telling: Sequence[_Due], heard: _Due | None, greet: bool
    ) -> str:
        """What is said around the facts: greeting, reaction, opener, side remarks, a question back."""
        rng, names = self._rng, {"friend": friend}
        sad = bool(telling) and telling[0].beat.sad
        parts = []
        if greet:
            parts.append(self._say("talk.hello", names))
        elif heard:
            parts.append(self._reaction(heard, names))
        elif rng.random() < 0.5:
            parts.append(self._say("talk.thanks", names))
        musings = self._some("talk.filler", rng.randint(2, 5)) if rng.random() < 0.12 else []
        before = rng.randint(0, len(musings))
        parts += musings[:before]
        if sayings:
            if rng.random() < 0.45:
                parts.append(self._say("talk.sad_opener" if sad else "talk.opener", names))
            for due, saying in zip(telling, sayings, strict=True):
                if due is not telling[0]:
                    parts.append(self._say("talk.connector", names))
                goes_on = parts and parts[-1].endswith((",", ":"))
                parts.append(_mid_sentence(saying, due.thread.values) if goes_on else saying)
            if rng.random() < 0.4:
                parts.append(self._say("talk.sad_after" if sad else "talk.after", names))
        elif not greet and (not heard or rng.random() < 0.4):
            parts.append(self._say("talk.small", names))
        parts += musings[before:]
        if rng.random() < (0.3 if sayings else 0.5):
            parts.append(self._say("talk.ask", names))
        return " ".join(parts)

    def _reaction(self, heard: _Due, names: Mapping[str, str]) -> str:
        if heard.beat.sad:
            return self._say("talk.sorry", names)
        general = self._say("talk.small" if heard.beat.kind == "NOOP" else "talk.glad", names)
        draw = self._rng.random()
        reacting = f"{heard.thread.family.name}.react"
        if draw < 0.4 or reacting not in self._words:
            return general
        own = self._say(reacting, heard.thread.values)
        return own if draw < 0.7 else f"{general} {own}"

    def _say(self, key: str, values: Mapping[str, str]) -> str:
        return filled(self._rng.choice(self._words[key]), values)

    def _some(self, key: str, count: int) -> list[str]:
        return self._rng.sample(self._words[key], min(count, len(self._words[key])))

    # -- what it does to the bank ---------------------------------------------------------------------------------

    def _tell(self, due: _Due, moment: Moment | None, pick: int, turn: Turn) -> Told:
        """The gold of a told beat. A way of saying goes with one way of writing it down: there is less to guess."""
        thread, beat, key = due.thread, due.beat, _key(due)
        values = self._with(due, moment)
        facts = self._words[f"{key}.fact"]
        fact = fact_from(filled(facts[pick % len(facts)], values), turn)
        entry = thread.entry(beat.entry)
        before = self._texts.get(entry)
        after = before
        if beat.kind == "ADD":
            after = fact.text
        elif beat.kind == "UPDATE":
            forms = self._words[f"{key}.entry"]
            after = filled(forms[pick % len(forms)], values)
        elif beat.kind == "DELETE":
            after = None
        self._texts.pop(entry, None)
        if after is not None:
            self._texts[entry] = after
        assert turn.time is not None
        assert turn.id is not None
        thread.values = {name: value for name, value in values.items() if name not in ("when", "on")}
        thread.turns[beat.name] = turn.id
        thread.since = turn.time
        if moment and beat.when == "future":
            thread.planned = moment.time
        attribute = f"{thread.family.counted or thread.family.name}.{beat.name}"
        return Told(fact, turn.speaker, attribute, thread.values, moment, beat.kind, entry, after)

    # -- questions ------------------------------------------------------------------------------------------------

    def _questions(self, threads: Sequence[_Thread]) -> tuple[tuple[Question, ...], dict[str, tuple[str, ...]]]:
        rng = self._rng
        asked: dict[str, tuple[str, str, str, tuple[str, ...], tuple[str, ...], bool]] = {}
        unanswerable = [one for thread in threads for one in self._wrong_person(thread, threads)]
        unanswerable += [one for speaker in self._speakers for one in self._never_said(speaker, threads)]
        rng.shuffle(unanswerable)
        for thread in threads:
            for ask in thread.family.asks:
                if not thread.turns.keys() >= set(ask.told) or thread.turns.keys() & set(ask.unless):
                    continue
                text = self._say(f"{thread.family.name}.ask.{ask.name}", thread.values)
                evidence = tuple(thread.turns[name] for name in ask.told)
                if ask.answer is None:
                    unanswerable.insert(0, (text, evidence))
                    continue
                entries = tuple(thread.entry(label) for label in ask.entries)
                answer = phrase(ask.answer, thread.values)
                asked[text] = (text, answer, ask.category, evidence, entries, True)
        for text, evidence in unanswerable[: max(1, round(len(asked) * _UNANSWERABLE_SHARE))]:
            asked.setdefault(text, (text, "", UNANSWERABLE, evidence, (), False))
        questions, support = [], {}
        for number, (text, answer, category, evidence, entries, answerable) in enumerate(asked.values()):
            name = f"{self._name}/{number}"
            told = tuple(dict.fromkeys(evidence))
            questions.append(Question(name, self._name, text, answer, category, told, answerable))
            support[name] = entries
        return tuple(questions), support

    def _wrong_person(self, thread: _Thread, threads: Sequence[_Thread]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """What one told, asked about the other, who told nothing like it."""
        friend = thread.values["friend"]
        if _clashes(thread.family, [other.family for other in threads if other.speaker == friend]):
            return
        for ask in self._rng.sample(thread.family.asks, len(thread.family.asks)):
            if _askable(ask) and thread.turns.keys() >= set(ask.told):
                values = thread.values | {"n": friend}
                yield (
                    self._say(f"{thread.family.name}.ask.{ask.name}", values),
                    tuple(thread.turns[name] for name in ask.told),
                )
                return

    def _never_said(self, speaker: str, threads: Sequence[_Thread]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """What nobody told anything about."""
        known = [thread.family for thread in threads]
        for family in self._rng.sample([*self._families, *self._mentioned], len(self._families)):
            if _clashes(family, known):
                continue
            ask = self._rng.choice([ask for ask in family.asks if _askable(ask)])
            for template in self._words[f"{family.name}.ask.{ask.name}"]:
                if template.replace("{n}", "").count("{") == 0:
                    yield filled(template, {"n": speaker}), ()
                    known.append(family)
                    break


def _clashes(family: Family, others: Iterable[Family]) -> bool:
    return any(family.clashes(other) for other in others)


def _askable(ask: Ask) -> bool:
    """Whether nothing answers it when nothing was told: a "would it be safe?" could be guessed."""
    return ask.answer is not None and ask.category != "open-domain"


def _key(due: _Due) -> str:
    return f"{due.thread.family.name}.{due.beat.name}"


def _mid_sentence(saying: str, names: Mapping[str, str]) -> str:
    """A saying that goes on after a comma or a colon: its first word loses its capital, unless it is a name."""
    first = re.split(r"[^\w-]", saying.strip('"'), maxsplit=1)[0]
    proper = {"I", *(word for value in names.values() for word in re.split(r"[^\w-]", value))}
    return saying if first in proper else saying[0].lower() + saying[1:]
