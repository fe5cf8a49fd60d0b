"""What the server counts, in Prometheus' text format. No text, id or key is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from memory_r1.flow import Usage
from memory_r1.types import Logged, Step

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one server. `gauges` are read, and so is `usage`, when somebody asks."""

    def __init__(
        self,
        gauges: Mapping[str, tuple[str, Callable[[], float]]],
        usage: Callable[[], Mapping[Step, Usage]],
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered.", ["method", "route", "status"])
        self._refused = self._counter("refused", "Requests refused, by the error's code.", ["code"])
        self._operations = self._counter("operations", "Operations that requests led to.", ["kind"])
        self._seconds = Histogram(
            "memory_r1_request_seconds",
            "Until the answer began.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_Read(gauges, usage))

    def _counter(self, name: str, about: str, labels: Sequence[str]) -> Counter:
        return Counter(f"memory_r1_{name}", about, labels, registry=self._registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def applied(self, operations: Iterable[Logged]) -> None:
        for operation in operations:
            self._operations.labels(operation.kind).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)


@dataclass(frozen=True, eq=False)
class _Read(Collector):
    gauges: Mapping[str, tuple[str, Callable[[], float]]]
    usage: Callable[[], Mapping[Step, Usage]] = field(repr=False)

    def collect(self) -> Iterable[Metric]:
        for name, (about, value) in self.gauges.items():
            yield GaugeMetricFamily(f"memory_r1_{name}", about, value=value())
        tokens = CounterMetricFamily("memory_r1_model_tokens", "Tokens of the models.", labels=["step", "direction"])
        calls = CounterMetricFamily("memory_r1_model_calls", "Prompts that models answered.", labels=["step"])
        for step, used in dict(self.usage()).items():
            calls.add_metric([step], used.calls)
            tokens.add_metric([step, "prompt"], used.prompt_tokens)
            tokens.add_metric([step, "completion"], used.completion_tokens)
        yield from (tokens, calls)

    def describe(self) -> Iterable[Metric]:
        return []
