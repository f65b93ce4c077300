"""Real processes send their spans to a real collector: those of one request are one trace, each inside its caller's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from careca.types import Job
from careca_client import Client
from support.media import tone, wav
from support.timed_stack import TimedStack
from support.waiting import HANG_SECONDS

GATEWAY = "careca.v1.GatewayService/Transcribe"
CALLS = {
    "careca-transcriber": ("careca.v1.TranscriberService/Transcribe", "transcribe"),
    "careca-diarizer": ("careca.v1.DiarizerService/Diarize", "diarize"),
}
"""What each model service is asked, and the part of the gateway's work that asks it."""


@dataclass(frozen=True)
class Spanned:
    """A span as it arrived."""

    service: str
    name: str
    trace: bytes
    id: bytes
    parent: bytes
    failed: bool
    values: dict[str, Any]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Spanned] = []
        self._old: set[bytes] = set()

    def forget(self) -> None:
        """Has nothing to do any more with the traces so far, also where more comes of them."""
        self._old |= {span.trace for span in self.spans}
        self.spans.clear()

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                new = [span for span in scope.spans if span.trace_id not in self._old]
                self.spans += [_spanned(service, span) for span in new]
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait_for(self, *names: str) -> list[Spanned]:
        """All spans, once there is one of each of these names."""
        deadline = time.monotonic() + HANG_SECONDS
        while not set(names) <= {span.name for span in self.spans}:
            assert time.monotonic() < deadline, f"only {sorted({span.name for span in self.spans})} arrived"
            time.sleep(0.05)
        return list(self.spans)


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _spanned(service: str, span: Any) -> Spanned:
    failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    values = _values(span.attributes)
    return Spanned(service, span.name, span.trace_id, span.span_id, span.parent_span_id, failed, values)


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector, and where it is."""
    server = grpc.server(ThreadPoolExecutor(2))
    collector = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture(scope="module")
def client(collector: tuple[Collector, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = {"CARECA_OTLP_ENDPOINT": collector[1], "OTEL_BSP_SCHEDULE_DELAY": "100"}
    stack = TimedStack(tmp_path_factory.mktemp("traced"), environment=settings)
    with stack, Client(stack.gateway_target) as connected:
        yield connected


@pytest.fixture(autouse=True)
def nothing_from_before(collector: tuple[Collector, str]) -> None:
    collector[0].forget()


def one(spans: list[Spanned], name: str) -> Spanned:
    (found,) = [span for span in spans if span.name == name]
    return found


def test_a_request_is_one_trace_through_all_three_services(client: Client, collector: tuple[Collector, str]) -> None:
    client.transcribe(wav(tone(1.0)))

    names = [method for method, _ in CALLS.values()]
    spans = collector[0].wait_for(GATEWAY, "decode", "merge", "compute", *names)
    whole = one(spans, GATEWAY)
    ours = [span for span in spans if span.trace == whole.trace]

    assert {span.service for span in ours} == {"careca-gateway", *CALLS}
    assert whole.parent == b""
    assert {span.values["request_id"] for span in ours} == {whole.values["request_id"]}
    for service, (method, stage) in CALLS.items():
        call = one(ours, method)
        assert call.service == service
        assert call.parent == one(ours, stage).id
        (compute,) = [span for span in ours if span.name == "compute" and span.service == service]
        assert compute.parent == call.id
        assert compute.values["audio_seconds"] == pytest.approx(1.0)
    for part in ("decode", "transcribe", "diarize", "merge"):
        assert one(ours, part).parent == one(ours, "recording").id


def test_what_comes_out_of_the_caches_says_so_and_computes_nothing(
    client: Client, collector: tuple[Collector, str]
) -> None:
    recording = wav(tone(2.0))
    client.transcribe(recording)
    collector[0].wait_for(GATEWAY, "merge", *(method for method, _ in CALLS.values()))
    collector[0].forget()

    client.transcribe(recording)

    spans = collector[0].wait_for(GATEWAY, "merge", *(method for method, _ in CALLS.values()))
    assert all(one(spans, stage).values["cached"] for _, stage in CALLS.values())
    assert not [span for span in spans if span.name == "compute"]


def test_a_job_is_worked_on_in_one_trace(client: Client, collector: tuple[Collector, str], tmp_path: Path) -> None:
    job = client.submit(wav(tone(3.0)))
    assert [event for event in client.watch(job.id) if isinstance(event, Job)]

    spans = collector[0].wait_for("recording", "merge", *(method for method, _ in CALLS.values()))
    work = one(spans, "recording")

    calls = [one(spans, method) for method, _ in CALLS.values()]
    assert {call.trace for call in calls} == {work.trace}


def test_a_call_that_fails_is_marked(client: Client, collector: tuple[Collector, str]) -> None:
    with pytest.raises(Exception, match="recording"):
        client.transcribe(b"this is no recording")

    failed = one(collector[0].wait_for(GATEWAY, "decode"), GATEWAY)
    assert failed.failed
    assert failed.values["code"] == "INVALID_ARGUMENT"
