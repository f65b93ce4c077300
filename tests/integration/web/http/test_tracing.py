"""The spans of requests. What a caller sends is in no name of a span."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from careca.launch import start_tracing
from careca.telemetry import otlp, tracing
from support.web import Web


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Keeps the spans of this process. They are there once tracing has stopped."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(otlp, "OTLPSpanExporter", lambda **_: exporter)
    start_tracing("web", "http://127.0.0.1:4317")
    yield exporter
    tracing.stop()


async def test_a_span_has_the_name_of_its_method_and_route(web: Web, spans: InMemorySpanExporter) -> None:
    await web.http.get("/api/jobs/a-secret")
    await web.http.head("/api/jobs/a-secret")
    await web.http.get("/nothing/a-secret.php")
    await web.http.request("SECRET", "/api/info")
    await web.http.get("/healthz")
    tracing.stop()
    found = [span for span in spans.get_finished_spans() if "http.request.method" in (span.attributes or {})]

    assert [(span.name, dict(span.attributes or {})["code"]) for span in found] == [
        ("GET /api/jobs/{job_id}", 404),
        ("HEAD /api/jobs/{job_id}", 404),
        ("GET /{path:path}", 404),
        ("other /api/info", 405),
    ]
    assert "secret" not in repr([(span.name, span.attributes) for span in found]).lower()
    assert not any("rpc.system" in (span.attributes or {}) for span in found)
