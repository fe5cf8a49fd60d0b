"""Product prompts from a few word lists, as many as wanted: to compare runtimes on, not to learn from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from memory_r1.answer import answer_prompt
from memory_r1.manager import extract_prompt, manager_prompt
from memory_r1.types import Fact, MemoryEntry, Prompt, Retrieved, Scope, Step, Turn

_NAMES = (
    "Ann",
    "Bo",
    "Carla",
    "Deniz",
    "Emeka",
    "Fatou",
    "Goran",
    "Hana",
    "Ivo",
    "Jun",
    "Kavya",
    "Luis",
    "Mira",
    "Nils",
)
_PETS = ("dog", "cat", "parrot", "rabbit", "pony", "tortoise")
_CALLED = ("Rex", "Luna", "Milo", "Biscuit", "Pepper", "Oscar", "Tofu", "Nala", "Ziggy", "Maple")
_CITIES = ("Oslo", "Lima", "Porto", "Accra", "Kyoto", "Bergen", "Quito", "Turin", "Leeds", "Hanoi")
_JOBS = ("nurse", "baker", "welder", "teacher", "pilot", "librarian", "gardener", "plumber", "chemist", "tailor")
_HOBBIES = ("climbing", "chess", "pottery", "rowing", "fencing", "baking", "birdwatching", "karate", "knitting")
_FOODS = ("nuts", "shellfish", "gluten", "milk", "eggs", "soy")


def product_prompts(step: Step, count: int, seed: int = 0) -> list[Prompt]:
    """`count` prompts of this step ("extract", "manage" or "answer") as the product asks them, the same for a seed."""
    rng = random.Random(f"{step} {seed}")
    make = {"extract": _extract, "manage": _manage, "answer": _answer}[step]
    return [make(rng) for _ in range(count)]


def memories(rng: random.Random, count: int) -> Iterator[str]:
    """`count` memories of many people, who may come again with other lives."""
    while count > 0:
        some = [memory for memory, _ in _world(rng, rng.choice(_NAMES)).values()][:count]
        count -= len(some)
        yield from some


def _world(rng: random.Random, name: str) -> dict[str, tuple[str, list[str]]]:
    """By topic: a memory, and what may be told of it later."""
    pet, (one, two) = rng.choice(_PETS), rng.sample(_CALLED, 2)
    here, there = rng.sample(_CITIES, 2)
    job, other = rng.sample(_JOBS, 2)
    hobby, food = rng.choice(_HOBBIES), rng.choice(_FOODS)
    return {
        "pet": (
            f"{name} has a {pet} called {one}.",
            [f"{name} has a second {pet}, {two}.", f"{name} gave the {pet} {one} away.", f"{name}'s {pet} is {one}."],
        ),
        "home": (f"{name} lives in {here}.", [f"{name} moved to {there}.", f"{name}'s home is in {here}."]),
        "job": (
            f"{name} works as a {job}.",
            [f"{name} quit the job as a {job}.", f"{name} started as a {other}.", f"{name} is a {job}."],
        ),
        "hobby": (f"{name} enjoys {hobby}.", [f"{name} stopped {hobby}.", f"{name} won a prize in {hobby}."]),
        "food": (f"{name} is allergic to {food}.", [f"{name} can eat {food} again."]),
    }


def _entry(place: int, text: str, name: str, when: datetime) -> MemoryEntry:
    return MemoryEntry(f"entry-{place}", text, Scope(user_id=name.lower()), when, when, place, name, when)


def _day(rng: random.Random) -> datetime:
    return datetime(2026, 1, 1, 9, tzinfo=UTC) + timedelta(days=rng.randrange(300))


def _manage(rng: random.Random) -> Prompt:
    name = rng.choice(_NAMES)
    world = _world(rng, name)
    fact = rng.choice(world[rng.choice(list(world))][1])
    shown = rng.sample(list(world), rng.randint(1, 3))
    when = _day(rng)
    return manager_prompt(Fact(fact, name, when), [_entry(i, world[t][0], name, when) for i, t in enumerate(shown, 1)])


def _extract(rng: random.Random) -> Prompt:
    name = rng.choice(_NAMES)
    told = [memory for memory, _ in _world(rng, name).values()]
    said = " ".join(text.replace(f"{name} has", "I have").replace(name, "I") for text in rng.sample(told, 2))
    said = (
        said.replace("I is", "I am")
        .replace("I lives", "I live")
        .replace("I works", "I work")
        .replace("I enjoys", "I enjoy")
    )
    return extract_prompt(Turn(name, f"{rng.choice(('Hi!', 'Good to see you.', 'Oh, well.'))} {said}", _day(rng)))


def _answer(rng: random.Random) -> Prompt:
    entries = []
    for name in rng.sample(_NAMES, 3):
        entries += [_entry(0, memory, name, _day(rng)) for memory, _ in _world(rng, name).values()]
    rng.shuffle(entries)
    asked = rng.choice(("Where does {} live?", "What does {} do for a living?", "Which pet does {} have?"))
    return answer_prompt(asked.format(entries[0].speaker), [Retrieved(entry, 1.0, 1.0) for entry in entries[:12]])
