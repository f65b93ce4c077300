"""Jobs as the queue stores them, in compact JSON that its script can read and change too.

Moments are stored as milliseconds since 1970. An id begins with the moment of its submission, so ids are in order of
time and a span of time is a span of ids.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from careca.types import Digest, Job, JobAttempt, JobPriority, JobStage, JobState, JobWebhook, Stage, StageState
from careca.types import WebhookState as Hook
from careca_gateway.jobs.queue.port import Query, Submission

Record = Sequence[Any]
"""The id, then the values of the fields that ``jobs.lua`` lists as ``fields``: bytes, ``None`` where one is missing."""

_MOMENT_DIGITS = 12
_LAST_MOMENT = 16**_MOMENT_DIGITS - 1


def write_about(submission: Submission) -> bytes:
    """All of a submission that never changes and that the queue looks at."""
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
    """Tells submissions of one request id apart. Who sends one again may have less time than at first."""
    recording = submission.recording
    content = hashlib.sha256()
    for part in (
        f"{recording.sha256}:{recording.size_bytes}:{submission.priority}".encode(),
        submission.display_name.encode(),
        submission.webhook_url.encode(),
        submission.spec,
    ):
        content.update(len(part).to_bytes(8, "big") + part)
    return content.hexdigest()


def write_stages(stages: Iterable[JobStage]) -> bytes:
    """The stages."""
    return _dump(
        [
            [s.stage, s.state, s.progress, s.seconds, s.cached, s.attempts, s.error_reason, s.error_message]
            for s in stages
        ]
    )


def read_job(record: Record) -> Job:
    """The job of that record."""
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
        create_unix=int(job_id[:_MOMENT_DIGITS], 16) / 1000,
        start_unix=_moment(start),
        end_unix=_moment(end),
        stages=tuple(map(_read_stage, json.loads(stages))),
        attempts=tuple(map(_read_attempt, json.loads(attempts))),
        partial=partial is not None,
        error_reason=_text(reason),
        error_message=_text(message),
        webhook=_read_webhook(about["webhook_url"], *hook) if "webhook_url" in about else None,
    )


def span_of_ids(query: Query) -> tuple[str, str]:
    """The greatest and the smallest id that a query asks for, as bounds that Redis understands."""
    least, beyond = "-", "+"
    if query.created_from is not None:
        least = "[" + _first_id(query.created_from)
    ends = [query.before_id] if query.before_id else []
    if query.created_before is not None:
        ends.append(_first_id(query.created_before))
    if ends:
        beyond = "(" + min(ends)
    return beyond, least


def _first_id(unix: float) -> str:
    """What no id is less than that was given at that time or later."""
    milliseconds = math.ceil(round(unix * 1000, 3))  # a float is rarely whole milliseconds, even where they were meant
    return f"{min(max(milliseconds, 0), _LAST_MOMENT):0{_MOMENT_DIGITS}x}"


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
        state=Hook(_text(state)) if state else Hook.PENDING,
        attempts=int(attempts or 0),
        error_message=_text(message),
    )


def _moment(milliseconds: bytes | None) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
