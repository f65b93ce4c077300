"""One computation at a time for each key in one process: the first caller computes, the others wait for its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Flight:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the caller that computes. Waiting for it is fair and survives cancellation."""
    callers: int = 0
    value: bytes | None = None


class SingleFlight:
    """The computations in flight, by key. For one event loop."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}

    @asynccontextmanager
    async def join(self, key: str) -> AsyncIterator[bytes | None]:
        """Yields ``None`` at once to the first caller, which must compute; the others wait and get the result.

        If the caller that computes leaves without a result, by an exception or a cancellation, the next one gets
        ``None`` and the others continue to wait.
        """
        flight = self._flights.setdefault(key, _Flight())
        flight.callers += 1
        try:
            await flight.lock.acquire()
            if flight.value is not None:
                flight.lock.release()
            try:
                yield flight.value
            finally:
                if flight.value is None:
                    flight.lock.release()
        finally:
            flight.callers -= 1
            if not flight.callers and self._flights.get(key) is flight:
                del self._flights[key]

    def resolve(self, key: str, value: bytes) -> None:
        """Passes the result to all callers that wait for the key. Later callers start a new flight."""
        if flight := self._flights.pop(key, None):
            flight.value = value
            if flight.lock.locked():
                flight.lock.release()
