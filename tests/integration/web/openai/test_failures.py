"""What OpenAI's own client learns of failures: of tokens, of the recording, of the services, of the connection."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI

from careca.auth.caller import Role
from careca.auth.tokens import entry_text, hash_token, new_token
from careca.errors import OutOfMemory, Overloaded
from careca.types import JobState
from careca_client import AsyncClient
from support.openai_client import openai_client
from support.redis_server import RedisServer
from support.samples import sample_value
from support.stack import Stack
from support.waiting import eventually, happens, longer_and_longer, until
from support.web import Web, web_service

Recording = tuple[str, bytes]


async def states_of_jobs(stack: Stack) -> list[JobState]:
    async with AsyncClient(stack.target) as careca:
        return [job.state async for job in careca.jobs()]


async def until_all_are_cancelled(stack: Stack) -> None:
    async def cancelled() -> bool:
        return set(await states_of_jobs(stack)) == {JobState.CANCELLED}

    await eventually(cancelled)
    await until(lambda: not stack.transcriber.engine.running)


def hold(stack: Stack) -> None:
    for service in stack.model_services:
        service.engine.may_go_on.clear()


async def test_a_token_is_needed_where_the_gateway_asks_for_one(
    tmp_path: Path, redis_server: RedisServer, recording: Recording
) -> None:
    tokens, token = tmp_path / "tokens.toml", new_token()
    tokens.write_text(entry_text("ana", Role.USER, hash_token(token), {"recording_bytes": 1000}))
    async with (
        Stack(tmp_path, redis_server.url, gateway_settings={"tokens_file": tokens}) as stack,
        web_service(stack.target, tmp_path) as web,
        openai_client(web.url, api_key="careca_unknown") as stranger,
        openai_client(web.url, api_key=token) as ana,
    ):
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.audio.transcriptions.create(file=recording, model="whisper-1")
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()
        with pytest.raises(openai.APIStatusError) as too_large:
            await ana.audio.transcriptions.create(file=recording, model="whisper-1")

    assert (refused.value.type, refused.value.code) == ("authentication_error", "invalid_api_key")
    assert too_large.value.status_code == 413
    assert (too_large.value.type, too_large.value.code, too_large.value.param) == (
        "invalid_request_error",
        "recording_too_large",
        "file",
    )
    assert too_large.value.request_id


async def test_a_body_larger_than_the_caller_may_send_is_refused_before_it_is_read(web: Web) -> None:
    """The client of this test sends the headers only: the answer does not depend on the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
    writer.write(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert head.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("data", "code"), [(b"no sound at all", "not_a_recording"), (b"", "empty_recording")], ids=["text", "empty"]
)
async def test_bytes_that_are_no_recording_are_refused(client: AsyncOpenAI, data: bytes, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.audio.transcriptions.create(file=("call.wav", data), model="whisper-1")

    assert (raised.value.type, raised.value.code, raised.value.param) == ("invalid_request_error", code, "file")


async def test_the_client_tries_again_when_the_service_is_full(
    web: Web, stack: Stack, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits as long as Retry-After says."""
    stack.transcriber.engine.failures = [Overloaded("no place is free", retry_after_seconds=3.0, reason="STORE_FULL")]
    waits = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("openai._base_client.anyio.sleep", wait)
    async with openai_client(web.url, max_retries=2) as client:
        answer = await client.audio.transcriptions.create(file=recording, model="whisper-1")

    assert answer.text == "hello there good morning"
    assert waits == [3.0]


async def test_a_failed_stage_is_an_error(client: AsyncOpenAI, stack: Stack, recording: Recording) -> None:
    """Careca delivers the other stage's part. OpenAI's API cannot say that a part is missing."""
    stack.transcriber.engine.failures = [OutOfMemory("the recording is too long for the device")]
    with pytest.raises(openai.InternalServerError) as raised:
        await client.audio.transcriptions.create(file=recording, model="whisper-1")

    assert raised.value.status_code == 507
    assert (raised.value.type, raised.value.code) == ("server_error", "out_of_memory")
    assert "too long for the device" in raised.value.message


async def test_speakers_are_needed_for_diarized_json_only(
    client: AsyncOpenAI, stack: Stack, recording: Recording
) -> None:
    stack.diarizer.engine.failures = [OutOfMemory("too long"), OutOfMemory("too long")]

    answer = await client.audio.transcriptions.create(file=recording, model="whisper-1")
    with pytest.raises(openai.InternalServerError) as raised:
        await client.audio.transcriptions.create(file=recording, model="whisper-1", response_format="diarized_json")

    assert answer.text == "hello there good morning"
    assert raised.value.code == "out_of_memory"


async def test_a_gateway_that_is_away_is_said(client: AsyncOpenAI, stack: Stack, recording: Recording) -> None:
    await stack.stop_gateway()

    with pytest.raises(openai.InternalServerError) as raised:
        await client.audio.transcriptions.create(file=recording, model="whisper-1")

    assert raised.value.status_code == 503
    assert raised.value.response.headers["retry-after"]


async def test_the_job_is_cancelled_if_the_client_gives_up(
    client: AsyncOpenAI, stack: Stack, recording: Recording
) -> None:
    hold(stack)
    call = asyncio.create_task(client.audio.transcriptions.create(file=recording, model="whisper-1"))
    await happens(stack.transcriber.engine.started)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await until_all_are_cancelled(stack)


async def test_the_job_is_cancelled_if_the_client_times_out(web: Web, stack: Stack, recording: Recording) -> None:
    hold(stack)
    for seconds in longer_and_longer(0.5):
        async with openai_client(web.url, timeout=seconds) as client:
            with pytest.raises(openai.APITimeoutError):
                await client.audio.transcriptions.create(file=recording, model="whisper-1")
        if stack.transcriber.engine.started.is_set():
            break

    await until_all_are_cancelled(stack)


async def test_an_upload_that_breaks_off_leaves_nothing(web: Web, stack: Stack) -> None:
    """Nobody waits for an answer, and nothing is logged as a failure of the service."""
    with socket.create_connection(("127.0.0.1", web.server.port)) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="call.wav"\r\n\r\nRIFF'
        )

    def requests(status: int) -> float:
        labels = {"method": "POST", "route": "/v1/audio/transcriptions", "status": str(status)}
        return sample_value(web.service.metrics.registry, "careca_http_seconds_count", **labels) or 0.0

    await until(lambda: requests(499))
    assert not requests(500)
    assert await states_of_jobs(stack) == []


async def test_paths_that_do_not_exist_have_the_same_errors(client: AsyncOpenAI, web: Web) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await client.files.list()
    wrong_method = await web.http.put("/v1/models")

    assert (raised.value.type, raised.value.code) == ("invalid_request_error", "no_such_path")
    assert wrong_method.status_code == 405
    assert wrong_method.json()["error"]["code"] == "method_not_allowed"
