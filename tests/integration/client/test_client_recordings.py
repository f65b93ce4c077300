"""Reading recordings with both clients and the command, from a real gateway with Redis; scripted engines."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from careca.errors import InternalError, InvalidRequest, NotFound
from careca.types import Digest, Job, RecordingForm
from careca.v1 import recordings_pb2
from careca_client import AsyncClient, Client, RecordingInfo
from careca_client.cli.app import build_app
from careca_client.cli.errors import ExitCode
from careca_client.protocol.recordings import decode_first_response
from support.clients import Connect, EitherClient
from support.command_line import CARECA
from support.media import tone, wav
from support.redis_server import RedisServer
from support.stack import Stack
from support.submitters import submitting

RECORDING = wav(tone(40.0))
"""More than one chunk."""


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path / "stack", redis_server.url, jobs=True) as stack:
        yield stack


@pytest.fixture
async def job(stack: Stack) -> Job:
    """A job of the submitter ana that has succeeded."""
    async with submitting(stack, "ana") as ana:
        return await ana.ended(await ana.submit(RECORDING, display_name="../calls/monday.mp3"))


@pytest.fixture
def ana(connect: Connect, stack: Stack) -> EitherClient:
    return connect(stack.target, submitter="ana")


async def read(client: EitherClient, job_id: str, **arguments: Any) -> tuple[RecordingInfo, list[bytes]]:
    """Reads the recording with a client of either kind."""
    if isinstance(client.client, AsyncClient):
        async with client.client.read_recording(job_id, **arguments) as reader:
            return reader.info, [chunk async for chunk in reader.chunks]

    def read_blocking(blocking: Client) -> tuple[RecordingInfo, list[bytes]]:
        with blocking.read_recording(job_id, **arguments) as opened:
            return opened.info, list(opened.chunks)

    return await asyncio.to_thread(read_blocking, client.client)


async def test_a_recording_is_read_in_chunks(ana: EitherClient, job: Job) -> None:
    info, chunks = await read(ana, job.id)

    assert b"".join(chunks) == RECORDING
    assert len(chunks) == 2
    assert (info.size_bytes, info.content_type, info.browser_plays) == (len(RECORDING), "audio/wav", True)
    assert (info.display_name, info.entity_tag) == ("../calls/monday.mp3", job.recording.sha256)


async def test_a_part_of_a_recording_is_read(ana: EitherClient, job: Job) -> None:
    info, chunks = await read(ana, job.id, form="playable", offset=40, length=10)

    assert b"".join(chunks) == RECORDING[40:50]
    assert info.size_bytes == len(RECORDING)


async def test_a_reader_may_leave_before_the_end(stack: Stack, job: Job) -> None:
    async with AsyncClient(stack.target, submitter="ana") as client:
        async with client.read_recording(job.id) as reader:
            first = await anext(reader.chunks)
        async with client.read_recording(job.id):
            pass

    assert first == RECORDING[: 1 << 20]
    assert stack.gateway is not None
    await stack.stop_gateway()  # which waits for calls in flight


async def test_a_waveform_is_decoded(ana: EitherClient, job: Job) -> None:
    waveform = await ana.waveform(job.id, start=1.0, end=3.0, max_buckets=10)

    assert (waveform.start, waveform.bucket_seconds, waveform.audio_seconds) == (1.0, 0.2, 40.0)
    (peaks,) = waveform.channels
    assert peaks.maxima == bytes([12_000 >> 8] * 10)
    assert peaks.minima == bytes([256 + (-12_000 >> 8)] * 10)
    assert len((await ana.waveform(job.id)).channels[0].minima) == 40 * 50


async def test_errors_of_the_gateway_are_raised(connect: Connect, stack: Stack, ana: EitherClient, job: Job) -> None:
    bob = connect(stack.target, submitter="bob")

    with pytest.raises(NotFound):
        await read(bob, job.id)
    with pytest.raises(NotFound):
        await bob.waveform(job.id)
    with pytest.raises(InvalidRequest) as refused:
        await read(ana, job.id, offset=len(RECORDING))
    assert (refused.value.reason, refused.value.metadata) == (
        "RANGE_NOT_SATISFIABLE",
        {"size_bytes": str(len(RECORDING))},
    )


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"form": "mp3"}, "form"), ({"offset": -1}, "offset"), ({"length": 0}, "length"), ({"length": -1}, "length")],
)
async def test_wrong_arguments_of_a_read_are_refused(ana: EitherClient, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await read(ana, "1", **arguments)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"start": -1.0}, "start_offset"),
        ({"start": float("nan")}, "start_offset"),
        ({"end": float("inf")}, "end_offset"),
        ({"max_buckets": 0}, "max_buckets"),
    ],
)
async def test_wrong_arguments_of_a_waveform_are_refused(
    ana: EitherClient, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await ana.waveform("1", **arguments)
    assert refused.value.field == field


@pytest.mark.parametrize("response", [None, recordings_pb2.ReadRecordingResponse(chunk=b"x")])
def test_a_stream_without_info_breaks_the_rules(response: recordings_pb2.ReadRecordingResponse | None) -> None:
    with pytest.raises(InternalError) as broken:
        decode_first_response(response)
    assert broken.value.reason == "PROTOCOL_ERROR"


async def careca(stack: Stack, *arguments: str | Path, submitter: str = "ana") -> Result:
    """Runs the command in a thread of this process."""
    environment = {"CARECA_GATEWAY": stack.target, "CARECA_SUBMITTER": submitter}
    words = [str(part) for part in arguments]
    return await asyncio.to_thread(CliRunner().invoke, build_app(), words, env=environment)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_the_command_saves_a_recording(stack: Stack, job: Job, tmp_path: Path) -> None:
    file, folder = tmp_path / "call", tmp_path / "calls"

    saved = await careca(stack, "recording", job.id, "-o", file)
    named = await careca(stack, "recording", job.id, "-o", f"{folder}/")
    playable = await careca(stack, "recording", job.id, "--playable", "-o", folder)
    again = await careca(stack, "recording", job.id, "-o", file)
    replaced = await careca(stack, "recording", job.id, "-o", file, "--playable", "--overwrite")

    assert [result.exit_code for result in (saved, named, playable, again, replaced)] == [0, 0, 0, ExitCode.REFUSED, 0]
    assert (folder / "monday.mp3").read_bytes() == RECORDING
    assert names(folder) == ["monday.mp3", "monday.wav"]
    assert "exists already" in again.stderr
    with wave.open(io.BytesIO(file.read_bytes())) as audio:
        assert audio.getnframes() == 40 * 16_000
    assert names(tmp_path) == ["call", "calls", "stack"]


async def test_the_command_writes_a_recording_to_a_pipe(stack: Stack, job: Job) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*CARECA, "recording", job.id, "--gateway", stack.target, "--submitter", "ana"), stdout=asyncio.subprocess.PIPE
    )
    written, _ = await process.communicate()

    assert (process.returncode, written) == (0, RECORDING)


async def test_the_command_says_what_is_missing(stack: Stack, job: Job, tmp_path: Path) -> None:
    foreign = await careca(stack, "recording", job.id, "-o", tmp_path / "call", submitter="bob")
    for path in (stack.store / "recordings").iterdir():
        path.unlink()
    gone = await careca(stack, "recording", job.id, "-o", tmp_path / "call")

    assert (foreign.exit_code, gone.exit_code) == (ExitCode.REFUSED, ExitCode.REFUSED)
    assert "no such job" in foreign.stderr
    assert "no longer has the recording" in gone.stderr
    assert not (tmp_path / "call").exists()


def test_forms_have_the_names_of_the_protocol() -> None:
    assert list(RecordingForm) == ["original", "playable"]


async def test_the_gateway_says_whether_it_has_a_recording(ana: EitherClient, job: Job) -> None:
    assert await ana.has_recording(job.recording)
    assert not await ana.has_recording(Digest("0" * 64, 5))
