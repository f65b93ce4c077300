"""One attempt at a job: from what was asked to a stored result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Protocol

from careca.auth.caller import Caller, acting_as
from careca.errors import DeadlineExceeded, InternalError
from careca.types import JobState
from careca.v1 import gateway_pb2
from careca_gateway.jobs.progress import JobProgress, failed_stages
from careca_gateway.jobs.queue.port import Lease, Outcome
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.specs import JobSpecs
from careca_gateway.jobs.stage_results import StageResults
from careca_gateway.request import Completed, Deadline, Request
from careca_gateway.storage.object_storage import ObjectStorage
from careca_gateway.storage.store import Store
from careca_gateway.transcription import Work

Pipelines = Callable[[Lease, StageResults], Work[gateway_pb2.TranscribeResponse]]
"""Makes the pipeline of one job, whose model stages do not repeat what is kept."""


class Attempt(Protocol):
    """What is done with a job."""

    async def run(self, lease: Lease, progress: JobProgress) -> Outcome:
        """Works on the job, tells ``progress`` of it, of the result too, and stores that. Raises ``CarecaError``."""

    async def discard(self, lease: Lease, outcome: Outcome) -> None:
        """Removes what an attempt stored that was not the job's last."""

    async def tidy(self, lease: Lease, outcome: Outcome) -> None:
        """Removes what earlier attempts stored, now that the job has ended with ``outcome``."""


class PipelineAttempt:
    """An ``Attempt`` by the gateway's pipeline.

    Args:
        store: has the recordings.
        blobs: take what stages found, where the whole does not succeed.
        specs: say what a job is asked to do.
        results: take the results.
        pipelines: make a pipeline for each job.
        caller_of: tells on whose behalf a submitter's jobs are done.
    """

    def __init__(
        self,
        *,
        store: Store,
        blobs: ObjectStorage,
        specs: JobSpecs,
        results: JobResults,
        pipelines: Pipelines,
        caller_of: Callable[[str], Caller],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._specs = specs
        self._results = results
        self._pipelines = pipelines
        self._caller_of = caller_of

    async def run(self, lease: Lease, progress: JobProgress) -> Outcome:
        """Works on the job. What its stages found is kept unless all of them did."""
        request = await self._specs.unpack(lease.spec)
        kept = StageResults(self._blobs, lease.job.id, expected=any(stage.attempts for stage in lease.job.stages))
        whole = False
        try:
            completed = await self._complete_in_time(lease, request, kept, progress)
            await progress.complete(completed)
            key = await self._results.put(lease.job.id, lease.fence, completed.result.result)
            whole = not failed_stages(progress.stages)
        finally:
            # Also where the attempt is cancelled: by whom may be a gateway that hands the job back.
            await asyncio.shield(kept.drop() if whole else kept.keep())
        return Outcome(JobState.SUCCEEDED, progress.stages, result_key=key, partial=not whole)

    async def discard(self, lease: Lease, outcome: Outcome) -> None:
        """Removes the stored result."""
        if outcome.result_key:
            await self._results.delete(outcome.result_key)

    async def tidy(self, lease: Lease, outcome: Outcome) -> None:
        """Removes the results of attempts whose gateway was lost before it could tell of them, and that of a retry."""
        if lease.fence > 1 and outcome.result_key:
            await self._results.keep_only(lease.job.id, outcome.result_key)

    async def _complete_in_time(
        self, lease: Lease, request: Request, kept: StageResults, progress: JobProgress
    ) -> Completed[gateway_pb2.TranscribeResponse]:
        deadline = Deadline.after(lease.remaining_seconds)
        try:
            async with asyncio.timeout(deadline.remaining()) as limit:
                return await self._complete(lease, request, kept, progress, deadline)
        except TimeoutError:
            if limit.expired():
                raise DeadlineExceeded("the deadline passed") from None
            raise

    async def _complete(
        self, lease: Lease, request: Request, kept: StageResults, progress: JobProgress, deadline: Deadline
    ) -> Completed[gateway_pb2.TranscribeResponse]:
        with acting_as(self._caller_of(lease.job.submitter)), self._store.hold(request.recording) as recording:
            if not lease.caller:  # a call's recording was there a moment ago
                await asyncio.to_thread(recording.require, request.sound)
            running = self._pipelines(lease, kept).run(request, recording, deadline)
            async with aclosing(running) as events:
                async for event in events:
                    if isinstance(event, Completed):
                        return event
                    progress.tell(event)
        raise InternalError("the pipeline ended without a result")
