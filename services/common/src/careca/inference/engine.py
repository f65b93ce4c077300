"""The interface of a model engine, and the token that cancels its work."""

from __future__ import annotations

import multiprocessing.synchronize
import threading
from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from careca.errors import Cancelled
from careca.inference.audio import Audio
from careca.resources.memory import ModelMemory
from careca.types import Progress, Segment

O_contra = TypeVar("O_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

Event: TypeAlias = Progress | Segment
Emit: TypeAlias = Callable[[Event], None]


class CancelToken:
    """Asks a thread to stop. The thread must check the token between batches, because threads cannot be killed."""

    def __init__(self, event: threading.Event | multiprocessing.synchronize.Event | None = None) -> None:
        self._event = event or threading.Event()

    def cancel(self) -> None:
        """Asks the work to stop. May be called from any thread, any number of times."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the work should stop."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises ``Cancelled`` if the work should stop."""
        if self._event.is_set():
            raise Cancelled("the work was cancelled")


class Engine(ModelMemory, Protocol[O_contra, R_co]):
    """Models on one device, for one kind of options and results.

    All methods block and are called from the worker's threads, never from the event loop.
    """

    @property
    def model(self) -> str:
        """Ids of the models and short digests of their weights; part of every cache key. Known before ``load``."""

    @property
    def device(self) -> str:
        """The device that computes, such as ``cpu`` or ``cuda:0``."""

    def load(self) -> None:
        """Loads the weights into memory and warms the device up; does nothing if they are loaded.

        Raises ``PreconditionFailed`` if weights are missing or their digest differs.
        """

    def infer(self, audio: Audio, options: O_contra, cancel: CancelToken, emit: Emit) -> R_co:
        """Returns the result for ``audio`` and emits progress, and segments if the model finds segments.

        The same audio and options give the same result. Audio without speech, also very short audio, gives an empty
        result. Raises ``Cancelled`` within one batch after ``cancel``, ``InvalidRequest`` for options that the model
        does not support, ``OutOfMemory`` if the device has too little memory, and ``PreconditionFailed`` if nothing is
        loaded.
        """
