"""Lets calls in while the service serves, counts them, and refuses them while it starts or drains."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from contextlib import contextmanager

from careca.errors import Unavailable


class GateState(enum.Enum):
    """What the service is doing."""

    STARTING = "starting: its model is not ready yet"
    SERVING = "serving"
    DRAINING = "draining: it is about to stop"


_RETRY_AFTER_SECONDS = {GateState.STARTING: 5.0, GateState.DRAINING: 1.0}


class CallGate:
    """The calls in flight of one server. Health checks and reflection do not pass here."""

    def __init__(self) -> None:
        self._state = GateState.STARTING
        self._calls: set[asyncio.Task[object]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._overdue = False

    @property
    def in_flight(self) -> int:
        """Calls that have entered and not left."""
        return len(self._calls)

    @property
    def overdue(self) -> bool:
        """Whether calls were cancelled because they did not end in time while the service drained."""
        return self._overdue

    def open(self) -> None:
        """Lets calls in, unless the gate was closed already."""
        if self._state is GateState.STARTING:
            self._state = GateState.SERVING

    def close(self) -> None:
        """Lets no call in any more, for good; those inside go on."""
        self._state = GateState.DRAINING

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Counts the current task as a call in flight. Raises ``Unavailable`` unless the gate is open."""
        if self._state is not GateState.SERVING:
            raise Unavailable(
                f"the service is {self._state.value}", retry_after_seconds=_RETRY_AFTER_SECONDS[self._state]
            )
        task = asyncio.current_task()
        assert task is not None, "calls are served in tasks"  # noqa: S101
        self._calls.add(task)
        self._empty.clear()
        try:
            yield
        finally:
            self._calls.discard(task)
            if not self._calls:
                self._empty.set()

    async def wait_until_empty(self, seconds: float) -> bool:
        """Waits until the last call has left, at most ``seconds``; says whether it has."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def cancel_calls(self) -> None:
        """Cancels all calls in flight."""
        self._overdue = bool(self._calls)
        for task in self._calls:
            task.cancel()
