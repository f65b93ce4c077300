"""Windows of live audio through the diarizer's gRPC service, without Redis, with a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from careca import codec
from careca.errors import InvalidRequest, OutOfMemory, Overloaded
from careca.rpc.channel import create_channel
from careca.rpc.statuses import translated_errors
from careca.types import DiarizationOptions, DiarizedWindow, Scheduling, SchedulingClass, VoicePiece, VoicesToCluster
from careca.v1 import audio_pb2, diarizer_pb2, diarizer_pb2_grpc
from support.fakes import ANA, BOB, EMBEDDING_MODEL, TURNS, FakeDiarizerEngine, pcm
from support.stack import ModelService
from support.waiting import HANG_SECONDS, until

LIVE = audio_pb2.Scheduling(scheduling_class=audio_pb2.SCHEDULING_CLASS_LIVE, submitter="somebody")


class Caller:
    """Calls with plain gRPC, like a client in any language."""

    def __init__(self, stub: diarizer_pb2_grpc.DiarizerServiceStub) -> None:
        self.stub = stub

    async def diarize(self, audio: bytes, scheduling: audio_pb2.Scheduling = LIVE) -> DiarizedWindow:
        request = diarizer_pb2.DiarizeWindowRequest(audio=audio, scheduling=scheduling)
        with translated_errors():
            return codec.decode_diarized_window(await self.stub.DiarizeWindow(request, timeout=HANG_SECONDS))

    async def cluster(
        self,
        *pieces: VoicePiece,
        options: DiarizationOptions | None = None,
        scheduling: audio_pb2.Scheduling = LIVE,
    ) -> tuple[int, ...]:
        request = codec.encode_voices_to_cluster(VoicesToCluster(pieces, options or DiarizationOptions()))
        request.scheduling.CopyFrom(scheduling)
        with translated_errors():
            answer = await self.stub.ClusterVoices(request, timeout=HANG_SECONDS)
        return codec.decode_clustered_voices(answer).speakers


@pytest.fixture
async def service() -> AsyncIterator[ModelService]:
    service = ModelService(FakeDiarizerEngine(), max_live_windows=1)
    await service.start("")
    yield service
    await service.stop()


@pytest.fixture
async def caller(service: ModelService) -> AsyncIterator[Caller]:
    async with create_channel(f"127.0.0.1:{service.port}") as channel:
        yield Caller(diarizer_pb2_grpc.DiarizerServiceStub(channel))


def piece(embedding: tuple[float, ...]) -> VoicePiece:
    return VoicePiece(embedding, 2.0, alone=True)


async def test_a_window_has_turns_and_pieces_with_voices(service: ModelService, caller: Caller) -> None:
    found = await caller.diarize(pcm(1.5))

    assert [(turn.start, turn.end, turn.speaker) for turn in found.turns] == [
        (0.0, 1.0, "SPEAKER_00"),
        (1.0, 1.5, "SPEAKER_01"),
    ]
    assert found.pieces == (
        VoicePiece(ANA, 1.0, 0.0, 1.0, "SPEAKER_00", alone=True),
        VoicePiece(BOB, 0.5, 1.0, 1.5, "SPEAKER_01", alone=True),
    )
    assert found.embedding_model == EMBEDDING_MODEL
    assert (service.engine.windows, service.engine.inferences) == (1, 0)


async def test_the_same_window_is_computed_again(service: ModelService, caller: Caller) -> None:
    first = await caller.diarize(pcm())

    assert await caller.diarize(pcm()) == first
    assert first.turns == TURNS
    assert service.engine.windows == 2


async def test_live_audio_is_scheduled_as_such(service: ModelService, caller: Caller) -> None:
    await caller.diarize(pcm())
    await caller.cluster(piece(ANA))

    assert service.scheduled == [Scheduling(SchedulingClass.LIVE, "somebody")] * 2


async def test_pieces_of_one_voice_have_one_speaker(caller: Caller) -> None:
    assert await caller.cluster(*map(piece, (ANA, BOB, BOB, ANA))) == (0, 1, 1, 0)
    assert await caller.cluster() == ()


async def test_the_longest_window_is_accepted(service: ModelService, caller: Caller) -> None:
    await caller.diarize(pcm(10))

    assert service.engine.windows == 1


@pytest.mark.parametrize(
    ("audio", "reason"), [(pcm(10) + pcm(2 / 16_000), "AUDIO_TOO_LONG"), (pcm() + b"!", "INVALID_REQUEST")]
)
async def test_a_window_that_is_too_long_or_not_of_whole_samples_is_refused(
    service: ModelService, caller: Caller, audio: bytes, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await caller.diarize(audio)

    assert (refusal.value.field, refusal.value.reason) == ("audio", reason)
    assert service.engine.windows == 0


async def test_as_many_pieces_as_documented_are_accepted_and_no_more(service: ModelService, caller: Caller) -> None:
    each = piece((1.0,) + (0.0,) * 191)

    assert len(await caller.cluster(*[each] * codec.MAX_PIECES)) == codec.MAX_PIECES
    with pytest.raises(InvalidRequest) as refusal:
        await caller.cluster(*[each] * (codec.MAX_PIECES + 1))

    assert refusal.value.field == "pieces"
    assert len(service.scheduled) == 1


@pytest.mark.parametrize("embeddings", [[ANA, (1.0, 0.0)], [ANA, ()], [()]], ids=["mixed", "one missing", "missing"])
async def test_embeddings_that_do_not_fit_together_are_refused(
    service: ModelService, caller: Caller, embeddings: list[tuple[float, ...]]
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await caller.cluster(*map(piece, embeddings))

    assert refusal.value.field == "pieces"
    assert service.scheduled == []


async def test_options_that_are_out_of_range_are_refused_by_field(service: ModelService, caller: Caller) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await caller.cluster(piece(ANA), options=DiarizationOptions(speaker_count=51))

    assert refusal.value.field == "options.speaker_count"
    assert service.scheduled == []


@pytest.mark.parametrize("method", ["diarize", "cluster"])
async def test_a_submitter_with_too_long_a_name_is_refused_by_field(caller: Caller, method: str) -> None:
    scheduling = audio_pb2.Scheduling(submitter="x" * 65)
    asked: Any = {"diarize": (pcm(),), "cluster": (piece(ANA),)}[method]

    with pytest.raises(InvalidRequest) as refusal:
        await getattr(caller, method)(*asked, scheduling=scheduling)

    assert refusal.value.field == "scheduling.submitter"


async def test_an_error_of_the_engine_reaches_the_caller_and_the_next_window_is_diarized(
    service: ModelService, caller: Caller
) -> None:
    service.engine.failures.append(OutOfMemory("cuda:0 has too little memory"))

    with pytest.raises(OutOfMemory, match="too little memory"):
        await caller.diarize(pcm())

    assert (await caller.diarize(pcm())).turns == TURNS


async def test_more_windows_than_allowed_are_refused_with_a_time_to_wait(service: ModelService, caller: Caller) -> None:
    service.engine.may_go_on.clear()
    first = asyncio.create_task(caller.diarize(pcm()))
    await until(lambda: service.engine.windows)

    with pytest.raises(Overloaded) as refusal:
        await caller.diarize(pcm())

    assert refusal.value.retry_after_seconds > 0
    service.engine.may_go_on.set()
    assert (await first).turns == TURNS
