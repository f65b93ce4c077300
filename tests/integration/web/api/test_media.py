"""The recordings of jobs over HTTP: ranges, what browsers play, waveforms."""

from __future__ import annotations

import io
import wave
from typing import Any

import httpx2
import pytest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from careca.types import RecordingForm
from careca_client import AsyncClient
from careca_web.api import media
from careca_web.http.security import RequestOriginMiddleware
from support.fakes import digest_of
from support.media import recording
from support.submitters import RECORDING
from support.tokens import Tokens
from support.waiting import until
from support.web import Web, ended, problem, submit

SIZE = len(RECORDING)
TAG = f'"{digest_of(RECORDING).sha256}"'


@pytest.fixture
async def path(web: Web) -> str:
    """The path of a job that has ended."""
    return f"/api/jobs/{(await ended(web, await submit(web)))['id']}"


async def test_the_recording_is_downloaded_as_it_was_uploaded(web: Web, path: str) -> None:
    response = await web.http.get(f"{path}/recording")

    assert (response.status_code, response.content) == (200, RECORDING)
    assert response.headers["content-disposition"].startswith('attachment; filename="call.wav"')
    assert (response.headers["accept-ranges"], response.headers["etag"]) == ("bytes", TAG)
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, SIZE - 1),
        ("bytes=-100", SIZE - 100, SIZE - 1),
        (f"bytes=10-{SIZE * 2}", 10, SIZE - 1),
        (f"bytes=-{SIZE * 2}", 0, SIZE - 1),
    ],
)
async def test_a_part_is_sent(web: Web, path: str, asked: str, first: int, last: int) -> None:
    for name in ("recording", "audio"):
        response = await web.http.get(f"{path}/{name}", headers={"Range": asked})

        assert (response.status_code, response.content) == (206, RECORDING[first : last + 1])
        assert response.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
        assert response.headers["content-length"] == str(last + 1 - first)


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-2", "bytes=-", "bytes=a-b", "items=0-1", "x" * 1000])
async def test_other_ranges_are_ignored(web: Web, path: str, asked: str) -> None:
    response = await web.http.get(f"{path}/recording", headers={"Range": asked})

    assert (response.status_code, len(response.content)) == (200, SIZE)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0", f"bytes={10**17}-"])
async def test_a_part_that_does_not_exist_is_refused(web: Web, path: str, asked: str) -> None:
    response = await web.http.get(f"{path}/recording", headers={"Range": asked})

    assert problem(response)[:2] == (416, "RANGE_NOT_SATISFIABLE")
    assert response.headers["content-range"] == f"bytes */{SIZE}"


async def test_conditions_are_kept(web: Web, path: str) -> None:
    same = await web.http.get(f"{path}/recording", headers={"Range": "bytes=0-1", "If-Range": TAG})
    other = await web.http.get(f"{path}/recording", headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    known = await web.http.get(f"{path}/recording", headers={"If-None-Match": TAG})

    assert (same.status_code, other.status_code, known.status_code) == (206, 200, 304)
    assert known.content == b""


async def test_head_sends_headers_only(web: Web, path: str) -> None:
    whole = await web.http.head(f"{path}/recording")
    part = await web.http.head(f"{path}/audio", headers={"Range": "bytes=0-9"})

    assert (whole.status_code, whole.headers["content-length"], whole.content) == (200, str(SIZE), b"")
    assert (part.status_code, part.headers["content-length"], part.content) == (206, "10", b"")


async def test_a_browser_gets_what_it_plays(web: Web) -> None:
    job = await ended(web, await submit(web, recording("aiff", "pcm_s16be"), name="call.aiff"))
    path = f"/api/jobs/{job['id']}/audio"
    automatic = await web.http.get(path)
    original = await web.http.get(path, params={"form": "original"})
    with wave.open(io.BytesIO(automatic.content)) as playable:
        assert (playable.getframerate(), playable.getnchannels()) == (16_000, 1)

    assert automatic.headers["content-type"] == "audio/wav"
    assert "content-disposition" not in automatic.headers
    assert original.content == recording("aiff", "pcm_s16be")
    assert problem(await web.http.get(path, params={"form": "mp3"}))[0::2] == (422, "form")


async def test_a_waveform_has_at_most_the_buckets_asked_for(web: Web, path: str) -> None:
    whole = (await web.http.get(f"{path}/waveform", params={"buckets": 10})).json()
    part = (await web.http.get(f"{path}/waveform", params={"start": 1, "end": 1.5})).json()
    (channel,) = whole["channels"]

    assert whole["duration"] == pytest.approx(2.0, abs=0.05)
    assert len(channel["minima"]) == len(channel["maxima"]) <= 10
    assert -128 <= min(channel["minima"]) < 0 < max(channel["maxima"]) <= 127
    assert part["start"] == 1.0
    assert len(part["channels"][0]["minima"]) == round(0.5 / part["bucket_seconds"])


@pytest.mark.parametrize(
    "part",
    [{"start": -1}, {"start": 5}, {"end": 0}, {"buckets": 0}, {"buckets": 20_001}, {"start": "nan"}, {"colour": "red"}],
    ids=str,
)
async def test_a_bad_part_is_refused(web: Web, path: str, part: dict[str, Any]) -> None:
    assert problem(await web.http.get(f"{path}/waveform", params=part))[0] in (416, 422)


async def test_recordings_belong_to_those_who_see_the_job(guarded: Web, tokens: Tokens) -> None:
    async with guarded.as_caller(tokens.of["ana"]) as ana, guarded.as_caller(tokens.of["bo"]) as bo:
        job = (await ana.post("/api/jobs", files={"file": RECORDING})).json()
        for name in ("recording", "audio", "waveform"):
            assert problem(await bo.get(f"/api/jobs/{job['id']}/{name}"))[0] == 404
            assert problem(await guarded.http.get(f"/api/jobs/{job['id']}/{name}"))[0] == 401
        assert (await ana.get(f"/api/jobs/{job['id']}/recording")).content == RECORDING


async def test_a_job_that_is_deleted_while_its_recording_is_sent_ends_the_response(
    web: Web, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = media._source

    async def find_and_delete(client: AsyncClient, job_id: str, form: RecordingForm) -> media._Source:
        source = await find(client, job_id, form)
        await client.delete_job(job_id)
        return source

    monkeypatch.setattr(media, "_source", find_and_delete)
    with capture_logs() as lines:
        with pytest.raises(httpx2.RemoteProtocolError):
            await web.http.get(f"{path}/recording")
        await until(lambda: any(line["event"] == "a response ended early" for line in lines))

    assert [line["reason"] for line in lines if line["event"] == "a response ended early"] == ["JOB_NOT_FOUND"]
    assert not [line for line in lines if line["log_level"] == "error"]
    assert incomplete(caplog) == []
    assert (await web.http.get("/healthz")).status_code == 200


def incomplete(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What uvicorn has logged about responses that were not completed."""
    return [record.getMessage() for record in caplog.records if "completing" in record.getMessage()]


async def test_an_endpoint_that_does_not_complete_its_response_is_logged(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_self: object, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})

    monkeypatch.setattr(RequestOriginMiddleware, "__call__", broken)
    with pytest.raises(httpx2.RemoteProtocolError):
        await web.http.get("/docs")
    await until(lambda: len(incomplete(caplog)) == 1)
