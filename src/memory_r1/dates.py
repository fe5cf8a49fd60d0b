"""Dates in messages: found and resolved in code against the time of the turn, never by a model.

How expressions are read, for a message written on Monday, 8 May 2023:

    last Friday         5 May, strictly before the day: on a Friday, the one 7 days back
    next Friday         12 May, the first strictly after the day; "this Friday" may be the day itself
    last / this week    the weeks that begin on Monday 1 May / 8 May
    this weekend        13 May (Saturday); last weekend 6 May, next weekend 20 May, two weekends ago 29 April
    last June           2022, the latest that is over; last summer: 2022 (by the seasons of the north)
    last night          7 May; this morning, tonight: 8 May
    two weeks ago       the week of 24 April: as coarse as its unit; with "a few" one unit coarser
    in two weeks        the week of 22 May where the sentence speaks of the future, else a duration: nothing
    May 20, on Friday,  the next one where the sentence speaks of the future ("will", "going"), the latest where
    in June             it speaks of the past; else the nearest May 20, the latest Friday, the latest June

Nothing is made of what can be read in two ways: 8/5/2023, "soon", "the last week", "a week before 9 June".
"""

from __future__ import annotations

import re
from calendar import isleap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from memory_r1.errors import InvalidInput

Precision = Literal["minute", "hour", "day", "weekend", "week", "month", "year"]


@dataclass(frozen=True, slots=True)
class DateMention:
    """`text`, the message's [start:end], means `time`; `relative`: one must know the turn's time to tell."""

    start: int
    end: int
    text: str
    time: datetime
    precision: Precision
    relative: bool


MONTH_NAMES = "January|February|March|April|May|June|July|August|September|October|November|December"
MONTHS = MONTH_NAMES.split("|")
NUMBER_NAMES = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
SEASONS = {"spring": 5, "summer": 8, "autumn": 11, "fall": 11}  # the last month; no winter: it lies in two years
UNITS: dict[str, Precision] = {"minute": "minute", "min": "minute", "hour": "hour", "hr": "hour", "day": "day"}
UNITS |= {"weekend": "weekend", "week": "week", "month": "month", "year": "year"}
COARSER: dict[str, Precision] = {"day": "week", "week": "month", "month": "year"}
# What a rule's matches contain, because `in` is far faster than a search with the rule's pattern.
MONTHS3, DAYS3 = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec", "mon|tue|wed|thu|fri|sat|sun"

DAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mon|tues?|wed|thu(?:rs?)?|fri|sat|sun)\b)"
MONTH = rf"(?:{MONTH_NAMES}|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
SPAN = rf"(weekend|week|month|year|{'|'.join(SEASONS)}|{DAY}|{MONTH})(?!\w)"
COUNT = rf"(\d{{1,4}}|an?|a few|(?:a )?couple(?: of)?|{NUMBER_NAMES}) ({'|'.join(UNITS)})s?\b"
THINGS = "steps|people|miles|meters|metres|km|kg|words|dollars|euros|calories|pages|points|times|days|years|percent"
NO_COUNT = rf"(?![\w%]|[.,:/-]\d| ?(?:{THINGS}|hours|minutes|[ap]\.?m)\b)"

FUTURE = re.compile(
    r"\b(?:will|won.t|going|gonna|upcoming|coming|plan(?:s|ning)?|looking forward|starts|begins|opens|due|next|leaving|"
    r"see you|can.?t wait|hop(?:e|ing) to|moving|scheduled)\b|\w.ll\b|\b(?:is|are)\s+$",
    re.I,
)
PAST = re.compile(
    r"\b(?:was|were|did|had|has|have|been|went|took|got|made|saw|met|came|ran|bought|gave|felt|last|since|won|lost|"
    r"read|left|told|said|began|born|(?!need|excited)\w{3,}ed)\b|n.t\b",
    re.I,
)
OWNED = re.compile(r"\b(?:the|my|your|his|our|their|its|every|each|one)\s+$", re.I)
NOT_IT = re.compile(  # a date only counted from, or a figure of speech: "feels like yesterday", "half a year ago"
    rf"\b(?:(?:\w*days?|weeks?|weekend|months?|years?|night)\s+(?:before|after)|half|"
    rf"(?:{NUMBER_NAMES}|\d)\s+or|like(?:\s+it\s+was)?(?:\s+just)?)\s+$",
    re.I,
)
ANNOTATION = re.compile(rf"\s?\((?:the week(?:end)? of )?(?:\d\d? )?(?:(?:{MONTH_NAMES}) )?\d{{4}}(?:, \d\d:\d\d)?\)")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STRICT = {"STRICT_PARSING": True, "PARSERS": ["absolute-time"], "TIMEZONE": "UTC", "RETURN_AS_TIMEZONE_AWARE": True}

