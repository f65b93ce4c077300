"""Jobs: durable requests."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from careca.types.audio import Digest
from careca.types.stages import Stage, StageState


class JobState(enum.StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the job has reached its final state."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobPriority(enum.StrEnum):
    """The priority of a job; interactive jobs go first."""

    INTERACTIVE = "interactive"
    """A person waits for the result."""
    BATCH = "batch"


class WebhookState(enum.StrEnum):
    """The state of the notification of a webhook."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobStage:
    """One stage of a job, over all attempts."""

    stage: Stage
    state: StageState = StageState.WAITING
    progress: float = 0.0
    """Fraction done, from 0 to 1."""
    seconds: float = 0.0
    cached: bool = False
    """Whether its result came from a cache or from an earlier attempt."""
    attempts: int = 0
    """How often it was started."""
    error_reason: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """One attempt of a gateway to run a job. Times are seconds since 1970."""

    number: int
    worker: str
    start_unix: float
    end_unix: float | None = None
    outcome: str = ""
    """SUCCEEDED, CANCELLED, HANDED_BACK, WORKER_LOST, or the reason of the error; empty while it runs."""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class JobWebhook:
    """The URL that is notified of the end of a job, and the state of the notification."""

    url: str
    state: WebhookState = WebhookState.PENDING
    attempts: int = 0
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A durable request to process one recording. Times are seconds since 1970."""

    id: str
    """Later jobs have greater ids."""
    state: JobState
    recording: Digest
    display_name: str
    submitter: str
    priority: JobPriority
    request_id: str
    create_unix: float
    start_unix: float | None = None
    """Start of the latest attempt."""
    end_unix: float | None = None
    stages: tuple[JobStage, ...] = ()
    attempts: tuple[JobAttempt, ...] = ()
    """Oldest first; the last 20."""
    partial: bool = False
    """Whether it has a result that lacks the part of a failed stage."""
    error_reason: str = ""
    error_message: str = ""
    webhook: JobWebhook | None = None
