"""The spans of a request, by the real OpenTelemetry SDK: what is in them, and what never is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving import Switch

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.instrumentation.asgi")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memory_r1 import Memory
from memory_r1.serve.app import create_app
from memory_r1.serve.keys import Keys
from memory_r1.telemetry import spans, watched
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Prompt, Reply

SECRET = "xyzzy"


class Traced:
    """A server with spans, and what they are."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.model = Switch()

        def replied(prompt: Prompt) -> Reply:
            return Reply(self.model(prompt), prompt_tokens=7, completion_tokens=3, model="scripted")

        self.memory = Memory(":memory:", llm=ScriptedLLM(replied), embedder=HashEmbedder(), span=spans(self.provider))
        app = watched(create_app(self.memory, Keys()), self.provider)
        self.client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)

    def tree(self) -> list[tuple[str, ...]]:
        """Each span's names from the root down, in the order in which they ended."""
        found = self.exporter.get_finished_spans()
        by_id = {span.context.span_id: span for span in found if span.context}

        def path(span: ReadableSpan) -> tuple[str, ...]:
            above = by_id.get(span.parent.span_id) if span.parent else None
            return (*(path(above) if above else ()), span.name)

        return [path(span) for span in found]

    def attributes(self, name: str) -> list[Mapping[str, Any]]:
        return [dict(span.attributes or {}) for span in self.exporter.get_finished_spans() if span.name == name]

    def everything(self) -> str:
        return "".join(span.to_json() for span in self.exporter.get_finished_spans())


def test_an_add_shows_its_turns_model_calls_and_operations() -> None:
    traced = Traced()
    for text in (f"{SECRET} likes tea", f"{SECRET} likes milk"):
        traced.client.post("/memories", json={"messages": text, "user_id": "ann"})
    request, turn = "POST /memories", "memory_r1.remember"
    assert traced.tree() == [
        (request, turn, "memory_r1.model"),
        (request, turn, "memory_r1.apply"),
        (request, turn),
        (request,),
        (request, turn, "memory_r1.model"),
        (request, turn, "memory_r1.model"),
        (request, turn, "memory_r1.apply"),
        (request, turn),
        (request,),
    ]
    assert [one["memory_r1.step"] for one in traced.attributes("memory_r1.model")] == ["extract", "extract", "manage"]
    assert traced.attributes("memory_r1.model")[0] == {
        "memory_r1.step": "extract",
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.model": "scripted",
    }
    assert traced.attributes("memory_r1.apply") == [{"memory_r1.operation": "ADD"}] * 2


def test_no_text_question_or_id_is_in_any_span() -> None:
    traced = Traced()
    client = traced.client
    (done,) = client.post("/memories", json={"messages": f"{SECRET} tea", "user_id": SECRET}).json()["results"]
    client.post("/search", json={"query": f"{SECRET} tea", "user_id": SECRET})
    client.post("/ask", json={"question": f"{SECRET} tea?", "user_id": SECRET})
    client.post("/context", json={"query": f"{SECRET} tea", "user_id": SECRET})
    client.get("/memories", params={"user_id": SECRET})
    client.put(f"/memories/{done['id']}", json={"text": f"{SECRET} milk"})
    client.post("/search", json={"query": "x", "user_id": SECRET, "filters": {SECRET: {SECRET: 1}}})
    traced.model.down = True
    client.post("/memories", json={"messages": f"{SECRET} coffee", "user_id": SECRET})
    names = {names[-1] for names in traced.tree()}
    assert {
        "memory_r1.search",
        "memory_r1.ask",
        "memory_r1.context",
        "GET /memories",
        "PUT /memories/{memory_id}",
    } <= names
    assert SECRET not in traced.everything()
    assert [one["error.type"] for one in traced.attributes("memory_r1.model") if "error.type" in one] == [
        "ModelUnavailable"
    ]


def test_what_was_not_sent_yet_is_sent_when_the_server_ends() -> None:
    traced = Traced()
    waiting, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(waiting, schedule_delay_millis=3_600_000))
    with TestClient(watched(create_app(traced.memory, Keys()), provider), base_url="http://localhost") as client:
        client.get("/scopes")
        assert waiting.get_finished_spans() == ()
    assert [span.name for span in waiting.get_finished_spans()] == ["GET /scopes"]


def test_health_and_metrics_are_not_watched() -> None:
    traced = Traced()
    for path in ("/health", "/ready", "/metrics"):
        assert traced.client.get(path).status_code == 200
    assert traced.tree() == []
