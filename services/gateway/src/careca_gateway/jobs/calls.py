"""Calls that are jobs: each is submitted, told to its caller as it goes on, and cancelled when its caller goes away.

Where this gateway works on the job itself, its caller hears of it from the attempt, and has the result before it is
stored. Otherwise, and whenever the attempt here ends without a result, the queue is watched.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from careca.errors import (
    Cancelled,
    CarecaError,
    DeadlineExceeded,
    InternalError,
    NotFound,
    Overloaded,
    PreconditionFailed,
    Unavailable,
)
from careca.rpc import request_id
from careca.rpc.interceptors import DEADLINE_SLACK_SECONDS
from careca.telemetry.logs import get_logger
from careca.types import Job, JobPriority, JobState, StageReport
from careca.v1 import gateway_pb2
from careca_gateway.background import end
from careca_gateway.jobs.listener import JobListener
from careca_gateway.jobs.progress import first_stages, stages_to_repeat
from careca_gateway.jobs.queue.port import JobQueue, Limits, Submission
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.specs import JobSpecs
from careca_gateway.jobs.worker import JobWorker
from careca_gateway.pipeline.event_stream import stream_events
from careca_gateway.pipeline.pipeline import Emit
from careca_gateway.request import Completed, Deadline, PipelineEvent, Request
from careca_gateway.storage.store import HeldRecording
from careca_gateway.transcription import Run

Response = gateway_pb2.TranscribeResponse
Config = gateway_pb2.TranscribeRequest.Config

_MAX_ID = 128

_log = get_logger(__name__)


class CallObserver(Protocol):
    """Told what happens to calls, for metrics."""

    def call_without_job(self) -> None:
        """A call is worked on without a job, because none could be made."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, by a name that no other has."""

    name: str
    submitter: str
    config: Config
    request: Request
    deadline: Deadline
    over: asyncio.Event


