"""The protocol of the job queue: job records, a queue with leases, and notifications.

All gateways share the queue, and any of them may fail at any moment. A job is leased to one worker at a time. The
worker keeps the lease by renewing it, and loses it if it stops. The other gateways measure that time on their own
clocks, so no two clocks are ever compared. Each lease of a job has a higher fence than the one before, and what a
former holder reports with an older fence has no effect.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from careca.errors import CarecaError, NotFound
from careca.types import Digest, Job, JobPriority, JobStage, JobState, JobWebhook, Revision, Segment

MAX_ID_CHARACTERS = 64
"""The maximum length of a job id."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to submit."""

    submitter: str
    request_id: str
    """Unique among the submitter's jobs. The same id with the same content is the same job."""
    recording: Digest
    spec: bytes
    """The job's configuration. The queue does not read it."""
    content: bytes = b""
    """What the submitter sent, if the spec has more than that. Empty: the spec."""
    display_name: str = ""
    priority: JobPriority = JobPriority.BATCH
    webhook_url: str = ""
    """The webhook to call at the end; empty if there is none."""
    stages: tuple[JobStage, ...] = ()
    """The initial stages."""
    time_limit_seconds: float | None = None
    """How long after the submission the result is useful. If a call waits for it: only while a call waits."""
    caller: str = ""
    """The name of the call that waits for the result, if there is one. The last call to submit the job counts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs may wait. Interactive jobs count only against each other."""

    queued: int
    """Of all submitters together."""
    queued_per_submitter: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A job that is leased to a worker."""

    job: Job
    spec: bytes
    fence: int
    """Increases with each lease of the job."""
    reported_segments: int
    """The number of segments that earlier attempts reported."""
    remaining_seconds: float | None
    """What is left of the submission's time limit at the start of the lease."""
    caller: str = ""
    """The name of the call that waits for the result; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a worker reports about a job that it holds. Without changes it only renews the lease."""

    job_id: str
    fence: int
    stages: tuple[JobStage, ...] | None = None
    """The stages as they are now, if they changed."""
    segments: tuple[Segment, ...] = ()
    """The segments finished since the last update."""
    reported_segments: int | None = None
    """The number of segments before these, so that none is added twice if a reply is lost. ``None``: all so far."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    state: JobState
    """``SUCCEEDED`` or ``FAILED``."""
    stages: tuple[JobStage, ...]
    segments: tuple[Segment, ...] = ()
    """The finished segments that were not reported before."""
    reported_segments: int | None = None
    """As in ``Update``."""
    result_key: str = ""
    """The key of the stored result; empty if there is none."""
    partial: bool = False
    error: CarecaError | None = None
    """Why the job failed."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs to list, newest first. Times are seconds since 1970."""

    submitter: str | None
    """``None``: jobs of all submitters."""
    states: frozenset[JobState] = frozenset()
    """Empty: all states."""
    created_from: float | None = None
    created_before: float | None = None
    before_id: str = ""
    """Only jobs older than this one: the last job of the previous page."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An event for watchers: a segment, or the job after a change."""

    cursor: str
    """Where to continue after this event."""
    content: Job | Segment


@dataclass(frozen=True, slots=True)
class NewRevision:
    """A revision to add to a job's transcript."""

    author: str
    summary: str
    key: str = ""
    """The key of its content, which must be stored already."""
    restored_from: int | None = None


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """A revision, and the key of its stored content."""

    revision: Revision
    key: str


@dataclass(frozen=True, slots=True)
class StoredTranscript:
    """The revisions of a job's transcript, and the key of the result that they correct."""

    result_key: str
    """Empty if there is no result."""
    revisions: tuple[StoredRevision, ...] = ()
    """Those that are kept, oldest first."""

    @property
    def newest(self) -> int:
        """The number of the newest revision; 0 if the transcript was not corrected."""
        return self.revisions[-1].revision.number if self.revisions else 0

    def key_of(self, number: int) -> str:
        """Returns the key of a revision's stored content; 0 is the result. Raises ``NotFound`` if it is not kept."""
        if number == 0:
            return self.result_key
        for stored in self.revisions:
            if stored.revision.number == number:
                return stored.key
        raise NotFound(
            f"there is no revision {number}, or it is no longer kept: the newest one is {self.newest}",
            reason="REVISION_NOT_FOUND",
            metadata={"revision": str(number), "newest_revision": str(self.newest)},
        )


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook that must be called now."""

    job: Job
    webhook: JobWebhook


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The current state of the queue of all gateways."""

    by_state: Mapping[JobState, int] = field(default_factory=dict)
    waiting: Mapping[JobPriority, int] = field(default_factory=dict)
    oldest_waiting_seconds: float = 0.0
    """The age of the job that has waited longest."""
    pending_webhooks: int = 0


def job_not_found(job_id: str) -> NotFound:
    """Returns the error for a job that does not exist, and for one that the caller may not see: they look the same."""
    return NotFound("there is no such job", reason="JOB_NOT_FOUND", metadata={"job_id": job_id[:MAX_ID_CHARACTERS]})


