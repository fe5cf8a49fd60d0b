"""schemathesis over the whole OpenAPI description: no 5xx, and answers are as described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from test_serve_chat import ChattingLLM

from memory_r1 import Memory
from memory_r1.serve.app import Settings, create_app
from memory_r1.serve.keys import Keys
from memory_r1.testing import HashEmbedder


@pytest.fixture(scope="module")
def described() -> Iterator[Any]:
    with Memory(":memory:", llm=ChattingLLM(), embedder=HashEmbedder()) as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
        app = create_app(memory, Keys(), settings=Settings(local=False))  # schemathesis asks under names of its own
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_leads_to_an_accident(case: Any) -> None:
    case.call_and_validate(checks=[not_a_server_error, response_schema_conformance, status_code_conformance])
