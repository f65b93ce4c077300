"""Finds workers that have stopped renewing their leases, as seen by this process alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class LivenessTracker:
    """Remembers since when each value has been unchanged.

    Only this process's monotonic clock counts, and only time in which this process could see the values. So neither a
    clock that is adjusted nor an outage makes a worker look dead.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[bytes, float]] = {}

    def now(self) -> float:
        """Returns the time. Call it before requesting the values: a change during the request may be missed."""
        return self._clock()

    def unchanged(self, values: Mapping[str, bytes], requested_at: float, seconds: float) -> list[str]:
        """Returns the names whose values have been the same for ``seconds`` when they were requested."""
        received_at = self._clock()
        self._seen = {
            name: known if (known := self._seen.get(name)) and known[0] == value else (value, received_at)
            for name, value in values.items()
        }
        return [name for name, (_, since) in self._seen.items() if requested_at - since >= seconds]

    def reset(self) -> None:
        """Forgets all values."""
        self._seen = {}
