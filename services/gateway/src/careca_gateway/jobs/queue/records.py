"""Jobs and updates as the queue stores them: compact JSON that the queue's script can read and change too.

Times are stored as milliseconds since 1970. An id begins with the time of submission, so ids are in order of time, and
a range of times is a range of ids.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from careca.codec import encode_segment
from careca.errors import CarecaError
from careca.types import (
    Digest,
    Job,
    JobAttempt,
    JobPriority,
    JobStage,
    JobState,
    JobWebhook,
    Revision,
    Segment,
    Stage,
    StageState,
    WebhookState,
)
from careca_gateway.jobs.queue.error_records import encode_error
from careca_gateway.jobs.queue.port import Lease, NewRevision, Query, StoredRevision, Submission, Update

Record = Sequence[Any]
"""The id, then the values of the fields that ``jobs.lua`` lists as ``fields``: bytes, or ``None`` if one is missing."""

_TIME_DIGITS = 12
_MAX_TIME = 16**_TIME_DIGITS - 1


def write_about(submission: Submission) -> bytes:
    """Returns the part of a submission that never changes and that the queue reads."""
    about: dict[str, object] = {
        "submitter": submission.submitter,
        "priority": submission.priority,
        "request_id": submission.request_id,
        "sha256": submission.recording.sha256,
        "size_bytes": submission.recording.size_bytes,
        "fingerprint": _fingerprint(submission),
    }
    if submission.display_name:
        about["display_name"] = submission.display_name
    if submission.webhook_url:
        about["webhook_url"] = submission.webhook_url
    if submission.time_limit_seconds is not None:
        about["limit_ms"] = round(submission.time_limit_seconds * 1000)
    if submission.caller:
        about["called"] = True
    return _dump(about)


def _fingerprint(submission: Submission) -> str:
    """Returns a digest of the content. Excludes the time limit, which is shorter when a submission is repeated."""
    recording = submission.recording
    content = hashlib.sha256()
    for part in (
        f"{recording.sha256}:{recording.size_bytes}:{submission.priority}".encode(),
        submission.display_name.encode(),
        submission.webhook_url.encode(),
        submission.content or submission.spec,
    ):
        content.update(len(part).to_bytes(8, "big") + part)
    return content.hexdigest()


def write_stages(stages: Iterable[JobStage]) -> bytes:
    """Returns the record of the stages."""
    return _dump(
        [
            [s.stage, s.state, s.progress, s.seconds, s.cached, s.attempts, s.error_reason, s.error_message]
            for s in stages
        ]
    )


def write_segments(segments: Iterable[Segment]) -> tuple[bytes, ...]:
    """Returns the segments as messages."""
    return tuple(encode_segment(segment).SerializeToString() for segment in segments)


def write_error(error: CarecaError | None) -> tuple[str, str, bytes]:
    """Returns the reason, the message, and the complete error; all empty without an error."""
    return (error.reason, error.message, encode_error(error)) if error else ("", "", b"")


def write_number(number: int | None) -> int | str:
    """Returns the number, or an empty string for ``None``."""
    return "" if number is None else number


def write_update(update: Update) -> tuple[bytes | str | int, ...]:
    """Returns the arguments for the operation ``renew``."""
    stages = b"" if update.stages is None else write_stages(update.stages)
    segments = write_segments(update.segments)
    return update.job_id, update.fence, stages, write_number(update.reported_segments), len(segments), *segments


def read_job(record: Record) -> Job:
    """Returns the job of a record."""
    job_id, about_json, state, stages, attempts, start, end, partial, reason, message, *hook = record
    about = json.loads(about_json)
    return Job(
        id=job_id.decode(),
        state=JobState(_text(state)),
        recording=Digest(about["sha256"], about["size_bytes"]),
        display_name=about.get("display_name", ""),
        submitter=about["submitter"],
        priority=JobPriority(about["priority"]),
        request_id=about["request_id"],
        create_unix=int(job_id[:_TIME_DIGITS], 16) / 1000,
        start_unix=_unix_seconds(start),
        end_unix=_unix_seconds(end),
        stages=tuple(map(_read_stage, json.loads(stages))),
        attempts=tuple(map(_read_attempt, json.loads(attempts))),
        partial=partial is not None,
        error_reason=_text(reason),
        error_message=_text(message),
        webhook=_read_webhook(about["webhook_url"], *hook) if "webhook_url" in about else None,
    )


def read_lease(values: Sequence[Any]) -> Lease:
    """Returns the lease in a reply of the operation ``take``."""
    record, spec, fence, reported, left, caller = values
    return Lease(
        job=read_job(record),
        spec=spec,
        fence=fence,
        reported_segments=int(reported),
        remaining_seconds=None if left is None else left / 1000,
        caller=caller.decode(),
    )


def write_revision(revision: NewRevision) -> bytes:
    """Returns the record of the revision, to which the queue adds its number and its time."""
    record: dict[str, object] = {"key": revision.key, "author": revision.author, "summary": revision.summary}
    if revision.restored_from is not None:
        record["restored_from"] = revision.restored_from
    return _dump(record)


def read_revision(record: bytes) -> StoredRevision:
    """Returns the revision of a record."""
    values = json.loads(record)
    return StoredRevision(
        Revision(
            number=int(values["number"]),
            author=values["author"],
            create_unix=values["ms"] / 1000,
            summary=values["summary"],
            restored_from=values.get("restored_from"),
        ),
        key=values["key"],
    )


def id_range(query: Query) -> tuple[str, str]:
    """Returns the upper and the lower bound of the ids that a query selects, in the notation of Redis."""
    lower, upper = "-", "+"
    if query.created_from is not None:
        lower = "[" + _first_id(query.created_from)
    ends = [query.before_id] if query.before_id else []
    if query.created_before is not None:
        ends.append(_first_id(query.created_before))
    if ends:
        upper = "(" + min(ends)
    return upper, lower


def _first_id(unix: float) -> str:
    """Returns a lower bound for all ids that are created at that time or later."""
    milliseconds = math.ceil(round(unix * 1000, 3))  # a float rarely holds whole milliseconds exactly
    return f"{min(max(milliseconds, 0), _MAX_TIME):0{_TIME_DIGITS}x}"


def _read_stage(values: Sequence[Any]) -> JobStage:
    stage, state, progress, seconds, cached, attempts, reason, message = values
    return JobStage(
        stage=Stage(stage),
        state=StageState(state),
        progress=float(progress),
        seconds=float(seconds),
        cached=cached,
        attempts=attempts,
        error_reason=reason,
        error_message=message,
    )


def _read_attempt(values: Sequence[Any]) -> JobAttempt:
    number, worker, start, end, outcome, message = values
    return JobAttempt(
        number=number,
        worker=worker,
        start_unix=start / 1000,
        end_unix=end / 1000 if end else None,
        outcome=outcome,
        error_message=message,
    )


def _read_webhook(url: str, state: bytes | None, attempts: bytes | None, message: bytes | None) -> JobWebhook:
    return JobWebhook(
        url=url,
        state=WebhookState(_text(state)) if state else WebhookState.PENDING,
        attempts=int(attempts or 0),
        error_message=_text(message),
    )


def _unix_seconds(milliseconds: bytes | None) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
