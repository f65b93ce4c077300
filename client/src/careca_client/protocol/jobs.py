"""The state of the calls for jobs.

Submission   one call of ``submit``: the request, and whether the recording must be uploaded first
Listing      one call of ``jobs``: the pages
Watch        one call of ``watch`` or ``updates``: the position, to continue there after a broken connection
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from careca import codec
from careca.errors import CarecaError, InvalidRequest, PreconditionFailed
from careca.types import Digest, Job, JobPriority, JobState, OutputFormat, Segment
from careca.v1 import admin_pb2, jobs_pb2
from careca_client.admin import SystemRelease, decode_release
from careca_client.protocol.options import TranscribeOptions, build_config, choice, encode_formats
from careca_client.protocol.streams import protocol_error

PAGE_SIZE = 100
"""Jobs in one page."""

MAX_UPLOADS = 2
"""How often one submission uploads: the gateway may remove the recording again before the job is queued."""

RESTART_RETRIES = 15
"""Fewest further attempts of a watch that has begun: enough for a minute, in which a gateway can restart."""


@dataclass(frozen=True, slots=True)
class JobsClearance:
    """The number of jobs that were removed, and the memory that the services released."""

    removed_jobs: int
    memory: SystemRelease | None
    """``None`` if the caller may not release memory."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of a list of jobs, newest first."""

    jobs: tuple[Job, ...]
    next_page_token: str
    """Token of the next page; empty if this is the last one."""


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """The job after a change, or a finished segment, and the cursor to continue after it."""

    content: Job | Segment
    cursor: str


class Submission:
    """One job to submit: send ``request`` after ``set_recording``, and again after each failed attempt."""

    def __init__(
        self,
        options: TranscribeOptions,
        *,
        request_id: str | None,
        once: bool,
        priority: JobPriority | str,
        webhook_url: str | None,
    ) -> None:
        """Raises as ``build_config`` does, and ``InvalidRequest`` if the arguments contradict each other."""
        if options.get("formats"):
            raise InvalidRequest("submit takes no formats: pass them to job_result", field="config.formats")
        if request_id is not None and once:
            raise InvalidRequest("once makes the request id: it cannot be combined with request_id", field="request_id")
        self.request = jobs_pb2.SubmitJobRequest(
            request_id=request_id or "",
            config=build_config(options),
            priority=codec.encode_job_priority(choice(JobPriority, priority, "priority", "priorities", "priority")),
            webhook_url=webhook_url or "",
        )
        """The request. Complete after ``set_recording``."""
        self._once = once
        self._uploads = 0

    @property
    def uploaded(self) -> bool:
        """Whether the gateway needed the recording."""
        return self._uploads > 0

    def set_recording(self, digest: Digest, name: str) -> None:
        """Sets the recording and its name, and the request id if the caller gave none."""
        self.request.config.recording.CopyFrom(codec.encode_digest(digest))
        self.request.config.display_name = name
        if not self.request.request_id:
            # Set before the first attempt, so that a further attempt finds the job of an earlier one.
            self.request.request_id = self._content_id() if self._once else str(uuid.uuid4())

    def _content_id(self) -> str:
        content = self.request.SerializeToString(deterministic=True)
        return f"content-{hashlib.sha256(content).hexdigest()}"

    def needs_upload(self, error: CarecaError) -> bool:
        """Whether the recording must be uploaded before the request is sent again. Counts the uploads."""
        missing = isinstance(error, PreconditionFailed) and error.reason == "RECORDING_MISSING"
        self._uploads += missing
        return missing and self._uploads <= MAX_UPLOADS


