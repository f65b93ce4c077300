"""One computation at a time for each key within one process: the first caller works, the others wait for its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Flight:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who computes; waiting for it is fair and survives cancellation."""
    callers: int = 0
    value: bytes | None = None


class SingleFlight:
    """Flights in the air, by key. For one event loop."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}

    @asynccontextmanager
    async def board(self, key: str) -> AsyncIterator[bytes | None]:
        """Enters at once with ``None`` where nobody flies, to compute; else waits, and enters with the result.

        Where the one who computes leaves without a result, by an exception or a cancellation, the next one who waits
        enters with ``None`` and the others wait on.
        """
        flight = self._flights.setdefault(key, _Flight())
        flight.callers += 1
        try:
            await flight.turn.acquire()
            if flight.value is not None:
                flight.turn.release()
            try:
                yield flight.value
            finally:
                if flight.value is None:
                    flight.turn.release()
        finally:
            flight.callers -= 1
            if not flight.callers and self._flights.get(key) is flight:
                del self._flights[key]

    def land(self, key: str, value: bytes) -> None:
        """Gives everybody who waits for the key its result. Who comes later starts anew."""
        if flight := self._flights.pop(key, None):
            flight.value = value
            if flight.turn.locked():
                flight.turn.release()
