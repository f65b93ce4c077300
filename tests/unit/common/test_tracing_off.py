"""Tracing is off by default and costs nothing; without OpenTelemetry, the error says what to install."""

import subprocess
import sys

import pytest

from careca.errors import PreconditionFailed
from careca.launch import start_tracing
from careca.telemetry import tracing


def test_without_an_endpoint_opentelemetry_is_not_imported_and_nothing_happens() -> None:
    code = (
        "import sys\n"
        "import careca.launch\n"
        "from careca.telemetry import tracing\n"
        "with tracing.span('work', size=1) as note, tracing.serving('/a/b', [], {}) as other:\n"
        "    note(cached=True)\n"
        "    other(span_name='c', code='OK')\n"
        "    assert tracing.outgoing() == ()\n"
        "tracing.stop()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_exceptions_inside_a_span_are_passed_on() -> None:
    with pytest.raises(KeyError), tracing.span("work"):
        raise KeyError


def test_without_opentelemetry_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    monkeypatch.delitem(sys.modules, "careca.telemetry.otlp", raising=False)

    with pytest.raises(PreconditionFailed, match=r"careca-common\[tracing\]") as refused:
        start_tracing("gateway", "http://127.0.0.1:4317")

    assert refused.value.reason == "TRACING_NOT_INSTALLED"
