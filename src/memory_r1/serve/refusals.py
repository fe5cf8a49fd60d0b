"""What a client is told when a request is refused: {"error": {"code", "message", "remedy"}}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from memory_r1 import errors
from memory_r1.errors import MemoryR1Error

# The first class that fits counts. The message comes from where the error was raised and names what is wrong.
_KNOWN: tuple[tuple[type[MemoryR1Error], int, str, str], ...] = (
    (errors.MissingScope, 400, "missing_scope", "Name at least one of user_id, agent_id and run_id."),
    (errors.BadFilter, 400, "bad_filter", "Correct the filter; docs/serving.md has the grammar."),
    (errors.Suspicious, 400, "suspicious", "Add it with POST /memories: a person can release it from quarantine."),
    (errors.InvalidInput, 400, "invalid_input", "Correct the request; /docs describes it."),
    (errors.EntryNotFound, 404, "not_found", "Look the id up with GET /memories or GET /operations."),
    (errors.Conflict, 409, "conflict", "Read the entry again and decide anew."),
    (errors.ModelRefused, 422, "model_refused", "Change the text: the model would refuse it again."),
    (errors.ModelError, 503, "model_unavailable", "Try again later, or send infer=false, which asks no model."),
    (errors.BankBusy, 503, "bank_busy", "Try again: another process is writing."),
    (errors.BankFull, 507, "bank_full", "Free some space on the server's disk; nothing was written."),
    (errors.BankError, 500, "bank_unusable", "The server's operator must look at the bank's file."),
    (MemoryR1Error, 500, "failed", "The server's operator must look at the log."),
)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))  # dumps() makes one a call


class Json(Response):
    """JSON that can always be sent: half a surrogate pair, which UTF-8 cannot hold, becomes a question mark."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _ENCODER.encode(content).encode("utf-8", "replace")


class Refusal(HTTPException):
    """A request that is refused. `more` goes beside the error into the body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        remedy: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code, self.message, self.remedy, self.more = code, message, remedy, dict(more or {})

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "remedy": self.remedy}, **self.more}

    def response(self) -> Response:
        return Json(self.body, self.status_code, self.headers)


def refusal_of(error: MemoryR1Error, more: Mapping[str, Any] | None = None) -> Refusal:
    _, status, code, remedy = next(known for known in _KNOWN if isinstance(error, known[0]))
    headers = {"Retry-After": "5"} if status == 503 else None
    return Refusal(status, code, str(error), remedy, headers=headers, more=more)
