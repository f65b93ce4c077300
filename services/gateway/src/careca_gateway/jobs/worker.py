"""The worker of a gateway: takes jobs, renews their leases, reports their progress, and finishes or hands them back."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from structlog.contextvars import bound_contextvars

from careca.cancellation import cancel_and_wait
from careca.errors import CarecaError, InternalError, InvalidRequest, Overloaded, Unavailable
from careca.rpc import request_id
from careca.telemetry.logs import get_logger
from careca.types import Job, JobState
from careca_gateway.background import RETRY_SECONDS, repeat, retry_until_reachable
from careca_gateway.jobs.attempt import PipelineAttempt
from careca_gateway.jobs.listener import JobListener
from careca_gateway.jobs.metrics import JobMetrics
from careca_gateway.jobs.progress import JobProgress, stages_to_repeat
from careca_gateway.jobs.queue.port import JobQueue, Lease, Limits, Outcome, Submission
from careca_gateway.jobs.reclaimer import Reclaimer

RENEW_SECONDS = 0.25
"""How often leases are renewed, which is also how soon the worker learns that a job was cancelled."""

IDLE_SECONDS = 1.0
"""How long a worker without a job waits for a notification before it looks again."""

CLOSE_SECONDS = 15.0
"""How long a worker that stops tries to reach the queue to report how its jobs ended."""

_log = get_logger(__name__)


@dataclass(eq=False)
class _RunningJob:
    """A job that this worker has a lease for."""

    lease: Lease
    progress: JobProgress
    slots: asyncio.Semaphore
    """The semaphore to which its slot belongs."""
    listener: JobListener | None
    task: asyncio.Task[None] | None = None
    lost_at: float | None = None
    """When this worker learned that it lost the lease, on the clock of ``time.monotonic``."""
    ending: bool = False
    """Whether its end is being reported. The lease is not renewed then, and losing it is expected."""
    started: float = field(default_factory=time.monotonic)


class JobWorker:
    """Runs jobs in this gateway.

    Args:
        queue: the jobs.
        attempt: runs a job.
        slots: how many jobs run at the same time.
        interactive_slots: how many more jobs run for waiting callers, so that batch jobs do not block them.
        max_attempts: how often a job may be lost with its worker before it fails.
        patience_seconds: how long an attempt is retried while the store is unavailable.
        metrics: counts what happens.
        job_ended: is called after each attempt, so that memory can be released.
    """

    def __init__(
        self,
        queue: JobQueue,
        attempt: PipelineAttempt,
        *,
        slots: int,
        interactive_slots: int,
        max_attempts: int,
        patience_seconds: float,
        metrics: JobMetrics,
        job_ended: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._attempt = attempt
        self._slots = asyncio.Semaphore(slots)
        self._interactive_slots = asyncio.Semaphore(interactive_slots)
        self._reclaimer = Reclaimer(queue, max_attempts=max_attempts, metrics=metrics)
        self._patience_seconds = patience_seconds
        self._metrics = metrics
        self._job_ended = job_ended
        self._name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._running: dict[str, _RunningJob] = {}
        self._listeners: dict[str, JobListener] = {}
        """By the name of the call that waits."""
        self._loops: list[asyncio.Task[None]] = []
        self._draining = False
        self._taking = asyncio.Lock()
        self._reporting = asyncio.Lock()

    @property
    def in_flight(self) -> int:
        """The number of jobs that are running here."""
        return len(self._running)

    async def start(self) -> None:
        """Starts."""
        _log.info("works on jobs", worker=self._name)
        self._loops = [
            repeat("take jobs", self._take_jobs),
            repeat("take interactive jobs", self._take_interactive_jobs),
            repeat("renew leases", self._renew, pause_seconds=RENEW_SECONDS),
            *self._reclaimer.start(),
        ]

    @contextmanager
    def listen(self, caller: str, listener: JobListener) -> Iterator[None]:
        """In this context, ``listener`` gets the events of attempts that start here for a job of ``caller``."""
        self._listeners[caller] = listener
        try:
            yield
        finally:
            del self._listeners[caller]

    async def submit(self, submission: Submission, limits: Limits) -> Job:
        """Submits an interactive job, and starts it here if a slot is free. Raises as ``JobQueue.submit`` does."""
        if self._draining or self._interactive_slots.locked():
            return await self._queue.submit(submission, limits)
        lease: Lease | None = None
        await self._interactive_slots.acquire()
        try:
            job, lease = await self._queue.submit_and_take(submission, limits, self._name)
        finally:
            if lease is None:
                self._interactive_slots.release()
        if lease:
            self._start_job(lease, self._interactive_slots)
        return job

    def stop_work(self, job_id: str) -> None:
        """Stops the work on a job whose lease is lost, before the next renewal reports that. Ignores unknown jobs."""
        if (job := self._running.get(job_id)) and not job.ending:
            self._lose(job)

    def drain(self) -> None:
        """Takes no more jobs."""
        self._draining = True

    async def close(self) -> None:
        """Hands back the running jobs and stops. Results that are complete are stored first."""
        self._draining = True
        async with self._taking:  # a job that is being taken right now would get lost
            jobs = [job for job in self._running.values() if job.task]
        for job in jobs:
            if job.task and not job.ending and not job.progress.completed:
                job.task.cancel()
        tasks = [job.task for job in jobs if job.task]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        await cancel_and_wait([*tasks, *self._loops])

    async def _take_jobs(self) -> None:
        await self._take_next(self._slots, interactive_only=False)

    async def _take_interactive_jobs(self) -> None:
        await self._take_next(self._interactive_slots, interactive_only=True)

    async def _take_next(self, slots: asyncio.Semaphore, *, interactive_only: bool) -> None:
        """Takes one job, or waits until there is one."""
        await slots.acquire()
        taken = False
        try:
            async with self._taking:
                taken = not self._draining and await self._take_one(slots, interactive_only=interactive_only)
        finally:
            if not taken:
                slots.release()
        if not taken:
            await self._queue.wait_for_work(IDLE_SECONDS, interactive_only=interactive_only)

    async def _take_one(self, slots: asyncio.Semaphore, *, interactive_only: bool) -> bool:
        lease = await self._queue.take(self._name, interactive_only=interactive_only)
        if lease is None:
            return False
        self._start_job(lease, slots)
        return True

    def _start_job(self, lease: Lease, slots: asyncio.Semaphore) -> None:
        listener = self._listeners.get(lease.caller)
        if listener:
            listener.attempt_started()
        job = self._running[lease.job.id] = _RunningJob(lease, JobProgress(lease, listener), slots, listener)
        job.task = asyncio.create_task(self._work(job), name=f"job {lease.job.id}")

    async def _work(self, job: _RunningJob) -> None:
        lease = job.lease
        try:
            with bound_contextvars(request_id=lease.job.request_id or request_id.new(), job_id=lease.job.id):
                outcome = await self._run_to_end(job)
                seconds = time.monotonic() - job.started
                self._metrics.job_attempted(outcome, seconds)
                _log.info(
                    "job attempt ended",
                    outcome=outcome,
                    attempt=lease.fence,
                    submitter=lease.job.submitter,
                    recording=lease.job.recording.sha256,
                    name=lease.job.display_name,
                    seconds=round(seconds, 3),
                )
        finally:
            if self._running.get(lease.job.id) is job:
                del self._running[lease.job.id]
            job.slots.release()
            _end_listening(job)
            self._job_ended()

    async def _run_to_end(self, job: _RunningJob) -> str:
        """Returns how the attempt ended, as metrics and logs name it."""
        try:
            outcome = await self._run(job)
        except asyncio.CancelledError:
            if job.lost_at is None:
                return await self._hand_back(job)
            self._metrics.job_stopped(time.monotonic() - job.lost_at)
            return "cancelled"
        except CarecaError as error:
            outcome = _failure(job.progress, error)
        except Exception as error:  # noqa: BLE001 - an unexpected error is logged, and the job fails
            _log.exception("unexpected error in a job", exc_info=error)
            outcome = _failure(job.progress, InternalError("an internal error: the gateway's log has its details"))
        return await self._finish(job, outcome)

    async def _run(self, job: _RunningJob) -> Outcome:
        """Runs the attempt. Retries while what it needs is full or unavailable, unless a caller waits for the job."""
        trouble_since: float | None = None
        while True:
            try:
                return await self._attempt.run(job.lease, job.progress)
            except (Unavailable, Overloaded) as error:
                trouble_since = trouble_since or time.monotonic()
                if job.lease.caller or time.monotonic() - trouble_since > self._patience_seconds:
                    raise
                _log.warning("a job waits for what it needs", reason=error.reason, error=error.message)
            await asyncio.sleep(RETRY_SECONDS)

    async def _finish(self, job: _RunningJob, outcome: Outcome) -> str:
        """Reports to the queue how the job ended. Retries until the queue can be reached."""
        _end_listening(job)  # the caller watches the queue from now on, and must not wait until it can be reached
        await self._stop_renewing(job)
        outcome = job.progress.conclude(outcome)
        if not await self._report_end(job, lambda: self._queue.finish(job.lease, outcome)):
            await self._attempt.discard(job.lease, outcome)
            return "lost"
        await self._attempt.clean_up(job.lease, outcome)
        if outcome.state is JobState.FAILED:
            return "refused" if isinstance(outcome.error, InvalidRequest) else "failed"
        return "partial" if outcome.partial else "succeeded"

    async def _stop_renewing(self, job: _RunningJob) -> None:
        """Returns when no renewal of this job is in progress. No further renewal includes it."""
        async with self._reporting:
            job.ending = True

    async def _hand_back(self, job: _RunningJob) -> str:
        await self._stop_renewing(job)
        stages = stages_to_repeat(job.progress.stages)
        handed_back = await self._report_end(
            job, lambda: self._queue.hand_back(job.lease, stages=stages, reason="HANDED_BACK")
        )
        return "handed_back" if handed_back else "lost"

    async def _report_end(self, job: _RunningJob, report: Callable[[], Awaitable[bool]]) -> bool:
        """Returns whether the job's end was reported before its lease was lost."""
        warning = "the end of a job cannot be reported yet"
        return bool(await retry_until_reachable(report, warning, give_up=lambda: job.lost_at is not None))

    async def _renew(self) -> None:
        """Renews all leases, reports progress, and stops work on jobs whose lease is lost."""
        async with self._reporting:
            jobs = [job for job in self._running.values() if not job.ending]
            if not jobs:
                return
            updates = [job.progress.update() for job in jobs]
            try:
                lost = await self._queue.renew(updates)
            except BaseException:
                for job, update in zip(jobs, updates, strict=True):
                    job.progress.undo(update)
                raise
        for job in jobs:
            if job.lease.job.id in lost:
                self._lose(job)

    def _lose(self, job: _RunningJob) -> None:
        if job.lost_at is None:
            job.lost_at = time.monotonic()
            if job.task:
                job.task.cancel()


def _end_listening(job: _RunningJob) -> None:
    if job.listener:
        job.listener.attempt_ended()


def _failure(progress: JobProgress, error: CarecaError) -> Outcome:
    progress.fail(error)
    return Outcome(JobState.FAILED, progress.stages, error=error)