Found = tuple[datetime, Precision, bool] | None  # time, precision, relative
Resolve = Callable[[re.Match[str], datetime], Found]
RULES: list[tuple[list[str], re.Pattern[str], Resolve]] = []


def _rule(needles: str, pattern: str) -> Callable[[Resolve], None]:
    """Resolve `pattern`, looked for in texts with one of `needles`, with the function below it."""
    # ASCII, because else "ſ" matches "s" and names no month.
    compiled = re.compile(rf"(?<![\w./:-])(?:{pattern})(?:['’]s\b)?".replace(" ", r"\s+"), re.I | re.A)
    return lambda resolve: RULES.append((needles.split("|"), compiled, resolve))


def _index(name: str, names: str) -> int:
    return names.split("|").index(name[:3].lower())


def _month(name: str) -> int:
    return _index(name, MONTHS3) + 1


def _named(word: str) -> bool:
    """In lower case "may", "march" or "sun" is rather another word."""
    return word.istitle() or word.rstrip(".").lower() not in {"may", "march", "mar", "mon", "wed", "sat", "sun"}


def _tense(match: re.Match[str]) -> int:
    """1 when the sentence around the match speaks of the future, -1 of the past, 0 when it does not say."""
    before = re.split(r"[.!?\n;]", match.string[max(0, match.start() - 200) : match.start()])[-1]
    after = re.split(r"[.!?\n;]", match.string[match.end() : match.end() + 200])[0]
    return next((1 if FUTURE.search(s) else -1 for s in (before, after) if FUTURE.search(s) or PAST.search(s)), 0)


