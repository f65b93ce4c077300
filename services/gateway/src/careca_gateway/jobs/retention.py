"""Removes what no job needs any more: jobs past their time, and whatever the store holds of jobs that are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from itertools import islice

from careca.telemetry.logs import get_logger
from careca_gateway.background import end, repeat
from careca_gateway.jobs import results, specs, stage_results
from careca_gateway.jobs.queue.port import JobQueue
from careca_gateway.storage.object_storage import ObjectStorage, StoredObject

SWEEP_SECONDS = 300.0
"""How often it looks."""

YOUNG_SECONDS = 3600.0
"""Younger things stay: their job may be about to be told of them."""

_BATCH = 500

_log = get_logger(__name__)


class JobRetention:
    """Cleans up after jobs, in the background and when it is told to.

    Args:
        queue: where jobs are.
        blobs: where their results are.
        retention_seconds: how long a job stays after it has ended.
    """

    def __init__(self, queue: JobQueue, blobs: ObjectStorage, *, retention_seconds: float) -> None:
        self._queue = queue
        self._blobs = blobs
        self._retention_seconds = retention_seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins."""
        self._task = repeat("sweep jobs", self.sweep, pause_seconds=SWEEP_SECONDS, retry_seconds=SWEEP_SECONDS)

    async def close(self) -> None:
        """Ends."""
        await end([self._task])

    async def remove(self, job_ids: Iterable[str]) -> None:
        """Removes what the store holds of jobs that were just forgotten."""
        await asyncio.to_thread(self._remove, list(job_ids))

    async def sweep(self) -> None:
        """Forgets jobs that ended long ago, and removes what has no job."""
        while job_ids := await self._queue.expire(self._retention_seconds):
            await self.remove(job_ids)
            _log.info("jobs past their retention removed", jobs=len(job_ids))
        for folder in (results.FOLDER, stage_results.FOLDER):
            await self._remove_orphans(folder)
        await asyncio.to_thread(self._remove_old_specs)

    async def _remove_orphans(self, folder: str) -> None:
        """Removes what lies in ``folder`` of jobs that are not there any more, a batch at a time."""
        blobs = iter(await asyncio.to_thread(lambda: [blob for blob in self._blobs.list(folder) if _old(blob)]))
        while batch := list(islice(blobs, _BATCH)):
            existing = await self._queue.exist({results.job_of(blob.key) for blob in batch})
            orphans = [blob.key for blob in batch if results.job_of(blob.key) not in existing]
            if orphans:
                await asyncio.to_thread(self._blobs.delete, orphans)
                _log.info("results without a job removed", folder=folder, blobs=len(orphans))

    def _remove(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            for folder in (results.folder_of(job_id), stage_results.folder_of(job_id)):
                self._blobs.clear(folder)

    def _remove_old_specs(self) -> None:
        """Removes specs that no job can have: each was written again when a job was submitted with it."""
        oldest = time.time() - self._retention_seconds - YOUNG_SECONDS
        self._blobs.delete([blob.key for blob in self._blobs.list(specs.FOLDER) if blob.modified_unix < oldest])


def _old(blob: StoredObject) -> bool:
    return blob.modified_unix < time.time() - YOUNG_SECONDS
