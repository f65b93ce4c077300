"""Admission control: accepts and counts calls while the service serves, refuses them while it starts or drains."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from contextlib import contextmanager

from careca.errors import Unavailable


class ServingState(enum.Enum):
    """The state of the service, in words for error messages."""

    STARTING = "starting: its model is not ready yet"
    SERVING = "serving"
    DRAINING = "draining: it is about to stop"


_RETRY_AFTER_SECONDS = {ServingState.STARTING: 5.0, ServingState.DRAINING: 1.0}


class AdmissionControl:
    """The calls in flight of one server, without health checks and reflection."""

    def __init__(self) -> None:
        self._state = ServingState.STARTING
        self._calls: set[asyncio.Task[object]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._cancelled_calls = False

    @property
    def in_flight(self) -> int:
        """How many calls are being served."""
        return len(self._calls)

    @property
    def cancelled_calls(self) -> bool:
        """Whether calls were cancelled because they did not end in time while the service drained."""
        return self._cancelled_calls

    def start_serving(self) -> None:
        """Accepts calls from now on, unless the service drains already."""
        if self._state is ServingState.STARTING:
            self._state = ServingState.SERVING

    def start_draining(self) -> None:
        """Refuses new calls from now on; calls in flight continue."""
        self._state = ServingState.DRAINING

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Counts the current task as a call in flight. Raises ``Unavailable`` unless the service is serving."""
        if self._state is not ServingState.SERVING:
            raise Unavailable(
                f"the service is {self._state.value}", retry_after_seconds=_RETRY_AFTER_SECONDS[self._state]
            )
        task = asyncio.current_task()
        assert task is not None, "calls are served in tasks"  # noqa: S101
        self._calls.add(task)
        self._idle.clear()
        try:
            yield
        finally:
            self._calls.discard(task)
            if not self._calls:
                self._idle.set()

    async def wait_until_idle(self, seconds: float) -> bool:
        """Waits up to ``seconds`` for the last call to end. Returns whether it has ended."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def cancel_calls(self) -> None:
        """Cancels all calls in flight."""
        self._cancelled_calls = bool(self._calls)
        for task in self._calls:
            task.cancel()
