"""Removes jobs after their retention time, and stored results and specs that no job needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from itertools import islice

from careca.cancellation import cancel_and_wait
from careca.telemetry.logs import get_logger
from careca_gateway.background import repeat
from careca_gateway.jobs import results, specs, stage_results, texts
from careca_gateway.jobs.queue.port import JobQueue
from careca_gateway.storage.object_storage import ObjectStorage

SWEEP_SECONDS = 300.0
"""How often to look for jobs and objects to remove."""

YOUNG_SECONDS = 3600.0
"""Younger objects stay: the queue may not know yet that they belong to a job."""

_PREFIXES = (results.PREFIX, results.REVISIONS_PREFIX, stage_results.PREFIX, texts.PREFIX)
"""The key prefixes of objects that belong to one job."""

_BATCH = 500

_log = get_logger(__name__)


class JobRetention:
    """Removes jobs and what is stored for them, in the background and on request.

    Args:
        queue: the jobs.
        storage: their results.
        retention_seconds: how long a job is kept after it has ended.
    """

    def __init__(self, queue: JobQueue, storage: ObjectStorage, *, retention_seconds: float) -> None:
        self._queue = queue
        self._storage = storage
        self._retention_seconds = retention_seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the background task."""
        self._task = repeat("sweep jobs", self.sweep, pause_seconds=SWEEP_SECONDS, retry_seconds=SWEEP_SECONDS)

    async def close(self) -> None:
        """Stops the background task."""
        await cancel_and_wait([self._task])

    async def remove(self, job_ids: Iterable[str]) -> None:
        """Removes what is stored for jobs that were just removed from the queue."""
        await asyncio.to_thread(self._remove, list(job_ids))

    async def sweep(self) -> None:
        """Removes jobs after their retention time, and objects without a job."""
        while job_ids := await self._queue.expire(self._retention_seconds):
            await self.remove(job_ids)
            _log.info("jobs past their retention removed", jobs=len(job_ids))
        for prefix in _PREFIXES:
            await self._remove_orphans(prefix)
        await asyncio.to_thread(self._remove_old_specs)

    async def _remove_orphans(self, prefix: str) -> None:
        """Removes the objects with this key prefix whose jobs do not exist, one batch at a time."""
        keys = iter(await asyncio.to_thread(self._old_keys, prefix, YOUNG_SECONDS))
        while batch := list(islice(keys, _BATCH)):
            existing = await self._queue.exist({results.job_of(key) for key in batch})
            orphans = [key for key in batch if results.job_of(key) not in existing]
            if orphans:
                await asyncio.to_thread(self._storage.delete, orphans)
                _log.info("results without a job removed", folder=prefix, blobs=len(orphans))

    def _remove(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            for prefix in _PREFIXES:
                self._storage.delete_prefix(results.prefix_of(job_id, prefix))

    def _remove_old_specs(self) -> None:
        """Removes specs that no job can have: a spec is written again whenever a job is submitted with it."""
        self._storage.delete(self._old_keys(specs.PREFIX, self._retention_seconds + YOUNG_SECONDS))

    def _old_keys(self, prefix: str, age_seconds: float) -> list[str]:
        oldest = time.time() - age_seconds
        return [found.key for found in self._storage.list(prefix) if found.modified_unix < oldest]
