"""Works on jobs: takes them, keeps their leases, tells how far they are, and ends them or hands them back."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from structlog.contextvars import bound_contextvars

from careca.errors import CarecaError, InternalError, InvalidRequest, Overloaded, Unavailable
from careca.rpc import request_id
from careca.telemetry.logs import get_logger
from careca.types import Job, JobState
from careca_gateway.background import end, repeat
from careca_gateway.jobs.attempt import Attempt
from careca_gateway.jobs.progress import AttemptListener, JobProgress, stages_to_repeat
from careca_gateway.jobs.queue.port import JobQueue, Lease, Limits, Outcome, Submission
from careca_gateway.jobs.reclaimer import JobObserver, Reclaimer

RENEW_SECONDS = 0.25
"""How often leases are renewed, and with it how soon a cancelled job is heard of."""

IDLE_SECONDS = 1.0
"""How long a worker that finds nothing to do waits for news before it looks again."""

CLOSE_SECONDS = 15.0
"""How long a worker that is to end tries to tell a queue that is away what became of its jobs."""

_PAUSE_SECONDS = 0.5
"""How long to wait after the queue could not be reached."""

_log = get_logger(__name__)


@dataclass(eq=False)
class _Held:
    """A job in our hands."""

    lease: Lease
    progress: JobProgress
    slots: asyncio.Semaphore
    """Where its slot is from."""
    listener: AttemptListener | None
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
        interactive_slots: how many more if somebody waits for them, so that no batch is in their way.
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
        interactive_slots: int,
        max_attempts: int,
        patience_seconds: float,
        observer: JobObserver,
        job_ended: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._attempt = attempt
        self._slots = asyncio.Semaphore(slots)
        self._interactive_slots = asyncio.Semaphore(interactive_slots)
        self._oversight = Reclaimer(queue, max_attempts=max_attempts, observer=observer)
        self._patience_seconds = patience_seconds
        self._observer = observer
        self._job_ended = job_ended
        self._name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._held: dict[str, _Held] = {}
        self._listeners: dict[str, AttemptListener] = {}
        """By the call that waits."""
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
            repeat("take jobs", self._take_jobs, retry_seconds=_PAUSE_SECONDS),
            repeat("take interactive jobs", self._take_interactive_jobs, retry_seconds=_PAUSE_SECONDS),
            repeat("renew leases", self._renew, pause_seconds=RENEW_SECONDS, retry_seconds=_PAUSE_SECONDS),
            *self._oversight.start(),
        ]

    @contextmanager
    def listening(self, caller: str, listener: AttemptListener) -> Iterator[None]:
        """Tells ``listener`` of attempts at jobs that ``caller`` waits for, if they begin here and in this context."""
        self._listeners[caller] = listener
        try:
            yield
        finally:
            del self._listeners[caller]

    async def submit(self, submission: Submission, limits: Limits) -> Job:
        """Submits an interactive job. Where a slot is free the work begins at once, here. Raises as the queue does."""
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
            self._begin(lease, self._interactive_slots)
        return job

    def let_go(self, job_id: str) -> None:
        """Stops work on a job that is not ours any more, before the next renewal says so; if it is worked on here."""
        if (held := self._held.get(job_id)) and not held.ending:
            self._lose(held)

    def drain(self) -> None:
        """Takes no more jobs."""
        self._draining = True

    async def close(self) -> None:
        """Hands back what is being worked on, and ends. What is found already is stored first."""
        self._draining = True
        async with self._taking:  # a job that is being taken right now would be nobody's
            held = [each for each in self._held.values() if each.task]
        for each in held:
            if each.task and not each.ending and not each.progress.completed:
                each.task.cancel()
        tasks = [each.task for each in held if each.task]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        await end([*tasks, *self._loops])

    async def _take_jobs(self) -> None:
        await self._take_next(self._slots, interactive_only=False)

    async def _take_interactive_jobs(self) -> None:
        await self._take_next(self._interactive_slots, interactive_only=True)

    async def _take_next(self, slots: asyncio.Semaphore, *, interactive_only: bool) -> None:
        """Takes one job, or waits for there to be one."""
        await slots.acquire()
        began = False
        try:
            async with self._taking:
                began = not self._draining and await self._take_one(slots, interactive_only=interactive_only)
        finally:
            if not began:
                slots.release()
        if not began:
            await self._queue.wait_for_work(IDLE_SECONDS, interactive_only=interactive_only)

    async def _take_one(self, slots: asyncio.Semaphore, *, interactive_only: bool) -> bool:
        lease = await self._queue.take(self._name, interactive_only=interactive_only)
        if lease is None:
            return False
        self._begin(lease, slots)
        return True

    def _begin(self, lease: Lease, slots: asyncio.Semaphore) -> None:
        listener = self._listeners.get(lease.caller)
        if listener:
            listener.begun()
        held = self._held[lease.job.id] = _Held(lease, JobProgress(lease, listener), slots, listener)
        held.task = asyncio.create_task(self._work(held), name=f"job {lease.job.id}")

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
            held.slots.release()
            _tell_end(held)
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
        """Runs the attempt, and again while what it needs is full or away; for a caller it is run once."""
        trouble_since: float | None = None
        while True:
            try:
                return await self._attempt.run(held.lease, held.progress)
            except (Unavailable, Overloaded) as error:
                trouble_since = trouble_since or time.monotonic()
                if held.lease.caller or time.monotonic() - trouble_since > self._patience_seconds:
                    raise
                _log.warning("a job waits for what it needs", reason=error.reason, error=error.message)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _conclude(self, held: _Held, outcome: Outcome) -> str:
        """Tells the queue how the job ended, however long it cannot be reached."""
        _tell_end(held)  # who waits here for the job asks the queue from now on, and is not to wait for it to be back
        await self._stop_renewing(held)
        outcome = held.progress.conclude(outcome)
        if not await self._until_reached(held, lambda: self._queue.finish(held.lease, outcome)):
            await self._attempt.discard(held.lease, outcome)
            return "lost"
        await self._attempt.tidy(held.lease, outcome)
        if outcome.state is JobState.FAILED:
            return "refused" if isinstance(outcome.error, InvalidRequest) else "failed"
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
            if each.lease.job.id in lost:
                self._lose(each)

    def _lose(self, held: _Held) -> None:
        if held.lost_at is None:
            held.lost_at = time.monotonic()
            if held.task:
                held.task.cancel()


def _tell_end(held: _Held) -> None:
    if held.listener:
        held.listener.ended()


def _failure(progress: JobProgress, error: CarecaError) -> Outcome:
    progress.fail(error)
    return Outcome(JobState.FAILED, progress.stages, error=error)
