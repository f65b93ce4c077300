"""Jobs: durable requests."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from careca.types.audio import Digest
from careca.types.stages import Stage, StageState


class JobState(enum.StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the job changes no more by itself."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobPriority(enum.StrEnum):
    """Which jobs go first."""

    INTERACTIVE = "interactive"
    """Somebody waits."""
    BATCH = "batch"


class WebhookState(enum.StrEnum):
    """What became of telling a webhook that its job has ended."""

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
    """Whether its result came from a cache or was kept from an earlier attempt."""
    attempts: int = 0
    """How often it was begun."""
    error_reason: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """One time that a gateway worked on a job. Times are seconds since 1970."""

    number: int
    worker: str
    start_unix: float
    end_unix: float | None = None
    outcome: str = ""
    """SUCCEEDED, CANCELLED, HANDED_BACK, WORKER_LOST, or the reason of the error; empty while it goes on."""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class JobWebhook:
    """Whom to tell that a job has ended, and whether they know."""

    url: str
    state: WebhookState = WebhookState.PENDING
    attempts: int = 0
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One recording to be worked on, whoever waits. Times are seconds since 1970."""

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
    """When work on it last began."""
    end_unix: float | None = None
    stages: tuple[JobStage, ...] = ()
    attempts: tuple[JobAttempt, ...] = ()
    """Oldest first; the last 20."""
    partial: bool = False
    """Whether it has a result in which a stage's part is missing."""
    error_reason: str = ""
    error_message: str = ""
    webhook: JobWebhook | None = None
