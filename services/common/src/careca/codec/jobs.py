"""Conversion of jobs."""

from __future__ import annotations

from careca.codec.enums import JOB_PRIORITIES, JOB_STATES, STAGE_STATES, STAGES, WEBHOOK_STATES
from careca.codec.scalars import (
    decode_digest,
    decode_duration,
    decode_time,
    encode_digest,
    encode_time,
    set_duration,
)
from careca.types import Job, JobAttempt, JobStage, JobWebhook
from careca.v1 import jobs_pb2


def encode_job(job: Job) -> jobs_pb2.Job:
    """Returns the message of the job."""
    return jobs_pb2.Job(
        job_id=job.id,
        state=JOB_STATES.encode(job.state),
        recording=encode_digest(job.recording),
        display_name=job.display_name,
        submitter=job.submitter,
        priority=JOB_PRIORITIES.encode(job.priority),
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
        state=JOB_STATES.decode(message.state),
        recording=decode_digest(message.recording, "job.recording"),
        display_name=message.display_name,
        submitter=message.submitter,
        priority=JOB_PRIORITIES.decode(message.priority),
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
        stage=STAGES.encode(stage.stage),
        state=STAGE_STATES.encode(stage.state),
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
        stage=STAGES.decode(message.stage),
        state=STAGE_STATES.decode(message.state),
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
        state=WEBHOOK_STATES.encode(webhook.state),
        attempts=webhook.attempts,
        error_message=webhook.error_message,
    )


def _decode_webhook(message: jobs_pb2.JobWebhook) -> JobWebhook:
    return JobWebhook(message.url, WEBHOOK_STATES.decode(message.state), message.attempts, message.error_message)
