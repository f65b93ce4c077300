"""Takes jobs back from gateways that are gone, and measures the queue. Every gateway does both for all gateways."""

from __future__ import annotations

import asyncio

from careca.errors import Overloaded, Unavailable
from careca.telemetry.logs import get_logger
from careca.types import Job, JobState
from careca_gateway.background import RETRY_SECONDS, repeat
from careca_gateway.jobs.metrics import JobMetrics
from careca_gateway.jobs.queue.port import JobQueue

LEASE_TIMEOUT_SECONDS = 2.5
"""How long after its last renewal a lease counts as abandoned."""

RECLAIM_SECONDS = 0.5
"""How often to look for abandoned jobs."""

STATS_SECONDS = 5.0
"""How often the queue is measured."""

_log = get_logger(__name__)


class Reclaimer:
    """Reclaims jobs and measures the queue.

    Args:
        queue: the jobs.
        max_attempts: how often a job may be lost with its worker before it fails.
        metrics: counts what is found.
    """

    def __init__(self, queue: JobQueue, *, max_attempts: int, metrics: JobMetrics) -> None:
        self._queue = queue
        self._max_attempts = max_attempts
        self._metrics = metrics

    def start(self) -> tuple[asyncio.Task[None], ...]:
        """Starts the tasks. The caller must end them."""
        return (
            repeat("reclaim jobs", self._reclaim, pause_seconds=RECLAIM_SECONDS),
            repeat("measure the queue", self._measure, pause_seconds=STATS_SECONDS),
            asyncio.create_task(self._count_recovered(), name="count recovered jobs"),
        )

    async def _reclaim(self) -> None:
        jobs = await self._queue.reclaim(LEASE_TIMEOUT_SECONDS, self._max_attempts)
        if jobs:
            self._metrics.job_recovered("reclaimed", len(jobs))
        for job in jobs:
            _log.warning("a job was left by its worker", job_id=job.id, state=job.state.value, worker=_last_worker(job))

    async def _measure(self) -> None:
        try:
            stats = await self._queue.stats()
        except (Unavailable, Overloaded):
            self._metrics.queue_unavailable()
            raise
        self._metrics.queue_measured(stats)

    async def _count_recovered(self) -> None:
        """Reports once how many jobs were waiting when this gateway started."""
        while True:
            try:
                stats = await self._queue.stats()
            except (Unavailable, Overloaded):
                await asyncio.sleep(RETRY_SECONDS)
                continue
            waiting, running = (stats.by_state.get(state, 0) for state in (JobState.QUEUED, JobState.RUNNING))
            self._metrics.job_recovered("waiting", waiting)
            _log.info("jobs recovered at the start", waiting=waiting, running_elsewhere_or_left=running)
            return


def _last_worker(job: Job) -> str:
    return job.attempts[-1].worker if job.attempts else ""
