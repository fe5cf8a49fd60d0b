"""The bodies of requests: Mem0's fields, and ours. A field that is not known is refused, not ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from memory_r1.answer import RETRIEVED

Time = str | int | float
Count = Annotated[int, Field(ge=1, le=10_000)]
OperationNumber = Annotated[int, Field(ge=1, lt=2**63)]
Filters = Annotated[
    dict[str, Any] | None,
    Field(
        description='Mem0\'s grammar: {"topic": "travel"}, {"n": {"gte": 3}}, {"AND": […]}, {"OR": […]}, {"NOT": […]}.'
    ),
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Ids(Body):
    """Whose memory: at least one id, unless the key is bound to one. They narrow the key's scope, never widen it."""

    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None

    @property
    def ids(self) -> dict[str, str | None]:
        return {"user_id": self.user_id, "agent_id": self.agent_id, "run_id": self.run_id}


class Said(BaseModel):
    """One message. With an `id`, sending it again costs nothing."""

    role: str = "user"
    content: str | list[dict[str, Any]] | None
    name: str | None = Field(None, description="Who spoke, when the role does not say.")
    timestamp: Time | None = Field(None, description="When it was said; default: now.")
    id: str | None = None


class NewMemories(Ids):
    messages: str | list[Said] = Field(
        description="What was said; a text is the user's.",
        examples=[[{"role": "user", "content": "I moved to Oslo last week."}]],
    )
    metadata: dict[str, Any] | None = None
    infer: bool = Field(True, description="false stores each message as it is; no model is asked.")
    timestamp: Time | None = Field(None, description="When it was said; default: now.")
    expiration_date: Time | None = None
    dry_run: bool = Field(False, description="true tells what would happen and changes nothing.")


class Question(Ids):
    filters: Filters = None
    as_of: Time | None = Field(None, description="Ask the memory as it was at that time.")


class Search(Question):
    query: str
    top_k: Count | None = None
    limit: Count | None = Field(None, description="Mem0 1.x's name for top_k.")
    threshold: float | None = Field(None, ge=0, le=1)
    show_expired: bool = False
    turns: bool = Field(False, description="Find turns that are kept word for word, too.")


class Ask(Question):
    question: str
    top_k: Count = RETRIEVED
    least_certainty: float = Field(
        0.0, ge=0, le=1, description="An answer that the model is less sure of becomes that it does not know."
    )


class Context(Ids):
    query: str
    filters: Filters = None
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] = 1000


class Changes(Body):
    """At least one; `data` is Mem0 1.x's name for `text`."""

    text: str | None = None
    data: str | None = None
    metadata: dict[str, Any] | None = None
    expiration_date: Time | None = None


class Undo(Body):
    operation: OperationNumber


class Whose(Ids):
    """The ids as query parameters."""


class Listing(Whose):
    top_k: Count = 100
    limit: Count | None = None
    skip: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    order: Literal["oldest", "newest"] = "oldest"
    filters: str | None = Field(None, description="The filter of POST /search, as JSON.")
    as_of: str | None = None
    show_expired: bool = False
    turns: bool = Field(False, description="Turns that are kept word for word, too.")


class Operations(Whose):
    top_k: Count = 100
    before: OperationNumber | None = Field(None, description="Only operations with a smaller number: the next page.")


class Auditing(Whose):
    stale_days: Annotated[int, Field(ge=0, le=100_000)] = 180
    top_k: Count | None = Field(None, description="At most so many findings of each kind; default: all.")


WhoseQuery = Annotated[Whose, Query()]

# -- answers, for the documentation ---------------------------------------------------------------------------------


class ErrorText(BaseModel):
    code: str
    message: str
    remedy: str


class Error(BaseModel):
    error: ErrorText


class Done(BaseModel):
    id: str | None
    memory: str | None
    event: Literal["ADD", "UPDATE", "DELETE", "NOOP", "QUARANTINE"]
    operation: int
    previous_memory: str | None = None
    reason: str | None = None
    flags: list[str] | None = Field(None, description="Why it reads like instructions for a model, where it does.")


class Added(BaseModel):
    results: list[Done]
    unreadable: int
    scrubbed: dict[str, int] | None = Field(None, description="How many of each kind were replaced.")


class Queued(Added):
    queued: int = Field(description="Turns that are kept on the disk and will be remembered.")


class Entry(BaseModel):
    id: str
    memory: str
    hash: str
    metadata: dict[str, Any] | None
    created_at: str
    updated_at: str
    event_time: str | None
    expiration_date: str | None
    speaker: str | None
    turn_id: str | None = Field(None, description="Of a turn that is kept word for word.")
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None


class FoundEntry(Entry):
    score: float
    similarity: float


class Entries(BaseModel):
    results: list[Entry]


class Found(BaseModel):
    results: list[FoundEntry]


class OperationLine(BaseModel):
    id: int
    memory_id: str | None
    event: str
    old_memory: str | None
    new_memory: str | None
    created_at: str
    is_deleted: bool
    fact: str | None
    turn_id: str | None
    model: str | None
    adapter: str | None
    prompt_version: str | None
    logprob: float | None
    reason: str | None
    undoes: int | None
    flags: list[str]


class OperationLines(BaseModel):
    results: list[OperationLine]


class Held(BaseModel):
    id: str
    memory: str
    flags: list[str] = Field(description="Why it reads like instructions for a model.")
    speaker: str | None
    metadata: dict[str, Any] | None
    created_at: str
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None


class AllHeld(BaseModel):
    results: list[Held]


class Changed(BaseModel):
    message: str
    operation: int
    scrubbed: dict[str, int] | None = None


class DeletedAll(BaseModel):
    message: str
    count: int


class AnswerText(BaseModel):
    answer: str
    known: bool
    used: list[Entry]
    retrieved: list[FoundEntry]
    dropped: int
    logprob: float | None = Field(description="Log-probability of the model's whole reply, where it tells.")
    certainty: float | None = Field(description="The same as a probability, 0 to 1.")


class ContextText(BaseModel):
    context: str = Field(description="A fenced block for another model's prompt; empty when nothing is known.")


class FindingLine(BaseModel):
    kind: str
    why: str
    entries: list[Entry]


class Findings(BaseModel):
    findings: list[FindingLine]
    counts: dict[str, int] = Field(description="How many there are of each kind, also of those not listed.")


class ScopeLine(BaseModel):
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    memories: int


class Scopes(BaseModel):
    results: list[ScopeLine]
    bound: dict[str, str] | None = Field(description="The ids that the key is bound to; null: it opens every scope.")


class RunLine(BaseModel):
    name: str
    agent: str | None
    algo: str | None
    model: str | None
    date: str | None
    steps: int = Field(description="Steps done, of those that are planned.")
    planned: int | None
    reward: float | None = Field(description="Mean over the last ten steps.")
    problem: str | None = Field(description="What is wrong with its folder.")


class RunLines(BaseModel):
    results: list[RunLine]


class Series(BaseModel):
    name: str
    points: list[tuple[float, float]] = Field(description="(step, value), thinned by means where there are very many.")


class Panel(BaseModel):
    title: str
    series: list[Series]


class RunCurves(RunLine):
    panels: list[Panel]
    config: dict[str, Any]
