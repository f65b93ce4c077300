"""Turns a function that calls back between its batches into work that can be stopped there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from careca.errors import Cancelled
from careca.inference.engine import Batch, Event, Work

R = TypeVar("R")


def in_steps(function: Callable[[Callable[[Event], None]], R]) -> Work[R]:
    """Runs ``function`` in a thread that moves only during batches, which are exclusive. Returns its result.

    ``function`` calls its argument with an event between two of its own batches. This ends a batch; if the work has
    been closed, it raises ``Cancelled``.
    """
    go_on = threading.Semaphore(0)
    paused: SimpleQueue[Event | None] = SimpleQueue()
    closed = False

    def pause(event: Event) -> None:
        paused.put(event)
        wait_to_go_on()

    def wait_to_go_on() -> None:
        go_on.acquire()
        if closed:
            raise Cancelled("the work was cancelled")

    def run() -> R:
        try:
            wait_to_go_on()
            return function(pause)
        finally:
            paused.put(None)

    def step() -> Event | None:
        go_on.release()
        return paused.get()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="careca-steps") as thread:
        result = thread.submit(run)
        try:
            while True:
                (event,) = yield Batch.alone(step, exclusive=True)
                if event is None:
                    return result.result()
                yield event
        finally:
            closed = True
            go_on.release()
