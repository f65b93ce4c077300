"""Uploads that can be resumed, with a client of the tus protocol and by hand."""

from __future__ import annotations

import asyncio
import io
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tusclient.client import TusClient

from careca_web.http.bodies import WRITE_BYTES
from support.fakes import digest_of
from support.stack import Stack
from support.submitters import RECORDING
from support.tokens import Tokens
from support.waiting import eventually, until
from support.web import Web, problem, web_service

HALF = len(RECORDING) // 2
STORED = {"sha256": digest_of(RECORDING).sha256, "size_bytes": len(RECORDING)}
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}


def creation(size: int = len(RECORDING), name: str = "call.wav", **more: str) -> dict[str, str]:
    return TUS | {"Upload-Length": str(size), "Upload-Metadata": f"filename {b64encode(name.encode()).decode()}"} | more


async def begin(client: httpx2.AsyncClient, **settings: Any) -> str:
    response = await client.post("/api/uploads", headers=creation(**settings))
    assert response.status_code == 201, response.text
    return response.headers["location"]


async def send(client: httpx2.AsyncClient, path: str, data: Any, offset: int) -> httpx2.Response:
    return await client.patch(path, content=data, headers=BYTES | {"Upload-Offset": str(offset)})


async def offset(client: httpx2.AsyncClient, path: str) -> int:
    response = await client.head(path, headers=TUS)
    assert response.status_code == 200
    assert response.headers["tus-resumable"] == "1.0.0"
    return int(response.headers["upload-offset"])


async def test_a_tus_client_uploads_in_pieces(web: Web) -> None:
    def upload() -> str:
        uploader = TusClient(f"{web.url}/api/uploads").uploader(
            file_stream=io.BytesIO(RECORDING), chunk_size=20_000, metadata={"filename": "../Reunião.wav"}
        )
        uploader.upload()
        return str(uploader.url)

    url = await asyncio.to_thread(upload)
    state = (await web.http.get(url)).json()

    assert state == {"recording": STORED, "name": "Reunião.wav", "offset": len(RECORDING), "size_bytes": len(RECORDING)}
    submitted = await web.http.post("/api/jobs", json={"recording": state["recording"], "name": state["name"]})
    assert submitted.status_code == 201
    assert list(web.settings.uploads_dir.glob("*.part")) == []


async def test_an_upload_continues_after_a_restart_of_the_service(stack: Stack, tmp_path: Path) -> None:
    async with web_service(stack.target, tmp_path) as web:
        path = await begin(web.http)
        assert (await send(web.http, path, RECORDING[:HALF], 0)).headers["upload-offset"] == str(HALF)
    async with web_service(stack.target, tmp_path) as web:
        assert await offset(web.http, path) == HALF
        assert (await web.http.get(path)).json()["recording"] is None
        assert (await send(web.http, path, RECORDING[HALF:], HALF)).status_code == 204
        assert (await web.http.get(path)).json()["recording"] == STORED
    async with web_service(stack.target, tmp_path) as web:
        assert (await web.http.get(path)).json()["recording"] == STORED


async def test_creation_may_carry_the_first_bytes(web: Web) -> None:
    headers = creation() | BYTES
    part = await web.http.post("/api/uploads", content=RECORDING[:HALF], headers=headers)
    whole = await web.http.post("/api/uploads", content=RECORDING, headers=headers)

    assert part.headers["upload-offset"] == str(HALF)
    assert (await web.http.get(whole.headers["location"])).json()["recording"] == STORED


async def test_bytes_of_a_body_that_breaks_off_are_kept(web: Web) -> None:
    data = RECORDING + bytes(5 * WRITE_BYTES)
    path = await begin(web.http, size=len(data))
    _, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
    writer.write(_patch_head(path, len(data)) + data[: 2 * WRITE_BYTES + 1])
    await until(lambda: _size(web, path) >= WRITE_BYTES)
    writer.transport.abort()

    async def continues() -> bool:
        received = await offset(web.http, path)
        return (await send(web.http, path, data[received:], received)).status_code == 204

    await eventually(continues)  # the request that broke off may still hold the upload
    assert (await web.http.get(path)).json()["recording"]["sha256"] == digest_of(data).sha256


async def test_two_requests_at_once_do_not_mix(web: Web) -> None:
    data = RECORDING + bytes(2 * WRITE_BYTES)
    path, may_end = await begin(web.http, size=len(data)), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield data[: WRITE_BYTES + 1]
        await may_end.wait()
        yield data[WRITE_BYTES + 1 :]

    first = asyncio.create_task(send(web.http, path, slow(), 0))
    await until(lambda: _size(web, path) >= WRITE_BYTES)

    assert (await send(web.http, path, b"", 0)).status_code == 423
    may_end.set()
    assert (await first).status_code == 204
    assert (await web.http.get(path)).json()["recording"]["sha256"] == digest_of(data).sha256


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412, "TUS_VERSION"),
        ({"Tus-Resumable": ""}, 412, "TUS_VERSION"),
        ({"Upload-Length": "0"}, 422, "INVALID_REQUEST"),
        ({"Upload-Length": "many"}, 422, "INVALID_REQUEST"),
        ({"Upload-Length": str(5 << 30)}, 413, "RECORDING_TOO_LARGE"),
        ({"Upload-Metadata": "filename ???"}, 400, "INVALID_REQUEST"),
        ({"Upload-Metadata": "x" * 4097}, 422, "INVALID_REQUEST"),
    ],
    ids=str,
)
async def test_a_bad_creation_is_refused(web: Web, headers: dict[str, str], status: int, reason: str) -> None:
    assert problem(await web.http.post("/api/uploads", headers=creation() | headers))[:2] == (status, reason)