def _shift(base: datetime, count: int, unit: str) -> datetime:
    """The beginning of the unit that lies `count` units from the one `base` is in."""
    if unit in ("minute", "hour"):
        return base.replace(second=0, microsecond=0) + timedelta(**{unit + "s": count})
    day = base.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "day":
        return day + timedelta(days=count)
    if unit in ("week", "weekend"):
        return day + timedelta(days=7 * count - day.weekday() + (5 if unit == "weekend" else 0))
    months = day.year * 12 + (day.month - 1 + count if unit == "month" else 12 * count)
    return day.replace(year=months // 12, month=months % 12 + 1, day=1)


def _step(base: datetime, name: str, way: int) -> tuple[datetime, Precision]:
    """The last (way -1), this (0) or next (1) unit, season, weekday or month of that name."""
    if unit := UNITS.get(name):
        return _shift(base, way, unit), unit
    if last := SEASONS.get(name):
        return _shift(base, (base.month >= last - 2) * (way > 0) - (base.month <= last) * (way < 0), "year"), "year"
    if re.fullmatch(DAY, name, re.I):
        days = (_index(name, DAYS3) - base.weekday()) % 7
        return _shift(base, (days - 7, days, days or 7)[way + 1], "day"), "day"
    months = _month(name) - base.month
    return _shift(base, (months % 12 - 12, months, months % 12 or 12)[way + 1], "month"), "month"


@_rule("0|1|2|3", r"\d{4}([-/])\d\d\1\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?![\w/-])")
def _iso(match: re.Match[str], _: datetime) -> Found:
    return datetime.fromisoformat(match[0].replace("/", "-")), "minute" if ":" in match[0] else "day", False


@_rule(
    MONTHS3,
    rf"(?:(?:on )?{DAY},? )?(?:({MONTH}) (?:the )?(\d\d?)(?:st|nd|rd|th)?|"
    rf"(?:the )?(\d\d?)(?:st|nd|rd|th)?(?: of)? ({MONTH}))"
    rf"(?:,? (?:of )?(\d{{4}}))?{NO_COUNT}",
)
def _written(match: re.Match[str], base: datetime) -> Found:
    name, day = match[1] or match[4], int(match[2] or match[3])
    if match[5]:
        return datetime(int(match[5]), _month(name), day), "day", False
    if not _named(name) and not re.search(r"\d(?:st|nd|rd|th)$|\bof\b", match[0]):
        return None
    today, tense = _shift(base, 0, "day"), _tense(match)
    leap = day == 29 and _month(name) == 2
    years = [y for y in range(base.year - 8 * leap - 1, base.year + 8 * leap + 2) if not leap or isleap(y)]
    near = [time for y in years if ((time := datetime(y, _month(name), day)) - today).days * tense >= 0]
    return min(near, key=lambda time: abs(time - today)), "day", True


@_rule(MONTHS3, rf"(?:(in|since|until|during|early|late|mid)[ -])?({MONTH})(?:,? (\d{{4}}))?(?!,? ?\d|\w)")
def _in_month(match: re.Match[str], base: datetime) -> Found:
    if match[3]:
        return datetime(int(match[3]), _month(match[2]), 1), "month", False
    way = 0 if _month(match[2]) == base.month else _tense(match) or -1
    return (*_step(base, match[2], way), True) if match[1] and _named(match[2]) else None


@_rule(
    "19|20",
    r"(?:(in|since|until|from|during|by|early|late|mid|(?:start|end) of|"
    r"(?:spring|summer|autumn|fall|winter|christmas)(?: of)?)[ -]|^|(?<=\())"
    rf"((?:19|20)\d\d){NO_COUNT}",
)
def _in_year(match: re.Match[str], _: datetime) -> Found:
    alone = match.string[match.end() : match.end() + 9].strip()[:1] in ("", ")")
    return (datetime(int(match[2]), 1, 1), "year", False) if match[1] or alone else None


@_rule("in|ago|from", rf"(?:in (?:about |around )?{COUNT}|{COUNT} (ago|from now))(?!\w)")
def _counted(match: re.Match[str], base: datetime) -> Found:
    word, unit = (match[1] or match[3]).lower(), UNITS[(match[2] or match[4]).lower()]
    if match[1] and (word, unit) == ("a", "minute"):
        return None
    if match[1] and _tense(match) < 1 and match[0] != match.string.strip():
        return None
    names = NUMBER_NAMES.split("|")
    count = int(word) if word.isdigit() else names.index(word) + 1 if word in names else 2 if "couple" in word else 1
    way = -1 if (match[5] or "").lower() == "ago" else 1
    if "few" not in word:
        return _shift(base, way * count, unit), unit, True
    coarser = COARSER.get(unit)
    return (_shift(_shift(base, way * 3, unit), 0, coarser), coarser, True) if coarser else None


@_rule(
    "day|night|tomorrow|this",
    r"(?:the )?(?:day before yesterday|day after tomorrow|night before last)|today|tonight|last (?:night|evening)|"
    r"(?:yesterday|tomorrow)(?: (?:morning|afternoon|evening|night))?|this (?:morning|afternoon|evening)",
)
def _named_day(match: re.Match[str], base: datetime) -> Found:
    words = match[0].lower()
    days = 1 if "tomorrow" in words else -1 if "yesterday" in words or "last" in words else 0
    return _shift(base, days * (2 if "before" in words or "after" in words else 1), "day"), "day", True


_ITS_DATE = re.compile(rf",?\s+({MONTH})\s+(?:the\s+)?\d\d?(?:st|nd|rd|th)?{NO_COUNT}", re.I | re.A)


@_rule("last|past|this|next|coming", rf"(last|past|this past|this|next|coming|this coming) {SPAN}(?! of\b|,? \d)")
def _stepped(match: re.Match[str], base: datetime) -> Found:
    word, name = match[1].lower().split()[-1], match[2]
    if not _named(name) or OWNED.search(match.string[: match.start()][-12:]):
        return None
    its_date = _ITS_DATE.match(match.string, match.end())
    if its_date and _named(its_date[1]) and re.fullmatch(DAY, name, re.I):  # "last Friday, May 1" is that May 1
        return None
    if word == "past" and name.lower() in ("week", "month", "year"):  # the one before, or the seven days up to now?
        return None
    if word == "this" and re.fullmatch(DAY, name, re.I):
        way = min(_tense(match), 0)
    else:
        way = {"this": 0, "next": 1, "coming": int(name.lower() != "weekend")}.get(word, -1)
    return (*_step(base, name.lower(), way), True)


@_rule("before|after", rf"(?:the )?{SPAN} (before last|after next)(?! {SPAN})")
def _second(match: re.Match[str], base: datetime) -> Found:
    way, name = (-1 if "last" in match[2].lower() else 1), match[1].lower()
    time, precision = _step(_step(base, name, way)[0], name, way)
    return time, precision, True


@_rule(DAYS3, rf"on ({DAY})(?!\w|,? \d)")
def _on_weekday(match: re.Match[str], base: datetime) -> Found:
    return (*_step(base, match[1], _tense(match) or -1), True) if _named(match[1]) else None


def find_dates(text: str, base: datetime) -> list[DateMention]:
    """The dates `text` names, left to right and not overlapping.

    `base` is when it was said, on the calendar the speaker goes by (naive: UTC). A date is midnight UTC of the
    first day it names on that calendar, so that it is the same date everywhere; a clock time is the instant.
    """
    lower = text.lower()
    found: list[tuple[int, int, Found]] = []
    for needles, pattern, resolve in RULES:
        for match in pattern.finditer(text) if any(needle in lower for needle in needles) else ():
            date: Found = None
            before = ANNOTATION.sub("", text[max(0, match.start() - 99) : match.start()])
            if not NOT_IT.search(before[-24:]):
                with suppress(ValueError, OverflowError):  # 31 February, or before the year 1
                    date = resolve(match, base.replace(tzinfo=None))
                    if date is None:
                        continue
            # Without a date it still takes its place: the June of "a week before 9 June 2023" is none either.
            found.append((match.start(), match.end() - match[0].endswith("."), date))
    mentions: list[DateMention] = []
    taken = 0
    for start, end, date in sorted(found, key=lambda place: (place[0], -place[1])):
        if start < taken:
            continue
        taken = end
        with suppress(OverflowError):
            if date:
                time, precision, relative = date
                zone = base.tzinfo if precision in ("minute", "hour") else None
                time = (time if time.tzinfo else time.replace(tzinfo=zone or UTC)).astimezone(UTC)
                mentions.append(DateMention(start, end, text[start:end], time, precision, relative))
    return mentions


def annotate(text: str, base: datetime) -> str:
    """`text` with what each relative date means after it: "yesterday (7 May 2023)". Once is enough."""
    for mention in reversed(find_dates(text, base)):
        if mention.relative and not ANNOTATION.match(text, mention.end):
            time = mention.time
            if mention.precision in ("minute", "hour"):
                time = time.astimezone(base.tzinfo or UTC)
            text = f"{text[: mention.end]} ({format_date(time, mention.precision)}){text[mention.end :]}"
    return text


def event_time(text: str, base: datetime) -> tuple[datetime | None, bool]:
    """When what `text` tells happened, and whether its own words say so: the first date it names.

    An annotation goes before the words it explains: they were resolved when they were said.
    """
    mentions = find_dates(text, base)
    if len(mentions) > 1 and mentions[0].relative and ANNOTATION.match(text, mentions[0].end):
        return mentions[1].time, True
    return (mentions[0].time, True) if mentions else (None, False)


def format_date(time: datetime, precision: Precision = "day") -> str:
    """7 May 2023, whatever the platform and the locale; as coarse as `precision`."""
    if precision == "year":
        return f"{time.year:04d}"
    month = f"{MONTHS[time.month - 1]} {time.year:04d}"
    if precision == "month":
        return month
    if precision in ("minute", "hour"):
        return f"{time.day} {month}, {time.hour:02d}:{time.minute:02d}"
    day = f"{time.day} {month}"
    return f"the {precision} of {day}" if precision in ("week", "weekend") else day


def parse_time(value: str | int | float | datetime) -> datetime:
    """`zoned_time` in UTC."""
    return zoned_time(value).astimezone(UTC)


def zoned_time(value: str | int | float | datetime) -> datetime:
    """A timestamp as users write it, in the zone that it names (what names none is UTC).

    The zone tells which day "yesterday" is. Takes datetimes, epoch seconds (above 1e11: milliseconds), ISO 8601, and
    dates with day, month and year that can be read in one way only, such as "1:56 pm on 8 May, 2023".
    """
    time: datetime | None = None
    try:
        if isinstance(value, datetime):
            time = value
        elif isinstance(value, str):
            time = _read(value.strip())
        elif isinstance(value, int | float) and not isinstance(value, bool):
            time = EPOCH + timedelta(seconds=value / 1000 if abs(value) > 1e11 else value)
        if time:
            time = time if time.tzinfo else time.replace(tzinfo=UTC)
            time.astimezone(UTC)  # raises where that is outside the years, too
            return time
    except (ValueError, OverflowError):  # NaN, infinity, or outside the years 1 to 9999
        pass
    raise InvalidInput(
        f'not a time: {value!r:.80}; write "2023-05-08T13:56:00Z", "1:56 pm on 8 May, 2023" or 1683554160'
    )


def _read(text: str) -> datetime | None:
    if not text.isdigit():  # of which ISO 8601 would make the year 1683
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    for mention in find_dates(text, EPOCH):
        if mention.text == text and not mention.relative and mention.precision == "day":
            return mention.time
    if len(text) > 80 or not re.search(rf"(?<![a-z]){MONTH}", text, re.I):
        return None  # 8/5/2023 1 pm: dateparser would guess
    import dateparser  # takes 0.3 s, and most timestamps are ISO

    return dateparser.parse(text, languages=["en"], settings=STRICT)
