"""When an event of a generated world happens, and how a speaker says it: "last Friday" is 5 May 2023."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from memory_r1.dates import MONTHS, Precision, format_date

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class Moment:
    """`time` is the first midnight (UTC) of what `phrase` names, as exact as `precision`."""

    phrase: str
    time: datetime
    precision: Precision

    @property
    def text(self) -> str:
        """7 May 2023, the week of 24 April 2023, June 2023."""
        return format_date(self.time, self.precision)


def past(rng: Random, now: datetime, after: datetime | None) -> Moment:
    """A moment before `now` and, where given, on a later day than `after`."""
    day = _midnight(now)
    groups = list(_past(day))
    rng.shuffle(groups)
    for group in groups:
        fitting = [one for one in group if after is None or one.time > after]
        if fitting:
            return rng.choice(fitting)
    return Moment("today", day, "day")


def future(rng: Random, now: datetime, after: datetime) -> Moment:
    """A moment on a later day than `now` and `after`, at most some months ahead."""
    day = _midnight(now)
    groups = list(_future(day))
    rng.shuffle(groups)
    for group in groups:
        fitting = [one for one in group if one.time > max(after, now)]
        if fitting:
            return rng.choice(fitting)
    return rng.choice(list(_on(_midnight(after) + timedelta(days=days) for days in range(2, 30))))


def _past(day: datetime) -> Iterator[list[Moment]]:
    week = day - timedelta(days=day.weekday())
    yield [Moment("yesterday", day - timedelta(days=1), "day")]
    yield [Moment(phrase, day, "day") for phrase in ("today", "this morning")]
    yield [Moment("the day before yesterday", day - timedelta(days=2), "day")]
    back = [(name, (day.weekday() - number) % 7 or 7) for number, name in enumerate(_DAYS)]
    yield [Moment(f"last {name}", day - timedelta(days=days), "day") for name, days in back]
    yield [Moment(f"{_NUMBERS[days]} days ago", day - timedelta(days=days), "day") for days in range(3, 7)]
    yield [Moment("last week", week - timedelta(days=7), "week")]
    yield [Moment("last weekend", week - timedelta(days=2), "weekend")]
    yield [Moment(f"{_NUMBERS[weeks]} weeks ago", week - timedelta(days=7 * weeks), "week") for weeks in (2, 3)]
    yield [Moment("last month", _month(day, -1), "month")]
    yield [Moment(f"{_NUMBERS[months]} months ago", _month(day, -months), "month") for months in (2, 3)]
    yield list(_on(day - timedelta(days=days) for days in range(3, 60)))
    yield [Moment(f"in {MONTHS[(day.month - 1 - back) % 12]}", _month(day, -back), "month") for back in (1, 2, 3)]
    yield [Moment("last year", datetime(day.year - 1, 1, 1, tzinfo=day.tzinfo), "year")]


def _future(day: datetime) -> Iterator[list[Moment]]:
    week = day - timedelta(days=day.weekday())
    yield [Moment("tomorrow", day + timedelta(days=1), "day")]
    ahead = [(name, (number - day.weekday()) % 7 or 7) for number, name in enumerate(_DAYS)]
    yield [Moment(f"next {name}", day + timedelta(days=days), "day") for name, days in ahead]
    yield [Moment("next week", week + timedelta(days=7), "week")]
    yield [Moment("next weekend", week + timedelta(days=12), "weekend")]
    yield [Moment("next month", _month(day, 1), "month")]
    yield [Moment(f"in {_NUMBERS[weeks]} weeks", week + timedelta(days=7 * weeks), "week") for weeks in (2, 3, 4)]
    yield list(_on(day + timedelta(days=days) for days in range(3, 75)))
    yield [Moment(f"in {MONTHS[(day.month - 1 + on) % 12]}", _month(day, on), "month") for on in (1, 2, 3, 4)]


def _on(days: Iterator[datetime]) -> Iterator[Moment]:
    for day in days:
        month = MONTHS[day.month - 1]
        ending = "th" if 11 <= day.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        yield Moment(f"on {day.day} {month}", day, "day")
        yield Moment(f"on {month} {day.day}{ending}", day, "day")


def _midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def _month(day: datetime, count: int) -> datetime:
    months = day.year * 12 + day.month - 1 + count
    return day.replace(year=months // 12, month=months % 12 + 1, day=1)
