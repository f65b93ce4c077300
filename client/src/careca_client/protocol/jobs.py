"""What the calls about jobs say and how they go on, without any I/O: shared by both clients.

Submission   one call of ``submit``: what to ask, and whether the recording has to be uploaded first
Listing      one call of ``jobs``: page after page
Watch        one call of ``watch``: where it stands, so that it goes on there after a broken connection
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from careca import codec
from careca.errors import CarecaError, InvalidRequest, PreconditionFailed
from careca.types import Job, JobPriority, JobState, OutputFormat, Segment
from careca.v1 import admin_pb2, jobs_pb2
from careca_client.admin import SystemRelease, decode_release
from careca_client.protocol.transcribe import TranscribeOptions, build_config, encode_formats
from careca_client.protocol.upload import break_off
from careca_client.recording import Recording

PAGE_SIZE = 100
"""Jobs asked for at a time."""

MAX_UPLOADS = 2
"""How often one submission uploads: once more where the gateway has lost the recording again meanwhile."""

RESTART_RETRIES = 15
"""Least further attempts of a watch that has begun: enough for a minute, in which a gateway comes back."""


@dataclass(frozen=True, slots=True)
class JobsClearance:
    """What clearing the history of jobs removed, and the memory that the services gave back."""

    removed_jobs: int
    memory: SystemRelease | None
    """``None`` where the caller may not have memory released."""


class Submission:
    """One job to be submitted: ``request`` is sent, again and again where need be, once ``about`` has named what."""

    def __init__(
        self,
        options: TranscribeOptions,
        *,
        request_id: str | None,
        once: bool,
        priority: JobPriority | str,
        webhook_url: str | None,
    ) -> None:
        """Raises as ``build_config`` does, and ``InvalidRequest`` where options contradict each other."""
        if options.get("formats"):
            raise InvalidRequest("a job has no formats: ask job_result for them", field="config.formats")
        if request_id is not None and once:
            raise InvalidRequest("once makes the request id: it goes with none of your own", field="request_id")
        self.request = jobs_pb2.SubmitJobRequest(
            request_id=request_id or "",
            config=build_config(options),
            priority=_encode_priority(priority),
            webhook_url=webhook_url or "",
        )
        """The message, complete after ``about``."""
        self._once = once
        self._uploads = 0

    @property
    def uploaded(self) -> bool:
        """Whether the recording was asked for."""
        return self._uploads > 0

    def about(self, recording: Recording) -> None:
        """Names the recording, and with it the job where the caller has not."""
        self.request.config.recording.CopyFrom(codec.encode_digest(recording.digest))
        self.request.config.display_name = recording.name
        if not self.request.request_id:
            # Made before the first attempt, so that a further one finds the job of an earlier one.
            self.request.request_id = self._content_id() if self._once else str(uuid.uuid4())

    def _content_id(self) -> str:
        content = self.request.SerializeToString(deterministic=True)
        return f"content-{hashlib.sha256(content).hexdigest()}"

    def needs_upload(self, error: CarecaError) -> bool:
        """Whether the recording has to be uploaded, then all to be sent again."""
        missing = isinstance(error, PreconditionFailed) and error.reason == "RECORDING_MISSING"
        self._uploads += missing
        return missing and self._uploads <= MAX_UPLOADS


class Listing:
    """One walk through the caller's jobs: while there is a ``request``, its answer is given to ``receive``."""

    def __init__(
        self,
        states: Iterable[JobState | str],
        created_from: float | None,
        created_before: float | None,
        limit: int | None,
        *,
        all_submitters: bool = False,
    ) -> None:
        """Raises ``InvalidRequest`` where there is no such state, or the limit is negative."""
        if limit is not None and limit < 0:
            raise InvalidRequest(f"limit must not be negative, but is {limit}", field="limit")
        names = dict.fromkeys([states] if isinstance(states, str) else states)
        self.request: jobs_pb2.ListJobsRequest | None = jobs_pb2.ListJobsRequest(
            states=[codec.encode_job_state(_state(state)) for state in names],
            created_from=codec.encode_time(created_from),
            created_before=codec.encode_time(created_before),
            all_submitters=all_submitters,
        )
        """What to ask next; ``None`` once all is known."""
        self._left = limit
        self._go_on(None)

    def receive(self, page: jobs_pb2.ListJobsResponse) -> list[Job]:
        """The jobs of the page."""
        jobs = [codec.decode_job(job) for job in page.jobs][: self._left]
        if self._left is not None:
            self._left -= len(jobs)
        self._go_on(page.next_page_token)
        return jobs

    def _go_on(self, token: str | None) -> None:
        """Asks for the page that ``token`` names, ``None`` being the first and an empty one none."""
        if self._left == 0 or token == "" or self.request is None:
            self.request = None
            return
        self.request.page_token = token or ""
        self.request.page_size = PAGE_SIZE if self._left is None else min(self._left, PAGE_SIZE)


class Watch:
    """One watched job: ``request`` is sent, again after a broken connection, each answer given to ``receive``."""

    def __init__(self, job_id: str) -> None:
        self.request = jobs_pb2.WatchJobRequest(job_id=job_id)
        """What to ask: for all that was not yet received."""
        self._job: Job | None = None

    def receive(self, response: jobs_pb2.WatchJobResponse) -> Job | Segment | None:
        """What happened; ``None`` where the caller knows it, as a job that is told again when a watch goes on."""
        self.request.cursor = response.cursor
        if response.HasField("segment"):
            return codec.decode_segment(response.segment)
        if not response.HasField("job"):
            break_off("a message that this client does not know")
        known, self._job = self._job, codec.decode_job(response.job)
        return None if self._job == known else self._job

    def finish(self) -> None:
        """The stream has ended. Raises ``InternalError`` where it may not have yet."""
        if self._job is None or not self._job.state.ended:
            break_off("the end of the stream before the job had ended")


def encode_result_request(job_id: str, formats: Iterable[OutputFormat | str]) -> jobs_pb2.GetJobResultRequest:
    """The request for a result. Raises ``InvalidRequest`` where there is no such format."""
    return jobs_pb2.GetJobResultRequest(job_id=job_id, formats=encode_formats(formats, field="formats"))


def decode_jobs_clearance(message: jobs_pb2.ClearJobsResponse) -> JobsClearance:
    """What was removed and what came back."""
    if not message.HasField("gateway"):
        return JobsClearance(message.removed_jobs, None)
    release = admin_pb2.ReleaseMemoryResponse(stages=message.stages, gateway=message.gateway)
    return JobsClearance(message.removed_jobs, decode_release(release))


def _encode_priority(priority: JobPriority | str) -> jobs_pb2.JobPriority.ValueType:
    if priority not in set(JobPriority):
        raise InvalidRequest(
            f"there is no priority {priority}; the priorities are {', '.join(JobPriority)}", field="priority"
        )
    return codec.encode_job_priority(JobPriority(priority))


def _state(state: JobState | str) -> JobState:
    if state not in set(JobState):
        raise InvalidRequest(f"there is no state {state}; the states are {', '.join(JobState)}", field="states")
    return JobState(state)
