"""Spans as OpenTelemetry's (the `[otel]` extra), sent by OTLP as the standard OTEL_* variables say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import Status, StatusCode, get_current_span

from memory_r1.spans import Note, Span, Value

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_QUIET = "/health$,/ready$,/metrics$"
_WITH_QUERY = ("url.query", "url.full", "http.url", "http.target")


def otlp() -> TracerProvider:
    """A provider that sends to a collector, by default that of this machine."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = Resource.create() if os.environ.get("OTEL_SERVICE_NAME") else Resource.create({SERVICE_NAME: "memory-r1"})
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def spans(provider: TracerProvider) -> Span:
    """Spans of a provider. An error's type is told and its text is not: it may quote what was said."""
    tracer = provider.get_tracer("memory_r1", version("memory-r1"))

    @contextmanager
    def span(name: str, **attributes: Value) -> Iterator[Note]:
        with tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as open_span:
            try:
                yield open_span.set_attributes
            except BaseException as error:
                open_span.set_attribute("error.type", type(error).__name__)
                open_span.set_status(Status(StatusCode.ERROR))
                raise

    return span


def watched(app: ASGIApp, provider: TracerProvider) -> ASGIApp:
    """The application with a span for each request, named by its route; what is left is sent when it ends.

    Ids that a query holds are left out.
    """

    def begun(span: OtelSpan, scope: Mapping[str, Any]) -> None:
        for name in _WITH_QUERY:
            if name in (getattr(span, "attributes", None) or {}):
                span.set_attribute(name, str(scope["path"]))

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            route = getattr(scope.get("route"), "path", None)
            if route and message["type"] == "http.response.start":
                get_current_span().update_name(f"{scope['method']} {route}")
                get_current_span().set_attribute("http.route", route)
            if message["type"] == "lifespan.shutdown.complete":  # uvicorn ends the process by the signal it was sent
                await to_thread.run_sync(provider.force_flush)
            await send(message)

        await app(scope, receive, sent)

    return OpenTelemetryMiddleware(
        named,
        excluded_urls=_QUIET,
        default_span_details=lambda scope: (str(scope.get("method", "")), {}),
        server_request_hook=begun,
        tracer_provider=provider,
        exclude_spans=["receive", "send"],
    )
