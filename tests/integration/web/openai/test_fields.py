"""Fields that are refused: the error names each of them, in OpenAI's shape."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from careca_web.openai.fields import FIELDS
from support.media import tone, wav
from support.stack import Stack
from support.web import Web

Recording = tuple[str, bytes]

WAV = "data:audio/wav;base64,UklGRg=="

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"temperature": 0.2}, "temperature", "unsupported_value"),
    ({"extra_body": {"temperature": "hot"}}, "temperature", "invalid_value"),
    ({"extra_body": {"temperature": "nan"}}, "temperature", "unsupported_value"),
    ({"response_format": "xml"}, "response_format", "invalid_value"),
    ({"response_format": "srt", "stream": True}, "response_format", "unsupported_value"),
    ({"timestamp_granularities": ["word"]}, "timestamp_granularities", "invalid_value"),
    (
        {"timestamp_granularities": ["letter"], "response_format": "verbose_json"},
        "timestamp_granularities",
        "invalid_value",
    ),
    ({"include": ["logprobs"], "response_format": "verbose_json"}, "include", "invalid_value"),
    ({"include": ["tokens"]}, "include", "invalid_value"),
    ({"chunking_strategy": "manual"}, "chunking_strategy", "invalid_value"),
    (
        {"chunking_strategy": {"type": "server_vad", "threshold": 0.5}},
        "chunking_strategy.threshold",
        "unsupported_value",
    ),
    ({"chunking_strategy": {"type": "client_vad"}}, "chunking_strategy.type", "invalid_value"),
    ({"extra_body": {"chunking_strategy": "{"}}, "chunking_strategy", "invalid_value"),
    ({"extra_body": {"chunking_strategy": '{"a":' * 100_000}}, "chunking_strategy", "invalid_value"),
    ({"languages": ["en", "pt"]}, "languages", "unsupported_value"),
    ({"languages": ["en"], "language": "en"}, "languages", "invalid_value"),
    ({"language": "Klingon"}, "language", "unknown_language"),
    ({"prompt": "x" * 100_000}, "prompt", "invalid_request"),
    ({"keywords": ["x" * 1000]}, "hotwords", "invalid_request"),
    ({"known_speaker_names": ["Ana"]}, "known_speaker_references", "invalid_value"),
    ({"known_speaker_references": [WAV]}, "known_speaker_references", "invalid_value"),
    (
        {"known_speaker_names": ["Ana"], "known_speaker_references": ["https://example.org/ana.wav"]},
        "known_speaker_references[0]",
        "invalid_value",
    ),
    (
        {"known_speaker_names": ["Ana"], "known_speaker_references": ["data:audio/wav;base64,???"]},
        "known_speaker_references[0]",
        "invalid_value",
    ),
    (
        {"known_speaker_names": ["SPEAKER_00"], "known_speaker_references": [WAV]},
        "known_speaker_names[0]",
        "invalid_request",
    ),
    (
        {"known_speaker_names": ["Ana"] * 2, "known_speaker_references": [WAV] * 2},
        "known_speaker_names[1]",
        "invalid_request",
    ),
    (
        {"known_speaker_names": [f"Ana {each}" for each in range(51)], "known_speaker_references": [WAV] * 51},
        "known_speaker_references",
        "invalid_request",
    ),
    (
        {
            "known_speaker_names": ["Ana"],
            "known_speaker_references": [f"data:audio/wav;base64,{base64.b64encode(bytes(9 << 20)).decode()}"],
        },
        "known_speaker_references",
        "invalid_request",
    ),
    ({"extra_body": {"speaker_count": "two"}}, "speaker_count", "invalid_value"),
    ({"extra_body": {"speaker_count": 1000}}, "speaker_count", "invalid_request"),
    ({"extra_body": {"speaker_count": 2, "min_speaker_count": 1}}, "speaker_count", "invalid_request"),
    ({"extra_body": {"channel_mode": "left"}}, "channel_mode", "invalid_request"),
    ({"extra_body": {"audio_track": "first"}}, "audio_track", "invalid_request"),
    ({"extra_body": {"audio_track": "9" * 50}}, "audio_track", "invalid_request"),
    ({"extra_body": {"stream": "perhaps"}}, "stream", "invalid_value"),
    ({"extra_body": {"best_of": 5}}, "best_of", "unknown_parameter"),
    ({"extra_body": {"model[]": "whisper-1"}}, "model[]", "unknown_parameter"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED, ids=lambda value: str(value)[:60])
async def test_what_cannot_be_honoured_is_refused(
    client: AsyncOpenAI, recording: Recording, fields: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.audio.transcriptions.create(file=recording, model="whisper-1", **fields)

    assert (raised.value.param, raised.value.code) == (param, code)
    assert raised.value.type == "invalid_request_error"
    assert param.partition("[")[0].replace("_", " ") in raised.value.message.replace("_", " ")
    assert "config." not in raised.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"extra_body": {"stream": "true"}}, "stream"),
        ({"extra_body": {"include[]": "logprobs"}}, "include[]"),
    ],
    ids=str,
)
async def test_translations_have_fewer_fields(
    client: AsyncOpenAI, recording: Recording, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.audio.translations.create(file=recording, model="whisper-1", **fields)

    assert raised.value.param == param


async def test_a_model_that_is_not_served_is_not_found(client: AsyncOpenAI, recording: Recording) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await client.audio.transcriptions.create(file=recording, model="gpt-5")

    assert (raised.value.param, raised.value.code) == ("model", "model_not_found")
    assert "fake@0123456789ab" in raised.value.message


@pytest.mark.parametrize(
    ("form", "files", "param", "code"),
    [
        ({"model": "whisper-1"}, {"other": ("a.wav", b"RIFF")}, "other", "unknown_parameter"),
        ({"model": "whisper-1", "file": "text"}, {}, "file", "invalid_value"),
        ({}, {"file": ("a.wav", b"RIFF")}, "model", "missing_required_parameter"),
        ({"model": ["whisper-1", "whisper-1"]}, {"file": ("a.wav", b"RIFF")}, "model", "invalid_value"),
        ({"file": "text"}, {"model": ("a.wav", b"RIFF")}, "file", "invalid_value"),
    ],
)
async def test_forms_that_no_client_makes(
    web: Web, form: dict[str, Any], files: dict[str, Any], param: str, code: str
) -> None:
    fields = [
        (name, (None, text)) for name, texts in form.items() for text in ([texts] if isinstance(texts, str) else texts)
    ]
    response = await web.http.post("/v1/audio/transcriptions", files=[*fields, *files.items()])

    assert response.status_code == 400
    assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (param, code)


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 415, "unsupported_media_type"),
        ("", b"", 415, "unsupported_media_type"),
        ("multipart/form-data", b"", 400, "invalid_form"),
        ("multipart/form-data; boundary=x", b"no boundary", 400, "invalid_form"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: text/plain\r\n\r\n", 400, "invalid_form"),
    ],
)
async def test_bodies_that_are_no_forms(web: Web, content_type: str, body: bytes, status: int, code: str) -> None:
    response = await web.http.post("/v1/audio/transcriptions", content=body, headers={"Content-Type": content_type})

    assert response.status_code == status
    assert response.json()["error"]["code"] == code


async def test_fields_are_limited_together(web: Web, recording: Recording) -> None:
    """They are kept in memory, other than the file."""
    nine = "x" * (9 << 20)
    fields = [(name, (None, nine)) for name in ("prompt", "known_speaker_references[]")]
    response = await web.http.post("/v1/audio/transcriptions", files=[*fields, ("file", recording)])

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "fields_too_large"


async def test_lists_may_be_sent_without_brackets(web: Web, recording: Recording, stack: Stack) -> None:
    fields = [("model", (None, "whisper-1")), ("hotwords", (None, "ITN")), ("hotwords", (None, "WER"))]
    response = await web.http.post("/v1/audio/transcriptions", files=[*fields, ("file", recording)])

    assert response.status_code == 200
    assert stack.transcriber.engine.options[0].hotwords == ("ITN", "WER")  # type: ignore[union-attr]


async def test_a_data_url_may_be_written_in_percent(client: AsyncOpenAI, recording: Recording) -> None:
    sample = "".join(f"%{byte:02x}" for byte in wav(tone(0.5)))

    answer = await client.audio.transcriptions.create(
        file=recording,
        model="whisper-1",
        chunking_strategy={"type": "server_vad"},
        known_speaker_names=["Ana"],
        known_speaker_references=[f"data:audio/wav,{sample}"],
    )

    assert answer.text


async def test_all_fields_are_described(web: Web) -> None:
    """Both by the OpenAPI document and by the page."""
    page = (Path(__file__).parents[4] / "docs" / "openai.md").read_text()
    document = (await web.http.get("/openapi.json")).json()
    body = document["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]
    described = body["content"]["multipart/form-data"]["schema"]["properties"]

    assert {name.removesuffix("[]") for name in described} == set(FIELDS)
    assert [name for name in FIELDS if f"`{name}`" not in page] == []
