"""One attempt at a job: from the job's spec to a stored result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from careca.auth.caller import Caller, acting_as
from careca.errors import DeadlineExceeded
from careca.types import JobState
from careca.v1 import gateway_pb2
from careca_gateway.jobs.progress import JobProgress, failed_stages
from careca_gateway.jobs.queue.port import Lease, Outcome
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.specs import JobSpecs
from careca_gateway.jobs.stage_results import StageResults
from careca_gateway.jobs.texts import JobTexts
from careca_gateway.pipeline.port import RunPipeline, completed
from careca_gateway.request import Completed, Deadline, Request
from careca_gateway.storage.object_storage import ObjectStorage
from careca_gateway.storage.store import Store

PipelineFactory = Callable[[Lease, StageResults], RunPipeline[gateway_pb2.TranscribeResponse]]
"""Creates the pipeline of a job. Its model stages do not repeat what is in the stage results."""


class PipelineAttempt:
    """Runs jobs through the gateway's pipeline.

    Args:
        store: the recordings.
        storage: keeps the stage results of attempts that do not succeed as a whole.
        specs: reads the specs of jobs.
        results: stores the results.
        texts: stores what was said, for searches.
        pipelines: creates a pipeline for each job.
        caller_of: returns the caller, with its limits, for the name of a submitter.
    """

    def __init__(
        self,
        *,
        store: Store,
        storage: ObjectStorage,
        specs: JobSpecs,
        results: JobResults,
        texts: JobTexts,
        pipelines: PipelineFactory,
        caller_of: Callable[[str], Caller],
    ) -> None:
        self._store = store
        self._storage = storage
        self._specs = specs
        self._results = results
        self._texts = texts
        self._pipelines = pipelines
        self._caller_of = caller_of

    async def run(self, lease: Lease, progress: JobProgress) -> Outcome:
        """Runs the job, reports to ``progress``, and stores the result. Raises ``CarecaError``.

        Saves what the stages found unless all of them succeeded.
        """
        request = await self._specs.unpack(lease.spec)
        stage_results = StageResults(
            self._storage, lease.job.id, expected=any(stage.attempts for stage in lease.job.stages)
        )
        whole = False
        try:
            done = await self._run_in_time(lease, request, stage_results, progress)
            await progress.complete(done)
            result = done.result.result
            key = await self._results.put(lease.job.id, lease.fence, result)
            await self._texts.put(lease.job.id, key, [each.text for each in result.utterances])
            whole = not failed_stages(progress.stages)
        finally:
            # Also if the attempt is cancelled: this gateway may be handing the job back.
            await asyncio.shield(stage_results.delete() if whole else stage_results.save())
        return Outcome(JobState.SUCCEEDED, progress.stages, result_key=key, partial=not whole)

    async def discard(self, lease: Lease, outcome: Outcome) -> None:
        """Removes the stored result of an attempt that did not end the job."""
        if outcome.result_key:
            await self._results.delete(outcome.result_key)

    async def clean_up(self, lease: Lease, outcome: Outcome) -> None:
        """Removes the results of earlier attempts when the job has ended: of lost gateways, and before retries."""
        if lease.fence > 1 and outcome.result_key:
            await self._results.keep_only(lease.job.id, outcome.result_key)

    async def _run_in_time(
        self, lease: Lease, request: Request, stage_results: StageResults, progress: JobProgress
    ) -> Completed[gateway_pb2.TranscribeResponse]:
        deadline = Deadline.after(lease.remaining_seconds)
        try:
            async with asyncio.timeout(deadline.remaining()) as limit:
                return await self._run_pipeline(lease, request, stage_results, progress, deadline)
        except TimeoutError:
            if limit.expired():
                raise DeadlineExceeded("the deadline passed") from None
            raise

    async def _run_pipeline(
        self, lease: Lease, request: Request, stage_results: StageResults, progress: JobProgress, deadline: Deadline
    ) -> Completed[gateway_pb2.TranscribeResponse]:
        with acting_as(self._caller_of(lease.job.submitter)), self._store.hold(request.recording) as recording:
            if not lease.caller:  # the recording of a call was checked a moment ago
                await asyncio.to_thread(recording.require, request.selection)
            run = self._pipelines(lease, stage_results)
            return await completed(run(request, recording, deadline), progress.add)
