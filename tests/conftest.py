from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from memory_r1.bank import MemoryBank
from memory_r1.errors import WeightsMissing
from memory_r1.testing import HashEmbedder
from memory_r1.types import Scope
from memory_r1.weights import find

# A shell lets what it runs in the background ignore Ctrl-C, and what that starts ignore it too: not programs of tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

ANN, BOB = Scope(user_id="ann"), Scope(user_id="bob")


class Clock:
    """A clock that moves a second each time it is read, so that no two operations share a time."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bank(clock: Clock) -> Iterator[MemoryBank]:
    with MemoryBank(embedder=HashEmbedder(), now=clock) as bank:
        yield bank


def _skip_without(name: str) -> None:
    try:
        find(name)
    except WeightsMissing as error:
        pytest.skip(f"needs the real model: {error}")


@pytest.fixture(scope="session")
def needs_e5_small() -> None:
    """For tests marked `models`: skips them where the embedder is not in the cache."""
    _skip_without("e5-small")


@pytest.fixture(scope="session")
def needs_smollm2() -> None:
    """For tests marked `models`: skips them where the language model is not in the cache."""
    _skip_without("smollm2")
