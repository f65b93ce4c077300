"""The calls of ``Client`` about jobs. Their twins for asyncio are in ``careca_client.aio.jobs``."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Unpack

from careca import codec
from careca.errors import CarecaError
from careca.rpc.statuses import translated_errors
from careca.types import Digest, Job, JobPriority, JobState, OutputFormat, Segment
from careca.v1 import jobs_pb2, jobs_pb2_grpc
from careca_client.access import Metadata
from careca_client.admin import ADMIN_TIMEOUT_SECONDS
from careca_client.blocking.streams import converse, hashed, one_at_a_time, pause
from careca_client.digests import DigestMemory
from careca_client.events import EventCallback, RecordingKnown
from careca_client.protocol.jobs import (
    RESTART_RETRIES,
    JobsClearance,
    Listing,
    Submission,
    Watch,
    decode_jobs_clearance,
    encode_result_request,
)
from careca_client.protocol.transcribe import Attempts, TranscribeOptions
from careca_client.protocol.upload import Upload
from careca_client.recording import Recording, Source
from careca_client.result import TranscriptionResult


class JobCalls:
    """Jobs are worked on whether or not anybody waits, and kept until they are deleted or their time has passed.

    Those that a client sees in ``jobs`` and removes with ``clear_jobs`` are its submitter's own.
    """

    _retries: int
    _metadata: Metadata
    _digests: DigestMemory
    _jobs: jobs_pb2_grpc.JobServiceStub

    def upload(
        self, recording: Source, *, timeout: float | None = None, on_event: EventCallback | None = None
    ) -> Digest:
        """Brings the recording to the gateway, unless it is there, and gives its digest.

        ``timeout`` and ``on_event`` are those of ``transcribe``.
        """
        attempts, emit = Attempts(retries=self._retries, timeout=timeout), one_at_a_time(on_event)
        with hashed(recording, None, self._digests, emit) as source:
            self._upload(source, attempts, emit)
            return source.digest

    def _upload(self, source: Recording, attempts: Attempts, emit: EventCallback) -> None:
        converse(self._jobs.UploadRecording, lambda: Upload(source), attempts, emit, self._metadata).finish()

    def submit(
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
        """Queues a job about the recording, which is uploaded first where the gateway does not have it.

        ``request_id`` makes submitting again harmless: the same id with the same content gives the same job. With
        ``once`` it is made of the recording, its name, and all options, so that whoever submits the same again gets the
        job that there is. ``options`` are those of ``transcribe`` but for formats, which ``job_result`` makes;
        ``timeout`` and ``on_event`` are its too, and limit and tell of the submission.
        """
        attempts, emit = Attempts(retries=self._retries, timeout=timeout), one_at_a_time(on_event)
        submission = Submission(options, request_id=request_id, once=once, priority=priority, webhook_url=webhook_url)
        with hashed(recording, options.get("display_name"), self._digests, emit) as source:
            submission.about(source)
            while True:
                try:
                    job = self._submit(submission, attempts.remaining())
                except CarecaError as error:
                    if submission.needs_upload(error):
                        self._upload(source, attempts, emit)
                    else:
                        pause(attempts, error, emit)
                else:
                    if not submission.uploaded:
                        emit(RecordingKnown(source.digest))
                    return job

    def _submit(self, submission: Submission, timeout: float | None) -> Job:
        with translated_errors():
            response = self._jobs.SubmitJob(submission.request, timeout=timeout, metadata=self._metadata)
        return codec.decode_job(response.job)

    def job(self, job_id: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> Job:
        """The job as it is now. Raises ``NotFound`` where there is none, as all calls do that name a job."""
        request = jobs_pb2.GetJobRequest(job_id=job_id)
        with translated_errors():
            return codec.decode_job(self._jobs.GetJob(request, timeout=timeout, metadata=self._metadata).job)

    def jobs(
        self,
        *,
        states: Iterable[JobState | str] = (),
        created_from: float | None = None,
        created_before: float | None = None,
        limit: int | None = None,
        all_submitters: bool = False,
        timeout: float = ADMIN_TIMEOUT_SECONDS,
    ) -> Generator[Job, None, None]:
        """The jobs, newest first: those in one of ``states``, created within the times, in seconds since 1970.

        With ``all_submitters`` everybody's, which takes an administrator's token. Asks for further pages as they are
        needed. ``timeout`` limits each of these calls.
        """
        listing = Listing(states, created_from, created_before, limit, all_submitters=all_submitters)
        while (request := listing.request) is not None:
            with translated_errors():
                page = self._jobs.ListJobs(request, timeout=timeout, metadata=self._metadata)
            yield from listing.receive(page)

    def watch(
        self, job_id: str, *, timeout: float | None = None, on_event: EventCallback | None = None
    ) -> Generator[Job | Segment, None, None]:
        """The job now and whenever it changes, and segments as they are finished, until the job has ended.

        Goes on by itself after a broken connection, without losing a segment or repeating one; once it has begun, it
        gives a gateway that went away a minute to come back, unless this client is to try nothing again. ``timeout``
        limits all of it, in seconds. ``on_event`` is called where an attempt failed and another follows.
        """
        watch, attempts, emit = Watch(job_id), Attempts(retries=self._retries, timeout=timeout), one_at_a_time(on_event)
        while True:
            try:
                with closing(self._watch(watch, attempts.remaining())) as happenings:
                    for happened in happenings:
                        attempts.renew(RESTART_RETRIES)
                        if happened is not None:
                            yield happened
            except CarecaError as error:
                pause(attempts, error, emit)
            else:
                watch.finish()
                return

    def _watch(self, watch: Watch, timeout: float | None) -> Generator[Job | Segment | None, None, None]:
        call = self._jobs.WatchJob(watch.request, timeout=timeout, metadata=self._metadata)
        try:
            with translated_errors():
                for response in call:
                    yield watch.receive(response)
        finally:
            call.cancel()

    def job_result(
        self, job_id: str, *, formats: Iterable[OutputFormat | str] = (), timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> TranscriptionResult:
        """The result of a job that has succeeded, with the textual forms that are asked for.

        Raises ``PreconditionFailed`` (``NO_RESULT``) where the job has none, ``NotFound`` (``RESULT_MISSING``) where it
        is not kept any more.
        """
        request, begin = encode_result_request(job_id, formats), time.monotonic()
        with translated_errors():
            response = self._jobs.GetJobResult(request, timeout=timeout, metadata=self._metadata)
        return TranscriptionResult(response.result, uploaded_bytes=0, seconds=time.monotonic() - begin)

    def cancel_job(self, job_id: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> Job:
        """Ends the job and gives it as it then is; one that has ended stays as it is."""
        request = jobs_pb2.CancelJobRequest(job_id=job_id)
        with translated_errors():
            return codec.decode_job(self._jobs.CancelJob(request, timeout=timeout, metadata=self._metadata).job)

    def retry_job(self, job_id: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> Job:
        """Queues a job again of which something failed, or that was cancelled. Only what failed is done again.

        Raises ``PreconditionFailed`` (``NOTHING_TO_RETRY``) where there is nothing to try again.
        """
        request = jobs_pb2.RetryJobRequest(job_id=job_id)
        with translated_errors():
            return codec.decode_job(self._jobs.RetryJob(request, timeout=timeout, metadata=self._metadata).job)

    def delete_job(self, job_id: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> None:
        """Removes the job and its result; one that has not ended is cancelled first."""
        request = jobs_pb2.DeleteJobRequest(job_id=job_id)
        with translated_errors():
            self._jobs.DeleteJob(request, timeout=timeout, metadata=self._metadata)

    def clear_jobs(self, *, all_submitters: bool = False, timeout: float = ADMIN_TIMEOUT_SECONDS) -> JobsClearance:
        """Removes all of the submitter's jobs that have ended, and has all services give their memory back.

        With ``all_submitters`` everybody's. Where tokens are asked for, that and the memory are for administrators.
        """
        request = jobs_pb2.ClearJobsRequest(all_submitters=all_submitters)
        with translated_errors():
            return decode_jobs_clearance(self._jobs.ClearJobs(request, timeout=timeout, metadata=self._metadata))
