"""The content of a webhook and its signature. Pure functions; ``docs/webhooks.md`` describes both for receivers."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime

from careca.types import Job, JobStage


def body(job: Job) -> bytes:
    """Returns the end of a job as one JSON object in ASCII.

    ``job_id``, ``request_id``, ``submitter``, ``display_name``: strings, the last may be empty.
    ``state``: ``succeeded``, ``failed`` or ``cancelled``.
    ``partial``: whether a stage failed, so that the result is incomplete.
    ``recording``: an object with ``sha256`` in lower-case hexadecimal and ``size_bytes``.
    ``create_time``, ``start_time``, ``end_time``: RFC 3339 in UTC with milliseconds; ``null`` if the job never started.
    ``error_reason``, ``error_message``: why the job failed; empty if it did not fail.
    ``stages``: a list of objects in order of execution with ``stage``, ``state`` (``waiting``, ``running``,
    ``succeeded``, ``failed`` or ``skipped``), ``seconds``, ``error_reason`` and ``error_message``.

    Receivers must ignore unknown names: later versions may add names, but none is removed or changes its meaning. The
    result itself is not included.
    """
    fields = {
        "job_id": job.id,
        "state": job.state.value,
        "partial": job.partial,
        "request_id": job.request_id,
        "submitter": job.submitter,
        "display_name": job.display_name,
        "recording": {"sha256": job.recording.sha256, "size_bytes": job.recording.size_bytes},
        "create_time": _time(job.create_unix),
        "start_time": _time(job.start_unix),
        "end_time": _time(job.end_unix),
        "error_reason": job.error_reason,
        "error_message": job.error_message,
        "stages": [_stage(stage) for stage in job.stages],
    }
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def signature(content: bytes, secret: bytes, unix_seconds: int) -> str:
    """Returns ``t=<unix_seconds>,v1=<HMAC-SHA256 of "<unix_seconds>.<content>" with the secret, in hexadecimal>``."""
    signed = hmac.new(secret, b"%d." % unix_seconds + content, hashlib.sha256)
    return f"t={unix_seconds},v1={signed.hexdigest()}"


def _stage(stage: JobStage) -> dict[str, str | float]:
    return {
        "stage": stage.stage.value,
        "state": stage.state.value,
        "seconds": round(stage.seconds, 3),
        "error_reason": stage.error_reason,
        "error_message": stage.error_message,
    }


def _time(unix_seconds: float | None) -> str | None:
    if unix_seconds is None:
        return None
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
