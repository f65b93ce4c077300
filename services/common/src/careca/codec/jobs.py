"""Conversion of jobs."""

from __future__ import annotations

from functools import partial

from careca.codec.enums import JOB_PRIORITIES, JOB_STATES, STAGE_STATES, STAGES, WEBHOOK_STATES
from careca.codec.messages import Field, MessageCodec, duration_field, field_of, repeated_field, time_field
from careca.codec.scalars import decode_digest, encode_digest
from careca.types import Job, JobAttempt, JobStage, JobWebhook
from careca.v1 import jobs_pb2

_STAGE = MessageCodec(
    JobStage,
    jobs_pb2.JobStage,
    stage=field_of(STAGES),
    state=field_of(STAGE_STATES),
    seconds=duration_field("elapsed"),
)

_ATTEMPT = MessageCodec(
    JobAttempt,
    jobs_pb2.JobAttempt,
    start_unix=time_field("start_time"),
    end_unix=time_field("end_time", optional=True),
)

_WEBHOOK = MessageCodec(JobWebhook, jobs_pb2.JobWebhook, state=field_of(WEBHOOK_STATES))

JOB = MessageCodec(
    Job,
    jobs_pb2.Job,
    id=Field("job_id"),
    state=field_of(JOB_STATES),
    recording=Field(encode=encode_digest, decode=partial(decode_digest, field="job.recording")),
    priority=field_of(JOB_PRIORITIES),
    create_unix=time_field("create_time"),
    start_unix=time_field("start_time", optional=True),
    end_unix=time_field("end_time", optional=True),
    stages=repeated_field(_STAGE),
    attempts=repeated_field(_ATTEMPT),
    webhook=field_of(_WEBHOOK, optional=True),
)

encode_job, decode_job = JOB.encode, JOB.decode