class Listing:
    """One list of jobs: while ``request`` is not ``None``, send it and give the page to ``receive``."""

    def __init__(
        self,
        states: Iterable[JobState | str],
        created_from: float | None,
        created_before: float | None,
        limit: int | None,
        *,
        query: str = "",
        all_submitters: bool = False,
    ) -> None:
        """Raises ``InvalidRequest`` if a state is unknown or the limit is negative."""
        if limit is not None and limit < 0:
            raise InvalidRequest(f"limit must not be negative, but is {limit}", field="limit")
        self.request: jobs_pb2.ListJobsRequest | None = encode_list_request(
            states, created_from, created_before, query=query, all_submitters=all_submitters
        )
        """The next request; ``None`` after the last page."""
        self._left = limit
        self._advance(None)

    def receive(self, page: jobs_pb2.ListJobsResponse) -> list[Job]:
        """Returns the jobs of the page."""
        jobs = list(decode_job_page(page).jobs[: self._left])
        if self._left is not None:
            self._left -= len(jobs)
        self._advance(page.next_page_token)
        return jobs

    def _advance(self, token: str | None) -> None:
        """Sets the next request. ``token`` is ``None`` for the first page and empty after the last one."""
        if self._left == 0 or token == "" or self.request is None:
            self.request = None
            return
        self.request.page_token = token or ""
        self.request.page_size = PAGE_SIZE if self._left is None else min(self._left, PAGE_SIZE)


class Watch:
    """One watched job: send ``request``, again after a broken connection, and give each response to ``receive``."""

    def __init__(self, job_id: str, cursor: str = "") -> None:
        self.request = jobs_pb2.WatchJobRequest(job_id=job_id, cursor=cursor)
        """The request for all that was not yet received."""
        self._job: Job | None = None

    def receive(self, response: jobs_pb2.WatchJobResponse) -> JobUpdate | None:
        """Returns the update; ``None`` if the caller has it already, as when the job is sent again after a retry."""
        self.request.cursor = response.cursor
        if response.HasField("segment"):
            return JobUpdate(codec.decode_segment(response.segment), response.cursor)
        if not response.HasField("job"):
            raise protocol_error("a message that this client does not know")
        known, self._job = self._job, codec.decode_job(response.job)
        return None if self._job == known else JobUpdate(self._job, response.cursor)

    def finish(self) -> None:
        """Raises ``InternalError`` if the stream ended before the job did."""
        if self._job is None or not self._job.state.ended:
            raise protocol_error("the end of the stream before the job had ended")


def encode_list_request(
    states: Iterable[JobState | str],
    created_from: float | None,
    created_before: float | None,
    *,
    query: str,
    all_submitters: bool,
    page_size: int = 0,
    page_token: str = "",
) -> jobs_pb2.ListJobsRequest:
    """Returns the request for a page of jobs. Raises ``InvalidRequest`` if a state is unknown."""
    names = dict.fromkeys([states] if isinstance(states, str) else states)
    return jobs_pb2.ListJobsRequest(
        states=[codec.encode_job_state(choice(JobState, name, "state", "states", "states")) for name in names],
        created_from=codec.encode_time(created_from),
        created_before=codec.encode_time(created_before),
        query=query,
        all_submitters=all_submitters,
        page_size=page_size,
        page_token=page_token,
    )


def decode_job_page(message: jobs_pb2.ListJobsResponse) -> JobPage:
    """Returns the page in ``message``."""
    return JobPage(tuple(codec.decode_job(job) for job in message.jobs), message.next_page_token)


def encode_result_request(
    job_id: str, formats: Iterable[OutputFormat | str], revision: int | None = None
) -> jobs_pb2.GetJobResultRequest:
    """Returns the request for a result. Raises ``InvalidRequest`` if a format is unknown."""
    return jobs_pb2.GetJobResultRequest(
        job_id=job_id, formats=encode_formats(formats, field="formats"), revision=revision
    )


def decode_jobs_clearance(message: jobs_pb2.ClearJobsResponse) -> JobsClearance:
    """Returns what was removed and released."""
    if not message.HasField("gateway"):
        return JobsClearance(message.removed_jobs, None)
    release = admin_pb2.ReleaseMemoryResponse(stages=message.stages, gateway=message.gateway)
    return JobsClearance(message.removed_jobs, decode_release(release))