async def test_bad_bytes_are_refused_and_change_nothing(web: Web) -> None:
    path = await begin(web.http)
    wrong_type = await web.http.patch(path, content=b"x", headers=TUS | {"Upload-Offset": "0"})
    wrong_offset = await send(web.http, path, b"x", 1)
    no_offset = await web.http.patch(path, content=b"x", headers=BYTES)
    too_many = await send(web.http, path, RECORDING + b"x", 0)

    assert problem(wrong_type)[:2] == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert problem(wrong_offset)[:2] == (409, "OFFSET_MISMATCH")
    assert problem(no_offset)[0] == 422
    assert problem(too_many)[:2] == (413, "BODY_TOO_LARGE")
    assert await offset(web.http, path) == 0


async def test_an_upload_belongs_to_its_caller(guarded: Web, tokens: Tokens) -> None:
    async with guarded.as_caller(tokens.of["ana"]) as ana, guarded.as_caller(tokens.of["bo"]) as bo:
        path = await begin(ana)
        for client, status in ((bo, 404), (guarded.http, 401)):
            assert (await client.head(path, headers=TUS)).status_code == status
            assert (await client.get(path)).status_code == status
            assert (await send(client, path, RECORDING, 0)).status_code == status
            assert (await client.delete(path, headers=TUS)).status_code == status
        assert problem(await guarded.http.post("/api/uploads", headers=creation()))[0] == 401
        assert await offset(ana, path) == 0
    descriptions = "".join(file.read_text() for file in guarded.settings.uploads_dir.glob("*.json"))
    assert tokens.of["ana"] not in descriptions


async def test_an_upload_can_be_deleted(web: Web) -> None:
    path = await begin(web.http)
    assert (await web.http.delete(path, headers=TUS)).status_code == 204
    assert (await web.http.head(path, headers=TUS)).status_code == 404
    assert list(web.settings.uploads_dir.iterdir()) == []
    for name in ("%2e%2e%2fx", "..%5cx", "x"):
        assert (await web.http.head(f"/api/uploads/{name}", headers=TUS)).status_code in (404, 405)


async def test_unfinished_uploads_have_a_limit(stack: Stack, tmp_path: Path) -> None:
    async with web_service(stack.target, tmp_path, uploads_max_bytes=len(RECORDING) + 1) as web:
        first = await begin(web.http)
        full = await web.http.post("/api/uploads", headers=creation())
        never = await web.http.post("/api/uploads", headers=creation(len(RECORDING) + 2))
        await send(web.http, first, RECORDING, 0)
        await begin(web.http)

    assert problem(full)[:2] == (429, "TOO_MANY_UPLOADS")
    assert full.headers["retry-after"] == "60"
    assert problem(never)[:2] == (413, "RECORDING_TOO_LARGE")


async def test_expired_uploads_are_removed_when_the_service_starts(stack: Stack, tmp_path: Path) -> None:
    async with web_service(stack.target, tmp_path, uploads_retention_seconds=3600.0) as web:
        old, new = await begin(web.http), await begin(web.http)
        part = web.settings.uploads_dir / f"{old.rpartition('/')[2]}.part"
        os.utime(part, (1e9, 1e9))
    async with web_service(stack.target, tmp_path, uploads_retention_seconds=3600.0) as web:
        await until(lambda: not part.exists())
        assert (await web.http.head(old, headers=TUS)).status_code == 404
        assert (await web.http.head(new, headers=TUS)).status_code == 200


async def test_expired_uploads_are_removed_while_the_service_runs(stack: Stack, tmp_path: Path) -> None:
    async with web_service(stack.target, tmp_path, uploads_retention_seconds=0.2) as web:
        path = await begin(web.http)
        await until(lambda: not list(web.settings.uploads_dir.iterdir()))
        assert (await web.http.head(path, headers=TUS)).status_code == 404


async def test_the_protocol_is_described(web: Web) -> None:
    response = await web.http.options("/api/uploads")

    assert response.status_code == 204
    assert response.headers["tus-version"] == "1.0.0"
    assert "expiration" in response.headers["tus-extension"]
    assert response.headers["tus-max-size"] == str(4 << 30)


def _patch_head(path: str, size: int) -> bytes:
    return (
        f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/offset+octet-stream\r\n"
        f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


def _size(web: Web, path: str) -> int:
    return (web.settings.uploads_dir / f"{path.rpartition('/')[2]}.part").stat().st_size
