"""Sends spans with OpenTelemetry's protocol over gRPC. Imported only where traces are wanted."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from careca.rpc import request_id
from careca.telemetry.tracing import Metadata, Note, Tracer, Value

_TRACE_ID_BYTES = 16


class OtlpTracer(Tracer):
    """Sends spans in batches, from a thread of its own.

    Args:
        service: whose spans they are.
        endpoint: where to send them; without TLS where it begins with http://.
    """

    def __init__(self, service: str, endpoint: str) -> None:
        resource = Resource.create(
            {
                "service.namespace": "careca",
                "service.name": f"careca-{service}",
                "service.instance.id": socket.gethostname(),
            }
        )
        self._provider = TracerProvider(resource=resource, id_generator=_IdsOfRequests())
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("careca")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, values: dict[str, Value], caller: Metadata | None) -> Iterator[Note]:
        """A span inside the current one, or inside that of a caller."""
        text = {key: value for key, value in caller or () if isinstance(value, str)}
        with self._tracer.start_as_current_span(
            name,
            context=None if caller is None else self._propagator.extract(text),
            kind=SpanKind.INTERNAL if caller is None else SpanKind.SERVER,
            attributes=values,
            record_exception=False,  # what it says may be about a recording, and is in the log
            set_status_on_exception=False,
        ) as span:
            span.set_attribute("request_id", request_id.current() or "")
            try:
                yield partial(_note, span)
            except Exception as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise

    def outgoing(self) -> tuple[tuple[str, str], ...]:
        """W3C's traceparent of the current span."""
        metadata: dict[str, str] = {}
        self._propagator.inject(metadata)
        return tuple(metadata.items())

    def stop(self) -> None:
        """Sends what was not sent yet."""
        self._provider.shutdown()


class _IdsOfRequests(RandomIdGenerator):
    """Makes the id of a trace from that of the request, so that who works on it later is in the same trace."""

    def generate_trace_id(self) -> int:
        """The first bytes of a hash of the request's id; random outside of a request."""
        current = request_id.current()
        if current is None:
            return super().generate_trace_id()
        return int.from_bytes(hashlib.sha256(current.encode()).digest()[:_TRACE_ID_BYTES])


def _note(span: Span, **values: Value) -> None:
    span.set_attributes(values)
