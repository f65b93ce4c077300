"""The worker of one gateway, with a real queue and scripted attempts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from careca.errors import CarecaError, InvalidRecording, OutOfMemory, Overloaded, Unavailable
from careca.types import Digest, Job, JobPriority, JobState, Progress, Segment, Stage, StageState
from careca_gateway.jobs import reclaimer, worker
from careca_gateway.jobs.progress import JobProgress, first_stages
from careca_gateway.jobs.queue.liveness import LivenessTracker
from careca_gateway.jobs.queue.port import Lease, Limits, Outcome, QueueStats, Submission
from careca_gateway.jobs.queue.redis_queue import RedisJobQueue
from careca_gateway.jobs.worker import JobWorker
from support.redis_server import RedisServer
from support.waiting import HANG_SECONDS, Clock, until

LIMITS = Limits(1000, 1000)
STORE_FULL = Overloaded("no space left", reason="STORE_FULL")


class Script:
    """An attempt that raises ``failures`` one by one, then succeeds when it ``may_end``."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.running: list[str] = []
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.discarded: list[str] = []
        self.tidied: list[str] = []

    async def run(self, lease: Lease, progress: JobProgress) -> Outcome:
        self.begun.append(lease.job.id)
        self.running.append(lease.job.id)
        progress.add(Progress(Stage.DECODE, 0.5))
        try:
            progress.add(Segment(0.0, 1.0, "hello"))
            await self.may_end.wait()
            if self.failures:
                raise self.failures.pop(0)
            return Outcome(JobState.SUCCEEDED, progress.stages, result_key=f"results/{lease.job.id}/{lease.fence}")
        except asyncio.CancelledError:
            self.cancelled.append(lease.job.id)
            raise
        finally:
            self.running.remove(lease.job.id)

    async def discard(self, lease: Lease, outcome: Outcome) -> None:
        self.discarded.append(outcome.result_key)

    async def clean_up(self, lease: Lease, outcome: Outcome) -> None:
        self.tidied.append(outcome.result_key)


