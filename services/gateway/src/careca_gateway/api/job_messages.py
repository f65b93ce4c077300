"""The messages about jobs to values and back. What comes from a caller is checked here."""

from __future__ import annotations

from collections.abc import Sequence

from careca import codec
from careca.errors import InvalidRequest
from careca.rpc import request_id
from careca.types import Job
from careca.v1 import jobs_pb2
from careca_gateway.api.messages import encode_releases
from careca_gateway.jobs.queue.port import JobEvent, Query
from careca_gateway.jobs.service import ClearedJobs, JobRequest, is_job_id

DEFAULT_PAGE = 50
"""How many jobs a page has where nothing is said."""

MAX_PAGE = 500
"""How many jobs a page has at most."""


def decode_submission(message: jobs_pb2.SubmitJobRequest) -> JobRequest:
    """The job that is asked for; its config is checked by who takes it. Raises ``InvalidRequest``."""
    if message.request_id and not request_id.is_accepted(message.request_id):
        raise InvalidRequest(
            "request_id must have from 1 to 128 printable ASCII characters without spaces", field="request_id"
        )
    return JobRequest(
        config=message.config,
        request_id=message.request_id,
        priority=codec.decode_job_priority(message.priority, "priority"),
        webhook_url=message.webhook_url,
    )


def decode_query(message: jobs_pb2.ListJobsRequest, submitter: str | None) -> Query:
    """What to list, of this submitter or of all. Raises ``InvalidRequest``."""
    if message.page_size < 0:
        raise InvalidRequest("page_size must not be negative", field="page_size")
    if message.page_token and not is_job_id(message.page_token):
        raise InvalidRequest("page_token is none that this service gave", field="page_token")
    states = (codec.decode_job_state(number, f"states[{index}]") for index, number in enumerate(message.states))
    return Query(
        submitter=submitter,
        states=frozenset(states),
        created_from=codec.decode_time(message.created_from) if message.HasField("created_from") else None,
        created_before=codec.decode_time(message.created_before) if message.HasField("created_before") else None,
        before_id=message.page_token,
        limit=min(message.page_size or DEFAULT_PAGE, MAX_PAGE),
    )


def encode_page(jobs: Sequence[Job], query: Query) -> jobs_pb2.ListJobsResponse:
    """The message of a page. A full one may be followed by an empty one."""
    token = jobs[-1].id if len(jobs) == query.limit else ""
    return jobs_pb2.ListJobsResponse(jobs=[codec.encode_job(job) for job in jobs], next_page_token=token)


def encode_job_event(happening: JobEvent) -> jobs_pb2.WatchJobResponse:
    """The message of what happened."""
    if isinstance(happening.what, Job):
        return jobs_pb2.WatchJobResponse(cursor=happening.cursor, job=codec.encode_job(happening.what))
    return jobs_pb2.WatchJobResponse(cursor=happening.cursor, segment=codec.encode_segment(happening.what))


def encode_cleared(cleared: ClearedJobs) -> jobs_pb2.ClearJobsResponse:
    """The message of what was cleared."""
    if cleared.own is None:
        return jobs_pb2.ClearJobsResponse(removed_jobs=cleared.removed_jobs)
    releases = encode_releases(cleared.releases.items(), cleared.own)
    return jobs_pb2.ClearJobsResponse(
        removed_jobs=cleared.removed_jobs, stages=releases.stages, gateway=releases.gateway
    )
