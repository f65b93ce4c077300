"""What the client needs of asyncio. ``careca_client.blocking.concurrency`` has the same names for threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

from careca.errors import CarecaError
from careca.rpc.statuses import responses_of
from careca_client.events import Event, EventCallback

__all__ = ["CALL_FAILURES", "Condition", "Signal", "is_task_cancelled", "iterate", "responses_of", "serialize", "sleep"]

T = TypeVar("T")

Signal = asyncio.Event
"""Lets the sending half of a stream wait for the receiving half."""

Condition = asyncio.Condition
"""Lets the halves of a stream, and its caller, wait for each other."""

sleep = asyncio.sleep

CALL_FAILURES = (CarecaError, asyncio.CancelledError)
"""What the responses of a call raise if the call fails or is cancelled."""


def serialize(callback: EventCallback | None) -> EventCallback:
    """Returns a callback that is never called concurrently. All events come from the event loop's thread."""
    return callback or _ignore


async def iterate(steps: Iterator[T]) -> AsyncIterator[T]:
    """Runs each step of a blocking iterator in a thread."""
    while (step := await asyncio.to_thread(next, steps, None)) is not None:
        yield step


def is_task_cancelled() -> bool:
    """Whether the caller's own task is being cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _ignore(_: Event) -> None:
    """The callback of a caller who passed none."""
