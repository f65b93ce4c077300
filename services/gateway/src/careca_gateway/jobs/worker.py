"""Works on jobs: takes them, keeps their leases, tells how far they are, and ends them or hands them back."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from structlog.contextvars import bound_contextvars

from careca import request_id
from careca.errors import CarecaError, InternalError, Overloaded, Unavailable
from careca.logs import get_logger
from careca.types import Job, JobState
from careca_gateway.ending import end
from careca_gateway.jobs.progress import JobProgress, stages_to_repeat
from careca_gateway.jobs.queue import JobQueue, Lease, Outcome, QueueStats
from careca_gateway.jobs.work import Attempt

RENEW_SECONDS = 0.25
"""How often leases are renewed, and with it how soon a cancelled job is heard of."""

SILENCE_SECONDS = 2.5
"""How long a lease is not renewed until others take the job for abandoned."""

RECLAIM_SECONDS = 0.5
"""How often abandoned jobs are looked for."""

STATS_SECONDS = 5.0
"""How often the queue's state is measured."""

IDLE_SECONDS = 1.0
"""How long a worker that finds nothing to do waits for news before it looks again."""

CLOSE_SECONDS = 15.0
"""How long a worker that is to end tries to tell a queue that is away what became of its jobs."""

_PAUSE_SECONDS = 0.5
"""How long to wait after the queue could not be reached."""

_log = get_logger(__name__)


class JobObserver(Protocol):
    """Told what happens to jobs, for metrics."""

    def job_attempted(self, outcome: str, seconds: float) -> None:
        """An attempt ended: succeeded, partial, failed, cancelled, handed_back or lost."""

    def job_recovered(self, reason: str, count: int) -> None:
        """Jobs were found that somebody had left: waiting at the start, or reclaimed from a worker that was gone."""

    def job_stopped(self, seconds: float) -> None:
        """The work of a cancelled job had ended that long after this worker heard of it."""

    def queue_measured(self, stats: QueueStats) -> None:
        """The state of the queue."""

    def queue_away(self) -> None:
        """The queue could not be asked for its state."""


@dataclass(eq=False)
class _Held:
    """A job in our hands."""

    lease: Lease
    progress: JobProgress
    task: asyncio.Task[None] | None = None
    lost_at: float | None = None
    """When we heard that it is not ours any more, on the clock of ``time.monotonic``."""
    ending: bool = False
    """Whether its end is being told: its lease needs no renewing then, and losing it is no news."""
    started: float = field(default_factory=time.monotonic)


