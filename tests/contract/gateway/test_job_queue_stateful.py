"""The job queue with any order of operations, compared with a simple model of it, on a real Redis."""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from careca.errors import InternalError, NotFound, PreconditionFailed
from careca.types import Digest, JobPriority, JobStage, JobState, Segment, Stage, StageState
from careca_gateway.jobs.queue.port import Lease, Limits, Outcome, Query, Submission, Update
from careca_gateway.jobs.queue.redis_queue import RedisJobQueue
from support.redis_server import RedisServer

T = TypeVar("T")

PREFIX = "careca:{jobs}"
MOST_LOSSES = 2
PLENTY = Limits(10_000, 10_000)
STAGES = (JobStage(Stage.TRANSCRIBE),)
SUBMITTERS = ("ann", "bob", "a:b")
RECORDINGS = tuple(Digest(letter * 64, 1) for letter in "abc")
OUTCOMES = ("whole", "partial", "failed")

positions = st.integers(0, 10**6)


@dataclass
class ModelJob:
    """The expected state of a job."""

    submission: Submission
    state: JobState = JobState.QUEUED
    fence: int = 0
    losses: int = 0
    attempts: int = 0
    told: int = 0
    result_key: str = ""
    partial: bool = False
    notice: bool = False

    @property
    def line(self) -> tuple[str, str]:
        return self.submission.priority, self.submission.submitter


