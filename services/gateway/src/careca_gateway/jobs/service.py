"""What submitters do with their jobs. To who may not see a job of others there is none."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from careca.auth.caller import current_caller
from careca.errors import NotFound, PreconditionFailed, Unavailable
from careca.types import Job, JobPriority, JobState, MemoryRelease, OutputFormat, Stage
from careca.v1 import gateway_pb2
from careca_gateway.admin import AdminService
from careca_gateway.api.messages import decode_request
from careca_gateway.jobs.progress import first_stages, stages_to_repeat
from careca_gateway.jobs.queue.port import JobEvent, JobQueue, Limits, Query, Submission
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.retention import JobRetention
from careca_gateway.jobs.specs import JobSpecs
from careca_gateway.request import Deadline
from careca_gateway.storage.store import Store

_ID = re.compile(r"[0-9a-f]{1,64}")
_SHOWN = 64


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job that somebody asks for."""

    config: gateway_pb2.TranscribeRequest.Config
    request_id: str = ""
    priority: JobPriority = JobPriority.BATCH
    webhook_url: str = ""


@dataclass(frozen=True, slots=True)
class ClearedJobs:
    """What clearing the history did."""

    removed_jobs: int
    releases: dict[Stage, MemoryRelease]
    """Of the model services that could be reached."""
    own: MemoryRelease | None
    """Of the gateway; ``None`` where the caller may not have memory released."""


class JobService:
    """Takes what submitters ask.

    Args:
        queue: where jobs are.
        store: where recordings are.
        specs: keep what jobs are asked to do.
        results: where results are.
        janitor: removes what is left of jobs that are deleted.
        administration: gives memory back when the history is cleared.
        limits: how many jobs may wait.
        check_webhook: refuses addresses that are not to be told anything.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        store: Store,
        specs: JobSpecs,
        results: JobResults,
        retention: JobRetention,
        administration: AdminService,
        limits: Limits,
        check_webhook: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._store = store
        self._specs = specs
        self._results = results
        self._janitor = retention
        self._administration = administration
        self._limits = limits
        self._check_webhook = check_webhook
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Ends all watching, as ``Unavailable``: it goes on with another gateway."""
        self._draining.set()

    async def submit(self, submitter: str, asked: JobRequest) -> Job:
        """The job, new or as it was submitted before.

        Raises ``InvalidRequest``, ``PreconditionFailed`` (RECORDING_MISSING) where the recording has to be uploaded
        first, and what ``JobQueue.submit`` raises.
        """
        request = decode_request(asked.config)
        if asked.webhook_url:
            self._check_webhook(asked.webhook_url)
        with self._store.hold(request.recording) as recording:
            if not await asyncio.to_thread(recording.known, request.sound):
                raise PreconditionFailed(
                    f"the gateway does not have the recording {request.recording.sha256}: upload it first",
                    reason="RECORDING_MISSING",
                    field="config.recording",
                    metadata={"sha256": request.recording.sha256},
                )
            # Held until then: where the store is over-full, what no job is about may go at any moment.
            return await self._queue.submit(
                Submission(
                    submitter=submitter,
                    request_id=asked.request_id or str(uuid.uuid4()),
                    recording=request.recording,
                    spec=await self._specs.pack(asked.config),
                    display_name=request.display_name,
                    priority=asked.priority,
                    webhook_url=asked.webhook_url,
                    stages=first_stages(),
                ),
                self._limits_of_caller(),
            )

    def _limits_of_caller(self) -> Limits:
        own = current_caller().limits.jobs
        most = self._limits.queued_per_submitter
        return replace(self._limits, queued_per_submitter=most if own is None else min(own, most))

    async def get(self, submitter: str, job_id: str) -> Job:
        """The job. Raises ``NotFound``, as all methods here do that take an id."""
        job = await self._queue.get(job_id) if is_job_id(job_id) else None
        if job is None or not (job.submitter == submitter or current_caller().sees_all_jobs):
            raise NotFound("there is no such job", reason="JOB_NOT_FOUND", metadata={"job_id": job_id[:_SHOWN]})
        return job

    async def list(self, query: Query) -> Sequence[Job]:
        """A page of jobs, newest first."""
        return await self._queue.list(query)

    async def watch(self, submitter: str, job_id: str, cursor: str) -> AsyncGenerator[JobEvent, None]:
        """The job as it is, then what happens to it. Raises ``Unavailable`` when this gateway is about to stop."""
        await self.get(submitter, job_id)
        async with (
            aclosing(self._queue.watch(job_id, cursor)) as happenings,
            aclosing(_until(self._draining, happenings)) as told,
        ):
            async for happening in told:
                yield happening

    async def result(
        self, submitter: str, job_id: str, formats: Iterable[OutputFormat]
    ) -> gateway_pb2.TranscribeResult:
        """The job's result. Raises ``PreconditionFailed`` (NO_RESULT), ``NotFound`` (RESULT_MISSING)."""
        job = await self.get(submitter, job_id)
        if job.state is not JobState.SUCCEEDED:
            raise PreconditionFailed(
                f"the job {job_id} has no result: it is {job.state}", reason="NO_RESULT", metadata={"state": job.state}
            )
        return await self._results.get(await self._queue.result_key(job_id), formats, job.display_name)

    async def cancel(self, submitter: str, job_id: str) -> Job:
        """Ends the job, unless it has ended; as it is then."""
        await self.get(submitter, job_id)
        return await self._queue.cancel(job_id)

    async def retry(self, submitter: str, job_id: str) -> Job:
        """Queues the job again. Raises as ``JobQueue.retry`` does."""
        job = await self.get(submitter, job_id)
        return await self._queue.retry(job_id, stages_to_repeat(job.stages), self._limits_of_caller())

    async def delete(self, submitter: str, job_id: str) -> None:
        """Forgets the job and its result."""
        await self.get(submitter, job_id)
        await self._queue.delete(job_id)
        await self._janitor.remove([job_id])

    async def clear(self, submitter: str | None, deadline: Deadline) -> ClearedJobs:
        """Forgets all jobs that have ended, the submitter's or everybody's.

        Has all services give memory back where the caller may ask for that.
        """
        removed = 0
        while job_ids := await self._queue.clear(submitter):
            await self._janitor.remove(job_ids)
            removed += len(job_ids)
        if not current_caller().is_admin:
            return ClearedJobs(removed, {}, None)
        releases, own = await self._administration.release_reachable(deadline)
        return ClearedJobs(removed, releases, own)


def is_job_id(text: str) -> bool:
    """Whether ``text`` looks like the id of a job."""
    return _ID.fullmatch(text) is not None


async def _until(stopping: asyncio.Event, happenings: AsyncGenerator[JobEvent, None]) -> AsyncGenerator[JobEvent, None]:
    """``happenings`` up to their end; raises ``Unavailable`` once ``stopping`` is set."""
    stopped = asyncio.create_task(stopping.wait())
    try:
        while True:
            following = asyncio.create_task(anext(happenings, None))
            try:
                await asyncio.wait((following, stopped), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.wait((following,))
            if following.cancelled():
                raise Unavailable("the gateway is about to stop: watch on elsewhere", retry_after_seconds=0.5)
            happening = following.result()
            if happening is None:
                return
            yield happening
    finally:
        stopped.cancel()
