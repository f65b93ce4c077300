"""The guarantees of the job queue, tested on a real Redis."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from careca.errors import (
    CarecaError,
    DeadlineExceeded,
    InvalidRecording,
    InvalidRequest,
    NotFound,
    Overloaded,
    PreconditionFailed,
    Unavailable,
)
from careca.types import (
    Digest,
    Job,
    JobPriority,
    JobStage,
    JobState,
    JobWebhook,
    Revision,
    Segment,
    Stage,
    StageState,
    WebhookState,
    Word,
)
from careca_gateway.jobs.queue.liveness import LivenessTracker
from careca_gateway.jobs.queue.port import (
    JobEvent,
    Lease,
    Limits,
    NewRevision,
    Outcome,
    Query,
    StoredRevision,
    StoredTranscript,
    Submission,
    Update,
)
from careca_gateway.jobs.queue.redis_queue import RedisJobQueue
from support.redis_server import RedisServer
from support.waiting import HANG_SECONDS, Clock, until

MakeQueue = Callable[..., Awaitable[RedisJobQueue]]

PLENTY = Limits(queued=10_000, queued_per_submitter=10_000)
RECORDING = Digest("a" * 64, 1234)
STAGES = tuple(JobStage(stage) for stage in Stage)
DONE = tuple(JobStage(stage, StageState.SUCCEEDED, 1.0, 2.5, cached=True, attempts=1) for stage in Stage)
SUCCESS = Outcome(JobState.SUCCEEDED, DONE, result_key="results/1")
BROKEN = PreconditionFailed("It broke.", reason="BROKEN", field="a.b", metadata={"part": "ü"})
FAILURE = Outcome(JobState.FAILED, STAGES, error=BROKEN)
AT_WORK = (
    replace(DONE[0]),
    JobStage(Stage.TRANSCRIBE, StageState.RUNNING, 0.4, 3.0, attempts=1),
    JobStage(
        Stage.DIARIZE, StageState.FAILED, 0.1, 1.0, attempts=1, error_reason="OUT_OF_MEMORY", error_message="Too long."
    ),
    JobStage(Stage.MERGE),
)
HELLO = Segment(0.5, 1.75, "héllo there", (Word("héllo", 0.5, 1.0, 0.75), Word("there")))

_request_numbers = itertools.count()


def submission(submitter: str = "ann", **changes: Any) -> Submission:
    request_id = f"request {next(_request_numbers)}"
    return replace(Submission(submitter, request_id, RECORDING, b"\0spec\xff", stages=STAGES), **changes)


def segments(first: int, count: int) -> tuple[Segment, ...]:
    return tuple(Segment(float(n), n + 0.5, f"segment {n}") for n in range(first, first + count))


@pytest.fixture
async def make_queue(redis_server: RedisServer) -> AsyncIterator[MakeQueue]:
    """Creates queues on one Redis, each for one gateway."""
    made: list[RedisJobQueue] = []

    async def make(url: str = redis_server.url, *, listen: bool = True) -> RedisJobQueue:
        made.append(RedisJobQueue(url, timeout_seconds=20))  # patient: a busy machine is no outage
        if listen:
            await made[-1].open()
        return made[-1]

    yield make
    for queue in made:
        await queue.close()


@pytest.fixture
async def queue(make_queue: MakeQueue) -> RedisJobQueue:
    return await make_queue()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


async def take(queue: RedisJobQueue, worker: str = "worker 1") -> Lease:
    lease = await queue.take(worker)
    assert lease, "nothing waits"
    return lease


async def ended(queue: RedisJobQueue, outcome: Outcome = SUCCESS, **changes: Any) -> Job:
    """A job that has been through all operations."""
    job = await queue.submit(submission(**changes), PLENTY)
    lease = await take(queue)
    assert lease.job.id == job.id, "another job waits too"
    assert await queue.finish(lease, outcome)
    return await queue.get(job.id)


async def next_of(watch: AsyncIterator[JobEvent], count: int) -> list[JobEvent]:
    """Returns the next events of a watch."""
    async with asyncio.timeout(HANG_SECONDS):
        return [await anext(watch) for _ in range(count)]


async def all_of(watch: AsyncIterator[JobEvent]) -> list[JobEvent]:
    async with asyncio.timeout(HANG_SECONDS):
        return [happening async for happening in watch]


def told(happenings: Sequence[JobEvent]) -> list[Segment]:
    return [happening.content for happening in happenings if isinstance(happening.content, Segment)]


def listeners(client: redis.Redis) -> int:
    return int(client.execute_command("PUBSUB", "NUMSUB", "careca:{jobs}:news")[1])


def everything(client: redis.Redis) -> dict[bytes, object]:
    """Returns the whole content of Redis in a form that can be compared."""

    def group_of(key: bytes, name: bytes) -> object:
        pending = client.xpending_range(key, name, "-", "+", 1000)
        return [(entry["message_id"], entry["consumer"]) for entry in pending]

    read: dict[bytes, Callable[[bytes], object]] = {
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": lambda key: (
            client.xrange(key),
            [group_of(key, group["name"]) for group in client.xinfo_groups(key)],
        ),
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter()}  # type: ignore[index]


# Submitting


async def test_a_submitted_job_waits_with_all_its_fields(queue: RedisJobQueue) -> None:
    asked = submission(
        "ann@example.org", display_name="Réunion ✓.mp3", priority=JobPriority.INTERACTIVE, webhook_url="https://a.b/c"
    )
    job = await queue.submit(asked, PLENTY)
    assert job == Job(
        id=job.id,
        state=JobState.QUEUED,
        recording=RECORDING,
        display_name="Réunion ✓.mp3",
        submitter="ann@example.org",
        priority=JobPriority.INTERACTIVE,
        request_id=asked.request_id,
        create_unix=job.create_unix,
        stages=STAGES,
        webhook=JobWebhook("https://a.b/c"),
    )
    assert job.create_unix > 1_700_000_000
    assert await queue.get(job.id) == job


async def test_the_same_request_id_returns_the_same_job_even_beyond_limits_and_after_its_end(
    queue: RedisJobQueue,
) -> None:
    asked = submission(time_limit_seconds=100.0)
    job = await queue.submit(asked, PLENTY)
    assert await queue.submit(replace(asked, time_limit_seconds=50.0), Limits(0, 0)) == job
    assert (await queue.stats()).by_state[JobState.QUEUED] == 1
    assert await queue.finish(await take(queue), SUCCESS)
    assert (await queue.submit(asked, PLENTY)).state is JobState.SUCCEEDED


async def test_a_hundred_simultaneous_submissions_of_one_request_make_one_job(make_queue: MakeQueue) -> None:
    queues = [await make_queue(), await make_queue()]
    asked = submission()
    jobs = await asyncio.gather(*(queues[n % 2].submit(asked, PLENTY) for n in range(100)))
    assert len({job.id for job in jobs}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"spec": b"other"},
        {"recording": Digest("b" * 64, 1234)},
        {"recording": Digest("a" * 64, 1235)},
        {"display_name": "other"},
        {"webhook_url": "http://other"},
        {"priority": JobPriority.INTERACTIVE},
    ],
)
async def test_a_request_id_with_other_content_is_refused(queue: RedisJobQueue, change: dict[str, Any]) -> None:
    asked = submission()
    await queue.submit(asked, PLENTY)
    with pytest.raises(PreconditionFailed) as caught:
        await queue.submit(replace(asked, **change), PLENTY)
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_a_request_id_belongs_to_its_submitter_and_is_free_again_when_its_job_is_deleted(
    queue: RedisJobQueue,
) -> None:
    asked = submission("a", request_id="b:c")
    job = await queue.submit(asked, PLENTY)
    assert (await queue.submit(replace(asked, submitter="a.b", request_id="c"), PLENTY)).id != job.id
    assert (await queue.submit(replace(asked, submitter="b"), PLENTY)).id != job.id
    await queue.delete(job.id)
    assert (await queue.submit(replace(asked, spec=b"other"), PLENTY)).id != job.id


async def test_jobs_beyond_the_limit_are_refused(queue: RedisJobQueue) -> None:
    limits = Limits(queued=3, queued_per_submitter=2)
    await queue.submit(submission("ann"), limits)
    await queue.submit(submission("ann", priority=JobPriority.INTERACTIVE), limits)
    with pytest.raises(Overloaded, match="You have 2 jobs") as caught:
        await queue.submit(submission("ann"), limits)
    assert caught.value.reason == "TOO_MANY_JOBS"
    assert caught.value.retry_after_seconds
    await queue.submit(submission("bob"), limits)
    with pytest.raises(Overloaded, match="There are 3 jobs"):
        await queue.submit(submission("cleo"), limits)
    await take(queue)
    await queue.submit(submission("cleo"), limits)


async def test_batch_jobs_do_not_count_against_interactive_jobs(queue: RedisJobQueue) -> None:
    limits = Limits(queued=2, queued_per_submitter=1)
    interactive = {"priority": JobPriority.INTERACTIVE}
    for kind in ({}, interactive):
        for submitter in ("ann", "bob"):
            await queue.submit(submission(submitter, **kind), limits)
    for submitter, refusal in (("ann", "You have 1 jobs"), ("cleo", "There are 2 jobs")):
        for kind in ({}, interactive):
            with pytest.raises(Overloaded, match=refusal):
                await queue.submit(submission(submitter, **kind), limits)


async def test_ids_increase_even_if_the_clock_is_set_back(queue: RedisJobQueue, client: redis.Redis) -> None:
    first = [(await queue.submit(submission(), PLENTY)).id for _ in range(50)]
    ahead = client.hincrby("careca:{jobs}:counters", "ms", 3_600_000)  # as after a jump of an hour that was put right
    client.hset("careca:{jobs}:counters", "number", 0xFFFE)
    ids = first + [(await queue.submit(submission(), PLENTY)).id for _ in range(50)]
    assert ids == sorted(set(ids))
    assert int(ids[50][:12], 16) >= ahead
    assert [job.id for job in await queue.list(Query(None, limit=100))] == ids[::-1]


# Listing


async def test_pages_hold_the_newest_first_and_follow_each_other(queue: RedisJobQueue) -> None:
    jobs = [await queue.submit(submission("ann"), PLENTY) for _ in range(7)]
    await queue.submit(submission("bob"), PLENTY)
    assert await queue.finish(await take(queue), SUCCESS)
    pages, before = [], ""
    while page := await queue.list(Query("ann", before_id=before, limit=3)):
        pages.append([job.id for job in page])
        before = page[-1].id
    assert [len(page) for page in pages] == [3, 3, 1]
    assert list(itertools.chain(*pages)) == [job.id for job in jobs[::-1]]


async def test_jobs_are_listed_by_submitter_and_state(queue: RedisJobQueue) -> None:
    done = await ended(queue, submitter="ann")
    failed = await ended(queue, FAILURE, submitter="bob")
    cancelled = await queue.cancel((await queue.submit(submission("ann"), PLENTY)).id)
    await queue.submit(submission("ann"), PLENTY)
    running = (await take(queue)).job
    waiting = await queue.submit(submission("bob"), PLENTY)

    async def ids(submitter: str | None, *states: JobState, **changes: Any) -> list[str]:
        return [job.id for job in await queue.list(Query(submitter, frozenset(states), **changes))]

    assert await ids(None) == [job.id for job in (waiting, running, cancelled, failed, done)]
    assert await ids("ann") == [running.id, cancelled.id, done.id]
    assert await ids("bob", JobState.FAILED, JobState.QUEUED) == [waiting.id, failed.id]
    assert await ids(None, JobState.RUNNING) == [running.id]
    assert await ids("ann", JobState.FAILED) == []
    assert await ids("cleo") == []
    assert await ids(None, JobState.CANCELLED, JobState.SUCCEEDED, limit=1) == [cancelled.id]
    assert await queue.list(Query("ann")) == [running, cancelled, done]


async def test_jobs_are_listed_by_time_range(queue: RedisJobQueue) -> None:
    jobs = []
    for _ in range(5):
        jobs.append(await queue.submit(submission(), PLENTY))
        await asyncio.sleep(0.003)  # so that each has a time of its own
    times = [job.create_unix for job in jobs]
    assert len(set(times)) == 5
    span = Query(None, created_from=times[1], created_before=times[4])
    assert [job.create_unix for job in await queue.list(span)] == [times[3], times[2], times[1]]
    assert [job.create_unix for job in await queue.list(replace(span, before_id=jobs[3].id))] == [times[2], times[1]]
    assert [job.create_unix for job in await queue.list(replace(span, before_id="g"))] == [times[3], times[2], times[1]]
    assert await queue.list(Query(None, created_before=-5.0)) == []
    assert await queue.list(Query(None, created_from=1e18)) == []


# Taking


async def test_a_taken_job_is_leased_with_its_spec_and_the_time_that_is_left(queue: RedisJobQueue) -> None:
    await queue.submit(submission(time_limit_seconds=1000.0), PLENTY)
    lease = await take(queue, "gateway-1:17")
    assert lease.spec == b"\0spec\xff"
    assert lease.reported_segments == 0
    assert lease.remaining_seconds is not None
    assert 0 < lease.remaining_seconds <= 1000
    assert lease.job.state is JobState.RUNNING
    assert lease.job.start_unix
    (attempt,) = lease.job.attempts
    assert (attempt.number, attempt.worker, attempt.end_unix, attempt.outcome) == (1, "gateway-1:17", None, "")
    assert await queue.get(lease.job.id) == lease.job
    assert await queue.take("gateway-2:1") is None


async def test_remaining_time_of_expired_and_missing_time_limits(queue: RedisJobQueue) -> None:
    await queue.submit(submission(time_limit_seconds=0.0), PLENTY)
    assert (await take(queue)).remaining_seconds == 0
    await queue.submit(submission(), PLENTY)
    assert (await take(queue)).remaining_seconds is None


async def test_jobs_of_a_submitter_are_taken_in_order(queue: RedisJobQueue) -> None:
    jobs = [(await queue.submit(submission(), PLENTY)).id for _ in range(20)]
    assert [(await take(queue)).job.id for _ in jobs] == jobs


async def test_interactive_jobs_are_taken_first(queue: RedisJobQueue) -> None:
    for priority in (JobPriority.BATCH, JobPriority.INTERACTIVE, JobPriority.BATCH, JobPriority.INTERACTIVE):
        await queue.submit(submission(priority=priority), PLENTY)
    assert [(await take(queue)).job.priority for _ in range(4)] == [
        JobPriority.INTERACTIVE,
        JobPriority.INTERACTIVE,
        JobPriority.BATCH,
        JobPriority.BATCH,
    ]


async def test_taking_only_interactive_jobs_leaves_batch_jobs(queue: RedisJobQueue) -> None:
    batch = await queue.submit(submission(), PLENTY)
    assert await queue.take("worker", interactive_only=True) is None
    waiting = asyncio.create_task(queue.wait_for_work(30, interactive_only=True))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    urgent = await queue.submit(submission(priority=JobPriority.INTERACTIVE), PLENTY)
    async with asyncio.timeout(HANG_SECONDS):
        await waiting
    lease = await queue.take("worker", interactive_only=True)
    assert lease
    assert lease.job.id == urgent.id
    assert (await take(queue)).job.id == batch.id


async def test_an_interactive_job_may_be_taken_as_it_is_submitted(queue: RedisJobQueue) -> None:
    await queue.submit(submission(), PLENTY)
    asked = submission(priority=JobPriority.INTERACTIVE, caller="call 1")
    job, lease = await queue.submit_and_take(asked, PLENTY, "worker")
    assert lease
    assert (lease.job.id, lease.caller, lease.spec) == (job.id, "call 1", asked.spec)
    assert (job.state, job.attempts[-1].worker) == (JobState.RUNNING, "worker")
    again, nothing = await queue.submit_and_take(replace(asked, caller="call 2"), PLENTY, "worker")
    assert (again, nothing) == (job, None)
    assert await queue.finish(lease, SUCCESS)


async def test_submit_and_take_respects_the_order_of_jobs(queue: RedisJobQueue) -> None:
    first = await queue.submit(submission(priority=JobPriority.INTERACTIVE), PLENTY)
    second, lease = await queue.submit_and_take(submission(priority=JobPriority.INTERACTIVE), PLENTY, "worker")
    assert lease
    assert (lease.job.id, lease.caller) == (first.id, "")
    assert second.state is JobState.QUEUED
    assert (await take(queue)).job.id == second.id


async def test_submitters_take_turns_however_many_jobs_each_has(queue: RedisJobQueue) -> None:
    for _ in range(100):
        await queue.submit(submission("ann"), PLENTY)
    assert [(await take(queue)).job.submitter for _ in range(10)] == ["ann"] * 10
    for _ in range(3):
        await queue.submit(submission("bob"), PLENTY)
    await queue.submit(submission("cleo"), PLENTY)
    order = [(await take(queue)).job.submitter for _ in range(9)]
    assert order == ["ann", "bob", "cleo", "ann", "bob", "ann", "bob", "ann", "ann"]


async def test_a_new_submitter_gets_no_extra_turns(queue: RedisJobQueue) -> None:
    await queue.submit(submission("bob"), PLENTY)
    await take(queue)
    for _ in range(20):
        await queue.submit(submission("ann"), PLENTY)
    for _ in range(10):
        await take(queue)
    for _ in range(5):
        await queue.submit(submission("bob"), PLENTY)
    assert [(await take(queue)).job.submitter for _ in range(4)] == ["ann", "bob", "ann", "bob"]


async def test_cancelling_a_waiting_job_keeps_the_submitters_turn(queue: RedisJobQueue) -> None:
    cancelled = await queue.submit(submission("ann"), PLENTY)
    for submitter in ("ann", "bob", "bob"):
        await queue.submit(submission(submitter), PLENTY)
    await queue.cancel(cancelled.id)
    assert [(await take(queue)).job.submitter for _ in range(3)] == ["ann", "bob", "bob"]


async def test_workers_of_two_gateways_take_each_job_once(make_queue: MakeQueue) -> None:
    queues = [await make_queue(), await make_queue()]
    submitted = [await queues[n % 2].submit(submission(f"s{n % 7}"), PLENTY) for n in range(60)]

    async def work(number: int) -> list[str]:
        taken = []
        while lease := await queues[number % 2].take(f"worker {number}"):
            taken.append(lease.job.id)
            assert await queues[number % 2].finish(lease, SUCCESS)
        return taken

    taken = itertools.chain(*await asyncio.gather(*(work(n) for n in range(8))))
    assert sorted(taken) == [job.id for job in submitted]


async def test_waiting_for_work_ends_when_another_gateway_queues_a_job(make_queue: MakeQueue) -> None:
    idle, busy = await make_queue(), await make_queue()
    waiting = asyncio.create_task(idle.wait_for_work(1000))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await busy.submit(submission(), PLENTY)
    async with asyncio.timeout(HANG_SECONDS):
        await waiting
    async with asyncio.timeout(HANG_SECONDS):
        await idle.wait_for_work(1000)  # it still waits


async def test_waiting_for_work_times_out(queue: RedisJobQueue) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        await queue.wait_for_work(0.05)


# Leases


async def test_a_renewal_keeps_the_lease_and_reports_progress(queue: RedisJobQueue) -> None:
    await queue.submit(submission(), PLENTY)
    lease = await take(queue)
    assert await queue.renew([Update(lease.job.id, lease.fence, AT_WORK)]) == frozenset()
    assert (await queue.get(lease.job.id)).stages == AT_WORK
    assert await queue.renew([Update(lease.job.id, lease.fence)]) == frozenset()
    assert (await queue.get(lease.job.id)).stages == AT_WORK
    assert await queue.renew([]) == frozenset()


async def test_one_renewal_covers_many_jobs_and_returns_lost_leases(queue: RedisJobQueue) -> None:
    for _ in range(5):
        await queue.submit(submission(), PLENTY)
    leases = [await take(queue) for _ in range(5)]
    await queue.cancel(leases[0].job.id)
    await queue.delete(leases[1].job.id)
    assert await queue.hand_back(leases[2], stages=STAGES, reason="HANDED_BACK")
    assert await queue.finish(leases[3], SUCCESS)
    updates = [Update(lease.job.id, lease.fence, AT_WORK, (HELLO,)) for lease in leases]
    updates.append(Update("nonsense", 1, (), (HELLO, HELLO)))
    lost = await queue.renew(updates)
    assert lost == {"nonsense", *(lease.job.id for lease in leases[:4])}
    assert (await queue.get(leases[4].job.id)).stages == AT_WORK
    assert (await queue.get(leases[3].job.id)).stages == DONE


async def test_an_older_fence_has_no_effect(queue: RedisJobQueue, client: redis.Redis) -> None:
    await queue.submit(submission(), PLENTY)
    old = await take(queue, "old")
    assert await queue.hand_back(old, stages=STAGES, reason="HANDED_BACK")
    new = await take(queue, "new")
    assert new.job.id == old.job.id
    assert new.fence > old.fence
    before = everything(client)
    assert await queue.renew([Update(old.job.id, old.fence, DONE, (HELLO,))]) == {old.job.id}
    assert not await queue.finish(old, replace(SUCCESS, segments=(HELLO,)))
    assert not await queue.hand_back(old, stages=DONE, reason="HANDED_BACK")
    assert everything(client) == before
    assert await queue.finish(new, replace(SUCCESS, result_key="new"))
    assert not await queue.finish(old, replace(SUCCESS, result_key="old"))
    assert await queue.result_key(new.job.id) == "new"


async def test_a_job_that_is_handed_back_keeps_its_position_and_its_attempts(queue: RedisJobQueue) -> None:
    first, second = [(await queue.submit(submission(), PLENTY)).id for _ in range(2)]
    for number in range(1, 5):
        lease = await take(queue, f"worker {number}")
        assert lease.job.id == first
        assert await queue.hand_back(lease, stages=AT_WORK, reason="HANDED_BACK", message="Draining.")
    job = await queue.get(first)
    assert job.state is JobState.QUEUED
    assert job.stages == AT_WORK
    assert [(a.number, a.worker, a.outcome, a.error_message) for a in job.attempts] == [
        (number, f"worker {number}", "HANDED_BACK", "Draining.") for number in range(1, 5)
    ]
    assert all(attempt.end_unix for attempt in job.attempts)
    assert [(await take(queue)).job.id for _ in range(2)] == [first, second]


async def test_the_last_twenty_attempts_are_kept(queue: RedisJobQueue) -> None:
    job = await queue.submit(submission(), PLENTY)
    for _ in range(23):
        assert await queue.hand_back(await take(queue), stages=STAGES, reason="HANDED_BACK")
    assert [attempt.number for attempt in (await queue.get(job.id)).attempts] == list(range(4, 24))


# Ends


async def test_a_finished_job_has_its_outcome_and_its_result(queue: RedisJobQueue) -> None:
    job = await ended(queue, replace(SUCCESS, partial=True))
    assert job.state is JobState.SUCCEEDED
    assert job.partial
    assert job.stages == DONE
    assert job.end_unix
    assert job.attempts[0].outcome == "SUCCEEDED"
    assert job.attempts[0].end_unix == job.end_unix
    assert await queue.result_key(job.id) == "results/1"


async def test_a_failed_job_says_why_and_has_no_result(queue: RedisJobQueue) -> None:
    job = await ended(queue, FAILURE)
    assert (job.state, job.error_reason, job.error_message) == (JobState.FAILED, "BROKEN", "It broke.")
    assert (job.attempts[0].outcome, job.attempts[0].error_message) == ("BROKEN", "It broke.")
    assert not job.partial
    assert await queue.result_key(job.id) == ""


@pytest.mark.parametrize(
    "error",
    [
        BROKEN,
        InvalidRecording("No sound.", reason="NO_AUDIO", field="config.recording"),
        Overloaded("All is full.", retry_after_seconds=0.0),
        DeadlineExceeded("Too late."),
    ],
    ids=lambda error: error.reason,
)
async def test_the_error_of_a_job_keeps_all_its_details(queue: RedisJobQueue, error: CarecaError) -> None:
    job = await ended(queue, Outcome(JobState.FAILED, STAGES, error=error))
    assert (job.error_reason, job.error_message) == (error.reason, error.message)
    kept = await queue.error(job.id)
    assert type(kept) is type(error)
    assert vars(kept) == vars(error)


async def test_finishing_a_job_can_be_repeated(queue: RedisJobQueue, client: redis.Redis) -> None:
    await queue.submit(submission(), PLENTY)
    lease = await take(queue)
    assert await queue.finish(lease, replace(SUCCESS, segments=(HELLO,)))
    before = everything(client)
    assert await queue.finish(lease, replace(SUCCESS, segments=(HELLO,)))
    assert everything(client) == before


@pytest.mark.parametrize("running", [True, False])
async def test_a_cancelled_job_has_ended_at_once(queue: RedisJobQueue, running: bool) -> None:
    job = await queue.submit(submission(), PLENTY)
    lease = None
    if running:
        lease = await take(queue)
        await queue.renew([Update(job.id, lease.fence, AT_WORK)])
    cancelled = await queue.cancel(job.id)
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.end_unix
    assert [stage.state for stage in cancelled.stages] == [
        StageState.SUCCEEDED if running else StageState.SKIPPED,
        *[StageState.SKIPPED] * 3,
    ]
    assert await queue.cancel(job.id) == cancelled
    assert await queue.take("worker") is None
    if lease:
        assert cancelled.attempts[0].outcome == "CANCELLED"
        assert await queue.renew([Update(job.id, lease.fence)]) == {job.id}
        assert not await queue.finish(lease, SUCCESS)
        assert await queue.result_key(job.id) == ""


@pytest.mark.parametrize("running", [False, True], ids=["waiting", "running"])
async def test_a_job_can_be_ended_with_a_deadline_error(queue: RedisJobQueue, running: bool) -> None:
    job = await queue.submit(submission(), PLENTY)
    if running:
        lease = await take(queue)
        await queue.renew([Update(job.id, lease.fence, AT_WORK)])
    failed = await queue.cancel(job.id, error=DeadlineExceeded("Too late."))
    assert (failed.state, failed.error_reason, failed.error_message) == (
        JobState.FAILED,
        "DEADLINE_EXCEEDED",
        "Too late.",
    )
    assert isinstance(await queue.error(job.id), DeadlineExceeded)
    assert not {stage.state for stage in failed.stages} & {StageState.RUNNING, StageState.WAITING}
    assert [attempt.outcome for attempt in failed.attempts] == ["DEADLINE_EXCEEDED"] * running
    assert await queue.take("worker") is None
    if running:
        assert await queue.renew([Update(job.id, lease.fence)]) == {job.id}


async def test_a_call_cannot_cancel_a_job_that_another_call_waits_for(queue: RedisJobQueue) -> None:
    asked = submission(caller="call 1")
    job = await queue.submit(asked, PLENTY)
    assert await queue.submit(replace(asked, caller="call 2"), PLENTY) == job
    assert (await queue.cancel(job.id, caller="call 1")).state is JobState.QUEUED
    assert (await take(queue)).caller == "call 2"
    assert (await queue.cancel(job.id, caller="call 2")).state is JobState.CANCELLED
    assert (await queue.retry(job.id, STAGES, PLENTY, caller="call 3")).state is JobState.QUEUED
    assert (await take(queue)).caller == "call 3"
    await queue.cancel(job.id)
    await queue.retry(job.id, STAGES, PLENTY)
    assert (await take(queue)).caller == ""


async def test_cancelling_a_waiting_job_keeps_the_order_of_the_others(queue: RedisJobQueue) -> None:
    jobs = [(await queue.submit(submission(), PLENTY)).id for _ in range(4)]
    await queue.cancel(jobs[0])
    await queue.cancel(jobs[2])
    assert [(await take(queue)).job.id for _ in range(2)] == [jobs[1], jobs[3]]
    assert await queue.take("worker") is None


@pytest.mark.parametrize("end", ["failed", "cancelled", "partial"])
async def test_jobs_that_did_not_succeed_can_be_retried(queue: RedisJobQueue, end: str) -> None:
    if end == "cancelled":
        job = await queue.cancel((await queue.submit(submission(time_limit_seconds=1e6), PLENTY)).id)
    else:
        outcome = FAILURE if end == "failed" else replace(SUCCESS, partial=True)
        job = await ended(queue, outcome, time_limit_seconds=1e6)
    again = await queue.retry(job.id, STAGES, PLENTY)
    assert (again.state, again.stages, again.end_unix, again.partial) == (JobState.QUEUED, STAGES, None, False)
    assert (again.error_reason, again.error_message) == ("", "")
    assert (again.create_unix, again.request_id, again.attempts) == (job.create_unix, job.request_id, job.attempts)
    assert await queue.result_key(job.id) == ""
    assert await queue.recordings_in_use() == {RECORDING.sha256}
    lease = await take(queue)
    assert lease.spec == b"\0spec\xff"
    assert lease.remaining_seconds
    assert await queue.finish(lease, replace(SUCCESS, result_key="second"))
    assert await queue.result_key(job.id) == "second"


async def test_a_retry_has_the_whole_time_limit(queue: RedisJobQueue, client: redis.Redis) -> None:
    job = await ended(queue, FAILURE, time_limit_seconds=3600.0)
    client.hset(f"careca:{{jobs}}:job:{job.id}", "asked", 0)  # as if somebody had asked for it in 1970
    await queue.retry(job.id, STAGES, PLENTY)
    remaining = (await take(queue)).remaining_seconds
    assert remaining is not None
    assert 0 < remaining <= 3600.0


async def test_the_time_limit_of_a_call_does_not_apply_to_a_retry_without_a_call(queue: RedisJobQueue) -> None:
    job = await queue.submit(submission(caller="call 1", time_limit_seconds=0.0), PLENTY)
    lease = await take(queue)
    assert lease.remaining_seconds == 0
    assert await queue.finish(lease, FAILURE)
    await queue.retry(job.id, STAGES, PLENTY)
    lease = await take(queue)
    assert (lease.caller, lease.remaining_seconds) == ("", None)
    assert await queue.finish(lease, FAILURE)
    await queue.retry(job.id, STAGES, PLENTY, caller="call 2")
    assert (await take(queue)).remaining_seconds is not None


async def test_a_job_without_stages_comes_to_any_end(queue: RedisJobQueue) -> None:
    cancelled = await queue.cancel((await queue.submit(submission(stages=()), PLENTY)).id)
    assert cancelled.stages == ()
    assert (await queue.retry(cancelled.id, (), PLENTY)).stages == ()
    await take(queue)
    (lost,) = await lose_silent_ones(queue, 1)
    assert (lost.state, lost.stages) == (JobState.FAILED, ())


async def test_active_and_complete_jobs_cannot_be_retried(queue: RedisJobQueue) -> None:
    job = await queue.submit(submission(), PLENTY)

    async def refused() -> None:
        with pytest.raises(PreconditionFailed) as caught:
            await queue.retry(job.id, STAGES, PLENTY)
        assert caught.value.reason == "NOTHING_TO_RETRY"

    await refused()
    lease = await take(queue)
    await refused()
    await queue.finish(lease, SUCCESS)
    await refused()


async def test_a_retried_job_counts_against_the_limits_and_comes_last(queue: RedisJobQueue) -> None:
    failed = await ended(queue, FAILURE)
    other = await queue.submit(submission(), PLENTY)
    with pytest.raises(Overloaded) as caught:
        await queue.retry(failed.id, STAGES, Limits(10, 1))
    assert caught.value.reason == "TOO_MANY_JOBS"
    assert await queue.get(failed.id) == failed
    await queue.retry(failed.id, STAGES, PLENTY)
    assert [(await take(queue)).job.id for _ in range(2)] == [other.id, failed.id]


# Revisions


async def add(queue: RedisJobQueue, job: Job, base: int, key: str = "", *, most: int = 10) -> int | None:
    """Adds a revision. Returns its number, ``None`` if the base is not the newest."""
    revision = NewRevision("ann", f"after {base}", key or f"revisions/{base + 1}")
    added = await queue.add_revision(job.id, "results/1", base, revision, most=most)
    return added[0].revision.number if added else None


async def test_a_transcript_has_its_result_and_its_revisions(queue: RedisJobQueue) -> None:
    job = await ended(queue)
    assert await queue.transcript(job.id) == StoredTranscript("results/1")
    before = time.time()

    new = NewRevision("ann", "renamed A to Ü", "revisions/x", restored_from=0)
    added = await queue.add_revision(job.id, "results/1", 0, new, most=10)

    assert added
    stored, removed = added
    assert stored == StoredRevision(
        Revision(1, "ann", stored.revision.create_unix, "renamed A to Ü", restored_from=0), "revisions/x"
    )
    assert stored.revision.create_unix >= before - 60  # another clock
    assert removed == ()
    assert await queue.transcript(job.id) == StoredTranscript("results/1", (stored,))


async def test_a_revision_needs_the_newest_one_as_its_base(queue: RedisJobQueue, client: redis.Redis) -> None:
    job = await ended(queue)
    assert await add(queue, job, 0) == 1
    assert await add(queue, job, 1) == 2
    before = everything(client)
    for base in (-1, 0, 1, 3):
        assert await add(queue, job, base) is None
    assert everything(client) == before
    assert (await queue.transcript(job.id)).newest == 2


async def test_of_revisions_with_the_same_base_exactly_one_is_added(make_queue: MakeQueue) -> None:
    queues = [await make_queue(listen=False) for _ in range(4)]
    job = await ended(queues[0])
    for base in range(5):
        numbers = await asyncio.gather(*(add(queue, job, base, f"by {n}") for n, queue in enumerate(queues)))
        assert sorted(numbers, key=str) == [base + 1, None, None, None]
    assert [stored.revision.number for stored in (await queues[0].transcript(job.id)).revisions] == [1, 2, 3, 4, 5]


async def test_a_revision_of_another_result_is_not_added(queue: RedisJobQueue) -> None:
    job = await ended(queue, replace(SUCCESS, result_key="results/2"))
    assert await add(queue, job, 0) is None
    failed = await ended(queue, FAILURE)
    assert await add(queue, failed, 0) is None


async def test_the_oldest_revisions_above_the_limit_are_removed_and_numbers_go_on(queue: RedisJobQueue) -> None:
    job = await ended(queue)
    for base in range(4):
        await add(queue, job, base)
    added = await queue.add_revision(job.id, "results/1", 4, NewRevision("ann", "", "revisions/5"), most=3)
    assert added
    assert [stored.key for stored in added[1]] == ["revisions/1", "revisions/2"]
    assert [stored.revision.number for stored in (await queue.transcript(job.id)).revisions] == [3, 4, 5]
    assert await add(queue, job, 5) == 6


async def test_a_corrected_job_cannot_be_retried(queue: RedisJobQueue, client: redis.Redis) -> None:
    job = await ended(queue, replace(SUCCESS, partial=True))
    await add(queue, job, 0)
    before = everything(client)
    with pytest.raises(PreconditionFailed) as caught:
        await queue.retry(job.id, STAGES, PLENTY)
    assert caught.value.reason == "TRANSCRIPT_CORRECTED"
    assert everything(client) == before


@pytest.mark.parametrize("name", ["delete", "clear", "expire"])
async def test_revisions_are_removed_with_their_job(queue: RedisJobQueue, client: redis.Redis, name: str) -> None:
    job = await ended(queue)
    await add(queue, job, 0)
    await {
        "delete": lambda: queue.delete(job.id),
        "clear": lambda: queue.clear(None),
        "expire": lambda: queue.expire(0),
    }[name]()
    assert client.keys() == [b"careca:{jobs}:counters"]


async def test_a_full_redis_refuses_a_revision_and_nothing_has_changed(
    queue: RedisJobQueue, client: redis.Redis, full_memory: Callable[[], None]
) -> None:
    job = await ended(queue)
    await add(queue, job, 0)
    full_memory()
    before = everything(client)
    with pytest.raises(Overloaded) as caught:
        await add(queue, job, 1)
    assert caught.value.reason == "JOBS_FULL"
    assert everything(client) == before


# Forgetting


async def test_a_deleted_job_is_gone_with_all_its_traces(queue: RedisJobQueue, client: redis.Redis) -> None:
    done = await ended(queue, replace(SUCCESS, segments=(HELLO,)), webhook_url="http://a")
    await queue.submit(submission(webhook_url="http://a"), PLENTY)
    running = await take(queue)
    await queue.renew([Update(running.job.id, running.fence, AT_WORK, (HELLO,))])
    waiting = await queue.submit(submission(webhook_url="http://a"), PLENTY)
    for job_id in (done.id, running.job.id, waiting.id):
        await queue.delete(job_id)
        with pytest.raises(NotFound):
            await queue.get(job_id)
    assert await queue.renew([Update(running.job.id, running.fence)]) == {running.job.id}
    assert not await queue.finish(running, SUCCESS)
    assert await queue.take("worker") is None
    assert client.keys() == [b"careca:{jobs}:counters"]


async def test_clearing_removes_the_submitters_jobs_that_have_ended(queue: RedisJobQueue) -> None:
    anns = {(await ended(queue, outcome, submitter="ann")).id for outcome in (SUCCESS, FAILURE)}
    anns.add((await queue.cancel((await queue.submit(submission("ann"), PLENTY)).id)).id)
    bobs = await ended(queue, submitter="bob")
    await queue.submit(submission("ann"), PLENTY)
    running = (await take(queue)).job
    waiting = await queue.submit(submission("ann"), PLENTY)
    assert set(await queue.clear("ann")) == anns
    assert await queue.clear("ann") == []
    assert await queue.exist([*anns, bobs.id, running.id, waiting.id]) == {bobs.id, running.id, waiting.id}
    assert await queue.clear(None) == [bobs.id]
    assert await queue.clear(None) == []


async def test_clearing_a_long_history_comes_to_an_end_in_steps(queue: RedisJobQueue) -> None:
    jobs = [await queue.submit(submission(), PLENTY) for _ in range(450)]
    await asyncio.gather(*(queue.cancel(job.id) for job in jobs))
    cleared = []
    while ids := await queue.clear("ann"):
        assert len(ids) < 450
        cleared += ids
    assert sorted(cleared) == [job.id for job in jobs]


async def test_expiry_removes_jobs_that_ended_long_ago(queue: RedisJobQueue, client: redis.Redis) -> None:
    old, young = await ended(queue), await ended(queue)
    waiting = await queue.submit(submission(), PLENTY)
    client.zincrby("careca:{jobs}:ended", -3_600_000, old.id)  # as if it had ended an hour ago
    assert await queue.expire(3601) == []
    assert await queue.expire(3599) == [old.id]
    assert await queue.exist([old.id, young.id, waiting.id]) == {young.id, waiting.id}
    assert await queue.expire(0) == [young.id]
    assert await queue.expire(0) == []


async def test_a_retried_job_does_not_expire(queue: RedisJobQueue) -> None:
    job = await ended(queue, FAILURE)
    await queue.retry(job.id, STAGES, PLENTY)
    assert await queue.expire(0) == []
    assert await queue.clear(None) == []


async def test_existing_ids_are_found_among_thousands(queue: RedisJobQueue) -> None:
    jobs = {(await queue.submit(submission(), PLENTY)).id for _ in range(3)}
    assert await queue.exist([*(f"unknown {n}" for n in range(10_000)), *jobs]) == jobs
    assert await queue.exist([]) == frozenset()


@pytest.mark.parametrize(
    "name", ["get", "result_key", "spec", "cancel", "delete", "retry", "watch", "transcript", "add_revision"]
)
async def test_a_missing_job_is_not_found(queue: RedisJobQueue, name: str) -> None:
    job = await ended(queue)
    await queue.delete(job.id)
    if name == "retry":
        call = queue.retry(job.id, STAGES, PLENTY)
    elif name == "watch":
        call = anext(queue.watch(job.id))
    elif name == "add_revision":
        call = add(queue, job, 0)
    else:
        call = getattr(queue, name)(job.id)
    with pytest.raises(NotFound) as missing:
        await call
    assert (missing.value.reason, missing.value.metadata) == ("JOB_NOT_FOUND", {"job_id": job.id})


async def test_a_recording_is_in_use_until_its_jobs_have_ended(queue: RedisJobQueue) -> None:
    other = Digest("b" * 64, 1)
    await queue.submit(submission(), PLENTY)
    second = await queue.submit(submission(), PLENTY)
    third = await queue.submit(submission(recording=other), PLENTY)
    assert await queue.recordings_in_use() == {RECORDING.sha256, other.sha256}
    await queue.finish(await take(queue), SUCCESS)
    await queue.delete(third.id)
    assert await queue.recordings_in_use() == {RECORDING.sha256}
    await queue.cancel(second.id)
    assert await queue.recordings_in_use() == frozenset()


# Lost workers


def test_unchanged_values_are_found_after_the_time() -> None:
    clock = Clock()
    silences = LivenessTracker(clock)

    def silent(**values: bytes) -> list[str]:
        return silences.unchanged(values, silences.now(), 5)

    assert silent(a=b"1", b=b"1") == []
    clock.seconds += 4
    assert silent(a=b"1", b=b"2") == []
    clock.seconds += 1
    assert silent(a=b"1", b=b"2", c=b"1") == ["a"]
    clock.seconds += 4
    assert silent(b=b"2", c=b"1") == ["b"]
    clock.seconds += 100
    silences.reset()
    assert silent(b=b"2", c=b"1") == []


def test_the_time_of_a_request_does_not_count_as_unchanged() -> None:
    clock = Clock()
    silences = LivenessTracker(clock)
    asked = silences.now()
    clock.seconds += 100
    assert silences.unchanged({"a": b"1"}, asked, 5) == []
    asked = silences.now()
    clock.seconds += 100
    assert silences.unchanged({"a": b"1"}, asked, 5) == []
    assert silences.unchanged({"a": b"1"}, silences.now(), 5) == ["a"]


async def lose_silent_ones(queue: RedisJobQueue, max_attempts: int = 3) -> Sequence[Job]:
    """Reclaims all jobs; no worker renews its lease meanwhile."""
    await queue.reclaim(1000, max_attempts)
    return await queue.reclaim(0, max_attempts)


async def test_an_abandoned_job_waits_again_at_its_position(queue: RedisJobQueue) -> None:
    first, second = [await queue.submit(submission(), PLENTY) for _ in range(2)]
    lease = await take(queue, "lost")
    await queue.renew([Update(first.id, lease.fence, AT_WORK)])
    (job,) = await lose_silent_ones(queue)
    assert job == await queue.get(first.id)
    assert job.state is JobState.QUEUED
    assert job.attempts[0].outcome == "WORKER_LOST"
    assert job.attempts[0].end_unix
    assert job.stages == (AT_WORK[0], replace(AT_WORK[1], state=StageState.WAITING, progress=0.0), *AT_WORK[2:])
    assert await queue.renew([Update(first.id, lease.fence)]) == {first.id}
    assert not await queue.finish(lease, SUCCESS)
    again = await take(queue, "other")
    assert (again.job.id, [a.worker for a in again.job.attempts]) == (first.id, ["lost", "other"])
    assert (await take(queue)).job.id == second.id


async def test_a_renewed_job_is_never_reclaimed(make_queue: MakeQueue) -> None:
    worker, other = await make_queue(), await make_queue()
    job = await worker.submit(submission(), PLENTY)
    lease = await take(worker)
    for _ in range(20):
        assert await other.reclaim(0, 3) == []
        assert await worker.renew([Update(job.id, lease.fence)]) == frozenset()
    assert await other.reclaim(1000, 3) == []
    (lost,) = await other.reclaim(0, 3)
    assert lost.id == job.id


async def test_a_new_gateway_must_observe_the_missing_renewals_itself(make_queue: MakeQueue) -> None:
    worker, newcomer = await make_queue(), await make_queue()
    await worker.submit(submission(), PLENTY)
    await take(worker)
    await worker.reclaim(1000, 3)
    assert await newcomer.reclaim(0, 3) == []
    assert len(await worker.reclaim(0, 3)) == 1
    assert await newcomer.reclaim(0, 3) == []


async def test_only_one_of_two_gateways_reclaims_a_job(make_queue: MakeQueue) -> None:
    queues = [await make_queue(), await make_queue()]
    for _ in range(10):
        await queues[0].submit(submission(), PLENTY)
        await take(queues[0])
    await asyncio.gather(*(queue.reclaim(1000, 3) for queue in queues))
    reclaimed = await asyncio.gather(*(queue.reclaim(0, 3) for queue in queues))
    assert len({job.id for jobs in reclaimed for job in jobs}) == sum(map(len, reclaimed)) == 10


async def test_a_renewal_during_reclaiming_keeps_the_job(
    queue: RedisJobQueue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.submit(submission(), PLENTY)
    lease = await take(queue)
    unchanged = LivenessTracker.unchanged

    def longest_and_then_a_renewal(*arguments: Any) -> list[str]:
        client.hset("careca:{jobs}:leases", lease.job.id, f"{lease.fence}:7")
        return unchanged(*arguments)

    await queue.reclaim(1000, 3)
    monkeypatch.setattr(LivenessTracker, "unchanged", longest_and_then_a_renewal)
    assert await queue.reclaim(0, 3) == []
    monkeypatch.undo()
    assert await queue.finish(lease, SUCCESS)


async def test_an_outage_does_not_count_as_missing_renewals(make_queue: MakeQueue, durable: RedisServer) -> None:
    queue = await make_queue(durable.url)
    await queue.submit(submission(), PLENTY)
    lease = await take(queue)
    await queue.reclaim(1000, 3)
    durable.stop()
    with pytest.raises(Unavailable):
        await queue.reclaim(0, 3)
    durable.start()
    assert await queue.reclaim(0, 3) == []
    assert await queue.renew([Update(lease.job.id, lease.fence)]) == frozenset()
    assert await queue.reclaim(0, 3) == []
    assert await queue.finish(lease, SUCCESS)


async def test_a_job_that_was_lost_too_often_fails(queue: RedisJobQueue) -> None:
    job = await queue.submit(submission(webhook_url="http://a"), PLENTY)
    for _ in range(2):
        await take(queue)
        (lost,) = await lose_silent_ones(queue, 3)
        assert lost.state is JobState.QUEUED
        assert await queue.hand_back(await take(queue), stages=AT_WORK, reason="HANDED_BACK")
    lease = await take(queue)
    (failed,) = await lose_silent_ones(queue, 3)
    assert failed == await queue.get(job.id)
    assert (failed.state, failed.error_reason) == (JobState.FAILED, "TOO_MANY_ATTEMPTS")
    assert "3 times" in failed.error_message
    assert failed.end_unix
    assert [stage.state for stage in failed.stages] == [
        StageState.SUCCEEDED,
        StageState.FAILED,
        StageState.FAILED,
        StageState.SKIPPED,
    ]
    assert failed.stages[1].error_reason == "TOO_MANY_ATTEMPTS"
    assert not await queue.finish(lease, SUCCESS)
    assert await queue.result_key(job.id) == ""
    assert len(await queue.due_webhooks(5, 1)) == 1
    assert (await queue.retry(job.id, STAGES, PLENTY)).state is JobState.QUEUED
    await take(queue)
    (lost,) = await lose_silent_ones(queue, 3)
    assert lost.state is JobState.QUEUED, "who asks again asks for all attempts"


# Watching


async def test_a_watch_yields_the_job_then_segments_in_order_then_its_end(make_queue: MakeQueue) -> None:
    worker, other = await make_queue(), await make_queue()
    job = await worker.submit(submission(), PLENTY)
    watch = other.watch(job.id)
    assert (await next_of(watch, 1))[0].content == job
    lease = await take(worker)
    assert (await next_of(watch, 1))[0].content == lease.job
    await worker.renew([Update(job.id, lease.fence, segments=(HELLO, *segments(2, 2)))])
    assert [happening.content for happening in await next_of(watch, 3)] == [HELLO, *segments(2, 2)]
    await worker.renew([Update(job.id, lease.fence, AT_WORK)])
    (happening,) = await next_of(watch, 1)
    assert isinstance(happening.content, Job)
    assert happening.content.stages == AT_WORK
    await worker.finish(lease, replace(SUCCESS, segments=segments(4, 1)))
    *last_segments, end = await all_of(watch)
    assert [happening.content for happening in last_segments] == [*segments(4, 1)]
    assert end.content == await worker.get(job.id)


async def test_watching_from_any_cursor_loses_and_repeats_nothing(queue: RedisJobQueue) -> None:
    job = await queue.submit(submission(), PLENTY)
    lease = await take(queue)
    everything_said = segments(0, 450)
    await queue.renew([Update(job.id, lease.fence, segments=everything_said[:440])])
    watch = queue.watch(job.id)
    live = await next_of(watch, 100)
    await watch.aclose()
    await queue.finish(lease, replace(SUCCESS, segments=everything_said[440:]))
    rest = await all_of(queue.watch(job.id, live[-1].cursor))
    assert isinstance(rest[0].content, Job)
    assert tuple(told(live) + told(rest)) == everything_said
    whole = await all_of(queue.watch(job.id))
    assert tuple(told(whole)) == everything_said
    for position in (0, 1, 17, 199, 200, 201, 449, 450):
        again = await all_of(queue.watch(job.id, whole[position].cursor))
        assert again[0].content == await queue.get(job.id)
        assert tuple(told(again)) == everything_said[position:]


async def test_thousands_of_segments_can_be_reported_at_once(queue: RedisJobQueue) -> None:
    await queue.submit(submission(), PLENTY)
    lease = await take(queue)
    await queue.renew([Update(lease.job.id, lease.fence, segments=segments(0, 9000))])
    await queue.finish(lease, replace(SUCCESS, segments=segments(9000, 9000)))
    assert tuple(told(await all_of(queue.watch(lease.job.id)))) == segments(0, 18_000)


async def test_a_watch_continues_over_attempts_without_repeated_segments(queue: RedisJobQueue) -> None:
    job = await queue.submit(submission(), PLENTY)
    watch = queue.watch(job.id)
    first = await take(queue)
    await queue.renew([Update(job.id, first.fence, segments=segments(0, 3))])
    await queue.hand_back(first, stages=STAGES, reason="HANDED_BACK")
    second = await take(queue)
    assert second.reported_segments == 3
    await queue.renew([Update(job.id, first.fence, segments=(HELLO,))])
    await queue.finish(second, replace(FAILURE, segments=segments(3, 2)))
    happenings = await all_of(watch)
    assert tuple(told(happenings)) == segments(0, 5)
    await queue.retry(job.id, STAGES, PLENTY)
    third = await take(queue)
    assert third.reported_segments == 5
    await queue.finish(third, replace(SUCCESS, segments=segments(5, 1)))
    assert tuple(told(await all_of(queue.watch(job.id, happenings[-1].cursor)))) == segments(5, 1)


async def test_segments_are_kept_for_ten_minutes_after_the_end(queue: RedisJobQueue, client: redis.Redis) -> None:
    job = await ended(queue, replace(FAILURE, segments=segments(0, 2)))
    key = f"careca:{{jobs}}:events:{job.id}"
    assert 500 < client.ttl(key) <= 600
    await queue.retry(job.id, STAGES, PLENTY)
    assert client.ttl(key) == -1
    await queue.cancel(job.id)
    assert client.ttl(key) > 0
    client.delete(key)  # as after that time
    assert [happening.content for happening in await all_of(queue.watch(job.id))] == [await queue.get(job.id)]
    await queue.retry(job.id, STAGES, PLENTY)
    await queue.finish(await take(queue), replace(SUCCESS, segments=segments(2, 1)))
    assert tuple(told(await all_of(queue.watch(job.id, "2")))) == segments(2, 1)


async def test_a_watch_ends_with_not_found_when_the_job_is_deleted(make_queue: MakeQueue) -> None:
    queue, other = await make_queue(), await make_queue()
    job = await queue.submit(submission(), PLENTY)
    watch = other.watch(job.id)
    await next_of(watch, 1)
    await queue.delete(job.id)
    with pytest.raises(NotFound):
        await all_of(watch)


@pytest.mark.parametrize("cursor", ["x", "-1", "1-0", "1 ", "1\n", "٣", "9" * 16])
async def test_an_invalid_cursor_is_refused(queue: RedisJobQueue, cursor: str) -> None:
    job = await queue.submit(submission(), PLENTY)
    with pytest.raises(InvalidRequest) as caught:
        await anext(queue.watch(job.id, cursor))
    assert caught.value.field == "cursor"


async def test_lost_notifications_only_delay_events(make_queue: MakeQueue, client: redis.Redis) -> None:
    deaf, broken = await make_queue(listen=False), await make_queue()
    job = await deaf.submit(submission(), PLENTY)
    watches = [deaf.watch(job.id), broken.watch(job.id)]
    for watch in watches:
        await next_of(watch, 1)
    ends = [asyncio.create_task(all_of(watch)) for watch in watches]
    waits = asyncio.create_task(deaf.wait_for_work(1000))
    async with asyncio.timeout(HANG_SECONDS):
        await until(lambda: client.client_kill_filter(_type="pubsub"))
        await waits
        await deaf.finish(await take(deaf), SUCCESS)
        for happenings in await asyncio.gather(*ends):
            assert happenings[-1].content == await deaf.get(job.id)
    await until(lambda: listeners(client))


async def test_every_change_is_published(queue: RedisJobQueue, client: redis.Redis) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("careca:{jobs}:news")
        await until(lambda: listeners(client) == 2)

        def news() -> set[str]:
            client.publish("careca:{jobs}:news", "that is all")
            heard = set[str]()
            while "that is all" not in heard:
                message = listener.get_message(timeout=HANG_SECONDS)
                heard |= {message["data"].decode()} if message else set()
            return heard - {"that is all"}

        job = await queue.submit(submission(webhook_url="http://a"), PLENTY)
        assert news() == {"q", job.id}
        lease = await take(queue)
        assert news() == {job.id}
        await queue.renew([Update(job.id, lease.fence)])
        assert news() == set()
        await queue.renew([Update(job.id, lease.fence, AT_WORK)])
        assert news() == {job.id}
        await queue.renew([Update(job.id, lease.fence, segments=(HELLO,))])
        assert news() == {job.id}
        await queue.hand_back(lease, stages=STAGES, reason="HANDED_BACK")
        assert news() == {"q", job.id}
        await take(queue)
        await lose_silent_ones(queue)
        assert news() == {"q", job.id}
        await queue.finish(await take(queue), FAILURE)
        assert news() == {job.id}
        await queue.webhook_delivered(await queue.get(job.id))
        assert news() == {job.id}
        await queue.retry(job.id, STAGES, PLENTY)
        assert news() == {"q", job.id}
        await queue.cancel(job.id)
        assert news() == {job.id}
        await queue.delete(job.id)
        assert news() == {job.id}


# Webhooks


async def test_a_due_webhook_is_leased_to_one_gateway(
    make_queue: MakeQueue,
) -> None:
    queue, other = await make_queue(), await make_queue()
    waiting = await queue.submit(submission(webhook_url="http://a"), PLENTY)
    assert await queue.due_webhooks(10, 1000) == []
    cancelled = await queue.cancel(waiting.id)
    await ended(queue)
    (notice,) = await queue.due_webhooks(10, 1000)
    assert (notice.job, notice.webhook) == (cancelled, JobWebhook("http://a"))
    assert await other.due_webhooks(10, 1000) == []
    assert (await queue.stats()).pending_webhooks == 1
    await queue.webhook_delivered(notice.job)
    assert (await queue.get(waiting.id)).webhook == JobWebhook("http://a", WebhookState.DELIVERED, 1)
    assert (await queue.stats()).pending_webhooks == 0


async def test_a_failed_webhook_is_retried_until_it_is_given_up(queue: RedisJobQueue) -> None:
    job = await ended(queue, webhook_url="http://a")
    assert len(await queue.due_webhooks(10, 1000)) == 1
    await queue.webhook_failed(job, "refused", 0)
    (notice,) = await queue.due_webhooks(10, 0)
    assert notice.webhook == JobWebhook("http://a", WebhookState.PENDING, 1, "refused")
    (notice,) = await queue.due_webhooks(10, 1000)  # a gateway that vanished told nobody
    await queue.webhook_failed(job, "gone", None)
    assert (await queue.get(job.id)).webhook == JobWebhook("http://a", WebhookState.FAILED, 2, "gone")
    assert await queue.due_webhooks(10, 0) == []


async def test_due_webhooks_are_limited(queue: RedisJobQueue) -> None:
    jobs = {(await ended(queue, webhook_url="http://a")).id for _ in range(5)}
    first, second, third = [await queue.due_webhooks(2, 1000) for _ in range(3)]
    assert [len(first), len(second), len(third)] == [2, 2, 1]
    assert {notice.job.id for notice in (*first, *second, *third)} == jobs


async def test_a_retried_job_calls_its_webhook_again(queue: RedisJobQueue) -> None:
    job = await ended(queue, FAILURE, webhook_url="http://a")
    await queue.retry(job.id, STAGES, PLENTY)
    assert await queue.due_webhooks(10, 0) == []
    await queue.webhook_failed(job, "late news of the first end", 0)
    assert (await queue.get(job.id)).webhook == JobWebhook("http://a")
    await queue.finish(await take(queue), replace(SUCCESS, partial=True))
    (notice,) = await queue.due_webhooks(10, 0)
    await queue.webhook_delivered(job)  # of the first end, by a gateway that took its time
    assert (await queue.get(job.id)).webhook == JobWebhook("http://a")
    await queue.webhook_delivered(notice.job)
    assert (await queue.get(job.id)).webhook == JobWebhook("http://a", WebhookState.DELIVERED, 1)
    assert (await queue.retry(job.id, STAGES, PLENTY)).webhook == JobWebhook("http://a")


# Statistics


async def test_statistics_count_jobs_and_say_how_long_the_oldest_has_waited(
    queue: RedisJobQueue, client: redis.Redis
) -> None:
    empty = await queue.stats()
    assert set(empty.by_state) == set(JobState)
    assert set(empty.waiting) == set(JobPriority)
    assert not any((*empty.by_state.values(), *empty.waiting.values(), empty.oldest_waiting_seconds))
    await ended(queue, webhook_url="http://a")
    await ended(queue, FAILURE)
    old = await queue.submit(submission(), PLENTY)
    for submitter in ("ann", "bob", "cleo"):
        await queue.submit(submission(submitter, priority=JobPriority.INTERACTIVE), PLENTY)
    await take(queue)
    client.zincrby("careca:{jobs}:since", -60_000, old.id)  # as if it had waited for a minute
    stats = await queue.stats()
    assert stats.by_state == {
        JobState.QUEUED: 3,
        JobState.RUNNING: 1,
        JobState.SUCCEEDED: 1,
        JobState.FAILED: 1,
        JobState.CANCELLED: 0,
    }
    assert stats.waiting == {JobPriority.INTERACTIVE: 2, JobPriority.BATCH: 1}
    assert 60 <= stats.oldest_waiting_seconds < 3600
    assert stats.pending_webhooks == 1


async def test_submitters_and_gateways_leave_nothing_in_redis(queue: RedisJobQueue, client: redis.Redis) -> None:
    last = await queue.submit(submission("ann"), PLENTY)
    held = await take(queue, "the one that stays")
    for number in range(50):
        await queue.submit(submission("ann"), PLENTY)
        lease = await take(queue, f"gateway {number}")
        if number % 2:
            assert await queue.hand_back(lease, stages=STAGES, reason="HANDED_BACK")
            lease = await take(queue, f"another {number}")
        assert await queue.finish(lease, SUCCESS)
        await ended(queue, submitter=f"submitter {number}")
    (stream,) = client.keys("careca:{jobs}:queue:*")
    assert [c["name"] for c in client.xinfo_consumers(stream, "gateways")] == [b"the one that stays"]
    assert held.job.id == last.id
    await queue.finish(held, SUCCESS)
    assert client.keys("careca:{jobs}:queue:*") == []
    assert client.keys("careca:{jobs}:turns:*") == []


# Redis itself


async def test_a_restarted_redis_has_lost_nothing(make_queue: MakeQueue, durable: RedisServer) -> None:
    queue = await make_queue(durable.url)
    done = await ended(queue, replace(SUCCESS, segments=(HELLO,)), webhook_url="http://a")
    jobs = [await queue.submit(submission(f"s{n % 3}"), PLENTY) for n in range(12)]
    held, back, lost = [await take(queue, f"worker {n}") for n in range(3)]
    await queue.renew([Update(held.job.id, held.fence, AT_WORK, segments(0, 3))])
    await lose_silent_ones_but(queue, held, back)
    await queue.hand_back(back, stages=AT_WORK, reason="HANDED_BACK")
    await queue.cancel(jobs[5].id)
    with durable.client() as client:
        before = everything(client)
    durable.stop()
    with pytest.raises(Unavailable) as caught:
        await queue.get(done.id)
    assert caught.value.retry_after_seconds
    durable.start()
    with durable.client() as client:
        assert everything(client) == before
    assert (await queue.list(Query(None)))[-1] == done
    assert await queue.finish(held, replace(SUCCESS, segments=segments(3, 1)))
    assert tuple(told(await all_of(queue.watch(held.job.id)))) == segments(0, 4)
    taken = [(await take(queue)).job.id for _ in range(10)]
    assert sorted(taken) == sorted({job.id for job in jobs} - {held.job.id, jobs[5].id})
    assert {back.job.id, lost.job.id} <= set(taken)
    assert await queue.take("worker") is None


async def lose_silent_ones_but(queue: RedisJobQueue, *kept: Lease) -> None:
    await queue.reclaim(1000, 3)
    await queue.renew([Update(lease.job.id, lease.fence) for lease in kept])
    assert len(await queue.reclaim(0, 3)) == 1


async def test_acknowledged_changes_survive_a_killed_redis(make_queue: MakeQueue, durable: RedisServer) -> None:
    queue = await make_queue(durable.url)
    acknowledged: list[str] = []

    async def submit_on() -> None:
        while True:
            acknowledged.append((await queue.submit(submission(), PLENTY)).id)
            if len(acknowledged) == 100:
                durable.stop()

    answers = await asyncio.gather(*(submit_on() for _ in range(10)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    durable.start()
    assert await queue.exist(acknowledged) == set(acknowledged)


async def test_a_hanging_redis_times_out_and_works_again_later(queue: RedisJobQueue, redis_server: RedisServer) -> None:
    job = await queue.submit(submission(), PLENTY)
    impatient = RedisJobQueue(redis_server.url, timeout_seconds=0.2)
    redis_server.pause()
    try:
        async with asyncio.timeout(HANG_SECONDS):
            for call in (lambda: impatient.get(job.id), lambda: impatient.wait_for_work(1000), impatient.stats):
                with pytest.raises(Unavailable):
                    await call()
    finally:
        redis_server.resume()
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            try:
                assert (await impatient.get(job.id)).id == job.id
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    await impatient.close()


async def test_a_queue_opens_without_redis_and_gets_notifications_later(
    make_queue: MakeQueue, redis_server: RedisServer, client: redis.Redis
) -> None:
    redis_server.stop()
    queue = await make_queue()
    with pytest.raises(Unavailable):
        await queue.submit(submission(), PLENTY)
    redis_server.start()
    await until(lambda: listeners(client))
    assert await queue.submit(submission(), PLENTY)


@pytest.fixture
def full_memory(client: redis.Redis) -> Iterator[Callable[[], None]]:
    def fill() -> None:
        client.config_set("maxmemory", 1)

    yield fill
    client.config_set("maxmemory", 0)


async def test_a_full_redis_refuses_new_jobs_and_nothing_has_changed(
    queue: RedisJobQueue, client: redis.Redis, full_memory: Callable[[], None]
) -> None:
    failed = await ended(queue, FAILURE)
    full_memory()
    before = everything(client)
    asked = submission()
    for call in (lambda: queue.submit(asked, PLENTY), lambda: queue.retry(failed.id, STAGES, PLENTY)):
        with pytest.raises(Overloaded) as caught:
            await call()
        assert caught.value.reason == "JOBS_FULL"
        assert caught.value.retry_after_seconds
    assert everything(client) == before
    client.config_set("maxmemory", 0)
    assert (await queue.submit(asked, PLENTY)).state is JobState.QUEUED


async def test_a_full_redis_lets_started_jobs_end(
    queue: RedisJobQueue, client: redis.Redis, full_memory: Callable[[], None]
) -> None:
    for _ in range(6):
        await queue.submit(submission(webhook_url="http://a"), PLENTY)
    full_memory()
    first, second = await take(queue), await take(queue)
    assert await queue.renew([Update(first.job.id, first.fence, AT_WORK, (HELLO,))]) == frozenset()
    assert await queue.finish(first, replace(SUCCESS, segments=(HELLO,)))
    assert await queue.hand_back(second, stages=STAGES, reason="HANDED_BACK")
    assert (await take(queue)).job.id == second.job.id
    (lost,) = await lose_silent_ones(queue)
    assert (await queue.cancel(lost.id)).state is JobState.CANCELLED
    assert len(await queue.due_webhooks(1, 1000)) == 1
    for told in (first.job.id, lost.id):
        await queue.webhook_failed(await queue.get(told), "refused", 0)
    assert (await queue.stats()).by_state[JobState.QUEUED] == 4
    assert await queue.clear(None)
    for job in await queue.list(Query(None)):
        await queue.delete(job.id)
    assert client.keys() == [b"careca:{jobs}:counters"]


async def test_expiry_works_if_memory_is_full(
    queue: RedisJobQueue, client: redis.Redis, full_memory: Callable[[], None]
) -> None:
    job = await ended(queue)
    full_memory()
    assert await queue.expire(0) == [job.id]
    assert client.keys() == [b"careca:{jobs}:counters"]


async def test_a_redis_that_cannot_write_to_disk_is_unavailable(queue: RedisJobQueue, client: redis.Redis) -> None:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")  # as after a failover: it answers, and takes no writes
    try:
        with pytest.raises(CarecaError) as caught:
            await queue.submit(submission(), PLENTY)
        assert isinstance(caught.value, Unavailable)
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")
