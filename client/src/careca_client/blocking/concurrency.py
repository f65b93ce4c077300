"""What the client needs of threads. ``careca_client.aio.concurrency`` has the same names for asyncio."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

from careca.errors import CarecaError
from careca.rpc.statuses import translated_errors
from careca_client.events import Event, EventCallback

__all__ = ["CALL_FAILURES", "Condition", "Signal", "is_task_cancelled", "iterate", "responses_of", "serialize", "sleep"]

T = TypeVar("T")

Signal = threading.Event
"""Lets the sending half of a stream wait for the receiving half."""

Condition = threading.Condition
"""Lets the halves of a stream, and its caller, wait for each other."""

sleep = time.sleep

CALL_FAILURES = (CarecaError,)
"""What the responses of a call raise if the call fails."""


def serialize(callback: EventCallback | None) -> EventCallback:
    """Returns a callback that is never called concurrently.

    Events come from the caller's thread and, during the upload, from one of gRPC's threads.
    """
    lock = threading.Lock()

    def emit(event: Event) -> None:
        if callback is not None:
            with lock:
                callback(event)

    return emit


def responses_of(call: Iterable[T]) -> Generator[T, None, None]:
    """Returns the responses of a call. Raises the ``CarecaError`` that ended it."""
    with translated_errors():
        yield from call


def iterate(steps: Iterator[T]) -> Iterator[T]:
    """Returns ``steps``: a thread may block."""
    return steps


def is_task_cancelled() -> bool:
    """Always false: threads are not cancelled."""
    return False
