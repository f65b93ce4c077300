"""Jobs kept in memory behind a scripted gateway, with the rules of the proto and whatever work a test lets be done."""

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
    """What becomes of jobs, and what was asked about them."""

    fail: Callable[[Any], None]
    """Fails a call where the test said so, before anything else is done."""
    recordings: dict[str, bytes]
    uploads: list[int]
    at_once: bool = True
    """Whether jobs are done as soon as they are submitted; else a test calls ``ScriptedJobs.work``."""
    failed_stage: Stage | None = None
    notices: tuple[Notice, ...] = ()
    """Those of every result."""
    results_kept: bool = True
    """Whether the results of jobs are still there."""
    error: tuple[str, str] | None = None
    """Reason and message with which jobs fail."""
    lose: int = 0
    """How many answers to submissions are lost on their way back."""
    forget: int = 0
    """How many recordings are lost right after they were uploaded."""
    break_watches_after: list[int] = field(default_factory=list)
    """One per call to come: after how many messages its connection breaks."""
    submissions: list[jobs_pb2.SubmitJobRequest] = field(default_factory=list)
    listings: list[jobs_pb2.ListJobsRequest] = field(default_factory=list)
    cursors: list[str] = field(default_factory=list)
    submitters: list[str] = field(default_factory=list)
    """Who made each call of the two services that ask."""
    unwatched: threading.Event = field(default_factory=threading.Event)
    """Set when a watch ends."""

    def note(self, context: Any) -> str:
        """Who calls."""
        name = dict(context.invocation_metadata()).get("x-careca-submitter", "anonymous")
        self.submitters.append(name)
        return str(name)


@dataclass
class Record:
    """One job, what was asked, and its segments; ``news`` are told to watchers."""

    job: Job
    request: jobs_pb2.SubmitJobRequest
    news: list[Job | Segment] = field(default_factory=list)


class ScriptedJobs(jobs_pb2_grpc.JobServiceServicer):
    """Does a job in two steps, ``begin`` and ``finish``: each may be called by a test."""

    def __init__(self, script: JobScript, abort: Callable[[Any, CarecaError], None], result_for: Any) -> None:
        self.script = script
        self.records: dict[str, Record] = {}
        self._abort, self._result_for = abort, result_for
        self._changed = threading.Condition()

    # What tests do.

    def begin(self, job_id: str) -> None:
        """A gateway works on the job: it is decoded, and its first segment is known."""
        self._tell(job_id, lambda job: replace(job, state=JobState.RUNNING, start_unix=now()))
        self._tell(job_id, lambda job: replace(job, stages=(_stage(Stage.DECODE), *job.stages[1:])))
        self._add(job_id, SEGMENTS[0])

    def finish(self, job_id: str) -> None:
        """The job's second segment is known, and it ends."""
        self._add(job_id, SEGMENTS[1])
        self._tell(job_id, self._ended)

    def work(self, job_id: str) -> None:
        """All of it."""
        self.begin(job_id)
        self.finish(job_id)

    def wait_for_jobs(self, count: int) -> list[str]:
        """The ids of all jobs, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.records) >= count, HANG_SECONDS)
            return list(self.records)

    def wait_for_watches(self, count: int) -> bool:
        """Whether so many watches have begun."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.script.cursors) >= count, HANG_SECONDS)

    # What callers ask.

    def UploadRecording(self, requests: Any, context: Any) -> Iterator[jobs_pb2.UploadRecordingResponse]:
        self._meet(context)
        script, wanted = self.script, next(requests).config.recording.sha256
        if wanted in script.recordings:
            yield jobs_pb2.UploadRecordingResponse(recording_known=gateway_pb2.TranscribeResponse.RecordingKnown())
            return
        yield jobs_pb2.UploadRecordingResponse(recording_needed=gateway_pb2.TranscribeResponse.RecordingNeeded())
        received = b"".join(request.recording_chunk for request in requests)
        script.uploads.append(len(received))
        if hashlib.sha256(received).hexdigest() != wanted:
            self._abort(context, InvalidRequest("the bytes are others", reason="DIGEST_MISMATCH"))
        if script.forget:
            script.forget -= 1
        else:
            script.recordings[wanted] = received

    def SubmitJob(self, request: Any, context: Any) -> jobs_pb2.SubmitJobResponse:
        submitter = self._meet(context)
        self.script.submissions.append(request)
        job = self._submitted(request, submitter, context)
        if self.script.lose:
            self.script.lose -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        return jobs_pb2.SubmitJobResponse(job=codec.encode_job(job))

    def GetJob(self, request: Any, context: Any) -> jobs_pb2.GetJobResponse:
        return jobs_pb2.GetJobResponse(job=codec.encode_job(self._find(request, context).job))

    def ListJobs(self, request: Any, context: Any) -> jobs_pb2.ListJobsResponse:
        submitter = self._meet(context)
        self.script.listings.append(request)
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
            known = record.job, len(record.news)  # now: a test that sees the watch begin may change it at once
            self.script.cursors.append(request.cursor)
            self._changed.notify_all()
        context.add_callback(self.script.unwatched.set)
        left = self.script.break_watches_after.pop(0) if self.script.break_watches_after else -1
        for message in self._news(record, int(request.cursor or 0), known, context):
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
            self._tell(record.job.id, lambda job: replace(job, state=JobState.CANCELLED, end_unix=now()))
        return jobs_pb2.CancelJobResponse(job=codec.encode_job(record.job))

    def RetryJob(self, request: Any, context: Any) -> jobs_pb2.RetryJobResponse:
        record = self._find(request, context)
        if not record.job.state.ended or (record.job.state is JobState.SUCCEEDED and not record.job.partial):
            self._abort(context, PreconditionFailed("nothing of it failed", reason="NOTHING_TO_RETRY"))
        self._tell(
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
        submitter = self._meet(context)
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

    def _meet(self, context: Any) -> str:
        submitter = self.script.note(context)
        self.script.fail(context)
        return submitter

    def _find(self, request: Any, context: Any) -> Record:
        self._meet(context)
        if request.job_id not in self.records:
            self._abort(context, NotFound(f"there is no job {request.job_id}"))
        return self.records[request.job_id]

    def _submitted(self, request: Any, submitter: str, context: Any) -> Job:
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

    def _ended(self, job: Job) -> Job:
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

    def _tell(self, job_id: str, change: Callable[[Job], Job]) -> None:
        self._add(job_id, change(self.records[job_id].job))

    def _add(self, job_id: str, news: Job | Segment) -> None:
        with self._changed:
            record = self.records[job_id]
            if isinstance(news, Job):
                record.job = news
            record.news.append(news)
            self._changed.notify_all()

    def _news(
        self, record: Record, position: int, known: tuple[Job, int], context: Any
    ) -> Iterator[jobs_pb2.WatchJobResponse]:
        """The ``known`` job, after so many news, then each segment after ``position`` and each further change."""
        job, changes = known
        yield jobs_pb2.WatchJobResponse(cursor=str(position), job=codec.encode_job(job))
        while context.is_active():
            with self._changed:
                self._changed.wait_for(lambda at=position: len(record.news) > at or record.job.state.ended, 0.05)  # type: ignore[misc]
            if len(record.news) <= position and record.job.state.ended:
                return
            for news in record.news[position:]:
                position += 1
                if isinstance(news, Segment):
                    yield jobs_pb2.WatchJobResponse(cursor=str(position), segment=codec.encode_segment(news))
                elif position > changes:
                    yield jobs_pb2.WatchJobResponse(cursor=str(position), job=codec.encode_job(news))


def now() -> float:
    """Seconds since 1970, as they come back from the wire."""
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
