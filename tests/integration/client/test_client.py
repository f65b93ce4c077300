"""Both clients against a real gRPC server that follows a script. One suite runs on each client."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from careca import codec
from careca.errors import (
    CarecaError,
    DeadlineExceeded,
    InternalError,
    InvalidRecording,
    InvalidRequest,
    Overloaded,
    Unavailable,
)
from careca.types import ClearScope, OutputFormat, Progress, Segment, Stage
from careca.v1 import gateway_pb2
from careca_client import AsyncClient, Client, Hashing, KnownSpeaker, RecordingKnown, ReplicaStats, Retrying, Uploading
from support.clients import NOWHERE, Connect, EitherClient
from support.scripted_gateway import SPEAKERS, STATS, GatewayFixture, result_for
from support.scripted_jobs import RELEASE
from support.waiting import HANG_SECONDS, longer_and_longer

MEBIBYTE = 1 << 20
DATA = b"RIFF" + bytes(3 * MEBIBYTE)


async def test_a_recording_is_transcribed(client: EitherClient, gateway: GatewayFixture) -> None:
    result = await client.transcribe(DATA, display_name="call.wav", formats=["srt", OutputFormat.TXT])

    assert result.values == result_for(gateway.script.configs[0])
    assert [(said.speaker, said.text) for said in result.utterances] == [
        ("SPEAKER_00", "Hello."),
        ("SPEAKER_01", "Olá, você!"),
    ]
    assert result.formats == {OutputFormat.SRT: "srt of call.wav\n", OutputFormat.TXT: "txt of call.wav\n"}
    assert result.uploaded_bytes == len(DATA)
    assert gateway.script.recordings == {result.recording.sha256: DATA}


async def test_separate_channels_have_their_speakers(client: EitherClient) -> None:
    result = await client.transcribe(DATA, channel_mode="separate")

    assert [channel.speaker for channel in result.channels] == ["SPEAKER_01", "SPEAKER_00"]
    assert result.values.channels == result.channels
    assert (await client.transcribe(DATA)).channels == ()


async def test_bytes_that_the_gateway_has_are_never_sent_again(client: EitherClient, gateway: GatewayFixture) -> None:
    await client.transcribe(DATA)
    again = await client.transcribe(DATA)

    assert again.known
    assert again.cached
    assert gateway.script.uploads == [len(DATA)]


async def test_every_kind_of_source_arrives_whole(
    client: EitherClient, gateway: GatewayFixture, tmp_path: Path
) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(DATA)
    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: os.fdopen(writing, "wb").write(DATA))
    writer.start()

    with os.fdopen(reading, "rb") as pipe, path.open("rb") as file:
        for source in (path, str(path), file, io.BytesIO(DATA), pipe, DATA):
            gateway.script.recordings.clear()
            await client.transcribe(source)

    writer.join()
    assert gateway.script.uploads == [len(DATA)] * 6
    assert [config.display_name for config in gateway.script.configs[:3]] == ["call.wav"] * 3


async def test_known_speakers_arrive_with_their_recordings_and_voices(
    client: EitherClient, gateway: GatewayFixture, tmp_path: Path
) -> None:
    path = tmp_path / "ana.wav"
    path.write_bytes(b"RIFF of Ana")
    earlier = await client.transcribe(DATA)
    assert earlier.speakers == SPEAKERS

    await client.transcribe(
        DATA,
        known_speakers=[
            *(KnownSpeaker(f"Ana {number}", source) for number, source in enumerate((path, str(path), b"RIFF of Ana"))),
            KnownSpeaker("Eve", io.BytesIO(b"RIFF of Eve")),
            KnownSpeaker("Bob", earlier.speakers[1].voice),
        ],
    )

    known = gateway.script.configs[-1].known_speakers
    assert [(each.name, each.recording) for each in known] == [
        *((f"Ana {number}", b"RIFF of Ana") for number in range(3)),
        ("Eve", b"RIFF of Eve"),
        ("Bob", b""),
    ]
    assert tuple(known[4].voice.embedding) == (0.25, 0.75)
    assert known[4].voice.embedding_model == "voices@1"


async def test_known_speakers_that_cannot_be_sent_are_refused_before_anything_is_hashed(
    client: EitherClient, gateway: GatewayFixture, tmp_path: Path
) -> None:
    large = KnownSpeaker("Ana", bytes((8 << 20) + 1))
    events: list[object] = []

    for people, field in (
        ([large], "config.known_speakers"),
        ([KnownSpeaker("Ana", io.BytesIO(large.reference))], "config.known_speakers"),  # type: ignore[arg-type]
        ([KnownSpeaker("Ana", b"RIFF"), KnownSpeaker("Ana", b"OggS")], "config.known_speakers[1].name"),
        ([KnownSpeaker("Ana", b"")], "config.known_speakers[0].recording"),
    ):
        with pytest.raises(InvalidRequest) as refusal:
            await client.transcribe(DATA, known_speakers=people, on_event=events.append)
        assert refusal.value.field == field
    with pytest.raises(FileNotFoundError):
        await client.transcribe(DATA, known_speakers=[KnownSpeaker("Ana", tmp_path / "nothing.wav")])
    assert events == []
    assert gateway.script.configs == []


async def test_events_come_in_order(client: EitherClient) -> None:
    first: list[object] = []
    second: list[object] = []

    await client.transcribe(DATA, on_event=first.append)
    result = await client.transcribe(DATA, on_event=second.append)

    assert [event for event in first if isinstance(event, Hashing)][-1] == Hashing(len(DATA), len(DATA))
    uploads = [event.done_bytes for event in first if isinstance(event, Uploading)]
    assert uploads[:2] == [0, MEBIBYTE]
    assert uploads == sorted(uploads)
    progress = [event.stage for event in first if isinstance(event, Progress)]
    assert progress == [stage for stage in Stage for _ in range(2)]
    assert [event.text for event in first if isinstance(event, Segment)] == ["Hello."]
    assert RecordingKnown(result.recording) in second
    assert not any(isinstance(event, Uploading) for event in second)


async def test_a_gateway_that_disappears_during_the_upload_is_called_again(
    client: EitherClient, gateway: GatewayFixture
) -> None:
    gateway.script.fail_after_bytes = Unavailable("draining")
    events: list[object] = []

    result = await client.transcribe(DATA, on_event=events.append)

    assert result.text.startswith("Hello.")
    assert gateway.script.uploads[-1] == len(DATA)
    assert [(event.attempt, event.error.message) for event in events if isinstance(event, Retrying)] == [
        (2, "draining")
    ]
    assert result.uploaded_bytes > len(DATA)


async def test_the_caller_gets_the_error_that_ended_the_upload(connect: Connect, gateway: GatewayFixture) -> None:
    client = connect(gateway.target, retries=0)
    for number in range(20):  # a race decides whether grpc.aio receives the status first or fails to send first
        gateway.script.fail_after_bytes = Unavailable(f"draining {number}")
        with pytest.raises(Unavailable, match=f"^draining {number}$"):
            await client.transcribe(DATA)


async def test_a_client_without_retries_gives_up_at_once(connect: Connect, gateway: GatewayFixture) -> None:
    gateway.script.failures = [Unavailable("loading", retry_after_seconds=2.0)]

    with pytest.raises(Unavailable) as raised:
        await connect(gateway.target, retries=0).transcribe(DATA)

    assert raised.value.retry_after_seconds == 2.0
    assert len(gateway.script.configs) == 1


async def test_calls_that_only_read_are_repeated_until_they_reach_the_gateway(
    connect: Connect, gateway: GatewayFixture
) -> None:
    client = connect(gateway.target, retries=20)
    gateway.stop(0)

    with pytest.raises(Unavailable):
        await client.delete_job("0123")  # nobody knows whether it was done
    stats, _ = await asyncio.gather(client.stats(), asyncio.to_thread(gateway.restart, 0.5))

    assert stats.stages


async def test_a_gateway_that_cannot_be_reached_is_unavailable(connect: Connect) -> None:
    client = connect(NOWHERE, retries=0)

    for call in (client.transcribe(DATA), client.stats(), client.health()):
        with pytest.raises(Unavailable):
            await call


@pytest.mark.parametrize(
    "error",
    [
        InvalidRecording("there is no audio in it", reason="NO_AUDIO"),
        InvalidRequest("display_name is too long", field="config.display_name"),
        Overloaded("too much is in flight", retry_after_seconds=7.0),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_refusal_arrives_as_the_same_error_and_is_not_repeated(
    client: EitherClient, gateway: GatewayFixture, error: CarecaError
) -> None:
    gateway.script.failures = [error]

    with pytest.raises(type(error)) as raised:
        await client.transcribe(DATA)

    assert raised.value.message == error.message
    assert raised.value.reason == error.reason
    assert raised.value.field == error.field
    assert raised.value.retry_after_seconds == error.retry_after_seconds
    assert len(gateway.script.configs) == 1


async def test_the_deadline_travels_with_the_call_and_ends_it(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.script.hold = threading.Event()

    deadlines = longer_and_longer(0.5)
    while not gateway.script.deadlines:
        given = next(deadlines)
        with pytest.raises(DeadlineExceeded):
            await client.transcribe(DATA, timeout=given)

    (deadline,) = gateway.script.deadlines
    assert deadline is not None
    assert 0.0 < deadline <= given


async def test_a_deadline_that_passed_while_hashing_makes_no_call(
    client: EitherClient, gateway: GatewayFixture
) -> None:
    with pytest.raises(DeadlineExceeded):
        await client.transcribe(DATA, timeout=1e-9)

    assert gateway.script.configs == []


async def test_an_option_out_of_range_is_refused_without_a_call(client: EitherClient, gateway: GatewayFixture) -> None:
    with pytest.raises(InvalidRequest):
        await client.transcribe(DATA, speaker_count=51)

    assert gateway.script.configs == []


async def test_a_file_that_changes_before_it_is_sent_is_refused_and_the_call_cancelled(
    client: EitherClient, gateway: GatewayFixture, tmp_path: Path
) -> None:
    path = tmp_path / "growing.wav"
    path.write_bytes(DATA)

    def grow(event: object) -> None:
        if isinstance(event, Uploading) and event.done_bytes == MEBIBYTE:
            with path.open("ab") as file:
                file.write(b"more")

    with pytest.raises(InvalidRecording, match=r"growing\.wav changed") as raised:
        await client.transcribe(path, on_event=grow)

    assert raised.value.reason == "RECORDING_CHANGED"
    assert gateway.script.recordings == {}


class Enough(Exception):
    """Raised by a callback to end the call."""


@pytest.mark.parametrize("moment", [Hashing, Uploading, Progress])
async def test_an_exception_of_the_callback_ends_the_call(
    client: EitherClient, gateway: GatewayFixture, moment: type[object]
) -> None:
    gateway.script.hold = threading.Event()

    def stop(event: object) -> None:
        if isinstance(event, moment) and getattr(event, "done_bytes", None) != 0:
            raise Enough

    with pytest.raises(Enough):
        await client.transcribe(DATA, on_event=stop)


async def test_a_callback_that_raises_cancels_the_work_of_the_gateway(
    client: EitherClient, gateway: GatewayFixture
) -> None:
    gateway.script.hold = threading.Event()

    def stop(event: object) -> None:
        if isinstance(event, Segment):
            raise Enough

    with pytest.raises(Enough):
        await client.transcribe(DATA, on_event=stop)

    assert await asyncio.to_thread(gateway.script.cancelled.wait, HANG_SECONDS)


def when(moment: type[object], reached: asyncio.Event) -> Callable[[object], None]:
    return lambda event: reached.set() if isinstance(event, moment) else None


async def test_a_cancelled_task_cancels_the_work_of_the_gateway(gateway: GatewayFixture) -> None:
    gateway.script.hold = threading.Event()
    working = asyncio.Event()
    async with AsyncClient(gateway.target) as client:
        task = asyncio.create_task(client.transcribe(DATA, on_event=when(Segment, working)))
        await working.wait()

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(gateway.script.cancelled.wait, HANG_SECONDS)


async def test_a_task_can_be_cancelled_before_and_during_the_upload(gateway: GatewayFixture) -> None:
    async with AsyncClient(gateway.target) as client:
        for moment in (Hashing, Uploading):
            reached = asyncio.Event()
            task = asyncio.create_task(client.transcribe(DATA, on_event=when(moment, reached)))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


def say(**message: Any) -> gateway_pb2.TranscribeResponse:
    return gateway_pb2.TranscribeResponse(**message)


@pytest.mark.parametrize(
    "replies",
    [
        lambda _: iter([say(progress=codec.encode_progress(Progress(Stage.DECODE, 1.0)))]),
        lambda _: iter([say(recording_known={}), say(recording_known={})]),
        lambda _: iter([say(recording_known={})]),
        lambda _: iter([]),
    ],
    ids=["progress first", "known twice", "no result", "nothing"],
)
async def test_a_gateway_that_breaks_the_rules_is_reported(
    client: EitherClient, gateway: GatewayFixture, replies: Callable[[Any], Any]
) -> None:
    gateway.script.replies = replies

    with pytest.raises(InternalError) as raised:
        await client.transcribe(DATA)

    assert raised.value.reason == "PROTOCOL_ERROR"


async def test_a_partial_result_is_delivered_with_the_reason(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.script.failed_stage = Stage.DIARIZE

    result = await client.transcribe(DATA)

    assert result.partial
    (failed,) = [report for report in result.stages if report.error_reason]
    assert (failed.stage, failed.error_reason) == (Stage.DIARIZE, "OUT_OF_MEMORY")


async def test_several_calls_share_one_client(client: EitherClient, gateway: GatewayFixture) -> None:
    recordings = [bytes([number]) * MEBIBYTE for number in range(5)]

    results = await asyncio.gather(*(client.transcribe(recording) for recording in recordings))

    assert [gateway.script.recordings[result.recording.sha256] for result in results] == recordings


async def test_statistics_are_typed_and_name_what_cannot_be_reached(client: EitherClient) -> None:
    stats = await client.stats()

    transcriber, diarizer = stats.stages
    assert (transcriber.stage, transcriber.stats) == (Stage.TRANSCRIBE, STATS)
    assert transcriber.replicas == (
        ReplicaStats("10.0.0.1:50052", STATS),
        ReplicaStats("10.0.0.2:50052", None, "it is draining"),
    )
    assert (diarizer.stage, diarizer.stats, diarizer.error) == (Stage.DIARIZE, None, "connection refused")
    assert stats.gateway_memory.rss_bytes == 90_000_000
    assert stats.stored_bytes == 1234


async def test_a_cache_is_cleared_by_scope_and_stage(client: EitherClient, gateway: GatewayFixture) -> None:
    everything = await client.clear_cache(ClearScope.ALL)
    (diarizer,) = await client.clear_cache(ClearScope.EXPIRED, [Stage.DIARIZE])

    assert gateway.script.cleared == [
        (ClearScope.ALL, (Stage.TRANSCRIBE, Stage.DIARIZE)),
        (ClearScope.EXPIRED, (Stage.DIARIZE,)),
    ]
    assert [entry.stage for entry in everything] == [Stage.TRANSCRIBE, Stage.DIARIZE]
    assert everything[0].memory == RELEASE
    assert diarizer.cleared.removed_entries == 3
    assert not diarizer.memory.models_unloaded


async def test_memory_is_released_by_stage(client: EitherClient) -> None:
    release = await client.release_memory([Stage.TRANSCRIBE])

    assert release.stages == ((Stage.TRANSCRIBE, RELEASE),)
    assert release.gateway.before == RELEASE.before


async def test_an_http_proxy_is_not_used(client: EitherClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)

    assert (await client.health()).serving


async def test_health_is_reported_even_if_the_gateway_accepts_no_calls(
    client: EitherClient, gateway: GatewayFixture
) -> None:
    assert (await client.health()).serving
    gateway.serve("", False)
    gateway.serve("liveness", True)

    assert (await client.health()).status == "NOT_SERVING"
    assert (await client.health("liveness")).serving
    unknown = await client.health("nobody")

    assert (unknown.service, unknown.status, unknown.serving) == ("nobody", "SERVICE_UNKNOWN", False)


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def surface(client: type[object]) -> dict[str, list[str]]:
        return {
            name: [str(parameter) for parameter in inspect.signature(method).parameters.values()]
            for name, method in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert surface(Client) == surface(AsyncClient)
