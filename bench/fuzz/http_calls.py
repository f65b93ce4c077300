"""One or more valid HTTP requests to every endpoint of the web service: what is damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SECRET = "careca_fuzz0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH"
"""A token that may appear in no log and in no answer."""

SECRETS = (SECRET, "careca-session=")
"""Texts that no log has: the token, and the session cookie, which begins so."""

Part = tuple[str, str | None, bytes]
"""One part of a form: its name, the name of its file if it is one, and its content."""


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One valid request. ``route`` is its path as the OpenAPI document has it, with the names in ``values``."""

    method: str
    route: str
    values: Mapping[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: tuple[Part, ...] = ()
    body: bytes = b""
    weight: int = 10
    """How often it is chosen: rarely what gives memory back, or decodes."""
    described: bool = True
    """Whether the OpenAPI document has it."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What the requests are about."""

    recording: bytes
    """One that the gateway has."""
    job_id: str
    other_job_id: str
    upload_id: str
    """An unfinished upload."""
    cookie: str
    """Of a browser that has signed in."""


def http_calls(targets: Targets) -> list[HttpCall]:
    """One or more of every endpoint."""
    return [
        *_job_calls(targets),
        *_transcript_calls({"job_id": targets.job_id}),
        *_media_calls({"job_id": targets.job_id}),
        *_voice_calls(targets.job_id),
        *_recording_calls(targets),
        *_openai_calls(targets.recording),
        *_session_calls(targets),
        *_admin_calls(),
        HttpCall("GET", "/api/info", weight=4),
        *(
            HttpCall("GET", path, described=False, weight=2)
            for path in ("/", "/jobs/1", "/healthz", "/readyz", "/openapi.json", "/assets/index.js", "/api/nothing")
        ),
    ]


def _job_calls(targets: Targets) -> list[HttpCall]:
    call, one, other = HttpCall, {"job_id": targets.job_id}, {"job_id": targets.other_job_id}
    submission = {
        "recording": _digest(targets.recording),
        "name": "call.wav",
        "request_id": "one",
        "priority": "batch",
        "webhook_url": None,
        "options": {
            "language": "en",
            "translate": False,
            "initial_prompt": "Careca",
            "hotwords": ["one", "two"],
            "beam_size": 2,
            "min_speaker_count": 1,
            "max_speaker_count": 3,
            "channel_mode": "mix",
            "audio_track": "auto",
            "skip_cache": False,
        },
    }
    form = (
        ("file", "call.flac", targets.recording),
        ("language", None, b"en"),
        ("hotwords", None, b"one"),
        ("hotwords", None, b"two"),
        ("speaker_count", None, b"2"),
        ("audio_track", None, b"1"),
        ("request_id", None, b"two"),
    )
    query = (
        *(("state", "queued"), ("state", "succeeded"), ("created_from", "1"), ("created_before", "1e10")),
        *(("page_size", "5"), ("page_token", targets.job_id), ("all_submitters", "true"), ("query", "one two")),
    )
    return [
        call("POST", "/api/jobs", json=submission, weight=40),
        call("POST", "/api/jobs", form=form, weight=15),
        call("GET", "/api/jobs", query=query, weight=15),
        call("DELETE", "/api/jobs", query=(("all_submitters", "false"),), weight=1),
        call("GET", "/api/jobs/{job_id}", one),
        call("DELETE", "/api/jobs/{job_id}", other, weight=2),
        call("POST", "/api/jobs/{job_id}/cancel", other),
        call("POST", "/api/jobs/{job_id}/retry", other),
        call("GET", "/api/jobs/{job_id}/events", one, headers={"Last-Event-ID": "0"}),
        call("GET", "/api/events", query=(("job", targets.job_id), ("job", targets.other_job_id)), weight=5),
    ]


def _transcript_calls(job: Mapping[str, str]) -> list[HttpCall]:
    call, base = HttpCall, {"If-Match": '"0"'}
    utterance = {
        "start": 0.1,
        "end": 0.5,
        "speaker": "SPEAKER_00",
        "text": "one two",
        "language": "en",
        "words": [{"text": "one", "start": 0.1, "end": 0.2, "probability": 0.5}],
    }
    edits = [
        {"type": "replace_utterances", "index": 0, "count": 1, "utterances": [utterance]},
        {"type": "rename_speaker", "speaker": "SPEAKER_00", "new_name": "Bea", "merge": True},
    ]
    return [
        call("GET", "/api/jobs/{job_id}/result", job, query=(("embeddings", "true"), ("revision", "original"))),
        call("PATCH", "/api/jobs/{job_id}/result", job, headers=base, json={"edits": edits}, weight=40),
        call("GET", "/api/jobs/{job_id}/result.{extension}", {**job, "extension": "vtt"}, query=(("revision", "0"),)),
        call("GET", "/api/jobs/{job_id}/revisions", job),
        call("POST", "/api/jobs/{job_id}/revisions", job, headers=base, json={"restore": 0}),
    ]


def _media_calls(job: Mapping[str, str]) -> list[HttpCall]:
    part = (("start", "0.1"), ("end", "1"), ("buckets", "100"))
    return [
        *(
            HttpCall(method, "/api/jobs/{job_id}/recording", job, headers={"Range": "bytes=10-99"}, described=described)
            for method, described in (("GET", True), ("HEAD", False))
        ),
        HttpCall("GET", "/api/jobs/{job_id}/audio", job, query=(("form", "playable"),), headers={"Range": "bytes=0-"}),
        HttpCall("GET", "/api/jobs/{job_id}/waveform", job, query=part),
    ]


def _voice_calls(job_id: str) -> list[HttpCall]:
    return [
        HttpCall("GET", "/api/voices", weight=3),
        HttpCall("POST", "/api/voices", json={"name": "Ana", "job_id": job_id, "speaker": "SPEAKER_00"}),
        HttpCall("DELETE", "/api/voices/{name}", {"name": "Ana"}, weight=5),
    ]


def _recording_calls(targets: Targets) -> list[HttpCall]:
    call, one, tus = HttpCall, {"upload_id": targets.upload_id}, {"Tus-Resumable": "1.0.0"}
    digest, size = _digest(targets.recording), str(len(targets.recording))
    offset = {"Content-Type": "application/offset+octet-stream"}
    beginning = {"Upload-Length": "1000", "Upload-Metadata": "filename Y2FsbC5mbGFj"}
    form = (("file", "call.flac", targets.recording),)
    binary = {"Content-Type": "application/octet-stream"}
    return [
        call("POST", "/api/recordings", form=form, weight=15),
        call("POST", "/api/recordings", query=(("name", "a.flac"),), headers=binary, body=targets.recording),
        call("GET", "/api/recordings/{sha256}", {"sha256": digest["sha256"]}, query=(("size_bytes", size),)),
        call("OPTIONS", "/api/uploads", weight=3),
        call("POST", "/api/uploads", headers={**tus, **beginning}),
        call("POST", "/api/uploads", headers={**tus, **beginning, **offset}, body=bytes(500)),
        call("HEAD", "/api/uploads/{upload_id}", one, headers=tus),
        call("PATCH", "/api/uploads/{upload_id}", one, headers={**tus, **offset, "Upload-Offset": "0"}, body=bytes(5)),
        call("GET", "/api/uploads/{upload_id}", one),
        call("DELETE", "/api/uploads/{upload_id}", one, headers=tus, weight=2),
    ]


def _openai_calls(recording: bytes) -> list[HttpCall]:
    form = (
        ("file", "call.flac", recording),
        ("model", None, b"whisper-1"),
        ("language", None, b"en"),
        ("prompt", None, b"Careca"),
        ("response_format", None, b"verbose_json"),
        ("temperature", None, b"0"),
        ("timestamp_granularities[]", None, b"word"),
        ("speaker_count", None, b"2"),
        ("channel_mode", None, b"mix"),
    )
    streamed = (
        ("file", "call.flac", recording),
        ("model", None, b"whisper-1"),
        ("stream", None, b"true"),
        ("include[]", None, b"logprobs"),
        ("chunking_strategy", None, b"auto"),
        ("response_format", None, b"json"),
    )
    return [
        HttpCall("POST", "/v1/audio/transcriptions", form=form, weight=20),
        HttpCall("POST", "/v1/audio/transcriptions", form=streamed, weight=10),
        HttpCall("POST", "/v1/audio/translations", form=(*form[:5], form[5]), weight=5),
        HttpCall("GET", "/v1/models", weight=3),
        HttpCall("GET", "/v1/models/{name}", {"name": "whisper-1"}, weight=4),
    ]


def _session_calls(targets: Targets) -> list[HttpCall]:
    return [
        HttpCall("GET", "/api/session", headers={"Cookie": targets.cookie}),
        HttpCall("POST", "/api/session", json={"token": SECRET}),
        HttpCall("DELETE", "/api/session", headers={"Cookie": targets.cookie}, weight=3),
    ]


def _admin_calls() -> list[HttpCall]:
    query = (("expired_only", "true"),)
    caches = [f"/api/admin/{stage}" for stage in ("diarization", "transcription")]
    return [
        HttpCall("GET", "/api/admin/stats", weight=3),
        HttpCall("GET", "/api/admin/replicas", weight=3),
        HttpCall("POST", "/api/admin/memory/release", json={"stages": ["transcription"]}, weight=3),
        *(HttpCall("GET", f"{cache}/stats", weight=2) for cache in caches),
        *(HttpCall("POST", f"{cache}/cache/clear", query=query, json={"expired_only": True}) for cache in caches),
    ]


def undescribed(document: Mapping[str, Any], calls: list[HttpCall]) -> list[str]:
    """Returns the operations of an OpenAPI document that no call is about, and calls of which it knows nothing."""
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    called = {f"{call.method} {call.route}" for call in calls if call.described}
    return sorted(operations ^ called)


def _digest(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
