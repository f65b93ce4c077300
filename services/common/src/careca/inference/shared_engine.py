"""An engine that many threads use at once: its interface, the messages of its loop, and the calls that wait for it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from careca.errors import CarecaError
from careca.inference.audio import Audio
from careca.inference.engine import Event
from careca.inference.scheduler import Started, Step
from careca.resources.memory import ModelMemory
from careca.types import GpuMemory, MemoryRelease, Scheduling

O_contra = TypeVar("O_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class CancelToken:
    """Asks a task to stop. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Asks the task to stop. May be called any number of times."""
        with self._lock:
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @property
    def cancelled(self) -> bool:
        """Whether the task should stop."""
        return self._cancelled

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` once the task should stop; at once if it should already."""
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """The engine's process has given memory back after a request."""

    memory: MemoryRelease


Notice: TypeAlias = Event | Started | Step | CleanedUp
"""What a shared engine tells about a request before its end."""

Emit: TypeAlias = Callable[[Notice], None]


@dataclass(frozen=True, slots=True)
class Computed(Generic[R_co]):
    """The result of a request."""

    result: R_co
    seconds: float
    """Time of the device that the request received."""
    waited_seconds: float
    """Time in which the device worked for others."""


class SharedEngine(ModelMemory, Protocol[O_contra, R_co]):
    """An engine that works on several requests at once. Its methods block and may be called from several threads."""

    @property
    def model(self) -> str:
        """Ids of the models and short digests of their weights; part of every cache key. Known before ``load``."""

    @property
    def device(self) -> str:
        """The device that computes, such as ``cpu`` or ``cuda:0``."""

    def load(self) -> None:
        """Loads the weights; does nothing if they are loaded. Raises what ``Engine.load`` raises."""

    def infer(
        self, audio: Audio, options: O_contra, scheduling: Scheduling, cancel: CancelToken, emit: Emit
    ) -> Computed[R_co]:
        """Returns the result for ``audio``. Calls ``emit`` in this thread with what occurs on the way.

        Raises ``Cancelled`` between two batches after ``cancel``, and what the work of ``Engine.infer`` raises.
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a call: its value or its error, and the GPU memory in use then."""

    value: Any = None
    error: Exception | None = None
    gpu_memory: GpuMemory = field(default_factory=GpuMemory)

    def value_or_error(self) -> Any:
        """Returns the value, or raises the error."""
        if self.error:
            raise self.error
        return self.value


@dataclass(frozen=True, slots=True)
class _CancelRequested:
    """The caller has gone."""


class Calls:
    """The calls that wait for an engine's loop. Their numbers count from 0."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._messages: dict[int, SimpleQueue[Notice | Outcome | _CancelRequested]] = {}
        self._failure: Callable[[], CarecaError] | None = None

    def run(
        self,
        send: Callable[[int], None],
        cancel: CancelToken | None = None,
        send_cancellation: Callable[[int], None] = lambda _: None,
        emit: Emit = lambda _: None,
    ) -> Outcome:
        """Makes a call and waits for its outcome.

        Args:
            send: sends the call with this number to the loop.
            cancel: sends a cancellation; the outcome is waited for all the same.
            send_cancellation: asks the loop to cancel the call with this number.
            emit: gets what occurs before the outcome.
        """
        messages: SimpleQueue[Notice | Outcome | _CancelRequested] = SimpleQueue()
        with self._lock:
            if self._failure:
                return Outcome(error=self._failure())
            number = next(self._numbers)
            self._messages[number] = messages
        try:
            send(number)
            if cancel:
                cancel.on_cancel(lambda: messages.put(_CancelRequested()))
            while not isinstance(message := messages.get(), Outcome):
                if isinstance(message, _CancelRequested):
                    send_cancellation(number)
                else:
                    emit(message)
        except BaseException:
            send_cancellation(number)
            raise
        else:
            return message
        finally:
            with self._lock:
                del self._messages[number]

    def deliver(self, number: int, message: Notice | Outcome) -> None:
        """Passes a message of the loop to its call; drops it if the call has been given up."""
        with self._lock:
            if messages := self._messages.get(number):
                messages.put(message)

    def fail(self, failure: Callable[[], CarecaError]) -> None:
        """Ends all calls, and all later ones, each with an error of its own."""
        with self._lock:
            self._failure = failure
            for messages in self._messages.values():
                messages.put(Outcome(error=failure()))
