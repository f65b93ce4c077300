"""Errors in the shape of OpenAI's API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from careca_web.http.errors import Problem

_TYPE_BY_STATUS: Mapping[int, str] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

_OPENAI_CODES: Mapping[str, str] = {
    "NO_TOKEN": "invalid_api_key",
    "UNKNOWN_TOKEN": "invalid_api_key",
    "OVERLOADED": "rate_limit_exceeded",
    "TOO_MANY_JOBS": "rate_limit_exceeded",
}
"""Reasons for which OpenAI has a code that programs know. The code of all others is the reason in lower case."""

_RECORDING_REASONS = {
    "DECODE_LIMIT_EXCEEDED",
    "EMPTY_AUDIO",
    "EMPTY_RECORDING",
    "IDENTICAL_CHANNELS",
    "INVALID_RECORDING",
    "NOT_A_RECORDING",
    "NO_AUDIO",
    "RECORDING_TOO_LARGE",
    "RECORDING_TOO_LONG",
    "SINGLE_CHANNEL",
    "TOO_MANY_CHANNELS",
}

_PARAMETERS = (
    (r"config\.recording\b.*|config\.display_name", "file"),
    (r"config\.transcription\.language_code", "language"),
    (r"config\.transcription\.initial_prompt", "prompt"),
    (r"config\.transcription\.hotwords\b.*", "hotwords"),
    (r"config\.diarization\.(\w+)", r"\1"),
    (r"config\.known_speakers(\[\d+\])?\.name", r"known_speaker_names\1"),
    (r"config\.known_speakers(\[\d+\])?.*", r"known_speaker_references\1"),
    (r"config\.audio_track\w*", "audio_track"),
    (r"config\.channel_mode", "channel_mode"),
)
"""Patterns of the gateway's fields, and the form's field that each of them is made of."""


def error_object(problem: Problem) -> dict[str, Any]:
    """Returns OpenAI's error object."""
    parameter = _parameter_of(problem)
    return {
        "message": problem.message.replace(problem.field, parameter) if problem.field else problem.message,
        "type": _type_of(problem.status),
        "param": parameter or None,
        "code": _OPENAI_CODES.get(problem.reason, problem.reason.lower()),
    }


def error_body(problem: Problem) -> tuple[dict[str, Any], str]:
    """Returns the JSON body of an error response, and its media type."""
    return {"error": error_object(problem)}, "application/json"


def _type_of(status: int) -> str:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server_error"
    return _TYPE_BY_STATUS.get(status, "invalid_request_error")


def _parameter_of(problem: Problem) -> str:
    if not problem.field and problem.reason in _RECORDING_REASONS:
        return "file"
    for pattern, parameter in _PARAMETERS:
        if match := re.fullmatch(pattern, problem.field):
            return match.expand(parameter)
    return problem.field
