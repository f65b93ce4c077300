"""The metrics of live sessions."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 60.0)


class LiveMetrics:
    """Counts sessions, words and delays."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sessions = Gauge("careca_live_sessions", "Live sessions that have not ended.", registry=registry)
        self._behind = Gauge(
            "careca_live_behind_seconds",
            "Audio that has not been read yet, of the session with the most.",
            registry=registry,
        )
        self._interim = Histogram(
            "careca_live_interim_latency_seconds",
            "Audio received after the end of the audio in which interim words were found.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._final = Histogram(
            "careca_live_final_latency_seconds",
            "Audio received after the end of the last of some final words.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._words = Counter("careca_live_words", "Final words.", registry=registry)
        self._corrected = Counter(
            "careca_live_corrected_words", "Final words whose speaker was corrected.", registry=registry
        )
        self._resumed = Counter("careca_live_resumed", "Calls that continued a session.", registry=registry)

    def watch(self, *, sessions: Callable[[], int], behind: Callable[[], float]) -> None:
        """Sets the functions that give the present numbers."""
        self._sessions.set_function(sessions)
        self._behind.set_function(behind)

    def interim(self, seconds: float) -> None:
        """Counts interim words."""
        self._interim.observe(seconds)

    def final(self, seconds: float, words: int) -> None:
        """Counts final words."""
        self._final.observe(seconds)
        self._words.inc(words)

    def corrected(self, words: int) -> None:
        """Counts words whose speaker was corrected."""
        self._corrected.inc(words)

    def resumed(self) -> None:
        """Counts a call that continued a session."""
        self._resumed.inc()
