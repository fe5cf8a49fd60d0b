"""What an audit finds, with vectors made for the case, and with the real embedder on the kinds of pairs there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import ANN, BOB, Clock
from memory_r1.audit import ALIKE, NEAR, SAME, Finding, audit, compare
from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.embed import default_embedder
from memory_r1.types import MemoryEntry, Scope

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Alike:
    """An embedder for which all texts are as alike as given: cosine `similarity` between any two of `texts`."""

    name = "alike"
    dimension = 9

    def __init__(self, similarity: float) -> None:
        self._common, self._own = similarity**0.5, (1 - similarity) ** 0.5
        self._places: dict[str, int] = {}

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        del query
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            place = self._places.setdefault(text, len(self._places) + 1)
            row[0], row[place] = self._common, self._own
        return rows


def bank_of(similarity: float, *texts: str, scope: Scope = ANN, clock: Clock | None = None) -> MemoryBank:
    """A bank whose entries have all been recalled, so that only pairs are found."""
    bank = MemoryBank(embedder=Alike(similarity), now=clock or Clock())
    bank.add_many([NewEntry(text, scope) for text in texts])
    bank.search("anything", scope)
    return bank


def told(findings: Sequence[Finding]) -> list[tuple[str, tuple[str, ...], str]]:
    return [(one.kind, tuple(entry.text for entry in one.entries), one.why) for one in findings]


def entry(text: str) -> MemoryEntry:
    return MemoryEntry(text, text, ANN, START, START, 1)


# -- pairs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "similarity", "expected"),
    [
        ("Ann has a cat.", "ann has the CAT", 0.9, ("exact duplicate", "the same words")),
        ("Ann's cat is ill", "Ann’s cat is ill!", 0.9, ("exact duplicate", "the same words")),
        ("Bob plays chess on Sundays", "On Sundays Bob plays chess", NEAR, ("near duplicate", "similarity 0.95")),
        ("Bob plays chess on Sundays", "On Sundays Bob plays chess", NEAR - 0.01, None),
        ("Mia began a pottery class", "Mia started a pottery class", SAME, ("near duplicate", "similarity 0.98")),
        ("Ann lives in Rome", "Ann lives in Oslo", 0.86, ("possible contradiction", "rome or oslo?")),
        ("Ann lives in Rome", "Ann lives in Oslo", SAME - 0.01, ("possible contradiction", "rome or oslo?")),
        ("Ann lives in Rome", "Ann now lives in Oslo", 0.86, ("possible contradiction", "rome or oslo?")),
        ("Ann has 2 cats", "Ann has 3 cats", 0.99, ("possible contradiction", "2 or 3?")),
        ("Ann has two cats", "Ann has three cats", 0.99, ("possible contradiction", "two or three?")),
        ("Ann paid 20 euros in May", "Ann paid 30 euros in June", 0.99, None),
        ("Ann eats meat", "Ann does not eat meat", 0.85, ("possible contradiction", "one of them says no")),
        ("Ann is married", "Ann isn’t married any more", 0.85, ("possible contradiction", "one of them says no")),
        ("John can swim", "John cannot swim", 0.85, ("possible contradiction", "one of them says no")),
        ("Bob has a car", "Bob has no car", 0.85, ("possible contradiction", "one of them says no")),
        ("Ann never eats meat", "Ann does not eat meat", 0.9, None),
        ("Ann never eats meat", "Ann does not eat meat", 0.96, ("near duplicate", "similarity 0.96")),
        ("Ann likes tea", "Bob likes jazz", 0.9, None),
        ("Ann has a cat", "Ann took the cat to the vet on Monday", 0.93, None),
    ],
)
def test_two_entries_are_what_their_words_and_vectors_say(
    one: str, other: str, similarity: float, expected: tuple[str, str] | None
) -> None:
    first, second = entry(one), entry(other)
    found = compare(first, second, similarity)
    assert found == (None if expected is None else Finding(expected[0], (first, second), expected[1]))  # type: ignore[arg-type]


def test_every_pair_is_found_once_and_the_most_certain_kind_comes_first() -> None:
    texts = ["Ann lives in Rome", "Ann has a cat", "ann has a cat!", "Ann lives in Oslo"]
    with bank_of(0.9, *texts) as bank:
        assert told(audit(bank)) == [
            ("exact duplicate", ("Ann has a cat", "ann has a cat!"), "the same words"),
            ("possible contradiction", ("Ann lives in Rome", "Ann lives in Oslo"), "rome or oslo?"),
        ]


def test_statements_that_are_not_alike_do_not_contradict_each_other() -> None:
    with bank_of(ALIKE - 0.02, "Ann likes her cat", "Ann likes her piano") as bank:
        assert audit(bank) == []


def test_entries_of_two_scopes_are_never_a_pair() -> None:
    with bank_of(0.9, "Likes tea") as bank:
        bank.add_many([NewEntry("Likes tea", BOB), NewEntry("Likes tea", Scope("ann", "agent"))])
        for scope in (ANN, BOB):
            bank.search("tea", scope)
        assert audit(bank) == []
        bank.add_many([NewEntry("Likes tea", BOB)])
        bank.search("tea", BOB)
        assert told(audit(bank)) == [("exact duplicate", ("Likes tea", "Likes tea"), "the same words")]
        assert audit(bank, ANN) == []


def test_more_entries_than_one_block_are_all_compared(bank: MemoryBank) -> None:
    bank.add_many([NewEntry(f"Crate {i} holds lot {i + 5_000}", ANN) for i in range(2_100)])
    bank.add_many([NewEntry("Crate 7 holds lot 5007", ANN), NewEntry("Crate 2099 holds lot 7099", ANN)])
    pairs = [one.entries for one in audit(bank) if len(one.entries) == 2]
    assert [(one.text, other.text) for one, other in pairs] == [
        ("Crate 7 holds lot 5007", "Crate 7 holds lot 5007"),
        ("Crate 2099 holds lot 7099", "Crate 2099 holds lot 7099"),
    ]


# -- single entries -----------------------------------------------------------------------------------------------


def test_an_empty_bank_has_nothing_to_look_at(bank: MemoryBank) -> None:
    assert audit(bank) == []
    assert audit(bank, ANN) == []


def test_an_entry_is_expired_or_stale_or_never_recalled_but_only_one_of_these(bank: MemoryBank, clock: Clock) -> None:
    bank.add_many([NewEntry("Ann has a parking ticket", ANN, expires_at=START + 200 * DAY)])
    bank.add_many([NewEntry("Bob lives in Rome", ANN)])
    clock.time += 100 * DAY
    bank.add_many([NewEntry("Eve sings", ANN)])
    assert told(audit(bank)) == [
        ("never recalled", ("Ann has a parking ticket",), "no search has returned it yet"),
        ("never recalled", ("Bob lives in Rome",), "no search has returned it yet"),
        ("never recalled", ("Eve sings",), "no search has returned it yet"),
    ]
    clock.time += 101 * DAY
    assert told(audit(bank)) == [
        ("stale", ("Bob lives in Rome",), "not changed or recalled since 2026-01-01"),
        ("expired", ("Ann has a parking ticket",), "since 2026-07-20"),
        ("never recalled", ("Eve sings",), "no search has returned it yet"),
    ]
    assert [one.kind for one in audit(bank, stale_after=365 * DAY)] == ["expired", "never recalled", "never recalled"]


def test_a_recall_or_a_change_makes_an_entry_fresh_again(bank: MemoryBank, clock: Clock) -> None:
    bank.add_many([NewEntry("Bob lives in Rome", ANN), NewEntry("Eve sings", ANN)])
    clock.time += 200 * DAY
    bank.search("Rome", ANN, 1)
    changed = next(entry for entry in bank.all(ANN) if entry.text == "Eve sings")
    bank.update(changed.id, text="Eve sings alto")
    assert told(audit(bank)) == [("never recalled", ("Eve sings alto",), "no search has returned it yet")]
    clock.time += 200 * DAY
    assert told(audit(bank)) == [
        ("stale", ("Bob lives in Rome",), "not changed or recalled since 2026-07-20"),
        ("stale", ("Eve sings alto",), "not changed or recalled since 2026-07-20"),
    ]


def test_what_was_deleted_is_not_looked_at(bank: MemoryBank) -> None:
    logged = bank.add_many([NewEntry("Ann has a cat", ANN), NewEntry("Ann has a cat", ANN)])
    bank.search("cat", ANN)
    assert [one.kind for one in audit(bank)] == ["exact duplicate"]
    assert logged[0].entry_id is not None
    bank.delete(logged[0].entry_id)
    assert audit(bank) == []


# -- the thresholds -----------------------------------------------------------------------------------------------

PAIRS: Mapping[str, Sequence[tuple[str, str]]] = {
    "exact duplicate": [("Ann has a cat.", "Ann has the cat"), ("Mia likes jazz", "mia likes jazz!")],
    "near duplicate": [
        ("Ann adopted a puppy named Bo.", "Ann has adopted a puppy called Bo."),
        ("Ann lives in Rome.", "Ann's home is in Rome."),
        ("Mia's favourite colour is green.", "Mia likes green best of all colours."),
        ("John is going to fly to Lisbon in August.", "In August John flies to Lisbon."),
        ("Mia drinks tea every morning.", "Mia has tea each morning."),
        ("Mia is allergic to cats.", "Mia has an allergy to cats."),
        ("Ann's sister is called Eve.", "Ann has a sister named Eve."),
    ],
    "possible contradiction": [
        ("Ann has been to Japan.", "Ann has never been to Japan."),
        ("Bob has a car.", "Bob has no car."),
        ("John can swim.", "John can't swim."),
        ("Mia works on Sundays.", "Mia doesn't work on Sundays."),
        ("Ann lives in Rome.", "Ann lives in Oslo."),
        ("Ann's car is red.", "Ann's car is blue."),
        ("Mia flies to Lisbon with her mother in August.", "Mia flies to Madrid with her mother in August."),
        ("Mia runs 5 km a day.", "Mia runs 10 km a day."),
        ("Bob is 41 years old.", "Bob is 42 years old."),
        ("Ann has two cats.", "Ann has three cats."),
    ],
    "nothing": [
        ("Ann adopted a puppy named Bo.", "Ann took Bo to the vet."),
        ("Ann lives in Rome.", "Ann likes the food in Rome."),
        ("Bob plays chess on Sundays.", "Bob lost a game of chess to his sister."),
        ("Mia's dog is called Pepper.", "Mia walks her dog in the park."),
        ("Ann went hiking in May.", "Ann went hiking in June with Bob."),
        ("John works as a nurse at the hospital.", "John was on night shift at the hospital."),
        ("Ann lives in Rome.", "Ann is a nurse."),
    ],
}


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small")
@pytest.mark.parametrize("kind", PAIRS)
def test_with_the_real_embedder_each_kind_of_pair_is_told_from_the_others(kind: str) -> None:
    with MemoryBank(embedder=default_embedder()) as bank:
        scopes = [Scope(f"pair {number}") for number in range(len(PAIRS[kind]))]
        bank.add_many([NewEntry(text, scope) for scope, pair in zip(scopes, PAIRS[kind], strict=True) for text in pair])
        for scope in scopes:
            bank.search("anything", scope)
        found = {one.entries[0].scope: one.kind for one in audit(bank)}
    assert found == ({} if kind == "nothing" else dict.fromkeys(scopes, kind))
