"""The JSON of jobs."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

import careca_client
from careca import types
from careca_web.api.models.admin import StageMemory
from careca_web.api.models.options import Options
from careca_web.api.models.recordings import SHA256, Recording

_MODEL_STAGES = {types.Stage.TRANSCRIBE, types.Stage.DIARIZE}


class JobTerms(BaseModel):
    """What a submission says besides the recording and the options."""

    model_config = ConfigDict(extra="forbid")

    request_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Makes it safe to send the request again: the same id with the same content returns the same job.",
    )
    priority: types.JobPriority = Field(
        default=types.JobPriority.BATCH, description="Interactive jobs run before batch jobs."
    )
    webhook_url: str | None = Field(
        default=None, max_length=2000, description="Address that is notified when the job has ended."
    )


class JobRequest(JobTerms):
    """A job for a recording that the gateway has."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "recording": {"sha256": SHA256, "size_bytes": 2_345_678},
                    "name": "call.wav",
                    "options": {"language": "en", "max_speaker_count": 4},
                }
            ]
        }
    )

    recording: Recording
    name: str = Field(default="", max_length=255, description="The name to show, usually the name of the file.")
    options: Options = Field(default_factory=Options)


class Error(BaseModel):
    """Why something failed."""

    reason: str = Field(description="For programs: UPPER_SNAKE_CASE.")
    message: str = Field(description="For people.")

    @classmethod
    def from_value(cls, reason: str, message: str) -> Self | None:
        """Returns the error as JSON; ``None`` if there was none."""
        return cls(reason=reason, message=message) if reason or message else None


class JobStage(BaseModel):
    """One stage of a job, over all attempts."""

    stage: types.Stage
    state: types.StageState
    progress: float = Field(description="Fraction done, from 0 to 1.")
    seconds: float
    cached: bool = Field(description="Whether its result came from a cache or from an earlier attempt.")
    attempts: int = Field(description="How often it was started.")
    error: Error | None

    @classmethod
    def from_value(cls, stage: types.JobStage) -> Self:
        """Returns the stage as JSON."""
        return cls(
            stage=stage.stage,
            state=stage.state,
            progress=stage.progress,
            seconds=stage.seconds,
            cached=stage.cached,
            attempts=stage.attempts,
            error=Error.from_value(stage.error_reason, stage.error_message),
        )


class JobAttempt(BaseModel):
    """One attempt of a gateway to run the job."""

    number: int
    worker: str
    started: float
    ended: float | None
    outcome: str = Field(
        description="SUCCEEDED, CANCELLED, HANDED_BACK, WORKER_LOST, or the reason of the error; empty while it runs."
    )
    message: str

    @classmethod
    def from_value(cls, attempt: types.JobAttempt) -> Self:
        """Returns the attempt as JSON."""
        return cls(
            number=attempt.number,
            worker=attempt.worker,
            started=attempt.start_unix,
            ended=attempt.end_unix,
            outcome=attempt.outcome,
            message=attempt.error_message,
        )


class Webhook(BaseModel):
    """The address that is notified of the end of a job."""

    url: str
    state: types.WebhookState
    attempts: int
    message: str = Field(description="Why the last delivery failed; empty if it did not.")

    @classmethod
    def from_value(cls, webhook: types.JobWebhook) -> Self:
        """Returns the webhook as JSON."""
        return cls(url=webhook.url, state=webhook.state, attempts=webhook.attempts, message=webhook.error_message)


class Job(BaseModel):
    """A job. Timestamps are seconds since 1970."""

    id: str = Field(description="Later jobs have greater ids.")
    state: types.JobState
    recording: Recording
    name: str
    submitter: str
    priority: types.JobPriority
    request_id: str
    created: float
    started: float | None = Field(description="Start of the latest attempt.")
    ended: float | None
    partial: bool = Field(description="Whether its result lacks the part of a failed stage.")
    from_cache: bool = Field(description="Whether no model ran: all model stages had their results already.")
    error: Error | None
    stages: list[JobStage]
    attempts: list[JobAttempt] = Field(description="The last 20, oldest first.")
    webhook: Webhook | None

    @classmethod
    def from_value(cls, job: types.Job) -> Self:
        """Returns the job as JSON."""
        succeeded = [
            stage
            for stage in job.stages
            if stage.stage in _MODEL_STAGES and stage.state is not types.StageState.SKIPPED
        ]
        return cls(
            id=job.id,
            state=job.state,
            recording=Recording.from_value(job.recording),
            name=job.display_name,
            submitter=job.submitter,
            priority=job.priority,
            request_id=job.request_id,
            created=job.create_unix,
            started=job.start_unix,
            ended=job.end_unix,
            partial=job.partial,
            from_cache=bool(succeeded) and all(stage.cached for stage in succeeded),
            error=Error.from_value(job.error_reason, job.error_message),
            stages=[JobStage.from_value(stage) for stage in job.stages],
            attempts=[JobAttempt.from_value(attempt) for attempt in job.attempts],
            webhook=Webhook.from_value(job.webhook) if job.webhook else None,
        )


class JobPage(BaseModel):
    """One page of jobs, newest first."""

    jobs: list[Job]
    next_page_token: str = Field(description="Token of the next page; empty if this is the last one.")

    @classmethod
    def from_value(cls, page: careca_client.JobPage) -> Self:
        """Returns the page as JSON."""
        return cls(jobs=[Job.from_value(job) for job in page.jobs], next_page_token=page.next_page_token)


class HistoryClearance(BaseModel):
    """What clearing the history removed."""

    removed_jobs: int
    memory: list[StageMemory] = Field(
        description="The memory that each service gave back; empty if the caller may not release memory."
    )

    @classmethod
    def from_value(cls, clearance: careca_client.JobsClearance) -> Self:
        """Returns what was removed as JSON."""
        memory = StageMemory.rows(clearance.memory) if clearance.memory else []
        return cls(removed_jobs=clearance.removed_jobs, memory=memory)


class Word(BaseModel):
    """One word. ``start`` and ``end`` are missing if the model gave no time."""

    text: str
    start: float | None
    end: float | None
    probability: float | None

    @classmethod
    def from_value(cls, word: types.Word) -> Self:
        """Returns the word as JSON."""
        probability = None if word.probability is None else round(word.probability, 4)  # as in the JSON format
        return cls(text=word.text, start=word.start, end=word.end, probability=probability)


class Segment(BaseModel):
    """A finished segment of speech. Its words have no speakers yet."""

    start: float
    end: float
    text: str
    words: list[Word]
    language: str

    @classmethod
    def from_value(cls, segment: types.Segment) -> Self:
        """Returns the segment as JSON."""
        return cls(
            start=segment.start,
            end=segment.end,
            text=segment.text,
            words=[Word.from_value(word) for word in segment.words],
            language=segment.language,
        )
