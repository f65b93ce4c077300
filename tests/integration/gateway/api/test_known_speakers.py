"""Known speakers, from the request to the names in the result: real servers and decoding, a scripted engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from careca import codec
from careca.errors import CarecaError, InvalidRecording, InvalidRequest, OutOfMemory, Overloaded
from careca.inference.audio import Audio
from careca.inference.engine import Work
from careca.types import (
    Diarization,
    DiarizationOptions,
    KnownSpeaker,
    OutputFormat,
    Speaker,
    Stage,
    StageReport,
    StageState,
    Voice,
)
from careca.v1 import audio_pb2, gateway_pb2
from support.fakes import ANA, BOB, EMBEDDING_MODEL, EVE, FakeDiarizerEngine
from support.media import recording, silent_film, tone, wav
from support.redis_server import RedisServer
from support.stack import Answer, Caller, ModelService, Stack
from support.waiting import happens, until

CALL = wav(tone(2.0))
OF_ANA, OF_BOB, OF_EVE, OF_NOBODY = wav(tone(0.5)), wav(tone(0.75)), wav(tone(1.0)), wav(tone(1.25))
ALONE = {0.5: (ANA,), 0.75: (BOB,), 1.0: (EVE,), 1.25: ()}
"""The speaker of recordings with one person, by their length."""


class NamedSpeakersEngine(FakeDiarizerEngine):
    """Finds Ana and then Bob in every call, and in other recordings the speaker in ``ALONE``."""

    def infer(self, audio: Audio, options: DiarizationOptions) -> Work[Diarization]:
        heard = yield from super().infer(audio, options)
        if audio.duration not in ALONE:
            return heard
        assert options == DiarizationOptions(speaker_count=1)
        voices = ALONE[audio.duration]
        speakers = tuple(Speaker("SPEAKER_00", voice, EMBEDDING_MODEL) for voice in voices)
        return replace(heard, turns=heard.turns[: len(voices)], exclusive_turns=(), speakers=speakers)


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, diarizer=ModelService(NamedSpeakersEngine())) as stack:
        yield stack


@pytest.fixture
async def caller(stack: Stack) -> AsyncIterator[Caller]:
    async with stack.caller() as caller:
        yield caller


def known(*people: tuple[str, bytes | Voice]) -> list[gateway_pb2.KnownSpeaker]:
    return [codec.encode_known_speaker(KnownSpeaker(name, reference)) for name, reference in people]


def alike(voice: tuple[float, ...], similarity: float) -> Voice:
    """A voice that has this cosine similarity with ``voice`` and none with others."""
    rest = (1.0 - similarity**2) ** 0.5
    return Voice((*(similarity * value for value in voice[:2]), rest), EMBEDDING_MODEL)


def names(answer: Answer) -> list[str | None]:
    return [speaker.name for speaker in answer.result.speakers]


def report(answer: Answer, stage: Stage) -> StageReport:
    return next(report for report in answer.result.stages if report.stage is stage)


async def test_speakers_get_the_names_of_similar_known_speakers(caller: Caller) -> None:
    answer = await caller.transcribe(CALL, known_speakers=known(("Bob B", OF_BOB), ("Eve", OF_EVE), ("Ana", OF_ANA)))

    result = answer.result
    assert [(each.speaker, each.text) for each in result.utterances] == [
        ("Ana", "hello there"),
        ("Bob B", "good morning"),
    ]
    assert [word.speaker for each in result.utterances for word in each.words] == ["Ana", "Ana", "Bob B", "Bob B"]
    assert [turn.speaker for turn in result.turns] == ["Ana", "Bob B"]
    assert [turn.speaker for turn in result.exclusive_turns] == ["Ana", "Bob B"]
    assert result.speakers == (
        Speaker("SPEAKER_00", ANA, EMBEDDING_MODEL, "Ana", 1.0),
        Speaker("SPEAKER_01", BOB, EMBEDDING_MODEL, "Bob B", 1.0),
    )


async def test_names_are_in_the_formats(caller: Caller) -> None:
    numbers = [codec.encode_format(form) for form in OutputFormat]

    forms = (
        await caller.transcribe(
            CALL, display_name="call.wav", formats=numbers, known_speakers=known(("Ana de Sá", OF_ANA))
        )
    ).result.formats

    assert forms[OutputFormat.TXT].splitlines() == [
        "[00:00:00.000 - 00:00:01.000] Ana de Sá: hello there",
        "[00:00:01.000 - 00:00:02.000] SPEAKER_01: good morning",
    ]
    assert forms[OutputFormat.RTTM].splitlines()[0].split()[7] == "Ana_de_Sá"
    assert forms[OutputFormat.STM].splitlines()[0] == "call 1 Ana_de_Sá 0.000 1.000 hello there"
    document = json.loads(forms[OutputFormat.JSON])
    assert [(each["label"], each["name"], each["similarity"]) for each in document["speakers"]] == [
        ("SPEAKER_00", "Ana de Sá", 1.0),
        ("SPEAKER_01", None, None),
    ]


async def test_a_voice_of_an_earlier_result_can_be_the_reference(caller: Caller) -> None:
    with_margin = (await caller.transcribe(CALL)).result.speakers[1]
    assert with_margin.voice is not None

    answer = await caller.transcribe(wav(tone(3.0)), known_speakers=known(("Bob", with_margin.voice)))

    assert names(answer) == [None, "Bob"]


async def test_the_setting_is_the_minimum_similarity(tmp_path: Path) -> None:
    people = known(("Ana", alike(ANA, 0.71)), ("Bob", alike(BOB, 0.69)))
    settings = {"known_speaker_similarity": 0.7}
    async with (
        Stack(tmp_path, "", diarizer=ModelService(NamedSpeakersEngine()), gateway_settings=settings) as stack,
        stack.caller() as caller,
    ):
        answer = await caller.transcribe(CALL, known_speakers=people)

    assert names(answer) == ["Ana", None]
    assert answer.result.speakers[0].similarity == pytest.approx(0.71)
    assert [each.speaker for each in answer.result.utterances] == ["Ana", "SPEAKER_01"]


async def test_other_known_speakers_need_no_new_diarization(stack: Stack, caller: Caller) -> None:
    plain = await caller.transcribe(CALL)
    assert stack.diarizer.engine.inferences == 1

    first = await caller.transcribe(CALL, known_speakers=known(("Ana", OF_ANA)))
    assert stack.diarizer.engine.inferences == 2
    assert not report(first, Stage.DIARIZE).cached

    again = await caller.transcribe(CALL, known_speakers=known(("Aninha", OF_ANA)))
    assert stack.diarizer.engine.inferences == 2
    assert report(again, Stage.DIARIZE).cached
    assert [names(plain), names(first), names(again)] == [[None, None], ["Ana", None], ["Aninha", None]]
    assert names(await caller.transcribe(CALL)) == [None, None]
    assert stack.transcriber.engine.inferences == 1


async def test_skipping_the_cache_also_computes_known_speakers_again(stack: Stack, caller: Caller) -> None:
    people = known(("Ana", OF_ANA))
    await caller.transcribe(CALL, known_speakers=people)

    await caller.transcribe(CALL, known_speakers=people, cache_control=audio_pb2.CacheControl(skip_cache=True))

    assert stack.diarizer.engine.inferences == 4


async def test_only_one_of_two_similar_channels_gets_the_name(stack: Stack, caller: Caller) -> None:
    """Ana is on both channels, but a name is given once in the whole recording."""
    stereo = wav(tone(2.0, channels=2, hertz=(440, 880)))

    answer = await caller.transcribe(
        stereo, channel_mode=gateway_pb2.CHANNEL_MODE_SEPARATE, known_speakers=known(("Ana", OF_ANA))
    )

    result = answer.result
    assert [(each.label, each.name) for each in result.speakers] == [("SPEAKER_00", "Ana"), ("SPEAKER_01", None)]
    assert [channel.speaker for channel in result.channels] == ["Ana", "SPEAKER_01"]
    assert {turn.speaker for turn in result.turns} == {"Ana", "SPEAKER_01"}
    assert {each.speaker for each in result.utterances} == {"Ana", "SPEAKER_01"}
    assert stack.diarizer.engine.inferences == 3


async def test_a_reference_may_be_in_any_container(caller: Caller) -> None:
    film = recording("matroska", "flac", 0.75, video=True)

    assert names(await caller.transcribe(CALL, known_speakers=known(("Bob", film)))) == [None, "Bob"]


async def test_progress_does_not_include_references(caller: Caller) -> None:
    answer = await caller.transcribe(CALL, known_speakers=known(("Ana", OF_ANA), ("Bob", OF_BOB)))

    told = answer.progress(Stage.DIARIZE)
    assert told == sorted(told)
    assert told.count(1.0) == 1


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (OF_NOBODY, "NO_SPEECH"),
        (b"no recording at all", "NOT_A_RECORDING"),
        (b"as many bytes as are accepted".ljust((8 << 20) - len(OF_ANA)), "NOT_A_RECORDING"),
        (silent_film(), "NO_AUDIO"),
    ],
    ids=["no speech", "junk", "much junk", "no audio"],
)
async def test_a_reference_without_a_voice_is_refused_with_its_name(
    stack: Stack, caller: Caller, reference: bytes, reason: str
) -> None:
    people = known(("Ana", OF_ANA), ("Bob", reference))

    with pytest.raises(InvalidRecording, match="known speaker Bob") as caught:
        await caller.transcribe(CALL, known_speakers=people)

    assert caught.value.reason == reason
    assert caught.value.field == "config.known_speakers[1].recording"
    assert list((stack.store / "drafts").iterdir()) == []


async def test_a_voice_of_another_model_is_refused_with_both_models(caller: Caller) -> None:
    people = known(("Ana", OF_ANA), ("Bob", Voice(BOB, "other-voices@1")))

    with pytest.raises(InvalidRequest, match=f"other-voices@1.*{EMBEDDING_MODEL}") as caught:
        await caller.transcribe(CALL, known_speakers=people)

    assert caught.value.reason == "EMBEDDING_MISMATCH"
    assert caught.value.field == "config.known_speakers[1].voice.embedding_model"


async def test_invalid_known_speakers_are_refused_before_the_upload(caller: Caller) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await caller.transcribe(CALL, known_speakers=known(("Ana", OF_ANA), ("SPEAKER_01", OF_BOB)))

    assert caught.value.field == "config.known_speakers[1].name"


async def test_a_reference_of_more_bytes_than_a_server_takes_is_refused_and_not_fatal(caller: Caller) -> None:
    with pytest.raises(CarecaError):
        await caller.transcribe(CALL, known_speakers=known(("Ana", bytes(17 << 20))))

    assert names(await caller.transcribe(CALL, known_speakers=known(("Ana", OF_ANA)))) == ["Ana", None]


async def test_a_failed_reference_leaves_the_transcript(stack: Stack, caller: Caller) -> None:
    stack.diarizer.engine.failures = [OutOfMemory("the device has too little memory")]

    answer = await caller.transcribe(CALL, known_speakers=known(("Ana", OF_ANA)))

    failed = report(answer, Stage.DIARIZE)
    assert (failed.state, failed.error_reason) == (StageState.FAILED, "OUT_OF_MEMORY")
    assert failed.error_message == "the recording of the known speaker Ana: the device has too little memory"
    assert [each.text for each in answer.result.utterances] == ["hello there", "good morning"]


async def test_a_full_diarizer_refuses_the_request_with_a_retry_time(caller: Caller, stack: Stack) -> None:
    stack.diarizer.engine.failures = [Overloaded("full", retry_after_seconds=3.0)]

    with pytest.raises(Overloaded) as caught:
        await caller.transcribe(CALL, known_speakers=known(("Ana", OF_ANA)))

    assert caught.value.retry_after_seconds == 3.0


async def test_a_diarizer_without_embeddings_is_an_error(tmp_path: Path) -> None:
    deaf = ModelService(FakeDiarizerEngine(voices=((), ())))
    async with Stack(tmp_path, "", diarizer=deaf) as stack, stack.caller() as caller:
        answer = await caller.transcribe(CALL, known_speakers=known(("Ana", Voice(ANA, EMBEDDING_MODEL))))
        assert report(answer, Stage.DIARIZE).error_reason == "NO_EMBEDDINGS"
        assert len(answer.result.utterances) == 2

        assert [each.label for each in (await caller.transcribe(CALL)).result.speakers] == ["SPEAKER_00", "SPEAKER_01"]


async def test_cancelling_a_call_during_a_reference_stops_the_diarizer(stack: Stack, caller: Caller) -> None:
    engine = stack.diarizer.engine
    engine.may_go_on.clear()
    calling = asyncio.create_task(caller.transcribe(CALL, known_speakers=known(("Ana", OF_ANA))))
    await happens(engine.started)

    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    await until(lambda: engine.cancellations and not engine.running)
    assert engine.inferences == 1
