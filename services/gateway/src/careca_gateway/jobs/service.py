"""The operations on jobs for submitters. For a caller who may not see a job, the job does not exist."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from careca import codec
from careca.auth.caller import current_caller
from careca.errors import PreconditionFailed
from careca.types import Job, JobPriority, JobState, MemoryRelease, OutputFormat, Speaker, Stage
from careca.v1 import gateway_pb2
from careca_gateway.admin import AdminService
from careca_gateway.jobs.progress import first_stages, stages_to_repeat
from careca_gateway.jobs.queue.port import (
    MAX_ID_CHARACTERS,
    JobEvent,
    JobQueue,
    Limits,
    Query,
    StoredTranscript,
    Submission,
    job_not_found,
)
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.retention import JobRetention
from careca_gateway.jobs.search import JobPage, JobSearch
from careca_gateway.jobs.specs import JobSpecs
from careca_gateway.request import Deadline, Request
from careca_gateway.request_codec import decode_request
from careca_gateway.storage.store import Store
from careca_gateway.streams import raise_when_stopping, run_beside

Config = gateway_pb2.TranscribeRequest.Config

_ID = re.compile(rf"[0-9a-f]{{1,{MAX_ID_CHARACTERS}}}")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request for a job."""

    config: Config
    request_id: str = ""
    priority: JobPriority = JobPriority.BATCH
    webhook_url: str = ""


@dataclass(frozen=True, slots=True)
class ClearedJobs:
    """The effect of clearing the history."""

    removed_jobs: int
    releases: dict[Stage, MemoryRelease]
    """The memory of the model services that could be reached."""
    gateway: MemoryRelease | None
    """The memory of the gateway; ``None`` if the caller may not release memory."""


