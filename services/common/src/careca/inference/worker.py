"""Runs the tasks of a model service: how many there are, which of them compute, and when all must have ended.

``admit`` reserves a place for a task before its audio is requested. ``stream`` runs its blocking work in a thread,
beside that of others. The place is free again when the work has ended, not when its caller has gone, because a thread
cannot be stopped from outside. ``run_alone`` runs a function while no task computes.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from careca.errors import Cancelled, Overloaded
from careca.inference.shared_engine import CancelToken
from careca.telemetry.logs import get_logger
from careca.types import Progress

E = TypeVar("E")
R = TypeVar("R")

_log = get_logger(__name__)

_LEAST_RETRY_SECONDS = 1.0
_GREATEST_RETRY_SECONDS = 60.0
_FIRST_RATE = 0.1
"""Seconds of the device per second of audio, before anything has been measured."""
_DECAY = 0.8


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The last item of ``Worker.stream``: the result of the work."""

    result: R


@dataclass(slots=True, eq=False)
class Place:
    """The place of one task. Its thread may change it at any time."""

    audio_seconds: float
    computing: bool = False
    """Whether the engine has begun to compute."""
    fraction: float = 0.0
    """Fraction done, from 0 to 1."""


class Worker:
    """The tasks of one model service. Call all methods from the event loop.

    Args:
        max_waiting: there are places for this number of tasks, and one more.
        max_windows: there are places for this number of windows of live audio.
    """

    def __init__(self, *, max_waiting: int = 8, max_windows: int = 64) -> None:
        self._most = 1 + max_waiting
        self._most_windows = max_windows
        self._places: list[Place] = []
        self._windows = 0
        self._threads = ThreadPoolExecutor(
            max_workers=self._most + max_windows, thread_name_prefix="careca-worker"
        )  # starts threads as it needs them
        self._running = 0
        self._turn = asyncio.Lock()
        """Held for a moment to start a task, and by ``run_alone`` while it waits and runs: tasks queue behind it."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._rate = _Rate()

    @property
    def in_flight(self) -> int:
        """Tasks that the engine computes."""
        return sum(place.computing for place in self._places)

    @property
    def waiting(self) -> int:
        """Admitted tasks that do not compute: they receive audio, or wait for their first batch."""
        return len(self._places) - self.in_flight

    @contextmanager
    def admit(self, audio_seconds: float) -> Iterator[Place]:
        """Reserves a place for one task. Raises ``Overloaded`` if all places are taken."""
        if len(self._places) >= self._most:
            raise Overloaded(
                f"{self.in_flight} tasks are computing and {self.waiting} are waiting: try again later",
                retry_after_seconds=self._retry_seconds(),
            )
        place = Place(audio_seconds)
        self._places.append(place)
        try:
            yield place
        finally:
            self._places.remove(place)

    @property
    def windows(self) -> int:
        """Windows of live audio in hand."""
        return self._windows

    @contextmanager
    def admit_window(self) -> Iterator[None]:
        """Reserves a place for one window of live audio. Raises ``Overloaded`` if all places are taken."""
        if self._windows >= self._most_windows:
            raise Overloaded(
                f"{self._windows} windows of live audio are in hand: try again later",
                retry_after_seconds=_LEAST_RETRY_SECONDS,
            )
        self._windows += 1
        try:
            yield
        finally:
            self._windows -= 1

    def measured(self, audio_seconds: float, seconds: float) -> None:
        """Takes note of the time of the device that a task received. May be called from any thread."""
        self._rate.add(audio_seconds, seconds)

    async def stream(self, work: Callable[[CancelToken, Callable[[E], None]], R]) -> AsyncGenerator[E | Done[R], None]:
        """Runs ``work`` in a thread and yields what it emits, then ``Done`` with its result.

        ``work`` may call its second argument from its thread at any time. If the consumer is slow, only the latest
        progress is kept. Closing the generator or cancelling its consumer cancels the token and then waits until the
        thread has ended. Raises what ``work`` raises.
        """
        cancel = CancelToken()
        events = _Events[E](asyncio.get_running_loop())
        async with self._turn:
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

    async def run_alone(self, function: Callable[[], R]) -> R:
        """Runs ``function`` as soon as no task computes. Tasks that come later wait for it.

        It runs to its end even if the caller is cancelled.
        """
        async with self._turn:
            await self._idle.wait()
            thread = self._start(function)
            await _until_done(thread)
            return thread.result()

    async def close(self) -> None:
        """Waits until no task computes, and ends the threads. Nothing may be run afterwards."""
        await self.run_alone(lambda: None)
        self._threads.shutdown(wait=False)

    def _start(self, function: Callable[[], R]) -> asyncio.Future[R]:
        """Runs ``function`` in a thread with the caller's context variables."""
        context = contextvars.copy_context()
        thread = asyncio.get_running_loop().run_in_executor(self._threads, lambda: context.run(function))
        self._running += 1
        self._idle.clear()
        thread.add_done_callback(self._ended)
        return thread

    def _ended(self, _: object) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    def _retry_seconds(self) -> float:
        """Returns the time that the device needs for all the work in hand, within limits."""
        audio_seconds = sum(place.audio_seconds * (1 - place.fraction) for place in self._places)
        return min(max(audio_seconds * self._rate.value, _LEAST_RETRY_SECONDS), _GREATEST_RETRY_SECONDS)


class _Rate:
    """Seconds of the device per second of audio, of the latest tasks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = self._audio_seconds = 0.0

    def add(self, audio_seconds: float, seconds: float) -> None:
        """Adds a task."""
        with self._lock:
            self._seconds = _DECAY * self._seconds + seconds
            self._audio_seconds = _DECAY * self._audio_seconds + audio_seconds

    @property
    def value(self) -> float:
        """The rate."""
        with self._lock:
            return self._seconds / self._audio_seconds if self._audio_seconds else _FIRST_RATE


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
