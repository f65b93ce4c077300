"""A job service in memory for the scripted gateway. It follows the rules of the proto; a test decides what jobs do."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from careca import codec
from careca.errors import CarecaError, InvalidRequest, NotFound, PreconditionFailed
from careca.types import (
    Job,
    JobAttempt,
    JobStage,
    JobState,
    JobWebhook,
    MemoryRelease,
    MemoryUsage,
    Notice,
    Segment,
    Stage,
    StageState,
)
from careca.v1 import admin_pb2, gateway_pb2, jobs_pb2, jobs_pb2_grpc
from support.waiting import HANG_SECONDS

RELEASE = MemoryRelease(MemoryUsage(900_000_000, 800_000_000), MemoryUsage(200_000_000, 100_000_000), True)
SEGMENTS = (Segment(0.0, 1.0, "Hello."), Segment(1.0, 2.5, "Olá, você!"))


@dataclass
class JobScript:
    """What jobs do, and what callers have requested."""

    fail: Callable[[Any], None]
    """Raises the error that the test has planned for a call, before anything else is done."""
    recordings: dict[str, bytes]
    uploads: list[int]
    at_once: bool = True
    """Whether jobs are done as soon as they are submitted. Otherwise a test calls ``ScriptedJobs.work``."""
    failed_stage: Stage | None = None
    notices: tuple[Notice, ...] = ()
    """The notices of every result."""
    results_kept: bool = True
    """Whether the results of jobs are still kept."""
    error: tuple[str, str] | None = None
    """Reason and message of the error of all jobs."""
    lost_responses: int = 0
    """How many responses to submissions are lost."""
    lost_uploads: int = 0
    """How many recordings are lost directly after their upload."""
    break_watches_after: list[int] = field(default_factory=list)
    """For each coming call, the number of messages after which its connection breaks."""
    submissions: list[jobs_pb2.SubmitJobRequest] = field(default_factory=list)
    listings: list[jobs_pb2.ListJobsRequest] = field(default_factory=list)
    pages: list[jobs_pb2.ListJobsResponse] = field(default_factory=list)
    """The responses to the next lists, instead of the jobs that there are."""
    cursors: list[str] = field(default_factory=list)
    submitters: list[str] = field(default_factory=list)
    """The submitter of each call."""
    watch_ended: threading.Event = field(default_factory=threading.Event)
    """Set when a watch ends."""

    def record_submitter(self, context: Any) -> str:
        """Records and returns the submitter of the call."""
        name = dict(context.invocation_metadata()).get("x-careca-submitter", "anonymous")
        self.submitters.append(name)
        return str(name)


@dataclass
class Record:
    """One job with its request, and the ``updates`` that watchers receive."""

    job: Job
    request: jobs_pb2.SubmitJobRequest
    updates: list[Job | Segment] = field(default_factory=list)


class ScriptedJobs(jobs_pb2_grpc.JobServiceServicer):
    """Works on a job in two steps that a test may call: ``begin`` and ``finish``."""

    def __init__(self, script: JobScript, abort: Callable[[Any, CarecaError], None], result_for: Any) -> None:
        self.script = script
        self.records: dict[str, Record] = {}
        self._abort, self._result_for = abort, result_for
        self._changed = threading.Condition()

    # Called by tests.

    def begin(self, job_id: str) -> None:
        """Starts the job: it is decoded, and its first segment is finished."""
        self._change(job_id, lambda job: replace(job, state=JobState.RUNNING, start_unix=now()))
        self._change(job_id, lambda job: replace(job, stages=(_stage(Stage.DECODE), *job.stages[1:])))
        self._add(job_id, SEGMENTS[0])

    def finish(self, job_id: str) -> None:
        """Finishes the second segment of the job, and the job."""
        self._add(job_id, SEGMENTS[1])
        self._change(job_id, self._end)

    def work(self, job_id: str) -> None:
        """Starts and finishes the job."""
        self.begin(job_id)
        self.finish(job_id)

    def wait_for_jobs(self, count: int) -> list[str]:
        """Waits for this number of jobs and returns the ids of all."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.records) >= count, HANG_SECONDS)
            return list(self.records)

    def wait_for_watches(self, count: int) -> bool:
        """Waits for this number of watches. Returns whether they have begun."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.script.cursors) >= count, HANG_SECONDS)

    # The rpcs.

    def UploadRecording(self, requests: Any, context: Any) -> Iterator[jobs_pb2.UploadRecordingResponse]:
        self._begin_call(context)
        script, wanted = self.script, next(requests).config.recording.sha256
        if wanted in script.recordings:
            yield jobs_pb2.UploadRecordingResponse(recording_known=gateway_pb2.TranscribeResponse.RecordingKnown())
            return
        yield jobs_pb2.UploadRecordingResponse(recording_needed=gateway_pb2.TranscribeResponse.RecordingNeeded())
        received = b"".join(request.recording_chunk for request in requests)
        script.uploads.append(len(received))
        if hashlib.sha256(received).hexdigest() != wanted:
            self._abort(context, InvalidRequest("the bytes are others", reason="DIGEST_MISMATCH"))
        if script.lost_uploads:
            script.lost_uploads -= 1
        else:
            script.recordings[wanted] = received

    def SubmitJob(self, request: Any, context: Any) -> jobs_pb2.SubmitJobResponse:
        submitter = self._begin_call(context)
        self.script.submissions.append(request)
        job = self._find_or_create(request, submitter, context)
        if self.script.lost_responses:
            self.script.lost_responses -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        return jobs_pb2.SubmitJobResponse(job=codec.encode_job(job))

    def GetJob(self, request: Any, context: Any) -> jobs_pb2.GetJobResponse:
        return jobs_pb2.GetJobResponse(job=codec.encode_job(self._find(request, context).job))

    def ListJobs(self, request: Any, context: Any) -> jobs_pb2.ListJobsResponse:
        submitter = self._begin_call(context)
        self.script.listings.append(request)
        if self.script.pages:
            return self.script.pages.pop(0)
        found = [
            record.job
            for _, record in sorted(self.records.items(), reverse=True)
            if record.job.submitter == submitter and _matches(record.job, request)
        ]
        begin, size = int(request.page_token or 0), request.page_size or 50
        token = str(begin + size) if begin + size < len(found) else ""
        page = [codec.encode_job(job) for job in found[begin : begin + size]]
        return jobs_pb2.ListJobsResponse(jobs=page, next_page_token=token)

    def WatchJob(self, request: Any, context: Any) -> Iterator[jobs_pb2.WatchJobResponse]:
        record = self._find(request, context)
        with self._changed:
            known = record.job, len(record.updates)  # read now: a test may change it as soon as it sees the watch begin
            self.script.cursors.append(request.cursor)
            self._changed.notify_all()
        context.add_callback(self.script.watch_ended.set)
        left = self.script.break_watches_after.pop(0) if self.script.break_watches_after else -1
        for message in self._updates(record, int(request.cursor or 0), known, context):
            if left == 0:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            left -= 1
            yield message

    def GetJobResult(self, request: Any, context: Any) -> jobs_pb2.GetJobResultResponse:
        record = self._find(request, context)
        if record.job.state is not JobState.SUCCEEDED:
            self._abort(context, PreconditionFailed(f"job {record.job.id} has no result", reason="NO_RESULT"))
        if not self.script.results_kept:
            self._abort(context, NotFound("the job's result is not kept any more", reason="RESULT_MISSING"))
        config = gateway_pb2.TranscribeRequest.Config()
        config.CopyFrom(record.request.config)
        config.ClearField("formats")
        config.formats.extend(request.formats)
        result = self._result_for(config, failed=self.script.failed_stage, notices=self.script.notices)
        return jobs_pb2.GetJobResultResponse(result=codec.encode_result(result))

    def CancelJob(self, request: Any, context: Any) -> jobs_pb2.CancelJobResponse:
        record = self._find(request, context)
        if not record.job.state.ended:
            self._change(record.job.id, lambda job: replace(job, state=JobState.CANCELLED, end_unix=now()))
        return jobs_pb2.CancelJobResponse(job=codec.encode_job(record.job))

    def RetryJob(self, request: Any, context: Any) -> jobs_pb2.RetryJobResponse:
        record = self._find(request, context)
        if not record.job.state.ended or (record.job.state is JobState.SUCCEEDED and not record.job.partial):
            self._abort(context, PreconditionFailed("nothing of it failed", reason="NOTHING_TO_RETRY"))
        self._change(
            record.job.id,
            lambda job: replace(
                job, state=JobState.QUEUED, end_unix=None, partial=False, error_reason="", error_message=""
            ),
        )
        return jobs_pb2.RetryJobResponse(job=codec.encode_job(record.job))

    def DeleteJob(self, request: Any, context: Any) -> jobs_pb2.DeleteJobResponse:
        del self.records[self._find(request, context).job.id]
        return jobs_pb2.DeleteJobResponse()

    def ClearJobs(self, request: Any, context: Any) -> jobs_pb2.ClearJobsResponse:
        submitter = self._begin_call(context)
        ended = [
            job_id
            for job_id, record in self.records.items()
            if record.job.submitter == submitter and record.job.state.ended
        ]
        for job_id in ended:
            del self.records[job_id]
        memory = codec.encode_memory_release(RELEASE)
        stage = admin_pb2.ReleaseMemoryResponse.StageRelease(stage=codec.encode_stage(Stage.DIARIZE), memory=memory)
        return jobs_pb2.ClearJobsResponse(removed_jobs=len(ended), stages=[stage], gateway=memory)

    def _begin_call(self, context: Any) -> str:
        submitter = self.script.record_submitter(context)
        self.script.fail(context)
        return submitter

    def _find(self, request: Any, context: Any) -> Record:
        self._begin_call(context)
        if request.job_id not in self.records:
            self._abort(context, NotFound(f"there is no job {request.job_id}"))
        return self.records[request.job_id]

    def _find_or_create(self, request: Any, submitter: str, context: Any) -> Job:
        for record in self.records.values():
            if (record.job.submitter, record.job.request_id) == (submitter, request.request_id):
                if record.request != request:
                    self._abort(context, PreconditionFailed("used for other content", reason="REQUEST_ID_REUSED"))
                return record.job
        if request.config.recording.sha256 not in self.script.recordings:
            self._abort(context, PreconditionFailed("upload the recording first", reason="RECORDING_MISSING"))
        return self._create(request, submitter)

    def _create(self, request: Any, submitter: str) -> Job:
        with self._changed:
            job = Job(
                id=f"job-{len(self.records) + 1:06}",
                state=JobState.QUEUED,
                recording=codec.decode_digest(request.config.recording, "recording"),
                display_name=request.config.display_name,
                submitter=submitter,
                priority=codec.decode_job_priority(request.priority, "priority"),
                request_id=request.request_id,
                create_unix=now(),
                stages=tuple(JobStage(stage) for stage in Stage),
                webhook=JobWebhook(request.webhook_url) if request.webhook_url else None,
            )
            self.records[job.id] = Record(job, request)
            self._changed.notify_all()
        if self.script.at_once:
            self.work(job.id)
        return job

    def _end(self, job: Job) -> Job:
        reason, message = self.script.error or ("", "")
        failed = self.script.failed_stage
        end = now()
        return replace(
            job,
            state=JobState.FAILED if reason else JobState.SUCCEEDED,
            end_unix=end,
            stages=tuple(_stage(stage, failed=stage is failed) for stage in Stage),
            attempts=(JobAttempt(1, "gateway-1", job.create_unix, end, outcome=reason or "SUCCEEDED"),),
            partial=failed is not None and not reason,
            error_reason=reason,
            error_message=message,
        )

    def _change(self, job_id: str, change: Callable[[Job], Job]) -> None:
        self._add(job_id, change(self.records[job_id].job))

    def _add(self, job_id: str, update: Job | Segment) -> None:
        with self._changed:
            record = self.records[job_id]
            if isinstance(update, Job):
                record.job = update
            record.updates.append(update)
            self._changed.notify_all()

    def _updates(
        self, record: Record, position: int, known: tuple[Job, int], context: Any
    ) -> Iterator[jobs_pb2.WatchJobResponse]:
        """Yields the ``known`` job, the segments after ``position``, and each further change."""
        job, changes = known
        yield jobs_pb2.WatchJobResponse(cursor=str(position), job=codec.encode_job(job))
        while context.is_active():
            with self._changed:
                self._changed.wait_for(lambda at=position: len(record.updates) > at or record.job.state.ended, 0.05)  # type: ignore[misc]
            if len(record.updates) <= position and record.job.state.ended:
                return
            for update in record.updates[position:]:
                position += 1
                if isinstance(update, Segment):
                    yield jobs_pb2.WatchJobResponse(cursor=str(position), segment=codec.encode_segment(update))
                elif position > changes:
                    yield jobs_pb2.WatchJobResponse(cursor=str(position), job=codec.encode_job(update))


def now() -> float:
    """Returns the time in seconds since 1970, rounded as on the wire."""
    return round(time.time(), 6)


def _stage(stage: Stage, *, failed: bool = False) -> JobStage:
    if not failed:
        return JobStage(stage, StageState.SUCCEEDED, 1.0, 1.5, attempts=1)
    error = ("OUT_OF_MEMORY", "the device has too little memory")
    return JobStage(stage, StageState.FAILED, 0.5, 1.5, False, 1, *error)


def _matches(job: Job, request: jobs_pb2.ListJobsRequest) -> bool:
    begin, end = codec.decode_time(request.created_from), codec.decode_time(request.created_before)
    return (
        (not request.states or codec.encode_job_state(job.state) in request.states)
        and (not request.HasField("created_from") or job.create_unix >= begin)
        and (not request.HasField("created_before") or job.create_unix < end)
    )
