"""What the gateway asks of whatever keeps its jobs: records, a queue, leases, and news of what happens.

All gateways share it, and any of them may vanish at any moment. A job is leased to one worker at a time. The lease is
kept by renewing it and lost by silence, which others measure on their own clocks: no two clocks are ever compared. Each
time a job is leased its fence grows, and whatever a former holder says with an older fence changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from careca.errors import CarecaError
from careca.types import Digest, Job, JobPriority, JobStage, JobState, JobWebhook, Segment


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as it is submitted."""

    submitter: str
    request_id: str
    """Unique among the submitter's jobs; the same id with the same content is the same job."""
    recording: Digest
    spec: bytes
    """All that says what is to be done. The queue does not look inside."""
    display_name: str = ""
    priority: JobPriority = JobPriority.BATCH
    webhook_url: str = ""
    """Whom to tell in the end; empty: nobody."""
    stages: tuple[JobStage, ...] = ()
    """The stages as they begin."""
    time_limit_seconds: float | None = None
    """How long after its submission anybody wants the result; where a call waits for it, as long as one does."""
    caller: str = ""
    """Names the call that waits for the result, if one does; the last one that submitted the job is its caller."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs may wait. Jobs for which somebody waits are counted against each other only."""

    queued: int
    """Of all submitters together."""
    queued_per_submitter: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A job in the hands of a worker."""

    job: Job
    spec: bytes
    fence: int
    """Grows each time the job is leased."""
    reported_segments: int
    """How many segments were told in earlier attempts."""
    remaining_seconds: float | None
    """What is left of the submission's time limit when the lease is given."""
    caller: str = ""
    """The call that waits for the result; empty where none does."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a worker has to say of a job it holds; with nothing to say it only keeps the lease."""

    job_id: str
    fence: int
    stages: tuple[JobStage, ...] | None = None
    """The stages as they are now, if they changed."""
    segments: tuple[Segment, ...] = ()
    """Segments finished since the last update."""
    reported_segments: int | None = None
    """How many were told before these, so that none is told twice where an answer is lost; ``None``: all that were."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How work on a job ended."""

    state: JobState
    """``SUCCEEDED`` or ``FAILED``."""
    stages: tuple[JobStage, ...]
    segments: tuple[Segment, ...] = ()
    """Finished segments that were not told before."""
    reported_segments: int | None = None
    """How many were told before these, so that none is told twice where an answer is lost; ``None``: all that were."""
    result_key: str = ""
    """Where the result is stored; empty where there is none."""
    partial: bool = False
    error: CarecaError | None = None
    """Why it failed."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs to list, newest first. Times are seconds since 1970."""

    submitter: str | None
    """Whose; ``None`` is everybody's."""
    states: frozenset[JobState] = frozenset()
    """Empty: all."""
    created_from: float | None = None
    created_before: float | None = None
    before_id: str = ""
    """Only jobs older than this one: where the last page ended."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class JobEvent:
    """What a watcher is told: a segment, or the job as it is after a change."""

    cursor: str
    """What to go on from after this."""
    what: Job | Segment


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook that is to be told now."""

    job: Job
    webhook: JobWebhook


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The live state, shared by all gateways."""

    by_state: Mapping[JobState, int] = field(default_factory=dict)
    waiting: Mapping[JobPriority, int] = field(default_factory=dict)
    oldest_waiting_seconds: float = 0.0
    """Age of the job that has waited longest."""
    pending_webhooks: int = 0


class JobQueue(Protocol):
    """Where jobs are kept. All methods may be called at once from many tasks of one event loop.

    All raise ``Unavailable`` where the queue cannot be reached and ``Overloaded`` (reason JOBS_FULL) where it has no
    room for what is to be written; then nothing has changed.
    """

    async def open(self) -> None:
        """Begins to listen for news. Does not fail where the queue cannot be reached yet."""

    async def close(self) -> None:
        """Lets go of all connections."""

    async def submit(self, submission: Submission, limits: Limits) -> Job:
        """The new job, or the one that was submitted with this request id before.

        Raises ``PreconditionFailed`` (REQUEST_ID_REUSED) where that one has other content, ``Overloaded``
        (TOO_MANY_JOBS) beyond ``limits``.
        """

    async def submit_and_take(self, submission: Submission, limits: Limits, worker: str) -> tuple[Job, Lease | None]:
        """As ``submit``; where the job is new, also the interactive job whose turn it is, leased to ``worker``.

        That is the new one unless others waited before it.
        """

    async def get(self, job_id: str) -> Job:
        """The job. Raises ``NotFound``."""

    async def result_key(self, job_id: str) -> str:
        """Where the job's result is stored, empty where it has none. Raises ``NotFound``."""

    async def error(self, job_id: str) -> CarecaError:
        """Why the job failed, with all its details. Raises ``NotFound``."""

    async def list(self, query: Query) -> Sequence[Job]:
        """At most ``query.limit`` jobs, newest first."""

    async def take(self, worker: str, *, interactive_only: bool = False) -> Lease | None:
        """The next job, now leased to ``worker``; ``None`` where none waits.

        Interactive jobs go before others. Among those of one priority submitters take turns, and each submitter's go in
        order of submission.
        """

    async def wait_for_work(self, timeout_seconds: float, *, interactive_only: bool = False) -> None:
        """Returns when there may be something to take, at the latest after that time."""

    async def renew(self, updates: Sequence[Update]) -> frozenset[str]:
        """Keeps the leases and tells what happened.

        Returns the ids of jobs whose lease is lost: they were cancelled, deleted, or taken over.
        """

    async def finish(self, lease: Lease, outcome: Outcome) -> bool:
        """Ends the job. ``False`` where the lease is lost; nothing has changed then. May be repeated."""

    async def hand_back(self, lease: Lease, *, stages: Sequence[JobStage], reason: str, message: str = "") -> bool:
        """Queues the job again, without counting the attempt against the limit. ``False`` where the lease is lost."""

    async def reclaim(self, silence_seconds: float, max_attempts: int) -> Sequence[Job]:
        """Queues jobs again whose leases were not renewed for ``silence_seconds`` as this process has seen it.

        To be called several times within that time. A job that was lost ``max_attempts`` times ends as ``FAILED`` with
        the reason TOO_MANY_ATTEMPTS. Returns those it dealt with as they are now.
        """

    async def cancel(self, job_id: str, *, caller: str = "", error: CarecaError | None = None) -> Job:
        """Ends the job as ``CANCELLED``, or as ``FAILED`` by ``error``, unless it has ended. Raises ``NotFound``.

        With ``caller`` only where that call is still the one that waits for the job.
        """

    async def retry(self, job_id: str, stages: Sequence[JobStage], limits: Limits, *, caller: str = "") -> Job:
        """Queues a job again that has ended, with these stages; ``caller`` waits for it from now on, or nobody.

        Raises ``NotFound``, ``PreconditionFailed`` (NOTHING_TO_RETRY) where it has not ended or is whole, and
        ``Overloaded`` as ``submit`` does.
        """

    async def delete(self, job_id: str) -> None:
        """Forgets the job, which is cancelled first if it has not ended. Raises ``NotFound``."""

    async def clear(self, submitter: str | None) -> Sequence[str]:
        """Forgets jobs that have ended: the submitter's, or everybody's. A bounded number; their ids.

        To be called until it returns none.
        """

    async def expire(self, older_than_seconds: float) -> Sequence[str]:
        """Forgets jobs that ended that long ago. A bounded number; their ids. To be called until it returns none."""

    def watch(self, job_id: str, cursor: str = "") -> AsyncGenerator[JobEvent, None]:
        """The job as it is, then what happens to it after ``cursor``, up to its end.

        Raises ``NotFound``, also when the job is deleted meanwhile, and ``InvalidRequest`` for a cursor that is none.
        """

    async def exist(self, job_ids: Collection[str]) -> frozenset[str]:
        """Those of the ids that name jobs."""

    async def recordings_in_use(self) -> frozenset[str]:
        """SHA-256 of the recordings of all jobs that have not ended."""

    async def due_webhooks(self, limit: int, lease_seconds: float) -> Sequence[DueWebhook]:
        """Webhooks to be told now. Each is given to nobody else for ``lease_seconds``."""

    async def webhook_delivered(self, job: Job) -> None:
        """The webhook was told of this end of the job. Changes nothing where the job was tried again since."""

    async def webhook_failed(self, job: Job, error_message: str, retry_after_seconds: float | None) -> None:
        """The webhook could not be told: it is tried again after that time, or given up with ``None``.

        Changes nothing where the job was tried again since.
        """

    async def stats(self) -> QueueStats:
        """The live state."""