class Counts:
    """Records the metrics."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self.recovered: Counter[str] = Counter()
        self.stops: list[float] = []
        self.stats = QueueStats()
        self.queue_answers: bool | None = None

    def job_attempted(self, outcome: str, seconds: float) -> None:
        self.attempts[outcome] += 1

    def job_recovered(self, reason: str, count: int) -> None:
        self.recovered[reason] += count

    def job_stopped(self, seconds: float) -> None:
        self.stops.append(seconds)

    def queue_measured(self, stats: QueueStats) -> None:
        self.stats = stats
        self.queue_answers = True

    def queue_unavailable(self) -> None:
        self.queue_answers = False


@pytest.fixture
async def queue(redis_server: RedisServer) -> AsyncIterator[RedisJobQueue]:
    queue = RedisJobQueue(redis_server.url, timeout_seconds=20)  # patient: a busy machine is no outage
    await queue.open()
    yield queue
    redis_server.resume()
    redis_server.start()
    await queue.close()


@asynccontextmanager
async def working(
    queue: RedisJobQueue, script: Script, counts: Counts | None = None, **settings: Any
) -> AsyncIterator[JobWorker]:
    defaults = {"slots": 4, "interactive_slots": 4, "max_attempts": 3, "patience_seconds": 60.0}
    one = JobWorker(queue, script, metrics=counts or Counts(), job_ended=lambda: None, **(defaults | settings))
    await one.start()
    try:
        yield one
    finally:
        await one.close()


async def submit(queue: RedisJobQueue, number: int = 0, priority: JobPriority = JobPriority.BATCH) -> Job:
    recording = Digest(f"{number:064x}", 1000)
    submission = Submission("ana", f"r{number}", recording, b"spec", priority=priority, stages=first_stages())
    return await queue.submit(submission, LIMITS)


async def ended(queue: RedisJobQueue, job: Job) -> Job:
    return [each.content async for each in queue.watch(job.id) if isinstance(each.content, Job)][-1]


async def test_a_job_runs_and_its_end_is_reported(queue: RedisJobQueue) -> None:
    script, counts = Script(), Counts()
    async with working(queue, script, counts):
        job = await submit(queue)
        done = await ended(queue, job)

        await until(lambda: counts.attempts["succeeded"])
        assert done.state is JobState.SUCCEEDED
        assert done.stages[0].state is StageState.RUNNING  # as the attempt left it
        assert [each.content.text async for each in queue.watch(job.id) if isinstance(each.content, Segment)] == [
            "hello"
        ]
        assert script.tidied == [await queue.result_key(job.id)]


async def test_no_more_jobs_than_slots_run_at_the_same_time(queue: RedisJobQueue) -> None:
    script = Script()
    script.may_end.clear()
    async with working(queue, script, slots=2):
        jobs = [await submit(queue, number) for number in range(3)]
        await until(lambda: len(script.running) == 2)
        await asyncio.sleep(0.1)
        assert script.begun == [job.id for job in jobs[:2]]

        script.may_end.set()
        assert [(await ended(queue, job)).state for job in jobs] == [JobState.SUCCEEDED] * 3


async def test_a_store_that_is_full_for_a_while_delays_the_job(
    queue: RedisJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.01)
    script = Script(STORE_FULL, Unavailable("no store", reason="STORE_UNREACHABLE"), STORE_FULL)
    async with working(queue, script):
        done = await ended(queue, await submit(queue))

    assert (done.state, len(done.attempts), len(script.begun)) == (JobState.SUCCEEDED, 1, 4)


async def test_a_store_that_stays_full_fails_the_job(queue: RedisJobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.01)
    async with working(queue, Script(*[STORE_FULL] * 1000), patience_seconds=0.1):
        done = await ended(queue, await submit(queue))

    assert (done.state, done.error_reason, done.error_message) == (JobState.FAILED, "STORE_FULL", "no space left")
    assert done.stages[0].state is StageState.FAILED


@pytest.mark.parametrize(
    ("failure", "reason", "outcome"),
    [
        (OutOfMemory("too large"), "OUT_OF_MEMORY", "failed"),
        (RuntimeError("a fault"), "INTERNAL", "failed"),
        (InvalidRecording("no sound"), "INVALID_RECORDING", "refused"),
    ],
)
async def test_permanent_errors_fail_at_once_and_the_worker_continues(
    queue: RedisJobQueue, failure: Exception, reason: str, outcome: str
) -> None:
    counts = Counts()
    async with working(queue, Script(failure), counts):
        failed = await ended(queue, await submit(queue, 1))
        fine = await ended(queue, await submit(queue, 2))

    assert (failed.state, failed.error_reason, fine.state) == (JobState.FAILED, reason, JobState.SUCCEEDED)
    assert isinstance(failure, CarecaError) or "a fault" not in failed.error_message
    assert counts.attempts == {outcome: 1, "succeeded": 1}


async def test_a_cancelled_job_is_stopped(queue: RedisJobQueue) -> None:
    script, counts = Script(), Counts()
    script.may_end.clear()
    async with working(queue, script, counts):
        job = await submit(queue)
        await until(lambda: script.running)

        await queue.cancel(job.id)

        await until(lambda: counts.attempts["cancelled"])
        assert script.cancelled == [job.id]
        assert len(counts.stops) == 1
        assert (await queue.get(job.id)).state is JobState.CANCELLED


async def test_the_end_of_a_job_is_reported_when_redis_is_back(queue: RedisJobQueue, redis_server: RedisServer) -> None:
    script, counts = Script(), Counts()
    script.may_end.clear()
    async with working(queue, script, counts):
        job = await submit(queue)
        await until(lambda: script.running)
        redis_server.pause()
        script.may_end.set()
        await asyncio.sleep(0.3)
        redis_server.resume()

        done = await ended(queue, job)

        assert (done.state, len(done.attempts)) == (JobState.SUCCEEDED, 1)
        assert script.discarded == []


async def test_the_availability_of_the_queue_is_reported(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaimer, "STATS_SECONDS", 0.1)
    impatient = RedisJobQueue(redis_server.url, timeout_seconds=0.5)
    counts = Counts()
    async with working(impatient, Script(), counts):
        await until(lambda: counts.queue_answers)

        redis_server.pause()
        await until(lambda: counts.queue_answers is False)

        redis_server.resume()
        await until(lambda: counts.queue_answers)
    await impatient.close()


class CountingClock(Clock):
    """Counts how often it is read."""

    asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return super().__call__()

    async def is_looked_at(self) -> None:
        """Returns after a complete check for abandoned jobs."""
        before = self.asked
        await until(lambda: self.asked >= before + 4)


async def test_the_result_of_a_worker_that_lost_its_lease_is_discarded(
    queue: RedisJobQueue, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RENEW_SECONDS", 3600.0)  # it falls silent
    monkeypatch.setattr(reclaimer, "RECLAIM_SECONDS", 0.05)
    clock = CountingClock()
    mine, others = (RedisJobQueue(redis_server.url, timeout_seconds=20, clock=each) for each in (Clock(), clock))
    silent, other, counts = Script(), Script(), Counts()
    silent.may_end.clear()
    async with working(mine, silent, counts, slots=1):
        job = await submit(queue)
        await until(lambda: silent.running)
        async with working(others, other, counts):
            await clock.is_looked_at()
            clock.seconds += reclaimer.LEASE_TIMEOUT_SECONDS
            done = await ended(queue, job)
            silent.may_end.set()
            await until(lambda: silent.discarded)
    for each in (mine, others):
        await each.close()

    assert (done.state, [each.outcome for each in done.attempts]) == (JobState.SUCCEEDED, ["WORKER_LOST", "SUCCEEDED"])
    assert (await queue.get(job.id)).attempts == done.attempts
    assert other.tidied == [await queue.result_key(job.id)]
    assert silent.discarded != other.tidied
    assert counts.recovered["reclaimed"] == 1


async def test_a_worker_that_closes_hands_its_jobs_back_and_takes_no_more(queue: RedisJobQueue) -> None:
    script, counts = Script(), Counts()
    script.may_end.clear()
    async with working(queue, script, counts, slots=2) as one:
        job = await submit(queue, 1)
        await until(lambda: script.running)
        one.drain()
        waiting = await submit(queue, 2)
        await asyncio.sleep(0.1)

    assert script.begun == [job.id]
    assert counts.attempts == {"handed_back": 1}
    for each in (job, waiting):
        assert (await queue.get(each.id)).state is JobState.QUEUED
    assert [attempt.outcome for attempt in (await queue.get(job.id)).attempts] == ["HANDED_BACK"]


async def test_a_worker_that_closes_waits_for_redis(queue: RedisJobQueue, redis_server: RedisServer) -> None:
    script = Script()
    script.may_end.clear()
    async with working(queue, script):
        job = await submit(queue)
        await until(lambda: script.running)
        redis_server.pause()
        asyncio.get_running_loop().call_later(0.5, redis_server.resume)

    assert (await queue.get(job.id)).state is JobState.QUEUED


async def test_jobs_that_wait_at_the_start_are_counted_as_recovered(queue: RedisJobQueue) -> None:
    jobs = [await submit(queue, number) for number in range(3)]
    counts = Counts()
    script = Script()
    script.may_end.clear()
    async with working(queue, script, counts, slots=1):
        await until(lambda: counts.recovered["waiting"])
        script.may_end.set()
        assert [(await ended(queue, job)).state for job in jobs] == [JobState.SUCCEEDED] * 3

    assert 2 <= counts.recovered["waiting"] <= 3  # one may have been taken before it was counted


async def reclaims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Returns after a few more checks for abandoned jobs."""
    looked = 0
    unchanged = LivenessTracker.unchanged

    def count(*arguments: Any) -> list[str]:
        nonlocal looked
        looked += 1
        return unchanged(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LivenessTracker, "unchanged", count)
        await until(lambda: looked >= 3)


