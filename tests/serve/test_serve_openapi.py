"""schemathesis over the whole OpenAPI description: no 5xx, and answers are as described."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from test_serve_chat import ChattingLLM

from memory_r1 import Memory
from memory_r1.serve.app import Settings, create_app
from memory_r1.serve.keys import Keys
from memory_r1.serve.limits import Limits
from memory_r1.testing import HashEmbedder

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]
PATHS = {
    *("/memories", "/memories/{memory_id}", "/memories/{memory_id}/history", "/search", "/reset", "/ask", "/context"),
    *("/operations", "/undo", "/audit", "/export", "/scopes", "/v1/chat/completions", "/v1/models"),
    *("/health", "/ready", "/metrics", "/runs", "/runs/{name}"),
    *("/quarantine", "/quarantine/{memory_id}", "/quarantine/{memory_id}/release"),
}


def test_no_request_leads_to_an_accident_and_answers_are_as_described() -> None:
    """Not through schemathesis' pytest plugin, which this pytest is too new for."""
    with Memory(":memory:", llm=ChattingLLM(), embedder=HashEmbedder()) as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
        app = create_app(
            memory, Keys(), settings=Settings(Limits(rate=0), local=False)
        )  # schemathesis asks under names of its own
        schema = schemathesis.openapi.from_asgi("/openapi.json", app)
        operations = [found.ok() for found in schema.get_all_operations()]
        assert {operation.path for operation in operations} == PATHS
        for operation in operations:
            for mode in GenerationMode:
                hold(operation, mode)


def hold(operation: Any, mode: GenerationMode) -> None:
    if mode is GenerationMode.NEGATIVE and not operation.body and not any(operation.iter_parameters()):
        return

    @settings(
        max_examples=20,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    call()
