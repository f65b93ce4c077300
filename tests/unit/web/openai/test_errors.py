"""Errors in OpenAI's shape."""

from __future__ import annotations

import pytest

from careca_web.http.errors import Problem
from careca_web.openai.errors import error_body


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (413, "invalid_request_error"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
        (507, "server_error"),
    ],
)
def test_each_status_has_its_type(status: int, kind: str) -> None:
    body, media_type = error_body(Problem(status, "SOME_REASON", "it went wrong"))

    assert media_type == "application/json"
    assert body == {"error": {"message": "it went wrong", "type": kind, "param": None, "code": "some_reason"}}


@pytest.mark.parametrize(
    ("field", "parameter"),
    [
        ("config.recording.size_bytes", "file"),
        ("config.display_name", "file"),
        ("config.transcription.language_code", "language"),
        ("config.transcription.initial_prompt", "prompt"),
        ("config.transcription.hotwords[3]", "hotwords"),
        ("config.diarization.speaker_count", "speaker_count"),
        ("config.known_speakers[1].name", "known_speaker_names[1]"),
        ("config.known_speakers[1].recording", "known_speaker_references[1]"),
        ("config.known_speakers", "known_speaker_references"),
        ("config.audio_track_mode", "audio_track"),
        ("config.channel_mode", "channel_mode"),
        ("temperature", "temperature"),
    ],
)
def test_the_fields_of_the_gateway_have_the_names_of_the_form(field: str, parameter: str) -> None:
    error = error_body(Problem(400, "INVALID_REQUEST", f"{field} is wrong", field))[0]["error"]

    assert (error["param"], error["message"]) == (parameter, f"{parameter} is wrong")


@pytest.mark.parametrize(
    ("reason", "code"),
    [("UNKNOWN_TOKEN", "invalid_api_key"), ("TOO_MANY_JOBS", "rate_limit_exceeded"), ("STORE_FULL", "store_full")],
)
def test_reasons_for_which_openai_has_a_code_have_it(reason: str, code: str) -> None:
    assert error_body(Problem(400, reason, "it went wrong"))[0]["error"]["code"] == code
