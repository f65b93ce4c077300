"""Traces: which part of a request took how long, in all services. Off unless the settings say where to send them.

Spans of one request are one trace, as the trace's id is made of the request's id: also where work is done later, as a
job, by another gateway. Without a place to send them nothing of OpenTelemetry is imported, and a span costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from careca.errors import PreconditionFailed

Value = str | bool | int | float
Metadata = Iterable[tuple[str, str | bytes]]


class Note(Protocol):
    """Adds what becomes known while a span lasts."""

    def __call__(self, **values: Value) -> None:
        """Takes values by name."""


class Tracer(Protocol):
    """Where spans go."""

    def span(self, name: str, values: dict[str, Value], caller: Metadata | None) -> AbstractContextManager[Note]:
        """A span inside the current one, or inside that of a ``caller`` who is in another process."""

    def outgoing(self) -> tuple[tuple[str, str], ...]:
        """Metadata that tells the server of a call of the current span."""

    def stop(self) -> None:
        """Sends what was not sent yet. Blocks for some seconds where it cannot be."""


class _Untraced:
    """Takes no notice."""

    @contextmanager
    def span(self, name: str, values: dict[str, Value], caller: Metadata | None) -> Iterator[Note]:
        yield _forget

    def outgoing(self) -> tuple[tuple[str, str], ...]:
        return ()

    def stop(self) -> None:
        pass


def _forget(**_: Value) -> None:
    """Takes no notice."""


_UNTRACED = _Untraced()
_tracer: Tracer = _UNTRACED


def start(service: str, endpoint: str) -> None:
    """Sends spans to ``endpoint``, such as http://collector:4317, from now on; nowhere where it is empty.

    Raises ``PreconditionFailed`` where OpenTelemetry is not installed.
    """
    global _tracer  # noqa: PLW0603 - as with logs, everybody in the process has the same
    if not endpoint:
        return
    try:
        from careca.telemetry.otlp import OtlpTracer
    except ImportError as error:
        raise PreconditionFailed(
            "traces need OpenTelemetry: install careca-common[tracing], or leave CARECA_OTLP_ENDPOINT empty",
            reason="TRACING_NOT_INSTALLED",
        ) from error
    _tracer = OtlpTracer(service, endpoint)


def stop() -> None:
    """Sends what was not sent yet, and no more from then on."""
    global _tracer
    stopping, _tracer = _tracer, _UNTRACED
    stopping.stop()


def span(name: str, **values: Value) -> AbstractContextManager[Note]:
    """Part of the work on a request, as long as its context lasts. It is marked where an exception ends it."""
    return _tracer.span(name, values, None)


def serving(method: str, metadata: Metadata, *, traced: bool = True) -> AbstractContextManager[Note]:
    """A call of ``method`` that this process serves, as part of the trace that its caller's metadata tell of."""
    return (_tracer if traced else _UNTRACED).span(method.removeprefix("/"), {"rpc.system": "grpc"}, metadata)


def outgoing() -> tuple[tuple[str, str], ...]:
    """Metadata for a call to another service, so that its spans are inside the current one."""
    return _tracer.outgoing()
