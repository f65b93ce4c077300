"""Converts the messages of the JobService. Checks everything that comes from the caller."""

from __future__ import annotations

from careca import codec
from careca.errors import InvalidRequest
from careca.rpc import request_id
from careca.types import Job
from careca.v1 import jobs_pb2
from careca_gateway.api.admin_messages import encode_releases
from careca_gateway.jobs.queue.port import JobEvent, Query
from careca_gateway.jobs.search import JobPage, words_of
from careca_gateway.jobs.service import ClearedJobs, JobRequest, is_job_id

DEFAULT_PAGE_SIZE = 50
"""The number of jobs in a page if the request has no page size."""

MAX_PAGE_SIZE = 500
"""The maximum number of jobs in a page."""

MAX_QUERY_CHARACTERS = 200
"""The maximum length of a query."""


def decode_submission(message: jobs_pb2.SubmitJobRequest) -> JobRequest:
    """Returns the request for a job. Its config is checked when it is submitted. Raises ``InvalidRequest``."""
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
    """Returns the query for the jobs of this submitter, or of all. Raises ``InvalidRequest``."""
    if message.page_size < 0:
        raise InvalidRequest("page_size must not be negative", field="page_size")
    if message.page_token and not is_job_id(message.page_token):
        raise InvalidRequest("page_token is not one that this service returned", field="page_token")
    states = (codec.decode_job_state(number, f"states[{index}]") for index, number in enumerate(message.states))
    return Query(
        submitter=submitter,
        states=frozenset(states),
        created_from=codec.decode_time(message.created_from) if message.HasField("created_from") else None,
        created_before=codec.decode_time(message.created_before) if message.HasField("created_before") else None,
        before_id=message.page_token,
        limit=min(message.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE),
    )


def decode_words(query: str) -> tuple[str, ...]:
    """Returns the words that a list must have. Raises ``InvalidRequest``."""
    if len(query) > MAX_QUERY_CHARACTERS:
        raise InvalidRequest(
            f"query has {len(query)} characters; at most {MAX_QUERY_CHARACTERS} are accepted", field="query"
        )
    return words_of(query)


def encode_page(page: JobPage) -> jobs_pb2.ListJobsResponse:
    """Returns the message of a page."""
    return jobs_pb2.ListJobsResponse(jobs=[codec.encode_job(job) for job in page.jobs], next_page_token=page.next_token)


def encode_job_event(event: JobEvent) -> jobs_pb2.WatchJobResponse:
    """Returns the message of an event."""
    if isinstance(event.content, Job):
        return jobs_pb2.WatchJobResponse(cursor=event.cursor, job=codec.encode_job(event.content))
    return jobs_pb2.WatchJobResponse(cursor=event.cursor, segment=codec.encode_segment(event.content))


def encode_cleared(cleared: ClearedJobs) -> jobs_pb2.ClearJobsResponse:
    """Returns the message with what was cleared."""
    if cleared.gateway is None:
        return jobs_pb2.ClearJobsResponse(removed_jobs=cleared.removed_jobs)
    releases = encode_releases(cleared.releases.items(), cleared.gateway)
    return jobs_pb2.ClearJobsResponse(
        removed_jobs=cleared.removed_jobs, stages=releases.stages, gateway=releases.gateway
    )
