"""Runs Transcribe calls as jobs: submits a job, streams its events to the caller, and cancels it if the caller leaves.

If this gateway works on the job itself, the events come directly from the attempt, and the caller gets the result
before it is stored. Otherwise, and if the attempt here ends without a result, the queue is watched.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial

from careca.cancellation import cancel_and_wait
from careca.errors import (
    Cancelled,
    CarecaError,
    DeadlineExceeded,
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
from careca_gateway.jobs.listener import JobListener
from careca_gateway.jobs.metrics import JobMetrics
from careca_gateway.jobs.progress import first_stages, stages_to_repeat
from careca_gateway.jobs.queue.port import JobQueue, Limits, Submission
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.specs import JobSpecs
from careca_gateway.jobs.worker import JobWorker
from careca_gateway.pipeline.event_stream import stream_events
from careca_gateway.pipeline.port import Emit, RunPipeline, completed
from careca_gateway.request import Completed, Deadline, PipelineEvent, Request
from careca_gateway.storage.held_recording import HeldRecording

Response = gateway_pb2.TranscribeResponse
Config = gateway_pb2.TranscribeRequest.Config

_MAX_ID = 128

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, with a unique name."""

    name: str
    submitter: str
    config: Config
    request: Request
    deadline: Deadline
    ended: asyncio.Event


class CallRunner:
    """Runs calls as jobs.

    Args:
        queue: the jobs.
        worker: this gateway's worker.
        specs: writes the specs of jobs.
        results: reads the results of jobs.
        limits: how many jobs may wait.
        run_directly: returns what runs a call of a submitter without a job.
        stopping: returns whether the server is ending the calls because the process stops.
        metrics: counts calls.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        worker: JobWorker,
        specs: JobSpecs,
        results: JobResults,
        limits: Limits,
        run_directly: Callable[[str], RunPipeline[Response]],
        stopping: Callable[[], bool],
        metrics: JobMetrics,
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._specs = specs
        self._results = results
        self._limits = limits
        self._run_directly = run_directly
        self._stopping = stopping
        self._metrics = metrics

    def run_for(self, submitter: str, config: Config) -> RunPipeline[Response]:
        """Returns what runs a call of ``submitter`` with this ``config``, from which its request was decoded."""
        return partial(self._run, submitter, config)

    async def _run(
        self, submitter: str, config: Config, request: Request, recording: HeldRecording, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | Completed[Response], None]:
        """Does the same as ``Pipeline.run``.

        Also raises ``Overloaded`` (TOO_MANY_JOBS), and ``Cancelled`` if the job is cancelled.
        """
        call = _Call(uuid.uuid4().hex, submitter, config, request, deadline, asyncio.Event())
        try:
            async with aclosing(stream_events(partial(self._work, call, recording))) as events:
                async for event in events:
                    yield event
        finally:
            call.ended.set()

    async def _work(self, call: _Call, recording: HeldRecording, emit: Emit) -> Completed[Response]:
        listener = JobListener(emit, call.ended)
        with self._worker.listen(call.name, listener):
            try:
                job = await self._submit_uncancelled(call)
            except (Unavailable, Overloaded) as error:
                if error.reason == "TOO_MANY_JOBS":
                    raise
                _log.warning("a call is worked on without a job", reason=error.reason, error=error.message)
            else:
                recording.release()  # the attempt holds it, and must be able to discard it if it is unusable
                return await self._wait_for_result(call, job, listener)
        self._metrics.call_without_job()
        return await completed(self._run_directly(call.submitter)(call.request, recording, call.deadline), emit)

    async def _submit_uncancelled(self, call: _Call) -> Job:
        """Submits the call's job. If the caller leaves meanwhile, the job is cancelled: nobody would wait for it."""
        submitting = asyncio.create_task(self._submit(call))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with suppress(CarecaError):
                await self._abandon(call, await submitting)
            raise

    async def _submit(self, call: _Call) -> Job:
        """Returns a new job, or the job of an earlier call with the same id and content that broke off."""
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
            # Several calls may have the same request id: unlike a job's, it need not be unique.
            other_id = f"{submission.request_id[: _MAX_ID - 9]}~{uuid.uuid4().hex[:8]}"
            job = await self._worker.submit(replace(submission, request_id=other_id), self._limits)
        if job.state in (JobState.FAILED, JobState.CANCELLED):
            job = await self._retry(call, job)
        return job

    async def _retry(self, call: _Call, job: Job) -> Job:
        try:
            return await self._queue.retry(job.id, stages_to_repeat(job.stages), self._limits, caller=call.name)
        except PreconditionFailed:  # another call retried it first
            return job

    async def _wait_for_result(self, call: _Call, job: Job, listener: JobListener) -> Completed[Response]:
        watching = asyncio.create_task(self._watch_queue(call, job.id, listener))
        try:
            await asyncio.wait((watching, listener.completed), return_when=asyncio.FIRST_COMPLETED)
            return listener.completed.result() if listener.completed.done() else watching.result()
        except asyncio.CancelledError:
            await self._abandon(call, job)
            raise
        finally:
            await cancel_and_wait([watching])

    async def _watch_queue(self, call: _Call, job_id: str, listener: JobListener) -> Completed[Response]:
        """Watches the job in the queue to its end, as soon as no attempt runs in this process."""
        await listener.no_attempt.wait()
        last: Job | None = None
        try:
            async with aclosing(self._queue.watch(job_id)) as events:
                async for event in events:
                    listener.add_from_queue(event.content)
                    last = event.content if isinstance(event.content, Job) else last
        except NotFound:
            last = None
        return await self._result_of(call, last)

    async def _result_of(self, call: _Call, job: Job | None) -> Completed[Response]:
        """Returns the result of a job that has ended. Raises the error if it failed."""
        if job is None or job.state is JobState.CANCELLED:
            raise Cancelled("the call's job was cancelled")
        if job.state is JobState.FAILED:
            raise await self._queue.error(job.id)
        key = await self._queue.result_key(job.id)
        result = await self._results.get(key, call.request.formats, call.request.display_name)
        return Completed(Response(result=result), _reports(job))

    async def _abandon(self, call: _Call, job: Job) -> None:
        """Cancels the job after its caller left or the deadline passed, unless another call waits for it by now.

        If the call ended because this process stops, the job is not cancelled: the worker hands it back.
        """
        if self._stopping():
            return
        late = None if call.deadline.allows(DEADLINE_SLACK_SECONDS) else DeadlineExceeded("the deadline passed")
        try:
            abandoned = await self._queue.cancel(job.id, caller=call.name, error=late)
        except CarecaError as error:
            _log.warning("a call's job could not be cancelled", job_id=job.id, reason=error.reason, error=error.message)
        else:
            if not abandoned.state.ended:
                return
        self._worker.stop_work(job.id)


def _reports(job: Job) -> tuple[StageReport, ...]:
    return tuple(
        StageReport(each.stage, each.state, each.seconds, each.cached, each.error_reason, each.error_message)
        for each in job.stages
    )