async def test_a_clock_change_reclaims_no_job(
    queue: RedisJobQueue, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaimer, "RECLAIM_SECONDS", 0.02)
    monkeypatch.setattr(reclaimer, "LEASE_TIMEOUT_SECONDS", HANG_SECONDS)
    now = time.time
    script, counts = Script(), Counts()
    script.may_end.clear()
    async with working(queue, script, counts):
        job = await submit(queue)
        await until(lambda: script.running)
        for jump in (3600.0, -3600.0):
            monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
            await reclaims(monkeypatch)
        script.may_end.set()
        done = await ended(queue, job)

    assert (done.state, len(done.attempts)) == (JobState.SUCCEEDED, 1)
    assert counts.recovered["reclaimed"] == 0


async def test_a_job_that_is_lost_too_often_fails(queue: RedisJobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaimer, "RECLAIM_SECONDS", 0.02)
    monkeypatch.setattr(reclaimer, "LEASE_TIMEOUT_SECONDS", 0.2)
    job = await submit(queue)
    counts = Counts()
    script = Script()
    async with working(queue, script, counts) as one:
        one.drain()  # it only looks after others
        for _ in range(3):
            while await queue.take("dies at once") is None:  # noqa: ASYNC110 -- others queue it again
                await asyncio.sleep(0.01)
        done = await ended(queue, job)

    assert (done.state, done.error_reason) == (JobState.FAILED, "TOO_MANY_ATTEMPTS")
    assert [attempt.outcome for attempt in done.attempts] == ["WORKER_LOST"] * 3
    assert replace(done, attempts=()) == replace(await queue.get(job.id), attempts=())
