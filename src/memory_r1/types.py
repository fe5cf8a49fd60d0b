"""The nouns: frozen dataclasses that know nothing of models, files or servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import exp
from typing import Any, Literal, NamedTuple

from memory_r1.errors import InvalidInput, MissingScope

Step = Literal["extract", "manage", "answer", "judge"]
AGENT_STEPS: tuple[Step, ...] = ("extract", "manage", "answer")
"""What the two agents do, and are trained for."""

STEPS: tuple[Step, ...] = (*AGENT_STEPS, "judge")

Kind = Literal["ADD", "UPDATE", "DELETE", "NOOP"]
KINDS: tuple[Kind, ...] = ("ADD", "UPDATE", "DELETE", "NOOP")

QUARANTINE = ("QUARANTINE", "RELEASE", "DISCARD")
"""Kinds of log lines about what is kept apart, and is no entry."""

LOGGED_KINDS = (*KINDS, *QUARANTINE, "PURGE", "REEMBED")

SCOPE_KEYS = ("user_id", "agent_id", "run_id")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memory: at least one id, and an entry belongs to exactly the ids it was written with.

    A scope used for reading matches the entries that equal all the ids it gives.
    """

    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None

    def __post_init__(self) -> None:
        for name in SCOPE_KEYS:
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, str):
                raise InvalidInput(f"{name} must be a string, not {type(value).__name__}")
            if not value.strip() or value != value.strip():
                raise InvalidInput(f"{name} must not be empty or begin or end with white space: {value!r}")
            if value == "*":
                raise InvalidInput(f'{name}="*" would mean everybody; name one {name}')
            if len(value) > 256 or not value.isprintable():
                raise InvalidInput(f"{name} must be at most 256 printable characters")
        if not self.ids:
            raise MissingScope("give at least one of user_id, agent_id and run_id: whose memory is this?")

    @property
    def ids(self) -> dict[str, str]:
        """The ids that are set, in the order user_id, agent_id, run_id."""
        return {name: value for name in SCOPE_KEYS if (value := getattr(self, name)) is not None}

    @property
    def home(self) -> tuple[str, str]:
        """(name, value) of the first id that is set: where an entry of this scope has its vectors."""
        return next(iter(self.ids.items()))


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a dialogue. With an `id`, remembering it again continues or does nothing."""

    speaker: str
    text: str
    time: datetime | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing worth remembering. `event_time`: when it happened; `dated`: its own words say when."""

    text: str
    speaker: str | None = None
    event_time: datetime | None = None
    dated: bool = False


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """What the bank holds true now. `revision` counts the writes to the entry's home and never repeats.

    `kept_turn`: the id of a turn, where the entry is that turn's own words, kept beside what was made of them.
    """

    id: str
    text: str
    scope: Scope
    created_at: datetime
    updated_at: datetime
    revision: int
    speaker: str | None = None
    event_time: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    kept_turn: str | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a decision came about, kept with every logged operation.

    `flags` are the reasons (suspicion.REASONS) for which what was said reads like instructions for a model. `said` is
    the id of the entry that keeps the turn's words, where they are kept.
    """

    turn_id: str | None = None
    model: str | None = None
    adapter: str | None = None
    prompt_version: str | None = None
    logprob: float | None = None
    reason: str | None = None
    flags: tuple[str, ...] = ()
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One decision about one fact, before it is applied.

    `entry` is the related entry that UPDATE and DELETE act on; `text` what ADD and UPDATE leave behind.
    `provenance.reason` says why when no model decided, or not this: "duplicate", "unreadable", "its update loses", …
    `place` says which of the facts of its turn, from 0, where these are counted because the turn has an id.
    """

    kind: Kind
    fact: Fact
    entry: MemoryEntry | None = None
    text: str | None = None
    provenance: Provenance = Provenance()
    place: int | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """One line of the operation log: what changed, from what, to what, when and why.

    `kind` is one of LOGGED_KINDS. `before` and `after` hold the entry's whole state as plain JSON values, so that the
    log alone rebuilds the bank; `fact` is what was decided about. `undoes` names the operation an undo reverses. Of
    a QUARANTINE `after` is what is kept apart, and `entry_id` its own id.
    """

    id: int
    kind: str
    entry_id: str | None
    time: datetime
    scope: Scope | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    fact: Fact | None = None
    provenance: Provenance = Provenance()
    undoes: int | None = None


class Message(NamedTuple):
    """One chat message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an agent asks. `schema` is a JSON schema that constrains the reply where the runtime can.

    `logprobs`: whether the reply's log-probabilities are wanted; an embedded model is a tenth faster without.
    """

    step: Step
    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    version: str = ""
    logprobs: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model sampled.

    `stop`: "end", "length" (cut off at max_tokens), or "overflow" (the prompt does not fit the context of
    `context_tokens`; nothing was sampled). `token_ids` and `logprobs` are those sampled, where the runtime
    gives them; `logprobs` are natural logarithms of the model's own, unconstrained probabilities (vLLM's are of what a
    schema left, where one was asked for).
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    stop: Literal["end", "length", "overflow"] = "end"
    model: str | None = None
    adapter: str | None = None
    prompt_ids: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    context_tokens: int | None = None

    @property
    def logprob(self) -> float | None:
        """Log-probability of the whole reply, or None where the runtime gives none."""
        return None if self.logprobs is None else float(sum(self.logprobs))


@dataclass(frozen=True, slots=True)
class Retrieved:
    """An entry with its place in a search: `score` in 0..1 (fused rank), `similarity` the cosine."""

    entry: MemoryEntry
    score: float
    similarity: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The Answer Agent's reply: the brief answer, all that was retrieved, and the entries it kept.

    `known` is False, and `text` says so, where the agent said that the memories do not tell. `dropped` counts the
    lowest-ranked memories that did not fit the model's context; `readable` is False when the reply was not
    the JSON asked for (its raw text is then the answer). `logprob`: log-probability of the whole reply, or None where
    the runtime gives none or nothing was asked. `certainty` is that probability, 0 to 1: among answers of one model it
    tells right ones from wrong ones, and is no share of right ones.
    """

    text: str
    retrieved: tuple[Retrieved, ...]
    used: tuple[MemoryEntry, ...]
    known: bool = True
    dropped: int = 0
    readable: bool = True
    logprob: float | None = None

    @property
    def certainty(self) -> float | None:
        return None if self.logprob is None else exp(min(self.logprob, 0.0))