class JobWorker:
    """One gateway's part in the work.

    Args:
        queue: where jobs are.
        attempt: what is done with one.
        slots: how many are worked on at once.
        max_attempts: how often a job may be lost with its worker before it is given up.
        patience_seconds: how long an attempt is repeated while the store cannot be used.
        observer: told what happens.
        job_ended: called after each attempt, to give back what it held.
    """

    def __init__(
        self,
        queue: JobQueue,
        attempt: Attempt,
        *,
        slots: int,
        max_attempts: int,
        patience_seconds: float,
        observer: JobObserver,
        job_ended: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._attempt = attempt
        self._slots = asyncio.Semaphore(slots)
        self._max_attempts = max_attempts
        self._patience_seconds = patience_seconds
        self._observer = observer
        self._job_ended = job_ended
        self._name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._held: dict[str, _Held] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._draining = False
        self._taking = asyncio.Lock()
        self._telling = asyncio.Lock()

    @property
    def in_flight(self) -> int:
        """Jobs being worked on."""
        return len(self._held)

    async def start(self) -> None:
        """Begins."""
        _log.info("works on jobs", worker=self._name)
        self._loops = [
            asyncio.create_task(self._forever(self._take_jobs, 0.0), name="take jobs"),
            asyncio.create_task(self._forever(self._renew, RENEW_SECONDS), name="renew leases"),
            asyncio.create_task(self._forever(self._reclaim, RECLAIM_SECONDS), name="reclaim jobs"),
            asyncio.create_task(self._forever(self._measure, STATS_SECONDS), name="measure the queue"),
            asyncio.create_task(self._count_recovered(), name="count recovered jobs"),
        ]

    def drain(self) -> None:
        """Takes no more jobs."""
        self._draining = True

    async def close(self) -> None:
        """Hands back what is being worked on, and ends."""
        self._draining = True
        async with self._taking:  # a job that is being taken right now would be nobody's
            held = [each for each in self._held.values() if each.task]
        for each in held:
            if each.task and not each.ending:
                each.task.cancel()
        tasks = [each.task for each in held if each.task]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        await end([*tasks, *self._loops])

    async def _forever(self, step: Callable[[], Awaitable[None]], pause_seconds: float) -> None:
        """Repeats ``step``, whatever becomes of the queue."""
        while True:
            try:
                await step()
                await asyncio.sleep(pause_seconds)
            except (Unavailable, Overloaded) as error:
                _log.warning("the queue of jobs cannot be used", reason=error.reason, error=error.message)
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - a fault must not end the work of this gateway for good
                _log.exception("a fault in the work on jobs", exc_info=error)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _take_jobs(self) -> None:
        """Takes one job, or waits for there to be one."""
        await self._slots.acquire()
        began = False
        try:
            async with self._taking:
                began = not self._draining and await self._take_one()
        finally:
            if not began:
                self._slots.release()
        if not began:
            await self._queue.work_waits(IDLE_SECONDS)

    async def _take_one(self) -> bool:
        lease = await self._queue.take(self._name)
        if lease is None:
            return False
        held = self._held[lease.job.id] = _Held(lease, JobProgress(lease))
        held.task = asyncio.create_task(self._work(held), name=f"job {lease.job.id}")
        return True

    async def _work(self, held: _Held) -> None:
        lease = held.lease
        try:
            with bound_contextvars(request_id=lease.job.request_id or request_id.new(), job_id=lease.job.id):
                outcome = await self._work_to_an_end(held)
                seconds = time.monotonic() - held.started
                self._observer.job_attempted(outcome, seconds)
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
            if self._held.get(lease.job.id) is held:
                del self._held[lease.job.id]
            self._slots.release()
            self._job_ended()

    async def _work_to_an_end(self, held: _Held) -> str:
        """How it ended, as metrics and logs name it."""
        try:
            outcome = await self._run(held)
        except asyncio.CancelledError:
            if held.lost_at is None:
                return await self._hand_back(held)
            self._observer.job_stopped(time.monotonic() - held.lost_at)
            return "cancelled"
        except CarecaError as error:
            outcome = _failure(held.progress, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours: logged, and the job says so
            _log.exception("fault while working on a job", exc_info=error)
            outcome = _failure(held.progress, InternalError("an internal error: the gateway's log has its details"))
        return await self._conclude(held, outcome)

    async def _run(self, held: _Held) -> Outcome:
        """Runs the attempt, and again while what it needs is full or away."""
        trouble_since: float | None = None
        while True:
            try:
                return await self._attempt.run(held.lease, held.progress)
            except (Unavailable, Overloaded) as error:
                trouble_since = trouble_since or time.monotonic()
                if time.monotonic() - trouble_since > self._patience_seconds:
                    raise
                _log.warning("a job waits for what it needs", reason=error.reason, error=error.message)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _conclude(self, held: _Held, outcome: Outcome) -> str:
        """Tells the queue how the job ended, however long it cannot be reached."""
        await self._stop_renewing(held)
        outcome = held.progress.conclude(outcome)
        if not await self._until_reached(held, lambda: self._queue.finish(held.lease, outcome)):
            await self._attempt.discard(held.lease, outcome)
            return "lost"
        await self._attempt.tidy(held.lease, outcome)
        if outcome.state is JobState.FAILED:
            return "failed"
        return "partial" if outcome.partial else "succeeded"

    async def _stop_renewing(self, held: _Held) -> None:
        """Returns once no renewal is on its way that tells of this job, and none will be."""
        async with self._telling:
            held.ending = True

    async def _hand_back(self, held: _Held) -> str:
        await self._stop_renewing(held)
        stages = stages_to_repeat(held.progress.stages)
        handed_back = await self._until_reached(
            held, lambda: self._queue.hand_back(held.lease, stages=stages, reason="HANDED_BACK")
        )
        return "handed_back" if handed_back else "lost"

    async def _until_reached(self, held: _Held, ask: Callable[[], Awaitable[bool]]) -> bool:
        while held.lost_at is None:
            try:
                return await ask()
            except (Unavailable, Overloaded) as error:
                _log.warning("the end of a job cannot be told yet", reason=error.reason, error=error.message)
                await asyncio.sleep(_PAUSE_SECONDS)
        return False

    async def _renew(self) -> None:
        """Keeps all leases, tells what is new, and stops work on jobs that are not ours any more."""
        async with self._telling:
            held = [each for each in self._held.values() if not each.ending]
            if not held:
                return
            updates = [each.progress.update() for each in held]
            try:
                lost = await self._queue.renew(updates)
            except BaseException:
                for each, update in zip(held, updates, strict=True):
                    each.progress.untold(update)
                raise
        for each in held:
            if each.lease.job.id in lost and each.lost_at is None:
                each.lost_at = time.monotonic()
                if each.task:
                    each.task.cancel()

    async def _reclaim(self) -> None:
        jobs = await self._queue.reclaim(SILENCE_SECONDS, self._max_attempts)
        if jobs:
            self._observer.job_recovered("reclaimed", len(jobs))
        for job in jobs:
            _log.warning("a job was left by its worker", job_id=job.id, state=job.state.value, worker=_last_worker(job))

    async def _measure(self) -> None:
        try:
            stats = await self._queue.stats()
        except (Unavailable, Overloaded):
            self._observer.queue_away()
            raise
        self._observer.queue_measured(stats)

    async def _count_recovered(self) -> None:
        """Says once how many jobs were waiting for a gateway to come back."""
        while True:
            try:
                stats = await self._queue.stats()
            except (Unavailable, Overloaded):
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            waiting, running = (stats.by_state.get(state, 0) for state in (JobState.QUEUED, JobState.RUNNING))
            self._observer.job_recovered("waiting", waiting)
            _log.info("jobs recovered at the start", waiting=waiting, running_elsewhere_or_left=running)
            return


def _failure(progress: JobProgress, error: CarecaError) -> Outcome:
    progress.fail(error)
    return Outcome(JobState.FAILED, progress.stages, error_reason=error.reason, error_message=error.message)


def _last_worker(job: Job) -> str:
    return job.attempts[-1].worker if job.attempts else ""
