"""One computation at a time for each key within one process: the first caller works, the others wait for its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Seat:
    """What a caller holds of a flight: the result for those who waited, nothing yet for the one who is to compute."""

    value: bytes | None = None


@dataclass(slots=True)
class _Flight:
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    value: bytes | None = None


class SingleFlight:
    """Flights in the air, by key. For one event loop."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}

    @asynccontextmanager
    async def board(self, key: str) -> AsyncIterator[Seat]:
        """Enters at once with an empty seat where nobody flies, else waits for the result.

        A flight that ends without a result, by an exception or a cancellation, wakes all who wait: the first of them
        starts a new one and the others wait again.
        """
        while flying := self._flights.get(key):
            await flying.landed.wait()
            if flying.value is not None:
                yield Seat(flying.value)
                return
        flight = self._flights[key] = _Flight()
        try:
            yield Seat()
        finally:
            self._end(key, flight)

    def land(self, key: str, value: bytes) -> None:
        """Gives everybody who waits for the key its result. Who comes later starts anew."""
        if flight := self._flights.get(key):
            flight.value = value
            self._end(key, flight)

    def _end(self, key: str, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.landed.set()