class JobQueue(Protocol):
    """The queue. All methods may be called at the same time from many tasks of one event loop.

    All methods raise ``Unavailable`` if the queue cannot be reached, and ``Overloaded`` (reason JOBS_FULL) if it has no
    memory left for what must be written. Nothing has changed then.
    """

    async def open(self) -> None:
        """Starts to receive notifications. Succeeds also if the queue cannot be reached yet."""

    async def close(self) -> None:
        """Closes all connections."""

    async def submit(self, submission: Submission, limits: Limits) -> Job:
        """Returns the new job, or the one that was submitted with this request id before.

        Raises ``PreconditionFailed`` (REQUEST_ID_REUSED) if that one has other content, and ``Overloaded``
        (TOO_MANY_JOBS) if too many jobs wait.
        """

    async def submit_and_take(self, submission: Submission, limits: Limits, worker: str) -> tuple[Job, Lease | None]:
        """Submits a job. If it is new, also takes the next interactive job for ``worker``.

        That is the new job unless others have been waiting.
        """

    async def get(self, job_id: str) -> Job:
        """Returns the job. Raises ``NotFound``."""

    async def result_key(self, job_id: str) -> str:
        """Returns the key of the job's stored result, empty if there is none. Raises ``NotFound``."""

    async def spec(self, job_id: str) -> bytes:
        """Returns the job's configuration as it was submitted. Raises ``NotFound``."""

    async def transcript(self, job_id: str) -> StoredTranscript:
        """Returns what is stored of the job's transcript. Raises ``NotFound``."""

    async def add_revision(
        self, job_id: str, result_key: str, base: int, revision: NewRevision, *, most: int
    ) -> tuple[StoredRevision, Sequence[StoredRevision]] | None:
        """Adds a revision after the newest one. Returns it, and the oldest ones, which are removed above ``most``.

        Returns ``None``, without a change, if ``base`` is not the number of the newest revision (0 if there is none),
        or the job has another result than ``result_key``. Raises ``NotFound``.
        """

    async def error(self, job_id: str) -> CarecaError:
        """Returns the error of a job that failed, with all its details. Raises ``NotFound``."""

    async def list(self, query: Query) -> Sequence[Job]:
        """Returns at most ``query.limit`` jobs, newest first."""

    async def take(self, worker: str, *, interactive_only: bool = False) -> Lease | None:
        """Leases the next job to ``worker``. Returns ``None`` if no job waits.

        Interactive jobs come before others. Among jobs of the same priority, submitters take turns, and the jobs of a
        submitter keep the order of submission.
        """

    async def wait_for_work(self, timeout_seconds: float, *, interactive_only: bool = False) -> None:
        """Returns when there may be a job to take, at the latest after ``timeout_seconds``."""

    async def renew(self, updates: Sequence[Update]) -> frozenset[str]:
        """Renews leases and reports progress.

        Returns the ids of jobs whose lease is lost, because they were cancelled, deleted or reclaimed.
        """

    async def finish(self, lease: Lease, outcome: Outcome) -> bool:
        """Ends the job. Returns false, without a change, if the lease is lost. May be repeated."""

    async def hand_back(self, lease: Lease, *, stages: Sequence[JobStage], reason: str, message: str = "") -> bool:
        """Queues the job again without counting the attempt against the limit. Returns false if the lease is lost."""

    async def reclaim(self, silence_seconds: float, max_attempts: int) -> Sequence[Job]:
        """Queues jobs again if this process has not seen their leases renewed for ``silence_seconds``.

        Must be called several times within that time. A job that was lost ``max_attempts`` times fails with the reason
        TOO_MANY_ATTEMPTS. Returns the reclaimed jobs as they are now.
        """

    async def cancel(self, job_id: str, *, caller: str = "", error: CarecaError | None = None) -> Job:
        """Ends the job as ``CANCELLED``, or as ``FAILED`` with ``error``, unless it has ended. Raises ``NotFound``.

        With ``caller``, only if that call is still the one that waits for the job.
        """

    async def retry(self, job_id: str, stages: Sequence[JobStage], limits: Limits, *, caller: str = "") -> Job:
        """Queues a job that has ended again, with these stages. From now on ``caller`` waits for it, or no call.

        Raises ``NotFound``, ``PreconditionFailed`` (NOTHING_TO_RETRY) if it has not ended or has succeeded completely,
        ``PreconditionFailed`` (TRANSCRIPT_CORRECTED) if its transcript has revisions, and ``Overloaded`` as ``submit``
        does.
        """

    async def delete(self, job_id: str) -> None:
        """Removes the job. Cancels it first if it has not ended. Raises ``NotFound``."""

    async def clear(self, submitter: str | None) -> Sequence[str]:
        """Removes jobs that have ended, of the submitter or, with ``None``, of all. Returns their ids.

        Removes a bounded number: call it until it returns none.
        """

    async def expire(self, older_than_seconds: float) -> Sequence[str]:
        """Removes jobs that ended that long ago. Returns their ids. Call it until it returns none, as ``clear``."""

    def watch(self, job_id: str, cursor: str = "") -> AsyncGenerator[JobEvent, None]:
        """Yields the job as it is, and then its events after ``cursor``, until it ends.

        Raises ``NotFound``, also if the job is deleted meanwhile, and ``InvalidRequest`` if the cursor is invalid.
        """

    async def exist(self, job_ids: Collection[str]) -> frozenset[str]:
        """Returns the ids of jobs that exist."""

    async def recordings_in_use(self) -> frozenset[str]:
        """Returns the SHA-256 of the recordings of all jobs that have not ended."""

    async def due_webhooks(self, limit: int, lease_seconds: float) -> Sequence[DueWebhook]:
        """Returns webhooks that must be called now. No other gateway gets them for ``lease_seconds``."""

    async def webhook_delivered(self, job: Job) -> None:
        """Records that the webhook for this end of the job was called. No effect if the job was retried since."""

    async def webhook_failed(self, job: Job, error_message: str, retry_after_seconds: float | None) -> None:
        """Records that calling the webhook failed. It is called again after that time; ``None`` gives it up.

        No effect if the job was retried since.
        """

    async def stats(self) -> QueueStats:
        """Returns the current state."""
