"""Conversion of jobs."""

from __future__ import annotations

from collections.abc import Mapping

from careca.codec.result import STATES, STATES_BY_NUMBER
from careca.codec.scalars import (
    decode_digest,
    decode_duration,
    decode_stage,
    decode_time,
    encode_digest,
    encode_stage,
    encode_time,
    set_duration,
)
from careca.errors import InvalidRequest
from careca.types import Job, JobAttempt, JobPriority, JobStage, JobState, JobWebhook, WebhookState
from careca.v1 import jobs_pb2

JOB_STATES: Mapping[JobState, jobs_pb2.JobState.ValueType] = {
    JobState.QUEUED: jobs_pb2.JOB_STATE_QUEUED,
    JobState.RUNNING: jobs_pb2.JOB_STATE_RUNNING,
    JobState.SUCCEEDED: jobs_pb2.JOB_STATE_SUCCEEDED,
    JobState.FAILED: jobs_pb2.JOB_STATE_FAILED,
    JobState.CANCELLED: jobs_pb2.JOB_STATE_CANCELLED,
}
"""Each state to its protobuf value."""

_JOB_STATES_BY_NUMBER = {number: state for state, number in JOB_STATES.items()}

_PRIORITIES: Mapping[JobPriority, jobs_pb2.JobPriority.ValueType] = {
    JobPriority.INTERACTIVE: jobs_pb2.JOB_PRIORITY_INTERACTIVE,
    JobPriority.BATCH: jobs_pb2.JOB_PRIORITY_BATCH,
}
_PRIORITIES_BY_NUMBER = {number: priority for priority, number in _PRIORITIES.items()}

_WEBHOOK_STATES: Mapping[WebhookState, jobs_pb2.WebhookState.ValueType] = {
    WebhookState.PENDING: jobs_pb2.WEBHOOK_STATE_PENDING,
    WebhookState.DELIVERED: jobs_pb2.WEBHOOK_STATE_DELIVERED,
    WebhookState.FAILED: jobs_pb2.WEBHOOK_STATE_FAILED,
}
_WEBHOOK_STATES_BY_NUMBER = {number: state for state, number in _WEBHOOK_STATES.items()}


def encode_job_state(state: JobState) -> jobs_pb2.JobState.ValueType:
    """Returns the protobuf value of the state."""
    return JOB_STATES[state]


def decode_job_state(number: jobs_pb2.JobState.ValueType, field: str) -> JobState:
    """Returns the state. Raises ``InvalidRequest`` if it is unspecified or unknown."""
    state = _JOB_STATES_BY_NUMBER.get(number)
    if state is None:
        raise InvalidRequest(
            f"{field} must name a job's state, but is {number}", field=field, metadata={"value": str(number)}
        )
    return state


def encode_job_priority(priority: JobPriority) -> jobs_pb2.JobPriority.ValueType:
    """Returns the protobuf value of the priority."""
    return _PRIORITIES[priority]


def decode_job_priority(number: jobs_pb2.JobPriority.ValueType, field: str) -> JobPriority:
    """Returns the priority, ``BATCH`` if it is unspecified. Raises ``InvalidRequest`` if it is unknown."""
    if number == jobs_pb2.JOB_PRIORITY_UNSPECIFIED:
        return JobPriority.BATCH
    priority = _PRIORITIES_BY_NUMBER.get(number)
    if priority is None:
        raise InvalidRequest(
            f"{field} must name a job's priority, but is {number}", field=field, metadata={"value": str(number)}
        )
    return priority


def encode_job(job: Job) -> jobs_pb2.Job:
    """Returns the message of the job."""
    return jobs_pb2.Job(
        job_id=job.id,
        state=JOB_STATES[job.state],
        recording=encode_digest(job.recording),
        display_name=job.display_name,
        submitter=job.submitter,
        priority=_PRIORITIES[job.priority],
        request_id=job.request_id,
        create_time=encode_time(job.create_unix),
        start_time=encode_time(job.start_unix),
        end_time=encode_time(job.end_unix),
        stages=[_encode_stage(stage) for stage in job.stages],
        attempts=[_encode_attempt(attempt) for attempt in job.attempts],
        partial=job.partial,
        error_reason=job.error_reason,
        error_message=job.error_message,
        webhook=_encode_webhook(job.webhook) if job.webhook else None,
    )


def decode_job(message: jobs_pb2.Job) -> Job:
    """Returns the job in ``message``."""
    return Job(
        id=message.job_id,
        state=_JOB_STATES_BY_NUMBER[message.state],
        recording=decode_digest(message.recording, "job.recording"),
        display_name=message.display_name,
        submitter=message.submitter,
        priority=_PRIORITIES_BY_NUMBER[message.priority],
        request_id=message.request_id,
        create_unix=decode_time(message.create_time),
        start_unix=decode_time(message.start_time) if message.HasField("start_time") else None,
        end_unix=decode_time(message.end_time) if message.HasField("end_time") else None,
        stages=tuple(_decode_stage(stage) for stage in message.stages),
        attempts=tuple(_decode_attempt(attempt) for attempt in message.attempts),
        partial=message.partial,
        error_reason=message.error_reason,
        error_message=message.error_message,
        webhook=_decode_webhook(message.webhook) if message.HasField("webhook") else None,
    )


def _encode_stage(stage: JobStage) -> jobs_pb2.JobStage:
    message = jobs_pb2.JobStage(
        stage=encode_stage(stage.stage),
        state=STATES[stage.state],
        progress=stage.progress,
        cached=stage.cached,
        attempts=stage.attempts,
        error_reason=stage.error_reason,
        error_message=stage.error_message,
    )
    set_duration(message.elapsed, stage.seconds)
    return message


def _decode_stage(message: jobs_pb2.JobStage) -> JobStage:
    return JobStage(
        stage=decode_stage(message.stage),
        state=STATES_BY_NUMBER[message.state],
        progress=message.progress,
        seconds=decode_duration(message.elapsed),
        cached=message.cached,
        attempts=message.attempts,
        error_reason=message.error_reason,
        error_message=message.error_message,
    )


def _encode_attempt(attempt: JobAttempt) -> jobs_pb2.JobAttempt:
    return jobs_pb2.JobAttempt(
        number=attempt.number,
        worker=attempt.worker,
        start_time=encode_time(attempt.start_unix),
        end_time=encode_time(attempt.end_unix),
        outcome=attempt.outcome,
        error_message=attempt.error_message,
    )


def _decode_attempt(message: jobs_pb2.JobAttempt) -> JobAttempt:
    return JobAttempt(
        number=message.number,
        worker=message.worker,
        start_unix=decode_time(message.start_time),
        end_unix=decode_time(message.end_time) if message.HasField("end_time") else None,
        outcome=message.outcome,
        error_message=message.error_message,
    )


def _encode_webhook(webhook: JobWebhook) -> jobs_pb2.JobWebhook:
    return jobs_pb2.JobWebhook(
        url=webhook.url,
        state=_WEBHOOK_STATES[webhook.state],
        attempts=webhook.attempts,
        error_message=webhook.error_message,
    )


def _decode_webhook(message: jobs_pb2.JobWebhook) -> JobWebhook:
    return JobWebhook(message.url, _WEBHOOK_STATES_BY_NUMBER[message.state], message.attempts, message.error_message)