class Queue(RuleBasedStateMachine):
    """Two gateways on one Redis. Workers keep leases even after losing them."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client = self.server.client()
        self.client.flushall()
        self.queues = [RedisJobQueue(self.server.url, timeout_seconds=20) for _ in range(2)]
        self.numbers = itertools.count()
        self.jobs: dict[str, ModelJob] = {}
        self.removed: list[str] = []
        self.leases: list[Lease] = []
        self.fresh: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.back: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.turns: dict[str, list[str]] = {priority: [] for priority in JobPriority}

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def any_job(self, position: int) -> str:
        """A job, or sometimes one that was deleted."""
        names = [*self.jobs, *self.removed[-2:]]
        return names[position % len(names)]

    def held(self, lease: Lease) -> bool:
        job = self.jobs.get(lease.job.id)
        return bool(job and job.state is JobState.RUNNING and job.fence == lease.fence)

    # What changes in the model

    def wait(self, job_id: str, *, again: bool) -> None:
        job = self.jobs[job_id]
        job.state = JobState.QUEUED
        (self.back if again else self.fresh)[job.line].append(job_id)
        self.back[job.line].sort()
        priority, submitter = job.line
        if submitter not in self.turns[priority]:
            self.turns[priority].append(submitter)

    def stop_waiting(self, job_id: str, *, turn: bool) -> None:
        line = priority, submitter = self.jobs[job_id].line
        for names in (self.fresh[line], self.back[line]):
            if job_id in names:
                names.remove(job_id)
        waits = self.fresh[line] or self.back[line]
        if turn or not waits:
            self.turns[priority].remove(submitter)
            if waits:
                self.turns[priority].append(submitter)

    def end(self, job_id: str, state: JobState) -> None:
        job = self.jobs[job_id]
        if job.state is JobState.QUEUED:
            self.stop_waiting(job_id, turn=False)
        job.state = state
        job.notice = bool(job.submission.webhook_url)

    def remove(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            if not self.jobs[job_id].state.ended:
                self.end(job_id, JobState.CANCELLED)
            del self.jobs[job_id]
            self.removed.append(job_id)

    # What happens

    @rule(
        gateway=st.integers(0, 1),
        submitter=st.sampled_from(SUBMITTERS),
        priority=st.sampled_from(JobPriority),
        recording=st.sampled_from(RECORDINGS),
        webhook=st.booleans(),
        name=st.one_of(st.none(), st.sampled_from("xy")),
    )
    def submit(
        self, gateway: int, submitter: str, priority: JobPriority, recording: Digest, webhook: bool, name: str | None
    ) -> None:
        submission = Submission(
            submitter,
            name or f"request {next(self.numbers)}",
            recording,
            b"spec",
            priority=priority,
            webhook_url="http://a" if webhook else "",
            stages=STAGES,
        )
        same = [
            (job_id, job.submission)
            for job_id, job in self.jobs.items()
            if (job.submission.submitter, job.submission.request_id) == (submitter, submission.request_id)
        ]
        try:
            job = self.do(self.queues[gateway].submit(submission, PLENTY))
        except PreconditionFailed:
            assert same
            assert same[0][1] != submission
            return
        if same:
            assert same == [(job.id, submission)]
            return
        assert job.id not in self.jobs
        assert job.id > max([*self.jobs, *self.removed], default="")
        self.jobs[job.id] = ModelJob(submission)
        self.wait(job.id, again=False)

    @rule(gateway=st.integers(0, 1), worker=st.sampled_from(["one", "two", "three"]))
    def take(self, gateway: int, worker: str) -> None:
        expected = None
        for priority in JobPriority:
            if not expected and self.turns[priority]:
                line = priority, self.turns[priority][0]
                expected = (self.back[line] or self.fresh[line])[0]
        lease = self.do(self.queues[gateway].take(worker))
        assert (lease.job.id if lease else None) == expected
        if not lease:
            return
        job = self.jobs[lease.job.id]
        self.stop_waiting(lease.job.id, turn=True)
        assert lease.fence > job.fence
        assert lease.reported_segments == job.told
        job.state, job.fence, job.attempts = JobState.RUNNING, lease.fence, job.attempts + 1
        assert lease.job.attempts[-1].number == job.attempts
        self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(gateway=st.integers(0, 1), chosen=st.lists(positions, max_size=4), told=st.integers(0, 2))
    def renew(self, gateway: int, chosen: list[int], told: int) -> None:
        leases = {(lease := self.leases[position % len(self.leases)]).job.id: lease for position in chosen}.values()
        segments = tuple(Segment(float(number), number + 1.0, "said") for number in range(told))
        stages = (JobStage(Stage.TRANSCRIBE, StageState.RUNNING, 0.5),)
        lost = self.do(
            self.queues[gateway].renew([Update(lease.job.id, lease.fence, stages, segments) for lease in leases])
        )
        assert lost == {lease.job.id for lease in leases if not self.held(lease)}
        for lease in leases:
            if self.held(lease):
                self.jobs[lease.job.id].told += told

    @precondition(lambda self: self.leases)
    @rule(gateway=st.integers(0, 1), position=positions, kind=st.sampled_from(OUTCOMES), twice=st.booleans())
    def finish(self, gateway: int, position: int, kind: str, twice: bool) -> None:
        lease = self.leases[position % len(self.leases)]
        key = f"result {next(self.numbers)}" if kind != "failed" else ""
        state = JobState.FAILED if kind == "failed" else JobState.SUCCEEDED
        error = InternalError("It broke.") if kind == "failed" else None
        outcome = Outcome(state, STAGES, result_key=key, partial=kind == "partial", error=error)
        held = self.held(lease)
        done = self.do(self.queues[gateway].finish(lease, outcome))
        if held:
            assert done
            job = self.jobs[lease.job.id]
            self.end(lease.job.id, state)
            job.result_key, job.partial = key, kind == "partial"
            if twice:
                assert self.do(self.queues[gateway].finish(lease, outcome))
        else:  # at most the worker's own end, said once more
            job_now = self.jobs.get(lease.job.id)
            assert done == bool(job_now and job_now.state.ended and job_now.fence == lease.fence)

    @precondition(lambda self: self.leases)
    @rule(gateway=st.integers(0, 1), position=positions)
    def hand_back(self, gateway: int, position: int) -> None:
        lease = self.leases[position % len(self.leases)]
        held = self.held(lease)
        done = self.do(self.queues[gateway].hand_back(lease, stages=STAGES, reason="HANDED_BACK"))
        assert done == held
        if held:
            self.wait(lease.job.id, again=True)

    @precondition(lambda self: any(self.held(lease) for lease in self.leases))
    @rule(gateway=st.integers(0, 1), crashed=st.lists(st.booleans(), max_size=6))
    def reclaim(self, gateway: int, crashed: list[bool]) -> None:
        """Some workers crash; the others renew while a gateway looks for abandoned jobs."""
        live = [lease for lease in self.leases if self.held(lease)]
        silent = {lease.job.id for lease, is_silent in zip(live, crashed, strict=False) if is_silent}
        queue = self.queues[gateway]
        assert self.do(queue.reclaim(1e9, MOST_LOSSES)) == []
        self.do(queue.renew([Update(lease.job.id, lease.fence) for lease in live if lease.job.id not in silent]))
        assert {job.id for job in self.do(queue.reclaim(0, MOST_LOSSES))} == silent
        for job_id in sorted(silent):
            job = self.jobs[job_id]
            job.losses += 1
            job.fence += 1
            if job.losses < MOST_LOSSES:
                self.wait(job_id, again=True)
            else:
                self.end(job_id, JobState.FAILED)

    @precondition(lambda self: self.jobs)
    @rule(gateway=st.integers(0, 1), position=positions)
    def cancel(self, gateway: int, position: int) -> None:
        job_id = self.any_job(position)
        try:
            cancelled = self.do(self.queues[gateway].cancel(job_id))
        except NotFound:
            assert job_id not in self.jobs
            return
        job = self.jobs[job_id]
        if not job.state.ended:
            self.end(job_id, JobState.CANCELLED)
            job.fence += 1
        assert cancelled.state is job.state

    @precondition(lambda self: self.jobs)
    @rule(gateway=st.integers(0, 1), position=positions)
    def retry(self, gateway: int, position: int) -> None:
        job_id = self.any_job(position)
        try:
            self.do(self.queues[gateway].retry(job_id, STAGES, PLENTY))
        except NotFound:
            assert job_id not in self.jobs
            return
        except PreconditionFailed:
            refused = self.jobs[job_id]
            assert not refused.state.ended or (refused.state is JobState.SUCCEEDED and not refused.partial)
            return
        job = self.jobs[job_id]
        assert job.state.ended
        assert job.state is not JobState.SUCCEEDED or job.partial
        job.losses, job.result_key, job.partial, job.notice = 0, "", False, False
        self.wait(job_id, again=False)

    @precondition(lambda self: self.jobs)
    @rule(gateway=st.integers(0, 1), position=positions)
    def delete(self, gateway: int, position: int) -> None:
        job_id = self.any_job(position)
        try:
            self.do(self.queues[gateway].delete(job_id))
        except NotFound:
            assert job_id not in self.jobs
            return
        self.remove([job_id])

    @rule(gateway=st.integers(0, 1), whose=st.one_of(st.none(), st.sampled_from(SUBMITTERS)))
    def clear(self, gateway: int, whose: str | None) -> None:
        cleared = self.do(self.queues[gateway].clear(whose))
        assert set(cleared) == {
            name for name, job in self.jobs.items() if job.state.ended and whose in (None, job.submission.submitter)
        }
        self.remove(cleared)

    @rule(gateway=st.integers(0, 1), old=st.booleans())
    def expire(self, gateway: int, old: bool) -> None:
        expired = self.do(self.queues[gateway].expire(0 if old else 1000))
        assert set(expired) == {name for name, job in self.jobs.items() if job.state.ended and old}
        self.remove(expired)

    @rule(gateway=st.integers(0, 1), most=st.integers(1, 3), given_up=st.booleans())
    def tell_webhooks(self, gateway: int, most: int, given_up: bool) -> None:
        queue = self.queues[gateway]
        due = {notice.job.id: notice.job for notice in self.do(queue.due_webhooks(most, 0))}
        assert len(due) == min(most, sum(job.notice for job in self.jobs.values()))
        for job_id, job in due.items():
            assert self.jobs[job_id].notice
            self.jobs[job_id].notice = False
            self.do(queue.webhook_failed(job, "refused", None) if given_up else queue.webhook_delivered(job))

    # What always holds

    def names(self, *states: JobState) -> set[str]:
        return {name for name, job in self.jobs.items() if job.state in states}

    def zset(self, key: str) -> set[str]:
        return {name.decode() for name in self.client.zrange(f"{PREFIX}:{key}", 0, -1)}

    def hash(self, key: str) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.client.hgetall(f"{PREFIX}:{key}").items()}

    def keys(self, kind: str) -> set[str]:
        return {key.decode().removeprefix(f"{PREFIX}:{kind}:") for key in self.client.keys(f"{PREFIX}:{kind}:*")}

    @invariant()
    def each_job_is_in_exactly_the_indexes_of_its_state(self) -> None:
        for state in JobState:
            assert self.zset(f"state:{state}") == self.names(state)
            for submitter in SUBMITTERS:
                own = {name for name in self.names(state) if self.jobs[name].submission.submitter == submitter}
                assert self.zset(f"of:{state}:{submitter}") == own
        for name, job in self.jobs.items():
            fields = dict(
                zip(
                    ["state", "result_key", "fence", "told"],
                    self.client.hmget(f"{PREFIX}:job:{name}", "state", "result_key", "fence", "told"),
                    strict=True,
                )
            )
            assert fields["state"] == job.state.encode()
            assert (fields["result_key"] or b"").decode() == job.result_key
            assert bool(job.result_key) == (job.state is JobState.SUCCEEDED)
            assert int(fields["told"] or 0) == job.told
            if job.state is JobState.RUNNING:
                assert int(fields["fence"]) == job.fence
        assert self.keys("job") == set(self.jobs)
        assert self.zset("ended") == self.names(JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
        assert self.zset("notices") == {name for name, job in self.jobs.items() if job.notice}

    @invariant()
    def a_job_is_in_a_queue_as_long_as_it_has_not_ended(self) -> None:
        entries: list[str] = []
        pending: list[str] = []
        for line in self.keys("queue"):
            key = f"{PREFIX}:queue:{line}"
            names = {entry: fields[b"job"].decode() for entry, fields in self.client.xrange(key)}
            assert names, "an empty queue stays"
            entries += names.values()
            taken = self.client.xpending_range(key, "gateways", "-", "+", 10_000)
            pending += [names[entry["message_id"]] for entry in taken]
            consumers = self.client.xinfo_consumers(key, "gateways")
            assert {c["name"] for c in consumers} == {entry["consumer"] for entry in taken}
        back = [name for line in self.keys("back") for name in self.zset(f"back:{line}")]
        assert sorted(entries) == sorted(self.names(JobState.QUEUED, JobState.RUNNING))
        assert sorted(back) == sorted(itertools.chain(*self.back.values()))
        assert sorted(pending) == sorted([*self.names(JobState.RUNNING), *back])

    @invariant()
    def leases_are_of_running_jobs_only(self) -> None:
        fences = {name: int(lease.partition(":")[0]) for name, lease in self.hash("leases").items()}
        assert fences == {name: self.jobs[name].fence for name in self.names(JobState.RUNNING)}

    @invariant()
    def all_counts_are_right(self) -> None:
        queued = self.names(JobState.QUEUED)
        lines = Counter(":".join(self.jobs[name].line) for name in queued)
        assert self.hash("waiting") == {line: str(count) for line, count in lines.items()}
        assert self.zset("since") == queued
        for priority in JobPriority:
            turns = self.client.zrange(f"{PREFIX}:turns:{priority}", 0, -1)
            assert [name.decode() for name in turns] == self.turns[priority]
        stats = self.do(self.queues[0].stats())
        assert stats.by_state == {state: len(self.names(state)) for state in JobState}
        assert sum(stats.waiting.values()) == len(queued)
        assert stats.pending_webhooks == sum(job.notice for job in self.jobs.values())
        in_use = Counter(
            self.jobs[name].submission.recording.sha256 for name in self.names(JobState.QUEUED, JobState.RUNNING)
        )
        assert self.hash("recordings") == {digest: str(count) for digest, count in in_use.items()}

    @invariant()
    def a_list_has_all_jobs_the_newest_first(self) -> None:
        listed = self.do(self.queues[1].list(Query(None, limit=10_000)))
        assert [job.id for job in listed] == sorted(self.jobs, reverse=True)
        assert {job.id: (job.state, job.request_id) for job in listed} == {
            name: (job.state, job.submission.request_id) for name, job in self.jobs.items()
        }

    def teardown(self) -> None:
        try:
            for job_id in self.jobs:
                self.do(self.queues[0].delete(job_id))
            assert self.client.keys() in ([], [f"{PREFIX}:counters".encode()])
        finally:
            for queue in self.queues:
                self.do(queue.close())
            self.client.close()
            self.runner.close()


def test_the_queue_keeps_its_guarantees_in_any_order_of_events(redis_server: RedisServer) -> None:
    Queue.server = redis_server
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=35, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
