"""Runs blocking inference in a thread, one task at a time, with a bounded number of waiting tasks.

``admit`` reserves a place for a task before its audio is requested. The slot is needed only to compute. It is free
again when the work has ended, not when its caller has gone, because a thread cannot be stopped from outside.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from careca.errors import Cancelled, Overloaded
from careca.inference.engine import CancelToken
from careca.telemetry.logs import get_logger
from careca.types import Progress

E = TypeVar("E")
R = TypeVar("R")

_log = get_logger(__name__)

_LEAST_RETRY_SECONDS = 1.0
_GREATEST_RETRY_SECONDS = 60.0
_MEAN_DECAY = 0.8


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The last item of ``Worker.stream``: the result of the work."""

    result: R


class Worker:
    """The thread of one model service. Call all methods from the event loop."""

    def __init__(self, *, max_waiting: int = 8) -> None:
        self._places = 1 + max_waiting
        self._admitted = 0
        self._slot = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="careca-worker")
        self._mean_seconds = 5.0

    @property
    def in_flight(self) -> int:
        """Tasks that compute: 0 or 1."""
        return int(self._slot.locked())

    @property
    def waiting(self) -> int:
        """Admitted tasks that do not compute: they receive audio or wait for the slot."""
        return max(0, self._admitted - self.in_flight)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Reserves a place for one task. Raises ``Overloaded`` if all places are taken."""
        if self._admitted >= self._places:
            raise Overloaded(
                f"{self.in_flight} tasks are computing and {self.waiting} are waiting: try again later",
                retry_after_seconds=self._expected_wait_seconds(),
            )
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def stream(self, work: Callable[[CancelToken, Callable[[E], None]], R]) -> AsyncGenerator[E | Done[R], None]:
        """Waits for the slot, runs ``work`` in a thread and yields what it emits, then ``Done`` with its result.

        ``work`` may call its second argument from its thread at any time. If the consumer is slow, only the latest
        progress is kept. Closing the generator or cancelling its consumer cancels the token and then waits until the
        thread has ended. Raises what ``work`` raises.
        """
        cancel = CancelToken()
        events = _Events[E](asyncio.get_running_loop())
        await self._slot.acquire()
        thread = self._start(lambda: work(cancel, events.emit))
        thread.add_done_callback(events.wake)
        try:
            while not thread.done():
                await events.wait()
                for event in events.take():
                    yield event
            for event in events.take():
                yield event
            yield Done(thread.result())
        except (asyncio.CancelledError, GeneratorExit):
            cancel.cancel()
            try:
                await _until_done(thread)
            finally:
                _log_unseen_failure(thread)
            raise

    async def run(self, function: Callable[[], R]) -> R:
        """Waits for the slot and runs ``function`` in it, to its end even if the caller is cancelled."""
        await self._slot.acquire()
        thread = self._start(function)
        await _until_done(thread)
        return thread.result()

    async def close(self) -> None:
        """Waits until nothing is in flight and ends the thread. Nothing may be run afterwards."""
        await self.run(lambda: None)
        self._thread.shutdown(wait=False)

    def _start(self, function: Callable[[], R]) -> asyncio.Future[R]:
        """Runs ``function`` in the thread with the caller's context variables. The slot must be taken already."""
        context = contextvars.copy_context()
        started = time.monotonic()
        thread = asyncio.get_running_loop().run_in_executor(self._thread, lambda: context.run(function))
        thread.add_done_callback(lambda _: self._free_slot(time.monotonic() - started))
        return thread

    def _free_slot(self, seconds: float) -> None:
        self._mean_seconds = _MEAN_DECAY * self._mean_seconds + (1 - _MEAN_DECAY) * seconds
        self._slot.release()

    def _expected_wait_seconds(self) -> float:
        seconds = self._mean_seconds * (self.waiting + 1)
        return min(max(seconds, _LEAST_RETRY_SECONDS), _GREATEST_RETRY_SECONDS)


class _Events(Generic[E]):
    """Events that a thread has emitted and the event loop has not taken yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready = asyncio.Event()
        self._lock = threading.Lock()
        self._pending: list[E] = []

    def emit(self, event: E) -> None:
        """Adds ``event``. Call it from the thread."""
        with self._lock:
            if isinstance(event, Progress):
                self._pending = [other for other in self._pending if not isinstance(other, Progress)]
            self._pending.append(event)
        self._loop.call_soon_threadsafe(self._ready.set)

    def wake(self, _: object) -> None:
        """Ends a ``wait``."""
        self._ready.set()

    async def wait(self) -> None:
        """Waits until there may be something to take."""
        await self._ready.wait()
        self._ready.clear()

    def take(self) -> list[E]:
        """Returns all events since the last call, in order."""
        with self._lock:
            events, self._pending = self._pending, []
        return events


def _log_unseen_failure(thread: asyncio.Future[R]) -> None:
    """Logs a failure that the consumer does not see, because it went away before."""
    error = thread.exception()
    if error is not None and not isinstance(error, Cancelled):
        _log.warning("the work failed after its caller had gone", exc_info=error)


async def _until_done(thread: asyncio.Future[R]) -> None:
    """Waits until ``thread`` has ended, even if the waiting task is cancelled; raises the cancellation afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not thread.done():
        try:
            await asyncio.wait((thread,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
