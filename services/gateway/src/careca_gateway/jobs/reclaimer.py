"""What each gateway does for all: takes jobs from gateways that are gone, and measures the queue."""

from __future__ import annotations

import asyncio
from typing import Protocol

from careca.errors import Overloaded, Unavailable
from careca.telemetry.logs import get_logger
from careca.types import Job, JobState
from careca_gateway.background import repeat
from careca_gateway.jobs.queue.port import JobQueue, QueueStats

SILENCE_SECONDS = 2.5
"""How long a lease is not renewed until others take the job for abandoned."""

RECLAIM_SECONDS = 0.5
"""How often abandoned jobs are looked for."""

STATS_SECONDS = 5.0
"""How often the queue's state is measured."""

_PAUSE_SECONDS = 0.5
"""How long to wait after the queue could not be reached."""

_log = get_logger(__name__)


class JobObserver(Protocol):
    """Told what happens to jobs, for metrics."""

    def job_attempted(self, outcome: str, seconds: float) -> None:
        """An attempt ended: succeeded, partial, failed, refused, cancelled, handed_back or lost."""

    def job_recovered(self, reason: str, count: int) -> None:
        """Jobs were found that somebody had left: waiting at the start, or reclaimed from a worker that was gone."""

    def job_stopped(self, seconds: float) -> None:
        """The work of a cancelled job had ended that long after this worker heard of it."""

    def queue_measured(self, stats: QueueStats) -> None:
        """The state of the queue."""

    def queue_away(self) -> None:
        """The queue could not be asked for its state."""


class Reclaimer:
    """One gateway's part in it.

    Args:
        queue: where jobs are.
        max_attempts: how often a job may be lost with its worker before it is given up.
        observer: told what is found.
    """

    def __init__(self, queue: JobQueue, *, max_attempts: int, observer: JobObserver) -> None:
        self._queue = queue
        self._max_attempts = max_attempts
        self._observer = observer

    def start(self) -> tuple[asyncio.Task[None], ...]:
        """Begins; the tasks are the caller's to end."""
        return (
            repeat("reclaim jobs", self._reclaim, pause_seconds=RECLAIM_SECONDS),
            repeat("measure the queue", self._measure, pause_seconds=STATS_SECONDS),
            asyncio.create_task(self._count_recovered(), name="count recovered jobs"),
        )

    async def _reclaim(self) -> None:
        jobs = await self._queue.reclaim(SILENCE_SECONDS, self._max_attempts)
        if jobs:
            self._observer.job_recovered("reclaimed", len(jobs))
        for job in jobs:
            _log.warning("a job was left by its worker", job_id=job.id, state=job.state.value, worker=_last_worker(job))

    async def _measure(self) -> None:
        try:
            stats = await self._queue.stats()
        except (Unavailable, Overloaded):
            self._observer.queue_away()
            raise
        self._observer.queue_measured(stats)

    async def _count_recovered(self) -> None:
        """Says once how many jobs were waiting for a gateway to come back."""
        while True:
            try:
                stats = await self._queue.stats()
            except (Unavailable, Overloaded):
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            waiting, running = (stats.by_state.get(state, 0) for state in (JobState.QUEUED, JobState.RUNNING))
            self._observer.job_recovered("waiting", waiting)
            _log.info("jobs recovered at the start", waiting=waiting, running_elsewhere_or_left=running)
            return


def _last_worker(job: Job) -> str:
    return job.attempts[-1].worker if job.attempts else ""
