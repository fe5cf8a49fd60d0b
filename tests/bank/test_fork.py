"""A fork of a scope holds that scope and nothing else, whether it was copied by pages or by rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.types import Fact, Operation, Scope, Turn

ANN, BOB = Scope(user_id="ann"), Scope(user_id="bob")
ANN_WORK = Scope(user_id="ann", agent_id="work")


def nothing_else(bank: MemoryBank) -> None:
    pass


def entry_of_another(bank: MemoryBank) -> None:
    bank.add_many([NewEntry("Bob drinks coffee", BOB)])


def purged_entry_of_another(bank: MemoryBank) -> None:
    (logged,) = bank.add_many([NewEntry("Bob drinks coffee", BOB)])
    bank.purge(entry_id=logged.entry_id)


def decision_without_an_entry_of_another(bank: MemoryBank) -> None:
    bank.apply(Operation("NOOP", Fact("Bob drinks coffee")), BOB)


def pending_turn_of_another(bank: MemoryBank) -> None:
    bank.begin_turn(BOB, Turn("Bob", "I drink coffee", id="b1"), [Fact("Bob drinks coffee")])


@pytest.mark.parametrize(
    "beside",
    [
        nothing_else,
        entry_of_another,
        purged_entry_of_another,
        decision_without_an_entry_of_another,
        pending_turn_of_another,
    ],
)
def test_a_fork_of_a_scope_holds_its_rows_and_no_others(bank: MemoryBank, beside: Callable[[MemoryBank], None]) -> None:
    bank.add_many([NewEntry("Ann drinks tea", ANN), NewEntry("Ann works in Rome", ANN_WORK)])
    bank.begin_turn(ANN, Turn("Ann", "I drink tea", id="a1"), [Fact("Ann drinks tea")])
    beside(bank)
    with bank.fork(ANN) as fork:
        assert fork.all() == bank.all(ANN)
        assert fork.log() == bank.log(ANN)
        assert fork.search("tea", ANN) == bank.search("tea", ANN)
        assert fork.turn_progress(ANN, "a1") == bank.turn_progress(ANN, "a1") is not None
        assert (fork.all(BOB), fork.log(BOB), fork.turn_progress(BOB, "b1")) == ([], [], None)
        homes = fork._db.execute("SELECT value FROM home").fetchall()
        assert [tuple(row) for row in homes] == [("ann",)]
        fork.add_many([NewEntry("Ann has a dog", ANN)])
        assert fork.count(ANN) == bank.count(ANN) + 1


def test_a_fork_of_a_narrower_scope_leaves_the_rest_of_its_home(bank: MemoryBank) -> None:
    bank.add_many([NewEntry("Ann drinks tea", ANN), NewEntry("Ann works in Rome", ANN_WORK)])
    with bank.fork(ANN_WORK) as fork:
        assert [entry.text for entry in fork.all()] == ["Ann works in Rome"]
        assert fork.log() == bank.log(ANN_WORK)