class JobService:
    """Submits, lists, watches and ends jobs.

    Args:
        queue: the jobs.
        store: the recordings.
        specs: writes the specs of jobs.
        results: reads the results of jobs.
        search: lists jobs.
        retention: removes what is stored for deleted jobs.
        admin: releases memory when the history is cleared.
        limits: how many jobs may wait.
        add_voices: adds the saved voices of a submitter to a config that asks for them.
        check_webhook: raises an error for webhook addresses that are not allowed.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        store: Store,
        specs: JobSpecs,
        results: JobResults,
        search: JobSearch,
        retention: JobRetention,
        admin: AdminService,
        limits: Limits,
        add_voices: Callable[[str, Config], Awaitable[Config]],
        check_webhook: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._store = store
        self._specs = specs
        self._results = results
        self._search = search
        self._retention = retention
        self._admin = admin
        self._limits = limits
        self._add_voices = add_voices
        self._check_webhook = check_webhook
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Ends all ``watch`` calls with ``Unavailable``: the clients continue with another gateway."""
        self._draining.set()

    async def submit(self, submitter: str, submitted: JobRequest) -> Job:
        """Returns the new job, or the job that was submitted with this request id before.

        Raises ``InvalidRequest``, ``PreconditionFailed`` (RECORDING_MISSING) if the recording must be uploaded first,
        and what ``JobQueue.submit`` raises.
        """
        request = decode_request(submitted.config)
        if submitted.webhook_url:
            self._check_webhook(submitted.webhook_url)
        config = await self._add_voices(submitter, submitted.config)
        with self._store.hold(request.recording) as recording:
            if not await asyncio.to_thread(recording.known, request.selection):
                raise PreconditionFailed(
                    f"the gateway does not have the recording {request.recording.sha256}: upload it first",
                    reason="RECORDING_MISSING",
                    field="config.recording",
                    metadata={"sha256": request.recording.sha256},
                )
            # Hold the recording until the job exists: a full store removes recordings that no job needs.
            return await self._queue.submit(
                Submission(
                    submitter=submitter,
                    request_id=submitted.request_id or str(uuid.uuid4()),
                    recording=request.recording,
                    spec=await self._specs.pack(config),
                    content=b"" if config is submitted.config else _digest_of(submitted.config),
                    display_name=request.display_name,
                    priority=submitted.priority,
                    webhook_url=submitted.webhook_url,
                    stages=first_stages(),
                ),
                self._limits_of_caller(),
            )

    def _limits_of_caller(self) -> Limits:
        own = current_caller().limits.jobs
        most = self._limits.queued_per_submitter
        return replace(self._limits, queued_per_submitter=most if own is None else min(own, most))

    async def get(self, submitter: str, job_id: str) -> Job:
        """Returns the job. Raises ``NotFound``, as do all methods that take an id."""
        job = await self._queue.get(job_id) if is_job_id(job_id) else None
        if job is None or not (job.submitter == submitter or current_caller().sees_all_jobs):
            raise job_not_found(job_id)
        return job

    async def get_with_request(self, submitter: str, job_id: str) -> tuple[Job, Request]:
        """Returns the job and what was requested. Raises ``PreconditionFailed`` (SPEC_MISSING)."""
        job = await self.get(submitter, job_id)
        return job, await self._specs.unpack(await self._queue.spec(job_id))

    async def list(self, query: Query, words: Sequence[str] = ()) -> JobPage:
        """Returns a page of jobs, newest first. With ``words`` as ``JobSearch.page`` says."""
        return await self._search.page(query, words)

    async def watch(self, submitter: str, job_id: str, cursor: str) -> AsyncGenerator[JobEvent, None]:
        """Yields the job as it is, and then its events. Raises ``Unavailable`` when this gateway stops."""
        await self.get(submitter, job_id)
        async with (
            aclosing(self._queue.watch(job_id, cursor)) as events,
            aclosing(run_beside(events, raise_when_stopping(self._draining))) as watched,
        ):
            async for event in watched:
                yield event

    async def transcript(self, submitter: str, job_id: str) -> tuple[Job, StoredTranscript]:
        """Returns the job, and what is stored of its transcript. Raises ``PreconditionFailed`` (NO_RESULT)."""
        job = await self.get(submitter, job_id)
        if job.state is not JobState.SUCCEEDED:
            raise PreconditionFailed(
                f"the job {job_id} has no result: it is {job.state}", reason="NO_RESULT", metadata={"state": job.state}
            )
        return job, await self._queue.transcript(job_id)

    async def result(
        self, submitter: str, job_id: str, formats: Iterable[OutputFormat], revision: int | None = None
    ) -> gateway_pb2.TranscribeResult:
        """Returns a revision of the job's result: with ``None`` the newest, with 0 what was recognised.

        Raises ``PreconditionFailed`` (NO_RESULT), ``NotFound`` (RESULT_MISSING, REVISION_NOT_FOUND).
        """
        job, transcript = await self.transcript(submitter, job_id)
        number = transcript.newest if revision is None else revision
        return await self._results.get(transcript.key_of(number), formats, job.display_name, revision=number)

    async def speakers(self, submitter: str, job_id: str) -> tuple[Speaker, ...]:
        """Returns the speakers in the job's result. Raises as ``result`` does."""
        return codec.read_speakers((await self.result(submitter, job_id, ())).speakers)

    async def cancel(self, submitter: str, job_id: str) -> Job:
        """Cancels the job unless it has ended. Returns the job afterwards."""
        await self.get(submitter, job_id)
        return await self._queue.cancel(job_id)

    async def retry(self, submitter: str, job_id: str) -> Job:
        """Queues the job again. Raises as ``JobQueue.retry`` does."""
        job = await self.get(submitter, job_id)
        return await self._queue.retry(job_id, stages_to_repeat(job.stages), self._limits_of_caller())

    async def delete(self, submitter: str, job_id: str) -> None:
        """Removes the job and its result."""
        await self.get(submitter, job_id)
        await self._queue.delete(job_id)
        await self._retention.remove([job_id])

    async def clear(self, submitter: str | None, deadline: Deadline) -> ClearedJobs:
        """Removes all jobs that have ended, of the submitter or, with ``None``, of all submitters.

        If the caller is an administrator, all services also release memory.
        """
        removed = 0
        while job_ids := await self._queue.clear(submitter):
            await self._retention.remove(job_ids)
            removed += len(job_ids)
        if not current_caller().is_admin:
            return ClearedJobs(removed, {}, None)
        releases, own = await self._admin.release_reachable(deadline)
        return ClearedJobs(removed, releases, own)


def _digest_of(config: Config) -> bytes:
    return hashlib.sha256(config.SerializeToString(deterministic=True)).digest()


def is_job_id(text: str) -> bool:
    """Returns whether ``text`` has the form of a job id."""
    return _ID.fullmatch(text) is not None
