"""What can happen in a generated world, and what is then true: families of facts, without a word of wording.

A family is one corner of a life (dogs, a job, a trip). Its beats are the events that are told, each with what it does
to the memory bank; a path is the beats that happen to one person, in order; asks are the questions that the told beats
answer. All the words (values, what people say, facts, merged sentences, questions) are in data/*.toml.

    slots   "pet": "dogs" draws {pet} from the pool "dogs"; a value "cat|cats|fur" gives {pet}, {pet_1} and {pet_2}
    dates   a beat with `when` gives {when} (as it is said), {on} (what that means) and, for all that comes later,
            {adopt_on} when the beat is called "adopt"
    names   {n} is who tells, {friend} who listens
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from memory_r1.types import Kind

Category = Literal["multi-hop", "temporal", "open-domain", "single-hop"]
CATEGORIES: tuple[Category, ...] = ("multi-hop", "temporal", "open-domain", "single-hop")
UNANSWERABLE = "adversarial"


@dataclass(frozen=True, slots=True)
class Beat:
    """An event that is told once. `entry` is the memory it acts on; one family may have two ("a", "b")."""

    name: str
    kind: Kind
    when: Literal["past", "future"] | None = None
    entry: str = "a"
    sad: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that can be asked at the end when all of `told` and none of `unless` were told.

    `told` are its evidence. `answer` is a template; None says that it cannot be answered any more.
    `entries` are the memories that answer it.
    """

    name: str
    category: Category
    answer: str | None
    told: tuple[str, ...]
    unless: tuple[str, ...] = ()
    entries: tuple[str, ...] = ("a",)


@dataclass(frozen=True, slots=True)
class Family:
    """`topics`: one person has no two families that clash, since their questions would have two answers.

    A topic "trait.fear" is part of "trait": it clashes with "trait" and with itself, but not with "trait.dream".
    `counted`: the name that its decisions are counted under, where that is not its own.
    """

    name: str
    slots: Mapping[str, str]
    beats: tuple[Beat, ...]
    paths: tuple[tuple[str, ...], ...]
    asks: tuple[Ask, ...]
    topics: tuple[str, ...]
    counted: str | None = None

    def beat(self, name: str) -> Beat:
        return next(beat for beat in self.beats if beat.name == name)

    def clashes(self, other: Family) -> bool:
        return any(_share(one, two) for one in self.topics for two in other.topics)


