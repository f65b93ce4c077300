"""Sends spans with OpenTelemetry's protocol over gRPC. Imported only when traces are on."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from careca.telemetry.tracing import Metadata, SetAttributes, Tracer, Value

_TRACE_ID_BYTES = 16


class OtlpTracer(Tracer):
    """Sends spans in batches, from a thread of its own.

    Args:
        service: the name of the service that records the spans.
        endpoint: where to send them, such as http://collector:4317; http:// is without TLS.
        request_id: returns the id of the request that is being served, ``None`` outside of a request.
    """

    def __init__(self, service: str, endpoint: str, request_id: Callable[[], str | None]) -> None:
        resource = Resource.create(
            {
                "service.namespace": "careca",
                "service.name": f"careca-{service}",
                "service.instance.id": socket.gethostname(),
            }
        )
        self._request_id = request_id
        self._provider = TracerProvider(resource=resource, id_generator=_RequestIdGenerator(request_id))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("careca")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, values: dict[str, Value], caller: Metadata | None) -> Iterator[SetAttributes]:
        """A span inside the current one or inside the caller's."""
        text = {key: value for key, value in caller or () if isinstance(value, str)}
        with self._tracer.start_as_current_span(
            name,
            context=None if caller is None else self._propagator.extract(text),
            kind=SpanKind.INTERNAL if caller is None else SpanKind.SERVER,
            attributes=values,
            record_exception=False,  # its message may be about a recording; the log has it
            set_status_on_exception=False,
        ) as span:
            span.set_attribute("request_id", self._request_id() or "")
            try:
                yield partial(_set_attributes, span)
            except Exception as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise

    def outgoing(self) -> tuple[tuple[str, str], ...]:
        """The current span as W3C's traceparent."""
        metadata: dict[str, str] = {}
        self._propagator.inject(metadata)
        return tuple(metadata.items())

    def stop(self) -> None:
        """Sends the remaining spans."""
        self._provider.shutdown()


class _RequestIdGenerator(RandomIdGenerator):
    """Derives the id of a trace from the id of the request, so that later work on the request joins the same trace."""

    def __init__(self, request_id: Callable[[], str | None]) -> None:
        self._request_id = request_id

    def generate_trace_id(self) -> int:
        """The first bytes of a hash of the request's id; random outside of a request."""
        current = self._request_id()
        if current is None:
            return super().generate_trace_id()
        return int.from_bytes(hashlib.sha256(current.encode()).digest()[:_TRACE_ID_BYTES])


def _set_attributes(span: Span, *, span_name: str | None = None, **values: Value) -> None:
    if span_name:
        span.update_name(span_name)
    span.set_attributes(values)
