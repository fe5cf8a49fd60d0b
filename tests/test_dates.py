"""What dates in messages mean, what is no date, and which timestamps are taken."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memory_r1.dates import DateMention, annotate, event_time, find_dates, format_date, parse_time
from memory_r1.errors import InvalidInput

MONDAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
FRIDAY = datetime(2023, 5, 12, 9, 30, tzinfo=UTC)
SATURDAY = datetime(2023, 5, 13, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "annotated"),
    [
        ("I went yesterday.", "I went yesterday (7 May 2023)."),
        ("Yesterday morning I ran", "Yesterday morning (7 May 2023) I ran"),
        ("the day before yesterday", "the day before yesterday (6 May 2023)"),
        ("See you tomorrow!", "See you tomorrow (9 May 2023)!"),
        ("the day after tomorrow", "the day after tomorrow (10 May 2023)"),
        ("Dinner tonight?", "Dinner tonight (8 May 2023)?"),
        ("I woke early this morning", "I woke early this morning (8 May 2023)"),
        ("last night's dinner", "last night's (7 May 2023) dinner"),
        ("Last night was fun", "Last night (7 May 2023) was fun"),
        ("the night before last", "the night before last (6 May 2023)"),
        ("three days ago", "three days ago (5 May 2023)"),
        ("a couple of days ago", "a couple of days ago (6 May 2023)"),
        ("a few days ago", "a few days ago (the week of 1 May 2023)"),
        ("two weeks ago", "two weeks ago (the week of 24 April 2023)"),
        ("a few weeks ago", "a few weeks ago (April 2023)"),
        ("two weekends ago", "two weekends ago (the weekend of 29 April 2023)"),
        ("5 months ago", "5 months ago (December 2022)"),
        ("ten years ago", "ten years ago (2013)"),
        ("An hour ago", "An hour ago (8 May 2023, 12:56)"),
        ("20 mins ago", "20 mins ago (8 May 2023, 13:36)"),
        ("three weeks from now", "three weeks from now (the week of 29 May 2023)"),
        ("in two weeks", "in two weeks (the week of 22 May 2023)"),
        ("I'll move in two weeks", "I'll move in two weeks (the week of 22 May 2023)"),
        ("The show is in three days", "The show is in three days (11 May 2023)"),
        ("last Friday", "last Friday (5 May 2023)"),
        ("last Tues. I ran", "last Tues (2 May 2023). I ran"),
        ("last Monday", "last Monday (1 May 2023)"),
        ("next Tuesday", "next Tuesday (9 May 2023)"),
        ("next Monday", "next Monday (15 May 2023)"),
        ("this Friday", "this Friday (12 May 2023)"),
        ("I saw her this Friday", "I saw her this Friday (5 May 2023)"),
        ("I saw her last week", "I saw her last week (the week of 1 May 2023)"),
        ("I ran on Sunday, May 7", "I ran on Sunday, May 7 (7 May 2023)"),
        ("We met on Friday", "We met on Friday (5 May 2023)"),
        ("We will meet on Friday", "We will meet on Friday (12 May 2023)"),
        ("the Friday before last", "the Friday before last (28 April 2023)"),
        ("last week", "last week (the week of 1 May 2023)"),
        ("the week before last", "the week before last (the week of 24 April 2023)"),
        ("the week after next", "the week after next (the week of 22 May 2023)"),
        ("this week", "this week (the week of 8 May 2023)"),
        ("last weekend", "last weekend (the weekend of 6 May 2023)"),
        ("this past weekend", "this past weekend (the weekend of 6 May 2023)"),
        ("this weekend", "this weekend (the weekend of 13 May 2023)"),
        ("this coming weekend", "this coming weekend (the weekend of 13 May 2023)"),
        ("next weekend", "next weekend (the weekend of 20 May 2023)"),
        ("last month", "last month (April 2023)"),
        ("next month", "next month (June 2023)"),
        ("last June", "last June (June 2022)"),
        ("last May", "last May (May 2022)"),
        ("this June", "this June (June 2023)"),
        ("next April", "next April (April 2024)"),
        ("We moved in June", "We moved in June (June 2022)"),
        ("We will move in June", "We will move in June (June 2023)"),
        ("last summer", "last summer (2022)"),
        ("this summer", "this summer (2023)"),
        ("last year", "last year (2022)"),
        ("next year", "next year (2024)"),
        ("She left May 20", "She left May 20 (20 May 2022)"),
        ("She will leave on May 20", "She will leave on May 20 (20 May 2023)"),
        ("on the 5th of may", "on the 5th of may (5 May 2023)"),
        ("Christmas is December 25th", "Christmas is December 25th (25 December 2023)"),
        ("December 25", "December 25 (25 December 2022)"),
        ("born on Feb 29", "born on Feb 29 (29 February 2020)"),
    ],
)
def test_a_relative_date_gets_the_date_it_means(text: str, annotated: str) -> None:
    assert annotate(text, MONDAY) == annotated
    assert annotate(annotated, MONDAY + timedelta(days=400)) == annotated


@pytest.mark.parametrize(
    ("text", "base", "expected"),
    [
        ("last Friday", FRIDAY, datetime(2023, 5, 5, tzinfo=UTC)),
        ("next Friday", FRIDAY, datetime(2023, 5, 19, tzinfo=UTC)),
        ("this Friday", FRIDAY, datetime(2023, 5, 12, tzinfo=UTC)),
        ("last weekend", SATURDAY, datetime(2023, 5, 6, tzinfo=UTC)),
        ("this weekend", SATURDAY, datetime(2023, 5, 13, tzinfo=UTC)),
        ("last month", datetime(2023, 3, 31, tzinfo=UTC), datetime(2023, 2, 1, tzinfo=UTC)),
        ("last month", datetime(2023, 1, 31, tzinfo=UTC), datetime(2022, 12, 1, tzinfo=UTC)),
        ("last summer", datetime(2023, 10, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC)),
        ("yesterday", datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_it_depends_on_the_day_it_is_said(text: str, base: datetime, expected: datetime) -> None:
    assert event_time(text, base) == (expected, True)


@pytest.mark.parametrize(
    ("text", "mention", "time", "precision"),
    [
        ("On 2023-05-07 it rained", "2023-05-07", datetime(2023, 5, 7), "day"),
        ("昨日は2023-05-07でした", "2023-05-07", datetime(2023, 5, 7), "day"),
        ("at 2023-05-07T10:30:00+02:00", "2023-05-07T10:30:00+02:00", datetime(2023, 5, 7, 8, 30), "minute"),
        ("on May 7, 2022 we", "May 7, 2022", datetime(2022, 5, 7), "day"),
        ("on 7th of May 2022", "7th of May 2022", datetime(2022, 5, 7), "day"),
        ("Friday, 8 Dec. 2022", "Friday, 8 Dec. 2022", datetime(2022, 12, 8), "day"),
        ("around March 2021", "March 2021", datetime(2021, 3, 1), "month"),
        ("I was born in 1985.", "in 1985", datetime(1985, 1, 1), "year"),
        ("We met in the summer of 2020", "summer of 2020", datetime(2020, 1, 1), "year"),
        ("2022", "2022", datetime(2022, 1, 1), "year"),
        ("Ann moved to Rome (2022).", "2022", datetime(2022, 1, 1), "year"),
    ],
)
def test_an_absolute_date_is_found_and_left_as_it_is(text: str, mention: str, time: datetime, precision: str) -> None:
    [found] = find_dates(text, MONDAY)
    assert (found.text, found.time, found.precision, found.relative) == (
        mention,
        time.replace(tzinfo=UTC),
        precision,
        False,
    )
    assert annotate(text, MONDAY) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "You may go, I may 7 times say no",
        "My second dog loves the sun; they march on",
        "We March on Washington",
        "Back in a minute!",
        "I turned 30 and have 2022 followers",
        "It took 2000 steps, in 2000 steps",
        "Call 555-2022 or +1 2023 555 2019",
        "version 2023.05.07 of tool 1.2.2023",
        "recently, soon, the other day, one day, some time ago",
        "I have known them for 4 years, 5 years already",
        "I read it in two days and ran 5 km in 20 minutes",
        "It has been the last week of school and my last year",
        "It feels like yesterday",
        "half a year ago",
        "March 10 miles",
        "a week before 9 June 2023",
        "8/5/2023",
        "30 February 2023",
        "2023-13-45",
        "9999 years ago",
        "this may take a while, last but not least, next door, this time",
        "once or twice a year, every day, all week",
        "April and June are my friends",
        "the last Friday I worked",
    ],
)
def test_what_is_no_clear_date_gives_nothing(text: str) -> None:
    assert find_dates(text, MONDAY) == []
    assert event_time(text, MONDAY) == (None, False)
    assert annotate(text, MONDAY) == text


def test_mentions_come_left_to_right_with_their_place() -> None:
    assert find_dates("Last week I ran; in 2022, not.", MONDAY) == [
        DateMention(0, 9, "Last week", datetime(2023, 5, 1, tzinfo=UTC), "week", True),
        DateMention(17, 24, "in 2022", datetime(2022, 1, 1, tzinfo=UTC), "year", False),
    ]


def test_what_was_annotated_when_it_was_said_goes_before_the_words() -> None:
    later = MONDAY + timedelta(days=30)
    assert event_time("Ann ran yesterday (7 May 2023).", later) == (datetime(2023, 5, 7, tzinfo=UTC), True)
    assert event_time("Ann ran last week (the week of 1 May 2023)", later) == (datetime(2023, 5, 1, tzinfo=UTC), True)
    assert event_time("Yesterday Ann read a book (2020)", MONDAY) == (datetime(2023, 5, 7, tzinfo=UTC), True)


def test_days_are_those_of_the_speakers_calendar_and_clock_times_are_instants() -> None:
    evening_in_new_york = datetime(2023, 5, 7, 20, 30, tzinfo=timezone(timedelta(hours=-4)))
    assert event_time("yesterday", evening_in_new_york) == (datetime(2023, 5, 6, tzinfo=UTC), True)
    assert event_time("an hour ago", evening_in_new_york) == (datetime(2023, 5, 7, 23, 30, tzinfo=UTC), True)
    assert annotate("an hour ago", evening_in_new_york) == "an hour ago (7 May 2023, 19:30)"
    assert event_time("an hour ago", MONDAY.replace(tzinfo=None)) == (MONDAY - timedelta(hours=1), True)


WORDS = (
    "yesterday|today|last|next|this|on|in|ago|week|weekend|month|year|Friday|Sun|May|may|March|7|20th|2023|2023-05-07|"
    "two|a few|will|was|the|before|after|(7 May 2023)|(2022)|(the week of 1 May 2023)|,|.|\n|of|days|from now|summer|"
    "an hour|past|coming|Dec.|in 2022"
)


@settings(max_examples=1000, deadline=None)
@example("past Friday May 7", datetime(2023, 5, 8))
@given(
    st.one_of(st.text(), st.lists(st.sampled_from(WORDS.split("|")), max_size=12).map(" ".join)),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))])),
)
def test_any_text_can_be_annotated_at_any_time_and_a_second_time_changes_nothing(text: str, base: datetime) -> None:
    mentions = find_dates(text, base)
    assert [text[mention.start : mention.end] for mention in mentions] == [mention.text for mention in mentions]
    assert all(before.end <= after.start for before, after in pairwise(mentions))
    annotated = annotate(text, base)
    assert annotate(annotated, base) == annotated


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("minute", "7 May 2023, 09:05"),
        ("hour", "7 May 2023, 09:05"),
        ("day", "7 May 2023"),
        ("weekend", "the weekend of 7 May 2023"),
        ("week", "the week of 7 May 2023"),
        ("month", "May 2023"),
        ("year", "2023"),
    ],
)
def test_a_date_is_written_as_coarse_as_it_is_known(precision: str, expected: str) -> None:
    assert format_date(datetime(2023, 5, 7, 9, 5), precision) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2023-05-08T13:56:00Z", MONDAY),
        ("2023-05-08T15:56:00+02:00", MONDAY),
        (" 2023-05-08 13:56 ", MONDAY),
        ("2023-05-08", datetime(2023, 5, 8, tzinfo=UTC)),
        ("2023/05/08", datetime(2023, 5, 8, tzinfo=UTC)),
        ("1:56 pm on 8 May, 2023", MONDAY),
        ("12:09 am on 13 September, 2023", datetime(2023, 9, 13, 0, 9, tzinfo=UTC)),
        ("May 8, 2023", datetime(2023, 5, 8, tzinfo=UTC)),
        ("Mon, 08 May 2023 15:56:00 +0200", MONDAY),
        (1683554160, MONDAY),
        (1683554160.0, MONDAY),
        (1683554160000, MONDAY),
        (-86400, datetime(1969, 12, 31, tzinfo=UTC)),
        (MONDAY, MONDAY),
        (MONDAY.replace(tzinfo=None), MONDAY),
        (MONDAY.astimezone(timezone(timedelta(hours=9))), MONDAY),
    ],
)
def test_a_timestamp_is_read_as_utc(value: str | int | float | datetime, expected: datetime) -> None:
    assert (parse_time(value), parse_time(value).tzinfo) == (expected, UTC)


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        b"2023-05-08",
        math.nan,
        math.inf,
        10**400,
        1683554160000000,
        "",
        "yesterday",
        "soon",
        "8 May",
        "May 2023",
        "2023",
        "1683554160",
        "8/5/2023",
        "8/5/2023 1 pm",
        "30 February 2023",
        "2023-13-45",
        "see 8 May 2023",
        "May " * 1000,
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
    ],
)
def test_what_is_no_timestamp_is_refused_with_examples(value: object) -> None:
    with pytest.raises(InvalidInput, match="2023-05-08T13:56:00Z"):
        parse_time(value)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.floats(), st.integers(), st.text().map(lambda text: f"8 May 2023 {text}")))
def test_any_timestamp_is_read_or_refused(value: str | float) -> None:
    with suppress(InvalidInput):
        assert parse_time(value).tzinfo is UTC
