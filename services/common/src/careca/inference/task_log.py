"""The log line of one task of a model service."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from careca.cache.port import CacheOutcome
from careca.errors import CarecaError
from careca.telemetry.logs import get_logger
from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Digest, MemoryRelease, Stage

_log = get_logger(__name__)


class TaskLog:
    """A context that logs one line when it ends, for success, failure and cancellation."""

    def __init__(self, stage: Stage, audio: Digest) -> None:
        self._stage = stage
        self._audio = audio
        self._started = time.monotonic()
        self.cache = CacheOutcome.MISS
        """How the cache answered."""
        self.succeeded = False
        """Whether there is a result, even if the caller disconnects afterwards."""
        self.compute_seconds: float | None = None
        """Time of the device that the task received; ``None`` if nothing was computed."""
        self.memory: MemoryRelease | None = None
        """Memory before and after the cleanup; ``None`` if nothing was computed."""

    @property
    def seconds(self) -> float:
        """Seconds since the start of the task."""
        return time.monotonic() - self._started

    def __enter__(self) -> TaskLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _log.info(
            "task finished",
            stage=self._stage,
            outcome="SUCCEEDED" if self.succeeded else _outcome(error),
            audio=self._audio.sha256,
            audio_seconds=round(self._audio.size_bytes / SAMPLE_BYTES / SAMPLE_RATE, 3),
            seconds=round(self.seconds, 3),
            cache=self.cache,
            **({} if self.compute_seconds is None else {"compute_seconds": round(self.compute_seconds, 3)}),
            **self._memory_values(),
        )

    def _memory_values(self) -> dict[str, int]:
        if self.memory is None:
            return {}
        before, after = self.memory.before, self.memory.after
        return {
            "rss_before_bytes": before.rss_bytes,
            "rss_after_bytes": after.rss_bytes,
            "gpu_before_bytes": before.gpu_reserved_bytes,
            "gpu_after_bytes": after.gpu_reserved_bytes,
        }


def _outcome(error: BaseException | None) -> str:
    if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    return error.reason if isinstance(error, CarecaError) else "INTERNAL"
