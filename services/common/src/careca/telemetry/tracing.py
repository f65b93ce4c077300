"""Traces: how long each part of a request took, in all services. Off unless ``start`` is called.

All spans of one request belong to one trace, because the trace's id is derived from the request's id. This includes
work that another gateway does later as a job. While traces are off, OpenTelemetry is not imported and a span costs
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Value = str | bool | int | float
Metadata = Iterable[tuple[str, str | bytes]]


class SetAttributes(Protocol):
    """Adds attributes to the span that is open."""

    def __call__(self, *, span_name: str | None = None, **values: Value) -> None:
        """Adds ``values`` by name. ``span_name`` replaces the span's name, if only the work has shown what it is."""


class Tracer:
    """Records spans. This one records nothing."""

    def span(
        self, name: str, values: dict[str, Value], caller: Metadata | None
    ) -> AbstractContextManager[SetAttributes]:
        """A span inside the current one or, with the metadata of a call, inside the ``caller``'s span."""
        return nullcontext(_ignore)

    def outgoing(self) -> tuple[tuple[str, str], ...]:
        """Metadata that passes the current span to the server of a call."""
        return ()

    def stop(self) -> None:
        """Sends the remaining spans. Blocks for some seconds if they cannot be sent."""


def _ignore(*, span_name: str | None = None, **_: Value) -> None:
    """Does nothing."""


_NOOP = Tracer()
_tracer = _NOOP


def start(tracer: Tracer) -> None:
    """Records all spans of this process with ``tracer`` from now on."""
    global _tracer  # noqa: PLW0603 - like logging, tracing is global to the process
    _tracer = tracer


def stop() -> None:
    """Sends the remaining spans and turns tracing off."""
    global _tracer
    stopping, _tracer = _tracer, _NOOP
    stopping.stop()


def span(name: str, **values: Value) -> AbstractContextManager[SetAttributes]:
    """A part of the work on a request, as long as the context lasts. An exception marks it as failed."""
    return _tracer.span(name, values, None)


def serving(
    method: str, metadata: Metadata, values: dict[str, Value], *, traced: bool = True
) -> AbstractContextManager[SetAttributes]:
    """A span for a call of ``method`` that this process serves, inside the span that ``metadata`` names."""
    return (_tracer if traced else _NOOP).span(method.removeprefix("/"), values, metadata)


def outgoing() -> tuple[tuple[str, str], ...]:
    """Metadata for a call to another service, so that its spans are inside the current one."""
    return _tracer.outgoing()
