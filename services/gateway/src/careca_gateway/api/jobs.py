"""The gRPC service for jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

import grpc.aio

from careca import codec
from careca.auth.caller import current_caller
from careca.errors import PreconditionFailed
from careca.rpc.upload_stream import open_upload
from careca.v1 import gateway_pb2, jobs_pb2, jobs_pb2_grpc
from careca_gateway.api.job_messages import (
    decode_query,
    decode_submission,
    decode_words,
    encode_cleared,
    encode_job_event,
    encode_page,
)
from careca_gateway.api.submitter import submitter_of
from careca_gateway.jobs.service import JobService
from careca_gateway.request import Deadline, RecordingNeeded
from careca_gateway.transcription import TranscriptionService

Context = grpc.aio.ServicerContext[Any, Any]

S = TypeVar("S")


class JobServicer(jobs_pb2_grpc.JobServiceServicer):
    """Jobs outlive the connection of their caller: see jobs.proto.

    Args:
        jobs: runs the operations; ``None`` if this gateway takes no jobs.
        transcription: receives recordings.
    """

    def __init__(self, jobs: JobService | None, transcription: TranscriptionService) -> None:
        self._job_service = jobs
        self._transcription = transcription

    @property
    def _jobs(self) -> JobService:
        return require_jobs(self._job_service)

    async def UploadRecording(
        self, request_iterator: AsyncIterator[jobs_pb2.UploadRecordingRequest], context: Context
    ) -> AsyncIterator[jobs_pb2.UploadRecordingResponse]:
        """Receives a recording."""
        config, chunks = await open_upload(request_iterator, "recording_chunk")
        digest = codec.decode_digest(config.recording, "config.recording")
        async with aclosing(self._transcription.upload(digest, chunks)) as answers:
            async for answer in answers:
                if isinstance(answer, RecordingNeeded):
                    needed = gateway_pb2.TranscribeResponse.RecordingNeeded()
                    yield jobs_pb2.UploadRecordingResponse(recording_needed=needed)
                else:
                    known = gateway_pb2.TranscribeResponse.RecordingKnown()
                    yield jobs_pb2.UploadRecordingResponse(recording_known=known)

    async def SubmitJob(self, request: jobs_pb2.SubmitJobRequest, context: Context) -> jobs_pb2.SubmitJobResponse:
        """Queues a job."""
        job = await self._jobs.submit(_submitter(context), decode_submission(request))
        return jobs_pb2.SubmitJobResponse(job=codec.encode_job(job))

    async def GetJob(self, request: jobs_pb2.GetJobRequest, context: Context) -> jobs_pb2.GetJobResponse:
        """Returns the job."""
        return jobs_pb2.GetJobResponse(job=codec.encode_job(await self._jobs.get(_submitter(context), request.job_id)))

    async def ListJobs(self, request: jobs_pb2.ListJobsRequest, context: Context) -> jobs_pb2.ListJobsResponse:
        """Returns a page of jobs."""
        query = decode_query(request, _submitter_or_all(context, request.all_submitters))
        return encode_page(await self._jobs.list(query, decode_words(request.query)))

    async def WatchJob(
        self, request: jobs_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
        """Streams the events of the job."""
        async with aclosing(self._jobs.watch(_submitter(context), request.job_id, request.cursor)) as events:
            async for event in events:
                yield encode_job_event(event)

    async def GetJobResult(
        self, request: jobs_pb2.GetJobResultRequest, context: Context
    ) -> jobs_pb2.GetJobResultResponse:
        """Returns the job's result."""
        formats = [codec.decode_format(number, f"formats[{index}]") for index, number in enumerate(request.formats)]
        revision = request.revision if request.HasField("revision") else None
        result = await self._jobs.result(_submitter(context), request.job_id, dict.fromkeys(formats), revision)
        return jobs_pb2.GetJobResultResponse(result=result)

    async def CancelJob(self, request: jobs_pb2.CancelJobRequest, context: Context) -> jobs_pb2.CancelJobResponse:
        """Cancels the job."""
        job = await self._jobs.cancel(_submitter(context), request.job_id)
        return jobs_pb2.CancelJobResponse(job=codec.encode_job(job))

    async def RetryJob(self, request: jobs_pb2.RetryJobRequest, context: Context) -> jobs_pb2.RetryJobResponse:
        """Queues the job again."""
        job = await self._jobs.retry(_submitter(context), request.job_id)
        return jobs_pb2.RetryJobResponse(job=codec.encode_job(job))

    async def DeleteJob(self, request: jobs_pb2.DeleteJobRequest, context: Context) -> jobs_pb2.DeleteJobResponse:
        """Removes the job."""
        await self._jobs.delete(_submitter(context), request.job_id)
        return jobs_pb2.DeleteJobResponse()

    async def ClearJobs(self, request: jobs_pb2.ClearJobsRequest, context: Context) -> jobs_pb2.ClearJobsResponse:
        """Removes jobs that have ended."""
        deadline = Deadline.after(context.time_remaining())
        submitter = _submitter_or_all(context, request.all_submitters)
        return encode_cleared(await self._jobs.clear(submitter, deadline))


def require_jobs(service: S | None) -> S:
    """Returns the service. Raises ``PreconditionFailed`` (JOBS_OFF) if there is none: this gateway takes no jobs."""
    if service is None:
        raise PreconditionFailed(
            "this gateway takes no jobs: give it a Redis for them with CARECA_JOBS_REDIS_URL", reason="JOBS_OFF"
        )
    return service


def _submitter(context: Context) -> str:
    return submitter_of(context.invocation_metadata())


def _submitter_or_all(context: Context, all_submitters: bool) -> str | None:
    """Returns ``None`` for all submitters. Raises ``PermissionDenied`` if the caller is not an administrator then."""
    if not all_submitters:
        return _submitter(context)
    current_caller().require_admin("access to the jobs of all submitters")
    return None
