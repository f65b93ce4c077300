"""Who has been silent for how long, as this process alone has seen it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class LivenessTracker:
    """Remembers since when each value has been as it is.

    Only this process's steady clock counts, and only time in which it was able to look: neither a clock that is set
    anew nor an outage makes anybody silent.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[bytes, float]] = {}

    def now(self) -> float:
        """To be asked before looking: what changed while the answer was on its way may be missing from it."""
        return self._clock()

    def longest(self, values: Mapping[str, bytes], asked: float, seconds: float) -> list[str]:
        """Whose values have been the same for that long. ``asked`` is when it was asked what they are."""
        got = self._clock()
        self._seen = {
            name: known if (known := self._seen.get(name)) and known[0] == value else (value, got)
            for name, value in values.items()
        }
        return [name for name, (_, since) in self._seen.items() if asked - since >= seconds]

    def forget(self) -> None:
        """What was seen counts no more."""
        self._seen = {}
