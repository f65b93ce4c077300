"""What the shared runtime needs to know of a model engine. Each service extends it with its own method of inference."""

from __future__ import annotations

import threading
from typing import Protocol

from careca.errors import Cancelled
from careca.types import GpuMemory


class Flag(Protocol):
    """An event of ``threading`` or of ``multiprocessing``."""

    def set(self) -> None:
        """Raises the flag."""

    def is_set(self) -> bool:
        """Whether it is raised."""


class CancelToken:
    """Asks a thread to stop. The thread checks between batches, since threads do not die by themselves."""

    def __init__(self, event: Flag | None = None) -> None:
        self._event = event or threading.Event()

    def cancel(self) -> None:
        """Asks for the work to stop. May be called from any thread, any number of times."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the work should stop."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises ``Cancelled`` once the work should stop."""
        if self._event.is_set():
            raise Cancelled("the work was cancelled")


class Engine(Protocol):
    """Models on one device. All methods block and are called from the worker's threads, never from the event loop."""

    @property
    def model(self) -> str:
        """Ids of the models and short digests of their weights; part of every cache key. Known before ``load``."""

    @property
    def device(self) -> str:
        """The device that computes, such as ``cpu`` or ``cuda:0``."""

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""

    def load(self) -> None:
        """Puts the weights into memory and warms the device up; does nothing where they are.

        Raises ``PreconditionFailed`` where weights are missing or their digest differs.
        """

    def unload(self) -> None:
        """Drops the weights; does nothing where there are none. Never called while an inference runs."""

    def gpu_memory(self) -> GpuMemory:
        """What is held of the GPU's memory now."""

    def release_gpu_cache(self) -> None:
        """Gives memory back that no live data uses: what is cached on a GPU, and buffers of a runtime on the CPU."""