def _share(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _family(
    name: str, slots: str, beats: Sequence[Beat], paths: str, asks: Sequence[Ask], topic: str | None = None
) -> Family:
    """`slots` as "pet:dogs pet2:dogs", `paths` as "adopt second, adopt gone"."""
    drawn = dict(slot.split(":") for slot in slots.split())
    ways = tuple(tuple(path.split()) for path in paths.split(","))
    return Family(name, drawn, tuple(beats), ways, tuple(asks), (topic or name,))


def _first(beat: str, name: str = "when") -> Ask:
    return Ask(name, "temporal", f"{{{beat}_on}}", (beat,))


FAMILIES: tuple[Family, ...] = (
    _family(
        "dogs",  # the paper's case: Buddy, then Scout
        "pet:dogs pet2:dogs",
        (
            Beat("adopt", "ADD", "past"),
            Beat("again", "NOOP"),
            Beat("second", "UPDATE", "past"),
            Beat("both", "NOOP"),
            Beat("gone", "DELETE", sad=True),
        ),
        "adopt second, adopt again second, adopt second both, adopt again, adopt gone, adopt again gone",
        (
            Ask("when", "temporal", "{adopt_on}", ("adopt",), unless=("gone",)),
            Ask("when2", "temporal", "{second_on}", ("second",)),
            Ask("name", "single-hop", "{pet}", ("adopt",), unless=("second", "gone")),
            Ask("latest", "single-hop", "{pet2}", ("second",)),
            Ask("count", "multi-hop", "two", ("adopt", "second")),
            Ask("names", "multi-hop", "{pet}, {pet2}", ("adopt", "second")),
            Ask("order", "multi-hop", "{pet}", ("adopt", "second")),
            Ask("gone", "single-hop", None, ("gone",)),
        ),
        topic="pets",
    ),
    _family(
        "pets",
        "animal:animals pet:petnames pet2:petnames",
        (
            Beat("have", "ADD"),
            Beat("again", "NOOP"),
            Beat("another", "UPDATE", "past"),
            Beat("gone", "DELETE", sad=True),
        ),
        "have another, have again another, have again, have gone, have again gone, have",
        (
            Ask("when2", "temporal", "{another_on}", ("another",)),
            Ask("name", "single-hop", "{pet}", ("have",), unless=("another", "gone")),
            Ask("kind", "single-hop", "a {animal}", ("have",), unless=("another", "gone")),
            Ask("names", "multi-hop", "{pet}, {pet2}", ("have", "another")),
            Ask("count", "multi-hop", "two", ("have", "another")),
            Ask("cover", "open-domain", "{animal_2}", ("have",), unless=("gone",)),
            Ask("gone", "single-hop", None, ("gone",)),
        ),
        topic="pets",
    ),
    _family(
        "allergy",
        "what:allergens what2:allergens",
        (
            Beat("has", "ADD", sad=True),
            Beat("again", "NOOP", sad=True),
            Beat("more", "UPDATE", sad=True),
            Beat("over", "DELETE"),
        ),
        "has more, has again more, has again, has over, has again over, has",
        (
            Ask("what", "single-hop", "{what}", ("has",), unless=("more", "over")),
            Ask("whats", "multi-hop", "{what}, {what2}", ("has", "more")),
            Ask("count", "multi-hop", "two", ("has", "more")),
            Ask("latest", "single-hop", "{what2}", ("more",)),
            Ask("safe", "open-domain", "no", ("has",), unless=("over",)),
            Ask("over", "single-hop", None, ("over",)),
        ),
    ),
    _family(
        "turtles",  # the paper's case: loved despite an allergy
        "animal:beasts",
        (Beat("allergic", "ADD", sad=True), Beat("loves", "ADD", entry="b"), Beat("again", "NOOP", entry="b")),
        "allergic loves, allergic loves again, loves again",
        (
            Ask("despite", "multi-hop", "{animal}", ("allergic", "loves"), entries=("a", "b")),
            Ask("favourite", "single-hop", "{animal}", ("loves",), entries=("b",)),
            Ask("class", "single-hop", "{animal_1}", ("allergic",)),
            Ask("keep", "open-domain", "no", ("allergic", "loves"), entries=("a", "b")),
        ),
        topic="allergy",
    ),
    _family(
        "shore",  # the paper's case: a beach or the mountains
        "view:views away:escapes",
        (Beat("near", "ADD"), Beat("visit", "ADD", "past", entry="b"), Beat("again", "NOOP")),
        "near visit, near again visit, visit near again, near again, near",
        (
            Ask("close", "open-domain", "{view_2}", ("near",)),
            Ask("visit", "single-hop", "{away}", ("visit",), entries=("b",)),
            Ask("when", "temporal", "{visit_on}", ("visit",), entries=("b",)),
        ),
        topic="home",
    ),
    _family(
        "city",
        "city:cities city2:cities",
        (Beat("lives", "ADD"), Beat("again", "NOOP"), Beat("moved", "UPDATE", "past"), Beat("settled", "NOOP")),
        "lives moved, lives again moved, lives moved settled, lives again, lives",
        (
            Ask("where", "single-hop", "{city}", ("lives",), unless=("moved",)),
            Ask("now", "single-hop", "{city2}", ("moved",)),
            Ask("before", "single-hop", "{city}", ("lives", "moved")),
            _first("moved"),
            Ask("country", "open-domain", "{city_1}", ("lives",), unless=("moved",)),
            Ask("country2", "open-domain", "{city2_1}", ("moved",)),
            Ask("cities", "multi-hop", "{city}, {city2}", ("lives", "moved")),
        ),
        topic="home",
    ),
    _family(
        "job",
        "job:jobs job2:jobs role:roles",
        (
            Beat("works", "ADD"),
            Beat("again", "NOOP"),
            Beat("new", "UPDATE", "past"),
            Beat("settled", "NOOP"),
            Beat("promoted", "UPDATE", "past"),
        ),
        "works new, works again new, works new settled, works promoted, works again promoted, works again, works",
        (
            Ask("what", "single-hop", "{job}", ("works",), unless=("new",)),
            Ask("where", "single-hop", "{job_1}", ("works",), unless=("new",)),
            Ask("now", "single-hop", "{job2}", ("new",)),
            Ask("nowhere", "single-hop", "{job2_1}", ("new",)),
            Ask("before", "single-hop", "{job}", ("works", "new")),
            _first("new", "when_new"),
            _first("promoted", "when_promoted"),
            Ask("role", "single-hop", "{role}", ("promoted",)),
            Ask("field", "open-domain", "{job_2}", ("works",), unless=("new",)),
            Ask("field2", "open-domain", "{job2_2}", ("new",)),
        ),
    ),
    _family(
        "craft",
        "craft:crafts craft2:crafts",
        (
            Beat("start", "ADD", "past"),
            Beat("again", "NOOP"),
            Beat("also", "UPDATE", "past"),
            Beat("quit", "DELETE", sad=True),
        ),
        "start also, start again also, start again, start quit, start again quit, start",
        (
            Ask("when", "temporal", "{start_on}", ("start",), unless=("quit",)),
            Ask("when2", "temporal", "{also_on}", ("also",)),
            Ask("what", "single-hop", "{craft}", ("start",), unless=("also", "quit")),
            Ask("both", "multi-hop", "{craft}, {craft2}", ("start", "also")),
            Ask("order", "multi-hop", "{craft}", ("start", "also")),
            Ask("quit", "single-hop", None, ("quit",)),
        ),
    ),
    _family(
        "partner",
        "partner:people spot:meeting_places",
        (
            Beat("met", "ADD", "past"),
            Beat("again", "NOOP"),
            Beat("engaged", "UPDATE", "past"),
            Beat("split", "DELETE", sad=True),
        ),
        "met engaged, met again engaged, met again, met split, met again split, met",
        (
            Ask("who", "single-hop", "{partner}", ("met",), unless=("engaged", "split")),
            Ask("spot", "single-hop", "{spot}", ("met",), unless=("split",)),
            Ask("when", "temporal", "{met_on}", ("met",), unless=("split",)),
            Ask("fiance", "single-hop", "{partner}", ("engaged",)),
            _first("engaged", "when_engaged"),
            Ask("split", "single-hop", None, ("split",)),
        ),
    ),
    _family(
        "kids",
        "kid:people kid2:people sport:sports sport2:sports sport3:sports",
        (
            Beat("eldest", "ADD"),
            Beat("again", "NOOP"),
            Beat("youngest", "UPDATE"),
            Beat("switch", "UPDATE"),
        ),
        "eldest youngest, eldest again youngest, eldest switch, eldest again switch, eldest again, eldest",
        (
            Ask("sport", "single-hop", "{sport}", ("eldest",), unless=("switch",)),
            Ask("now", "single-hop", "{sport3}", ("switch",)),
            Ask("before", "single-hop", "{sport}", ("eldest", "switch")),
            Ask("names", "multi-hop", "{kid}, {kid2}", ("eldest", "youngest")),
            Ask("sports", "multi-hop", "{sport}, {sport2}", ("eldest", "youngest")),
            Ask("count", "multi-hop", "two", ("eldest", "youngest")),
            Ask("youngest", "single-hop", "{sport2}", ("youngest",)),
        ),
    ),
    _family(
        "language",
        "lang:languages lang2:languages",
        (
            Beat("start", "ADD", "past"),
            Beat("again", "NOOP"),
            Beat("also", "UPDATE", "past"),
            Beat("quit", "DELETE", sad=True),
        ),
        "start also, start again also, start again, start quit, start again quit, start",
        (
            Ask("what", "single-hop", "{lang}", ("start",), unless=("also", "quit")),
            Ask("when", "temporal", "{start_on}", ("start",), unless=("quit",)),
            Ask("when2", "temporal", "{also_on}", ("also",)),
            Ask("both", "multi-hop", "{lang}, {lang2}", ("start", "also")),
            Ask("order", "multi-hop", "{lang}", ("start", "also")),
            Ask("country", "open-domain", "{lang_1}", ("start",), unless=("also", "quit")),
            Ask("quit", "single-hop", None, ("quit",)),
        ),
    ),
    _family(
        "trip",
        "place:destinations mate:people",
        (
            Beat("plan", "ADD", "future"),
            Beat("again", "NOOP"),
            Beat("later", "UPDATE", "future"),
            Beat("off", "DELETE", sad=True),
        ),
        "plan later, plan again later, plan again, plan off, plan again off, plan",
        (
            Ask("where", "single-hop", "{place}", ("plan",), unless=("off",)),
            Ask("who", "single-hop", "{mate}", ("plan",), unless=("off",)),
            Ask("when", "temporal", "{plan_on}", ("plan",), unless=("later", "off")),
            Ask("new_when", "temporal", "{later_on}", ("later",)),
            Ask("old_when", "temporal", "{plan_on}", ("plan", "later")),
            Ask("pack", "open-domain", "{place_1}", ("plan",), unless=("off",)),
            Ask("off", "single-hop", None, ("off",)),
        ),
    ),
    _family(
        "museum",
        "place:museums place2:museums",
        (Beat("first", "ADD", "past"), Beat("second", "ADD", "past", entry="b"), Beat("again", "NOOP")),
        "first second, first again second, first second, first",
        (
            _first("first"),
            Ask("when2", "temporal", "{second_on}", ("second",), entries=("b",)),
            Ask("both", "multi-hop", "{place}, {place2}", ("first", "second"), entries=("a", "b")),
            Ask("order", "multi-hop", "{place}", ("first", "second"), entries=("a", "b")),
            Ask("which", "single-hop", "{place}", ("first",), unless=("second",)),
        ),
    ),
    _family(
        "injury",
        "hurt:injuries how:accidents",
        (
            Beat("hurt", "ADD", "past", sad=True),
            Beat("again", "NOOP", sad=True),
            Beat("healed", "UPDATE", "past"),
        ),
        "hurt healed, hurt again healed, hurt again, hurt",
        (
            _first("hurt"),
            Ask("what", "single-hop", "{hurt_2}", ("hurt",)),
            Ask("how", "single-hop", "{how}", ("hurt",)),
            _first("healed", "when_healed"),
        ),
    ),
    _family(
        "drink",
        "drink:drinks drink2:drinks",
        (Beat("likes", "ADD"), Beat("again", "NOOP"), Beat("switch", "UPDATE", "past"), Beat("still", "NOOP")),
        "likes switch, likes again switch, likes switch still, likes again, likes",
        (
            Ask("what", "single-hop", "{drink}", ("likes",), unless=("switch",)),
            Ask("now", "single-hop", "{drink2}", ("switch",)),
            Ask("before", "single-hop", "{drink}", ("likes", "switch")),
            _first("switch"),
        ),
    ),
    _family(
        "purchase",
        "item:items price:prices price2:prices",
        (
            Beat("bought", "ADD", "past"),
            Beat("again", "NOOP"),
            Beat("price", "UPDATE"),
            Beat("sold", "DELETE"),
        ),
        "bought price, bought again price, bought again, bought sold, bought again sold, bought",
        (
            Ask("when", "temporal", "{bought_on}", ("bought",), unless=("sold",)),
            Ask("much", "single-hop", "{price}", ("bought",), unless=("price", "sold")),
            Ask("right", "single-hop", "{price2}", ("bought", "price")),
            Ask("what", "single-hop", "a {item}", ("bought",), unless=("sold",)),
            Ask("sold", "single-hop", None, ("sold",)),
        ),
    ),
    _family(
        "event",
        "event:appointments",
        (
            Beat("plan", "ADD", "future"),
            Beat("again", "NOOP"),
            Beat("later", "UPDATE", "future"),
            Beat("off", "DELETE", sad=True),
        ),
        "plan later, plan again later, plan again, plan off, plan again off, plan",
        (
            Ask("when", "temporal", "{plan_on}", ("plan",), unless=("later", "off")),
            Ask("new_when", "temporal", "{later_on}", ("later",)),
            Ask("old_when", "temporal", "{plan_on}", ("plan", "later")),
            Ask("off", "temporal", None, ("off",)),
        ),
    ),
    _family(
        "relative",
        "rel:relations who:people city:cities city2:cities who2:people city3:cities",
        (
            Beat("lives", "ADD"),
            Beat("again", "NOOP"),
            Beat("moved", "UPDATE", "past"),
            Beat("friend", "ADD", entry="b"),
        ),
        "lives moved, lives again moved, lives friend moved, lives friend again, friend lives, lives again",
        (
            Ask("where", "single-hop", "{city}", ("lives",), unless=("moved",)),
            Ask("now", "single-hop", "{city2}", ("moved",)),
            Ask("before", "single-hop", "{city}", ("lives", "moved")),
            _first("moved"),
            Ask("friend", "single-hop", "{city3}", ("friend",), entries=("b",)),
            Ask("name", "single-hop", "{who}", ("lives",)),
            Ask("country", "open-domain", "{city_1}", ("lives",), unless=("moved",)),
        ),
    ),
    _family(
        "neighbour",  # another person's dog, which must not be merged
        "who:people pet:dogs breed:breeds",
        (Beat("has", "ADD"), Beat("again", "NOOP")),
        "has, has again",
        (
            Ask("name", "single-hop", "{pet}", ("has",)),
            Ask("breed", "single-hop", "a {breed}", ("has",)),
            Ask("who", "single-hop", "{who}", ("has",)),
        ),
    ),
    _family(
        "car",
        "car:cars car2:cars",
        (Beat("drives", "ADD"), Beat("again", "NOOP"), Beat("changed", "UPDATE", "past"), Beat("now", "NOOP")),
        "drives changed, drives again changed, drives changed now, drives again, drives",
        (
            Ask("what", "single-hop", "a {car}", ("drives",), unless=("changed",)),
            Ask("now", "single-hop", "a {car2}", ("changed",)),
            Ask("before", "single-hop", "a {car}", ("drives", "changed")),
            _first("changed"),
        ),
    ),
    _family(
        "garden",
        "crop:crops crop2:crops",
        (
            Beat("plant", "ADD", "past"),
            Beat("again", "NOOP"),
            Beat("also", "UPDATE", "past"),
            Beat("dead", "DELETE", sad=True),
        ),
        "plant also, plant again also, plant again, plant dead, plant again dead, plant",
        (
            Ask("what", "single-hop", "{crop}", ("plant",), unless=("also", "dead")),
            Ask("when", "temporal", "{plant_on}", ("plant",), unless=("dead",)),
            Ask("when2", "temporal", "{also_on}", ("also",)),
            Ask("both", "multi-hop", "{crop}, {crop2}", ("plant", "also")),
            Ask("order", "multi-hop", "{crop}", ("plant", "also")),
            Ask("dead", "single-hop", None, ("dead",)),
        ),
    ),
    _family(
        "race",
        "race:races cause:causes race2:races cause2:causes",
        (Beat("ran", "ADD", "past"), Beat("again", "NOOP"), Beat("second", "ADD", "past", entry="b")),
        "ran second, ran again second, ran again, ran",
        (
            _first("ran"),
            Ask("when2", "temporal", "{second_on}", ("second",), entries=("b",)),
            Ask("cause", "single-hop", "{cause}", ("ran",)),
            Ask("cause2", "single-hop", "{cause2}", ("second",), entries=("b",)),
            Ask("both", "multi-hop", "{cause}, {cause2}", ("ran", "second"), entries=("a", "b")),
            Ask("order", "multi-hop", "{cause}", ("ran", "second"), entries=("a", "b")),
        ),
    ),
    _family(
        "book",
        "book:books book2:books",
        (
            Beat("reading", "ADD", "past"),
            Beat("again", "NOOP"),
            Beat("finished", "UPDATE", "past"),
            Beat("next", "ADD", "past", entry="b"),
        ),
        "reading finished, reading again finished, reading finished next, reading again, reading",
        (
            Ask("what", "single-hop", "{book}", ("reading",), unless=("finished",)),
            Ask("when", "temporal", "{reading_on}", ("reading",)),
            _first("finished", "when_finished"),
            Ask("finished", "single-hop", "{book}", ("finished",)),
            Ask("next", "single-hop", "{book2}", ("next",), entries=("b",)),
            Ask("both", "multi-hop", "{book}, {book2}", ("finished", "next"), entries=("a", "b")),
        ),
    ),
    _family(
        "outing",  # things that happened once, of every kind: nothing to merge
        "event:outings event2:outings event3:outings",
        (
            Beat("first", "ADD", "past"),
            Beat("second", "ADD", "past", entry="b"),
            Beat("third", "ADD", "past", entry="c"),
        ),
        "first second third, first second, first",
        (
            _first("first"),
            Ask("when2", "temporal", "{second_on}", ("second",), entries=("b",)),
            Ask("when3", "temporal", "{third_on}", ("third",), entries=("c",)),
            Ask("order", "multi-hop", "{event_2}", ("first", "second"), entries=("a", "b")),
        ),
    ),
    _family(
        "trait",  # what somebody is like, wants, feels or is proud of
        "trait:traits trait2:traits",
        (Beat("one", "ADD"), Beat("again", "NOOP"), Beat("two", "ADD", entry="b")),
        "one two, one again two, one two, one",
        (
            Ask("first", "single-hop", "{trait_4}", ("one",)),
            Ask("second", "single-hop", "{trait2_4}", ("two",), entries=("b",)),
        ),
    ),
)