class CallRunner:
    """Works on calls by way of the queue.

    Args:
        queue: where jobs are.
        worker: this gateway's part in the work.
        specs: keep what jobs are asked to do.
        results: where results are.
        limits: how many jobs may wait.
        direct: works on a call for which there can be no job.
        stopping: whether calls that are ended now are ended by us, because the process has to stop.
        observer: told what happens.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        worker: JobWorker,
        specs: JobSpecs,
        results: JobResults,
        limits: Limits,
        direct: Run[Response],
        stopping: Callable[[], bool],
        observer: CallObserver,
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._specs = specs
        self._results = results
        self._limits = limits
        self._direct = direct
        self._stopping = stopping
        self._observer = observer

    def run_for(self, submitter: str, config: Config) -> Run[Response]:
        """What works on a call of ``submitter`` with this ``config``, from which its request was made."""
        return partial(self._run, submitter, config)

    async def _run(
        self, submitter: str, config: Config, request: Request, recording: HeldRecording, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | Completed[Response], None]:
        """As ``Pipeline.run``; raises also ``Overloaded`` (TOO_MANY_JOBS), and ``Cancelled`` where the job is."""
        call = _Call(uuid.uuid4().hex, submitter, config, request, deadline, asyncio.Event())
        try:
            async with aclosing(stream_events(partial(self._work, call, recording))) as events:
                async for event in events:
                    yield event
        finally:
            call.over.set()

    async def _work(self, call: _Call, recording: HeldRecording, tell: Emit) -> Completed[Response]:
        ear = JobListener(tell, call.over)
        with self._worker.listening(call.name, ear):
            try:
                job = await self._submitted(call)
            except (Unavailable, Overloaded) as error:
                if error.reason == "TOO_MANY_JOBS":
                    raise
                _log.warning("a call is worked on without a job", reason=error.reason, error=error.message)
            else:
                recording.release()  # who works on the job holds it, and may find that it is of no use to anybody
                return await self._attend(call, job, ear)
        self._observer.call_without_job()
        return await self._work_directly(call, recording, tell)

    async def _work_directly(self, call: _Call, recording: HeldRecording, tell: Emit) -> Completed[Response]:
        async with aclosing(self._direct(call.request, recording, call.deadline)) as events:
            async for event in events:
                if isinstance(event, Completed):
                    return event
                tell(event)
        raise InternalError("the pipeline ended without a result")

    async def _submitted(self, call: _Call) -> Job:
        """The call's job. A caller who goes meanwhile leaves it, if there is one by then: nobody would wait for it."""
        submitting = asyncio.create_task(self._submit(call))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with suppress(CarecaError):
                await self._leave(call, await submitting)
            raise

    async def _submit(self, call: _Call) -> Job:
        """A new job, or that of a call with the same id and content, which broke off."""
        submission = Submission(
            submitter=call.submitter,
            request_id=request_id.current() or request_id.new(),
            recording=call.request.recording,
            spec=await self._specs.pack(call.config),
            display_name=call.request.display_name,
            priority=JobPriority.INTERACTIVE,
            stages=first_stages(),
            time_limit_seconds=call.deadline.remaining(),
            caller=call.name,
        )
        try:
            job = await self._worker.submit(submission, self._limits)
        except PreconditionFailed as error:
            if error.reason != "REQUEST_ID_REUSED":
                raise
            # Callers may give several calls one id. It is no promise, as that of a job is.
            other_id = f"{submission.request_id[: _MAX_ID - 9]}~{uuid.uuid4().hex[:8]}"
            job = await self._worker.submit(replace(submission, request_id=other_id), self._limits)
        if job.state in (JobState.FAILED, JobState.CANCELLED):
            job = await self._retried(call, job)
        return job

    async def _retried(self, call: _Call, job: Job) -> Job:
        try:
            return await self._queue.retry(job.id, stages_to_repeat(job.stages), self._limits, caller=call.name)
        except PreconditionFailed:  # others were quicker
            return job

    async def _attend(self, call: _Call, job: Job, ear: JobListener) -> Completed[Response]:
        """Tells the caller of the job up to its result."""
        following = asyncio.create_task(self._follow(call, job.id, ear))
        try:
            await asyncio.wait((following, ear.completed), return_when=asyncio.FIRST_COMPLETED)
            return ear.completed.result() if ear.completed.done() else following.result()
        except asyncio.CancelledError:
            await self._leave(call, job)
            raise
        finally:
            await end([following])

    async def _follow(self, call: _Call, job_id: str, ear: JobListener) -> Completed[Response]:
        """Watches the job, once no attempt here does better, to its end."""
        await ear.alone.wait()
        last: Job | None = None
        try:
            async with aclosing(self._queue.watch(job_id)) as happenings:
                async for happening in happenings:
                    ear.happened(happening.what)
                    last = happening.what if isinstance(happening.what, Job) else last
        except NotFound:
            last = None
        return await self._concluded(call, last)

    async def _concluded(self, call: _Call, job: Job | None) -> Completed[Response]:
        """The result of a job that has ended. Raises what it ended by."""
        if job is None or job.state is JobState.CANCELLED:
            raise Cancelled("the call's job was cancelled")
        if job.state is JobState.FAILED:
            raise await self._queue.error(job.id)
        key = await self._queue.result_key(job.id)
        result = await self._results.get(key, call.request.formats, call.request.display_name)
        return Completed(Response(result=result), _reports(job))

    async def _leave(self, call: _Call, job: Job) -> None:
        """The caller went away, or has no time left. The job ends, unless another call waits for it by now.

        Where the call was ended because this process has to stop the job goes on elsewhere: it is handed back.
        """
        if self._stopping():
            return
        late = None if call.deadline.allows(DEADLINE_SLACK_SECONDS) else DeadlineExceeded("the deadline passed")
        try:
            left = await self._queue.cancel(job.id, caller=call.name, error=late)
        except CarecaError as error:
            _log.warning("a call's job could not be cancelled", job_id=job.id, reason=error.reason, error=error.message)
        else:
            if not left.state.ended:
                return
        self._worker.let_go(job.id)


def _reports(job: Job) -> tuple[StageReport, ...]:
    return tuple(
        StageReport(each.stage, each.state, each.seconds, each.cached, each.error_reason, each.error_message)
        for each in job.stages
    )
