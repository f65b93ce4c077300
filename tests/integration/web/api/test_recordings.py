"""Uploads of recordings: whole bodies and forms, sizes, and bodies that break off or stall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.fakes import digest_of
from support.redis_server import RedisServer
from support.samples import sample_value
from support.stack import Stack
from support.submitters import RECORDING
from support.waiting import until
from support.web import Web, problem, web_service

STORED = {"sha256": digest_of(RECORDING).sha256, "size_bytes": len(RECORDING)}
MEBIBYTE = 1 << 20


@pytest.fixture
async def small(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Web]:
    """A gateway that accepts recordings of up to 2 MiB."""
    settings = {"max_recording_bytes": 2 * MEBIBYTE}
    async with (
        Stack(tmp_path, redis_server.url, jobs=True, gateway_settings=settings) as stack,
        web_service(stack.target, tmp_path) as web,
    ):
        yield web


async def test_a_form_and_a_whole_body_are_the_same_recording(web: Web) -> None:
    form = await web.http.post("/api/recordings", files={"file": ("C:\\calls\\call.wav", RECORDING)})
    body = await web.http.post("/api/recordings", content=RECORDING, params={"name": "../call.wav"})

    assert form.status_code == body.status_code == 201
    assert form.json() == body.json() == {"recording": STORED, "name": "call.wav"}


async def test_the_gateway_is_asked_for_a_recording_by_its_digest(web: Web) -> None:
    path, size = f"/api/recordings/{STORED['sha256']}", {"size_bytes": len(RECORDING)}
    before = await web.http.get(path, params=size)
    await web.http.post("/api/recordings", content=RECORDING)
    after = await web.http.get(path, params=size)
    other_size = await web.http.get(path, params={"size_bytes": 1})
    without_size = await web.http.get(path)
    no_digest = await web.http.get("/api/recordings/call.wav", params=size)

    assert (before.status_code, before.json()) == (200, {"stored": False})
    assert (after.status_code, after.json()) == (200, {"stored": True})
    assert other_size.json() == {"stored": False}
    assert problem(without_size) == (422, "INVALID_REQUEST", "size_bytes")
    assert problem(no_digest) == (422, "INVALID_REQUEST", "sha256")


async def test_received_bytes_are_counted(web: Web) -> None:
    await web.http.post("/api/recordings", content=RECORDING)

    assert sample_value(web.service.metrics.registry, "careca_http_upload_bytes_total") == len(RECORDING)


async def test_a_recording_larger_than_the_gateway_takes_is_refused_before_it_is_read(small: Web) -> None:
    at_most = bytes(2 * MEBIBYTE)
    fits = await small.http.post("/api/recordings", content=at_most)
    declared = await small.http.post("/api/recordings", content=at_most + b"x")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield bytes(MEBIBYTE)

    streamed = await small.http.post("/api/recordings", content=chunks())
    form = await small.http.post("/api/recordings", files={"file": at_most + b"x"})

    assert fits.status_code == 201
    assert problem(declared)[:2] == problem(streamed)[:2] == (413, "BODY_TOO_LARGE")
    assert problem(form)[:2] == (413, "RECORDING_TOO_LARGE")


async def test_forms_without_a_recording_are_refused(web: Web) -> None:
    text = await web.http.post("/api/recordings", files={"file": (None, "text")})
    other = await web.http.post("/api/recordings", files={"sound": RECORDING})
    two = await web.http.post("/api/recordings", files=[("file", RECORDING), ("file", RECORDING)])
    broken = await web.http.post(
        "/api/recordings", content=b"--x\r\n", headers={"Content-Type": "multipart/form-data; boundary=y"}
    )
    unbounded = await web.http.post("/api/recordings", content=b"", headers={"Content-Type": "multipart/form-data"})

    assert problem(text) == problem(other) == (400, "FILE_MISSING", "file")
    for response in (two, broken, unbounded):
        assert problem(response)[:2] == (400, "INVALID_FORM")


async def test_an_empty_recording_is_refused(web: Web) -> None:
    for response in (
        await web.http.post("/api/recordings", content=b""),
        await web.http.post("/api/recordings", files={"file": ("a.wav", b"")}),
    ):
        assert problem(response)[:2] == (400, "EMPTY_RECORDING")


async def test_strangers_are_refused_before_they_send_anything(guarded: Web) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.server.port)
    writer.write(_head("application/octet-stream"))
    answer = await reader.readuntil(b"NO_TOKEN")
    writer.close()

    assert answer.startswith(b"HTTP/1.1 401")
    assert b"www-authenticate: bearer" in answer.lower()


async def test_a_body_that_stalls_is_refused_and_leaves_no_file(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _temporary_folder(tmp_path, monkeypatch)
    async with web_service(stack.target, tmp_path, body_idle_seconds=0.2) as web:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
        for head in (_head("application/octet-stream"), _head("multipart/form-data; boundary=b")):
            reader, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
            writer.write(head + _PART + bytes(2 * MEBIBYTE))
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
            writer.close()
    assert list(folder.iterdir()) == []


async def test_a_body_that_breaks_off_leaves_no_file(
    web: Web, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _temporary_folder(tmp_path, monkeypatch)
    for head in (_head("application/octet-stream"), _head("multipart/form-data; boundary=b")):
        _, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
        writer.write(head + _PART + bytes(2 * MEBIBYTE))
        await until(lambda: _in_flight(web) == 1)
        writer.transport.abort()
        await until(lambda: _in_flight(web) == 0)
    assert list(folder.iterdir()) == []
    assert list(stack.store.rglob("*.part")) == []


@pytest.mark.parametrize("content_type", ["application/octet-stream", "multipart/form-data; boundary=b"])
async def test_only_some_recordings_are_received_at_the_same_time(
    stack: Stack, tmp_path: Path, content_type: str
) -> None:
    async with web_service(stack.target, tmp_path, max_receiving=1) as web:
        reader, first = await asyncio.open_connection("127.0.0.1", web.server.port)
        first.write(_head(content_type).removesuffix(b"\r\n") + b"Expect: 100-continue\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")  # the service waits for its body
        for path in ("/api/recordings", "/api/jobs", "/v1/audio/transcriptions"):
            refused = await web.http.post(path, files={"file": RECORDING})
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
        whole = await web.http.post("/api/recordings", content=RECORDING)
        other = await web.http.post("/api/jobs", json={"recording": {"sha256": "ab" * 32, "size_bytes": 1}})
        assert problem(whole)[:2] == (429, "TOO_MANY_RECORDINGS")
        assert problem(other)[:2] == (409, "RECORDING_MISSING")
        first.transport.abort()
        await until(lambda: _in_flight(web) == 0)
        assert (await web.http.post("/api/recordings", content=RECORDING)).status_code == 201


async def test_a_recording_that_is_transcribed_keeps_no_other_from_being_received(stack: Stack, tmp_path: Path) -> None:
    engine = stack.transcriber.engine
    engine.may_go_on.clear()
    async with web_service(stack.target, tmp_path, max_receiving=1) as web:
        transcribing = asyncio.create_task(
            web.http.post("/v1/audio/transcriptions", files={"file": RECORDING}, data={"model": "whisper-1"})
        )
        await until(engine.started.is_set)
        received = await web.http.post("/api/recordings", content=RECORDING)
        engine.may_go_on.set()

        assert received.status_code == 201
        assert (await transcribing).status_code == 200


_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def _head(content_type: str) -> bytes:
    return (
        f"POST /api/recordings HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {10 * MEBIBYTE}\r\n\r\n"
    ).encode()


def _in_flight(web: Web) -> float | None:
    return sample_value(web.service.metrics.registry, "careca_http_requests_in_flight")


def _temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder
