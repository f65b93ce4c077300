"""The client's calls for jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Unpack

from careca import codec
from careca.errors import CarecaError
from careca.rpc.statuses import translated_errors
from careca.types import Digest, Job, JobPriority, JobState, OutputFormat, Segment
from careca.v1 import jobs_pb2, jobs_pb2_grpc
from careca_client.admin import ADMIN_TIMEOUT_SECONDS
from careca_client.aio.calls import AsyncCalls
from careca_client.aio.concurrency import serialize
from careca_client.aio.streams import hashed, is_stored, run_stream, wait_for_retry
from careca_client.digests import DigestCache
from careca_client.events import EventCallback, RecordingKnown
from careca_client.protocol.attempts import Attempts
from careca_client.protocol.jobs import (
    RESTART_RETRIES,
    JobPage,
    JobsClearance,
    JobUpdate,
    Listing,
    Submission,
    Watch,
    decode_job_page,
    decode_jobs_clearance,
    encode_list_request,
    encode_result_request,
)
from careca_client.protocol.options import TranscribeOptions
from careca_client.protocol.streams import UploadStream
from careca_client.recording import Recording, Source
from careca_client.result import TranscriptionResult


class AsyncJobCalls(AsyncCalls):
    """A job runs even if no caller waits for it. The gateway keeps it until it is deleted or its retention ends.

    ``jobs`` and ``clear_jobs`` concern only the jobs of the client's submitter, unless ``all_submitters`` is true.
    """

    _digests: DigestCache
    _jobs: jobs_pb2_grpc.JobServiceAsyncStub

    async def upload(
        self, recording: Source, *, timeout: float | None = None, on_event: EventCallback | None = None
    ) -> Digest:
        """Uploads the recording, unless the gateway has it, and returns its digest.

        ``timeout`` and ``on_event`` are those of ``transcribe``.
        """
        attempts, emit = Attempts(retries=self._retries, timeout=timeout), serialize(on_event)
        async with hashed(recording, None, self._digests, emit) as source:
            await self._upload(source, attempts, emit)
            return source.digest

    async def has_recording(self, digest: Digest, *, timeout: float | None = None) -> bool:
        """Whether the gateway has the recording, so that ``submit_digest`` needs no upload before it."""
        return await is_stored(self._jobs.UploadRecording, digest, timeout, self._metadata)

    async def _upload(self, source: Recording, attempts: Attempts, emit: EventCallback) -> None:
        stream = await run_stream(
            self._jobs.UploadRecording, lambda: UploadStream(source), attempts, emit, self._metadata
        )
        stream.finish()

    async def submit(
        self,
        recording: Source,
        *,
        request_id: str | None = None,
        once: bool = False,
        priority: JobPriority | str = JobPriority.BATCH,
        webhook_url: str | None = None,
        timeout: float | None = None,
        on_event: EventCallback | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> Job:
        """Queues a job for the recording. Uploads the recording first if the gateway does not have it.

        Args:
            recording: A path, a binary file object, or the bytes.
            request_id: Makes it safe to submit again: the same id with the same content returns the same job.
            once: Makes the request id from the recording, its name and all options. Submitting the same again then
                returns the existing job.
            priority: Interactive jobs run before batch jobs.
            webhook_url: Address to notify when the job has ended.
            timeout: Limit for the submission in seconds, including all attempts.
            on_event: Called with the events of the submission, as by ``transcribe``.
            options: Those of ``transcribe`` except ``formats``: pass these to ``job_result``.
        """
        attempts, emit = Attempts(retries=self._retries, timeout=timeout), serialize(on_event)
        submission = await asyncio.to_thread(
            Submission, options, request_id=request_id, once=once, priority=priority, webhook_url=webhook_url
        )
        async with hashed(recording, options.get("display_name"), self._digests, emit) as source:
            submission.set_recording(source.digest, source.name)
            while True:
                try:
                    job = await self._submit(submission, attempts.remaining())
                except CarecaError as error:
                    if submission.needs_upload(error):
                        await self._upload(source, attempts, emit)
                    else:
                        await wait_for_retry(attempts, error, emit)
                else:
                    if not submission.uploaded:
                        emit(RecordingKnown(source.digest))
                    return job

    async def submit_digest(
        self,
        recording: Digest,
        *,
        request_id: str | None = None,
        priority: JobPriority | str = JobPriority.BATCH,
        webhook_url: str | None = None,
        timeout: float | None = None,
        on_event: EventCallback | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> Job:
        """Queues a job for a recording that the gateway has. The arguments are those of ``submit``.

        Raises ``PreconditionFailed`` (``RECORDING_MISSING``) if the gateway does not have the recording.
        """
        attempts, emit = Attempts(retries=self._retries, timeout=timeout), serialize(on_event)
        submission = await asyncio.to_thread(
            Submission, options, request_id=request_id, once=False, priority=priority, webhook_url=webhook_url
        )
        submission.set_recording(recording, options.get("display_name") or "")
        while True:
            try:
                return await self._submit(submission, attempts.remaining())
            except CarecaError as error:
                await wait_for_retry(attempts, error, emit)

    async def _submit(self, submission: Submission, timeout: float | None) -> Job:
        response = await self._call(self._jobs.SubmitJob, submission.request, timeout)
        return codec.decode_job(response.job)

    async def job(self, job_id: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> Job:
        """Returns the job as it is now. Raises ``NotFound`` if it does not exist, as all calls do that name a job."""
        response = await self._query(self._jobs.GetJob, jobs_pb2.GetJobRequest(job_id=job_id), timeout)
        return codec.decode_job(response.job)

    async def jobs(
        self,
        *,
        states: Iterable[JobState | str] = (),
        created_from: float | None = None,
        created_before: float | None = None,
        query: str = "",
        limit: int | None = None,
        all_submitters: bool = False,
        timeout: float = ADMIN_TIMEOUT_SECONDS,
    ) -> AsyncGenerator[Job, None]:
        """Yields the jobs, newest first. Requests further pages as they are needed.

        Args:
            states: Only jobs in one of these states. Default: all.
            created_from: Only jobs created at this time or later, in seconds since 1970.
            created_before: Only jobs created before this time, in seconds since 1970.
            query: Only jobs that have each of these words in their name or in what was said: at most 200 characters.
                Case and accents make no difference, and a word also matches a part of a longer word.
            limit: Yields no more jobs than this.
            all_submitters: Whether to list the jobs of all submitters. Needs an administrator's token.
            timeout: Limit for each page in seconds.
        """
        listing = Listing(states, created_from, created_before, limit, query=query, all_submitters=all_submitters)
        while (request := listing.request) is not None:
            page = await self._query(self._jobs.ListJobs, request, timeout)
            for job in listing.receive(page):
                yield job

    async def jobs_page(
        self,
        *,
        states: Iterable[JobState | str] = (),
        created_from: float | None = None,
        created_before: float | None = None,
        query: str = "",
        page_size: int = 0,
        page_token: str = "",
        all_submitters: bool = False,
        timeout: float = ADMIN_TIMEOUT_SECONDS,
    ) -> JobPage:
        """Returns one page of the jobs, newest first.

        Args:
            states: As for ``jobs``.
            created_from: As for ``jobs``.
            created_before: As for ``jobs``.
            query: As for ``jobs``. A page may then have no jobs and still not be the last one.
            page_size: Greatest number of jobs, at most 500. 0: 50.
            page_token: ``next_page_token`` of the previous page. Empty: the first page.
            all_submitters: As for ``jobs``.
            timeout: Limit for the page in seconds.
        """
        request = encode_list_request(
            states,
            created_from,
            created_before,
            query=query,
            all_submitters=all_submitters,
            page_size=page_size,
            page_token=page_token,
        )
        return decode_job_page(await self._query(self._jobs.ListJobs, request, timeout))

    async def watch(
        self, job_id: str, *, timeout: float | None = None, on_event: EventCallback | None = None
    ) -> AsyncGenerator[Job | Segment, None]:
        """Yields the job now and at each change, and each finished segment, until the job has ended.

        Continues after a broken connection without losing or repeating a segment. Once it has begun, it waits up to a
        minute for a gateway that went away, unless the client was created with no retries.

        Args:
            job_id: The job.
            timeout: Limit for the whole watch in seconds.
            on_event: Called when an attempt failed and another one follows.
        """
        async with aclosing(self.updates(job_id, timeout=timeout, on_event=on_event)) as updates:
            async for update in updates:
                yield update.content

    async def updates(
        self,
        job_id: str,
        *,
        cursor: str = "",
        timeout: float | None = None,
        on_event: EventCallback | None = None,
    ) -> AsyncGenerator[JobUpdate, None]:
        """Yields what ``watch`` yields, each with the cursor to continue after it.

        Args:
            job_id: The job.
            cursor: Continues after the update with this cursor: yields the job, and the segments that follow.
            timeout: As for ``watch``.
            on_event: As for ``watch``.
        """
        watch = Watch(job_id, cursor)
        attempts, emit = Attempts(retries=self._retries, timeout=timeout), serialize(on_event)
        while True:
            try:
                async with aclosing(self._watch(watch, attempts.remaining())) as received:
                    async for update in received:
                        attempts.renew(RESTART_RETRIES)
                        if update is not None:
                            yield update
            except CarecaError as error:
                await wait_for_retry(attempts, error, emit)
            else:
                watch.finish()
                return

    async def _watch(self, watch: Watch, timeout: float | None) -> AsyncGenerator[JobUpdate | None, None]:
        call = self._jobs.WatchJob(watch.request, timeout=timeout, metadata=self._metadata)
        try:
            with translated_errors():
                async for response in call:
                    yield watch.receive(response)
        finally:
            call.cancel()

    async def job_result(
        self,
        job_id: str,
        *,
        formats: Iterable[OutputFormat | str] = (),
        revision: int | None = None,
        timeout: float = ADMIN_TIMEOUT_SECONDS,
    ) -> TranscriptionResult:
        """Returns the result of a job that has succeeded, with the text ``formats``.

        Args:
            job_id: The job.
            formats: The text formats to make of the result.
            revision: Which revision of the transcript. 0: what was recognised. Default: the newest.
            timeout: Limit in seconds.

        Raises ``PreconditionFailed`` (``NO_RESULT``) if the job has no result, ``NotFound`` (``RESULT_MISSING``,
        ``REVISION_NOT_FOUND``) if the result or the revision is not kept.
        """
        request, begin = encode_result_request(job_id, formats, revision), time.monotonic()
        response = await self._query(self._jobs.GetJobResult, request, timeout)
        return TranscriptionResult(response.result, uploaded_bytes=0, seconds=time.monotonic() - begin)

    async def cancel_job(self, job_id: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> Job:
        """Cancels the job and returns it. A job that has ended stays as it is."""
        response = await self._call(self._jobs.CancelJob, jobs_pb2.CancelJobRequest(job_id=job_id), timeout)
        return codec.decode_job(response.job)

    async def retry_job(self, job_id: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> Job:
        """Queues a job again that was cancelled, that failed, or in which a stage failed. Repeats only what failed.

        Raises ``PreconditionFailed`` (``NOTHING_TO_RETRY``) if there is nothing to repeat.
        """
        response = await self._call(self._jobs.RetryJob, jobs_pb2.RetryJobRequest(job_id=job_id), timeout)
        return codec.decode_job(response.job)

    async def delete_job(self, job_id: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> None:
        """Removes the job and its result. Cancels the job first if it has not ended."""
        await self._call(self._jobs.DeleteJob, jobs_pb2.DeleteJobRequest(job_id=job_id), timeout)

    async def clear_jobs(
        self, *, all_submitters: bool = False, timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> JobsClearance:
        """Removes the submitter's jobs that have ended, and makes all services release memory.

        ``all_submitters`` removes those of all submitters. If the gateway requires tokens, this and the release of
        memory need an administrator's.
        """
        request = jobs_pb2.ClearJobsRequest(all_submitters=all_submitters)
        response = await self._call(self._jobs.ClearJobs, request, timeout)
        return decode_jobs_clearance(response)
