"""The gateway between a caller and two model services: real servers, real decoding, scripted engines."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from careca import codec
from careca.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRecording,
    InvalidRequest,
    OutOfMemory,
    Overloaded,
    PreconditionFailed,
    Unavailable,
)
from careca.rpc.channel import create_channel
from careca.rpc.statuses import translated_errors
from careca.types import (
    Channel,
    Digest,
    NoticeCode,
    OutputFormat,
    Segment,
    Stage,
    StageReport,
    StageState,
    TranscriptionOptions,
    Turn,
    Word,
)
from careca.v1 import admin_pb2, audio_pb2, gateway_pb2
from careca_gateway.backends import Replicas, TranscriberClient, calls
from careca_gateway.request import Deadline
from careca_gateway.storage.held_recording import StoredAudio
from support.fakes import FakeDiarizerEngine, FakeTranscriberEngine, digest_of
from support.media import encoded, endless_silence, recording, silent_film, tone, wav
from support.redis_server import RedisServer
from support.samples import sample_value
from support.stack import Answer, Caller, ModelService, Stack, config_for
from support.waiting import HANG_SECONDS, eventually, happens, longer_and_longer, settle, until

RECORDING = wav(tone(2.0))
STEREO = wav(tone(2.0, channels=2, hertz=(440, 880)))
SEPARATE = gateway_pb2.CHANNEL_MODE_SEPARATE
NO_REDIS = ""

MakeStack = Callable[..., Stack]


# Calls may become jobs, which must make no difference for callers. Tests have both forms where jobs have a path of
# their own: requests come from stored specifications, attempts report events and errors to their calls and remove
# unusable recordings, and cancellation, deadlines, draining and unavailable services reach them in other ways. The
# upload and its checks, administration, the stages themselves and the caches of their results are the same for both.
both_forms = pytest.mark.parametrize("jobs", [False, True], ids=["direct", "jobs"])


@pytest.fixture
def jobs() -> bool:
    """Whether calls become jobs."""
    return False


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer, jobs: bool) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, jobs=jobs) as stack:
        yield stack


@pytest.fixture
def uncached(tmp_path: Path, redis_server: RedisServer, jobs: bool) -> MakeStack:
    """Creates a stack whose model services have no cache."""
    return partial(Stack, tmp_path, NO_REDIS, jobs=jobs, jobs_redis_url=redis_server.url)


@pytest.fixture
async def caller(stack: Stack) -> AsyncIterator[Caller]:
    async with stack.caller() as caller:
        yield caller


def engines(stack: Stack) -> tuple[FakeTranscriberEngine, FakeDiarizerEngine]:
    transcriber, diarizer = stack.transcriber.engine, stack.diarizer.engine
    assert isinstance(transcriber, FakeTranscriberEngine)
    assert isinstance(diarizer, FakeDiarizerEngine)
    return transcriber, diarizer


def inferences(stack: Stack) -> list[int]:
    return [engine.inferences for engine in engines(stack)]


def reports(answer: Answer) -> dict[Stage, StageReport]:
    return {report.stage: report for report in answer.result.stages}


def hold(stack: Stack) -> None:
    """Makes both engines wait in the middle of their work."""
    for engine in engines(stack):
        engine.may_go_on.clear()


def resume_models(stack: Stack) -> None:
    for engine in engines(stack):
        engine.may_go_on.set()


async def both_compute(stack: Stack) -> None:
    for engine in engines(stack):
        await happens(engine.started)


@both_forms
async def test_a_new_recording_is_sent_decoded_transcribed_diarized_and_merged(stack: Stack, caller: Caller) -> None:
    answer = await caller.transcribe(RECORDING, display_name="call.wav")

    assert answer.kinds[0] == "recording_needed"
    assert answer.kinds[-1] == "result"
    result = answer.result
    assert [(utterance.speaker, utterance.text) for utterance in result.utterances] == [
        ("SPEAKER_00", "hello there"),
        ("SPEAKER_01", "good morning"),
    ]
    assert (result.recording, result.duration, result.language) == (digest_of(RECORDING), 2.0, "en")
    assert result.audio == digest_of(RECORDING[44:])
    assert [(speaker.label, speaker.name) for speaker in result.speakers] == [
        ("SPEAKER_00", None),
        ("SPEAKER_01", None),
    ]
    assert not result.partial
    assert [report.stage for report in result.stages] == list(Stage)
    assert {report.state for report in result.stages} == {StageState.SUCCEEDED}
    assert not any(report.cached for report in result.stages)


@both_forms
async def test_progress_of_every_stage_and_finished_segments_stream_back(stack: Stack, caller: Caller) -> None:
    answer = await caller.transcribe(RECORDING)

    for stage in Stage:
        told = answer.progress(stage)
        assert (told[0], told[-1]) == (0.0, 1.0)
        assert told == sorted(told)
    assert [segment.text for segment in answer.segments] == ["hello there", "good morning"]
    assert all(word.speaker is None for segment in answer.segments for word in segment.words)


@both_forms
async def test_a_repeated_recording_needs_no_upload_and_no_computing(stack: Stack, caller: Caller) -> None:
    first = await caller.transcribe(RECORDING)

    second = await caller.transcribe(RECORDING)

    assert second.kinds[0] == "recording_known"
    assert second.segments == []
    assert all(report.cached for report in second.result.stages)
    assert second.result.utterances == first.result.utterances
    assert inferences(stack) == [1, 1]


async def test_the_same_sound_in_another_container_is_not_computed_again(stack: Stack, caller: Caller) -> None:
    first = await caller.transcribe(RECORDING)

    second = await caller.transcribe(recording("matroska", "flac", 2.0))

    assert second.kinds[0] == "recording_needed"
    assert second.result.audio == first.result.audio
    assert second.result.recording != first.result.recording
    assert inferences(stack) == [1, 1]


async def test_other_speaker_options_never_transcribe_again(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)

    await caller.transcribe(RECORDING, diarization=audio_pb2.DiarizationOptions(speaker_count=3))

    assert inferences(stack) == [1, 2]
    assert engines(stack)[1].options[-1].speaker_count == 3


async def test_notices_are_in_the_result_and_its_formats(stack: Stack, caller: Caller) -> None:
    engines(stack)[1].turns = (Turn(0.0, 2.0, "SPEAKER_00"), Turn(3.0, 5.5, "SPEAKER_01"))
    text = codec.encode_format(OutputFormat.TXT)

    for _ in range(2):  # the second time from the caches
        result = (await caller.transcribe(wav(tone(6.0)), formats=[text])).result

        (notice,) = result.notices
        assert (notice.code, notice.start, notice.end) == (NoticeCode.SPEECH_WITHOUT_WORDS, 3.0, 5.5)
        assert result.formats[OutputFormat.TXT].startswith(
            f";; notice SPEECH_WITHOUT_WORDS [00:00:03.000 - 00:00:05.500]: {notice.message}\n"
        )


async def test_a_cached_result_has_the_notices_of_the_current_request(stack: Stack, caller: Caller) -> None:
    async def codes(**asked: int) -> list[str]:
        options = audio_pb2.DiarizationOptions(**asked)
        return [notice.code for notice in (await caller.transcribe(RECORDING, diarization=options)).result.notices]

    for _ in range(2):
        assert await codes() == []
        assert await codes(speaker_count=3) == [NoticeCode.FEWER_SPEAKERS_THAN_ASKED]
        assert await codes(min_speaker_count=3, max_speaker_count=5) == [NoticeCode.FEWER_SPEAKERS_THAN_ASKED]


async def test_a_partial_result_has_no_notices_of_what_is_missing(stack: Stack, caller: Caller) -> None:
    engines(stack)[0].failures = [OutOfMemory("the device has too little memory")]
    engines(stack)[1].turns = (Turn(0.0, 2.0, "SPEAKER_00"),)

    result = (await caller.transcribe(RECORDING)).result

    assert result.partial
    assert result.notices == ()


@both_forms
async def test_options_reach_the_models(stack: Stack, caller: Caller) -> None:
    options = audio_pb2.TranscriptionOptions(language_code="pt", hotwords=["Careca"], beam_size=1)

    answer = await caller.transcribe(RECORDING, transcription=options)

    assert answer.result.language == "pt"
    assert codec.encode_transcription_options(engines(stack)[0].options[0]) == options


async def test_skipping_the_cache_computes_again_without_an_upload(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)

    again = await caller.transcribe(RECORDING, cache_control=audio_pb2.CacheControl(skip_cache=True))

    assert again.kinds[0] == "recording_known"
    assert not reports(again)[Stage.TRANSCRIBE].cached
    assert inferences(stack) == [2, 2]


@both_forms
async def test_the_requested_formats_are_in_the_result(stack: Stack, caller: Caller) -> None:
    numbers = [codec.encode_format(form) for form in OutputFormat]

    forms = (await caller.transcribe(RECORDING, display_name="call.wav", formats=numbers)).result.formats

    assert list(forms) == list(OutputFormat)
    assert forms[OutputFormat.STM].splitlines()[0] == "call 1 SPEAKER_00 0.000 1.000 hello there"
    assert [each["label"] for each in json.loads(forms[OutputFormat.JSON])["speakers"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert (await caller.transcribe(RECORDING)).result.formats == {}


@both_forms
async def test_identical_requests_at_once_are_all_answered_and_computed_once(stack: Stack, caller: Caller) -> None:
    answers = await asyncio.gather(*(caller.transcribe(RECORDING) for _ in range(5)))

    assert len({answer.result.utterances for answer in answers}) == 1
    assert inferences(stack) == [1, 1]


async def test_the_sound_of_a_video_is_used(stack: Stack, caller: Caller) -> None:
    film = recording("mp4", "aac", 3.0, rate=48_000, channels=2, video=True)

    assert (await caller.transcribe(film)).result.duration == pytest.approx(3.0, abs=0.1)


@both_forms
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (silent_film(), "NO_AUDIO"),
        (b"no recording at all " * 100, "NOT_A_RECORDING"),
        (wav(tone(0.0)), "EMPTY_AUDIO"),
        (b"", "EMPTY_AUDIO"),
    ],
    ids=["no audio", "junk", "no samples", "no bytes"],
)
async def test_an_unusable_recording_is_refused_and_removed(
    stack: Stack, caller: Caller, data: bytes, reason: str
) -> None:
    for _ in range(2):  # the second time it must be sent again
        with pytest.raises(InvalidRecording) as caught:
            await caller.transcribe(data)
        assert caught.value.reason == reason
    assert inferences(stack) == [0, 0]
    assert [file for file in stack.store.rglob("*") if file.is_file() and file.name != "owner.lock"] == []


async def test_limits_of_the_gateway_are_those_of_its_settings(uncached: MakeStack) -> None:
    limits = {"max_recording_bytes": 100_000, "max_audio_seconds": 1.0}
    async with uncached(gateway_settings=limits) as stack, stack.caller() as caller:
        with pytest.raises(InvalidRecording) as caught:
            await caller.converse([config_for(b"x" * 100_001)], [])
        assert caught.value.reason == "RECORDING_TOO_LARGE"
        assert caught.value.field == "config.recording.size_bytes"
        with pytest.raises(InvalidRecording) as caught:
            await caller.transcribe(RECORDING)
        assert caught.value.reason == "RECORDING_TOO_LONG"


@pytest.mark.parametrize(
    ("opening", "chunks", "field"),
    [
        ([], [], "config"),
        ([gateway_pb2.TranscribeRequest(recording_chunk=b"x")], [], "config"),
        ([config_for(RECORDING), config_for(RECORDING)], [], "recording_chunk"),
        ([config_for(RECORDING)], [b"x" * (3 * 1024 * 1024 + 1)], "recording_chunk"),
        ([config_for(RECORDING)], [RECORDING, b"x"], "config.recording.size_bytes"),
        ([config_for(RECORDING)], [RECORDING[:-1]], "config.recording.size_bytes"),
        ([config_for(RECORDING)], [RECORDING[:-1] + b"x"], "config.recording.sha256"),
        ([config_for(RECORDING, display_name="two\nlines")], [], "config.display_name"),
        (
            [config_for(RECORDING, diarization=audio_pb2.DiarizationOptions(speaker_count=0))],
            [],
            "config.diarization.speaker_count",
        ),
        (
            [
                config_for(
                    RECORDING, channel_mode=SEPARATE, diarization=audio_pb2.DiarizationOptions(min_speaker_count=2)
                )
            ],
            [],
            "config.diarization.min_speaker_count",
        ),
    ],
    ids=[
        *("nothing", "no config", "two configs", "chunk", "too many", "too few", "other bytes", "name", "option"),
        "speakers of separate channels",
    ],
)
async def test_an_invalid_stream_is_refused_with_its_field(
    stack: Stack, caller: Caller, opening: list[gateway_pb2.TranscribeRequest], chunks: list[bytes], field: str
) -> None:
    calling = caller.converse(opening, chunks) if opening else _only_closing(caller)
    with pytest.raises(InvalidRequest) as caught:
        await calling
    assert caught.value.field == field
    assert list((stack.store / "drafts").iterdir()) == []
    assert list((stack.store / "recordings").iterdir()) == []


async def _only_closing(caller: Caller) -> None:
    call = caller.stub.Transcribe(timeout=HANG_SECONDS)
    with translated_errors():
        await call.done_writing()
        await call.read()


async def test_a_stalled_upload_is_ended(uncached: MakeStack) -> None:
    async with uncached(gateway_settings={"upload_idle_seconds": 0.2}) as stack, stack.caller() as caller:
        call = await caller.begin_upload(RECORDING)
        with pytest.raises(DeadlineExceeded) as caught, translated_errors():
            await call.read()
        assert caught.value.reason == "UPLOAD_STALLED"


@both_forms
async def test_model_service_errors_name_the_callers_field(stack: Stack, caller: Caller) -> None:
    engines(stack)[0].failures = [
        InvalidRequest("config.options.language_code is none", field="config.options.language_code")
    ]

    with pytest.raises(InvalidRequest) as caught:
        await caller.transcribe(RECORDING)

    assert caught.value.field == "config.transcription.language_code"
    assert caught.value.message == "config.transcription.language_code is none"


async def test_audio_that_is_too_long_for_a_model_is_a_recording_that_is_too_long(uncached: MakeStack) -> None:
    transcriber = ModelService(FakeTranscriberEngine(), max_audio_seconds=1.0)
    async with uncached(transcriber=transcriber) as stack, stack.caller() as caller:
        with pytest.raises(InvalidRecording) as caught:
            await caller.transcribe(RECORDING)
        assert caught.value.reason == "RECORDING_TOO_LONG"


def one_party_each() -> dict[str, ModelService]:
    """Engines that find the first speaker on the first channel, and the second one on the second channel."""
    words = (Word("is", 0.0, 0.3), Word("it", 0.3, 0.5), Word("raining?", 0.5, 0.9))
    question = Segment(0.0, 0.9, "is it raining?", words)
    answer = Segment(0.8, 1.4, "yes", (Word("yes", 0.8, 1.4),))
    segments = {
        digest_of(tone(2.0, hertz=440).tobytes()): (answer,),
        digest_of(tone(2.0, hertz=880).tobytes()): (question,),
    }
    turns = {digest: (Turn(spoken.start, spoken.end, "SPEAKER_00"),) for digest, (spoken,) in segments.items()}
    return {
        "transcriber": ModelService(FakeTranscriberEngine(segments_of=segments)),
        "diarizer": ModelService(FakeDiarizerEngine(turns_of=turns)),
    }


@pytest.fixture
async def stereo_stack(tmp_path: Path, redis_server: RedisServer, jobs: bool) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, jobs=jobs, **one_party_each()) as stack:
        yield stack


@pytest.fixture
async def stereo_caller(stereo_stack: Stack) -> AsyncIterator[Caller]:
    async with stereo_stack.caller() as caller:
        yield caller


@both_forms
async def test_each_separate_channel_is_a_speaker_with_all_its_words(
    stereo_stack: Stack, stereo_caller: Caller
) -> None:
    answer = await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)

    result = answer.result
    assert [(utterance.speaker, utterance.text) for utterance in result.utterances] == [
        ("SPEAKER_00", "is it raining?"),
        ("SPEAKER_01", "yes"),
    ]
    assert result.turns == (Turn(0.0, 0.9, "SPEAKER_00"), Turn(0.8, 1.4, "SPEAKER_01"))
    assert result.exclusive_turns == (Turn(0.0, 0.8, "SPEAKER_00"), Turn(0.8, 1.4, "SPEAKER_01"))
    assert result.channels == (
        Channel(digest_of(tone(2.0, hertz=440).tobytes()), "SPEAKER_01"),
        Channel(digest_of(tone(2.0, hertz=880).tobytes()), "SPEAKER_00"),
    )
    assert (result.audio, result.duration) == (result.channels[0].audio, 2.0)
    assert [options.speaker_count for options in engines(stereo_stack)[1].options] == [1, 1]
    assert {report.state for report in result.stages} == {StageState.SUCCEEDED}


TWO_TRACKS = encoded(
    "matroska", "flac", *(tone(2.0, hertz=hertz)[:, 0] / 32_768 for hertz in (440, 880)), titles=["Ana", "Bob"]
)
ONE_SILENT = encoded("matroska", "flac", np.zeros(32_000), tone(2.0)[:, 0] / 32_768)


async def test_each_audio_track_is_a_speaker_as_separate_channels_are(
    stereo_stack: Stack, stereo_caller: Caller
) -> None:
    channels = (await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)).result

    tracks = (await stereo_caller.transcribe(TWO_TRACKS, audio_track_mode=gateway_pb2.AUDIO_TRACK_MODE_EACH)).result

    assert tracks.channels == channels.channels
    assert tracks.utterances == channels.utterances
    assert tracks.turns == channels.turns


@both_forms
async def test_audio_tracks_are_chosen_without_sending_the_recording_again(
    stereo_stack: Stack, stereo_caller: Caller
) -> None:
    first = await stereo_caller.transcribe(TWO_TRACKS)
    second = await stereo_caller.transcribe(TWO_TRACKS, audio_track=2)
    mixed = await stereo_caller.transcribe(TWO_TRACKS, audio_track_mode=gateway_pb2.AUDIO_TRACK_MODE_ALL)

    assert [answer.kinds[0] for answer in (first, second, mixed)] == ["recording_needed", *["recording_known"] * 2]
    assert first.result.audio == digest_of(tone(2.0, hertz=440).tobytes())
    assert second.result.audio == digest_of(tone(2.0, hertz=880).tobytes())
    assert len({answer.result.audio for answer in (first, second, mixed)}) == 3
    assert [notice.code for notice in first.result.notices] == ["AUDIO_TRACK_CHOSEN"]
    assert not {notice.code for notice in (*second.result.notices, *mixed.result.notices)} & {"AUDIO_TRACK_CHOSEN"}


@both_forms
async def test_a_missing_audio_track_is_refused_and_the_recording_stays(
    stereo_caller: Caller,
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await stereo_caller.transcribe(TWO_TRACKS, audio_track=3)

    assert (caught.value.reason, caught.value.field) == ("NO_SUCH_AUDIO_TRACK", "config.audio_track")
    assert 'track 1 ("Ana", flac), track 2 ("Bob", flac)' in caught.value.message
    assert (await stereo_caller.transcribe(TWO_TRACKS)).kinds[0] == "recording_known"


async def test_notices_of_stored_audio_are_returned_again(stereo_stack: Stack, stereo_caller: Caller) -> None:
    cut = wav(tone(2.0))[: 44 + 16_000]

    answers = [await stereo_caller.transcribe(cut) for _ in range(2)]

    for answer in answers:
        (notice, *_) = answer.result.notices
        assert (notice.code, notice.start, notice.end) == ("TRUNCATED", 0.5, pytest.approx(2.0, abs=0.01))
    assert [reports(answer)[Stage.DECODE].cached for answer in answers] == [False, True]


async def test_recordings_of_the_same_audio_keep_their_own_notices(stereo_stack: Stack, stereo_caller: Caller) -> None:
    """The results differ only in their notices, and the cache must not confuse them."""
    whole, cut = wav(tone(0.5)), wav(tone(2.0))[: 44 + 16_000]

    results = [(await stereo_caller.transcribe(data)).result for data in (whole, cut, whole)]

    assert len({result.audio for result in results}) == 1
    assert ["TRUNCATED" in {notice.code for notice in result.notices} for result in results] == [False, True, False]


async def test_decoder_notices_are_returned_even_if_a_model_failed(stereo_stack: Stack, stereo_caller: Caller) -> None:
    engines(stereo_stack)[1].failures = [OutOfMemory("the device has too little memory")]

    answer = await stereo_caller.transcribe(ONE_SILENT, formats=[gateway_pb2.OUTPUT_FORMAT_TXT])

    assert [notice.code for notice in answer.result.notices] == ["AUDIO_TRACK_CHOSEN"]
    assert "track 1 (flac) is silent" in answer.result.formats[OutputFormat.TXT]


async def test_separate_channels_have_the_notices_of_their_recording(
    stereo_stack: Stack, stereo_caller: Caller
) -> None:
    cut = STEREO[: 44 + 2 * 16_000]

    answer = await stereo_caller.transcribe(cut, channel_mode=SEPARATE)

    assert [notice.code for notice in answer.result.notices if notice.code == "TRUNCATED"] == ["TRUNCATED"]
    assert len(answer.result.channels) == 2


@both_forms
async def test_progress_and_segments_of_separate_channels_stream_back_as_those_of_one_recording(
    stereo_caller: Caller,
) -> None:
    answer = await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)

    for stage in Stage:
        told = answer.progress(stage)
        assert (told[0], told[-1]) == (0.0, 1.0)
        assert told == sorted(told)
    assert 0.5 in answer.progress(Stage.TRANSCRIBE)
    assert [segment.text for segment in answer.segments] == ["yes", "is it raining?"]


async def test_repeated_separate_channels_need_no_upload_decoding_or_computing(
    stereo_stack: Stack, stereo_caller: Caller
) -> None:
    first = await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)

    second = await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)

    assert second.kinds[0] == "recording_known"
    assert all(report.cached for report in second.result.stages)
    assert second.result.utterances == first.result.utterances
    assert second.result.channels == first.result.channels
    assert inferences(stereo_stack) == [2, 2]


async def test_both_channel_modes_of_a_recording_are_kept(stereo_stack: Stack, stereo_caller: Caller) -> None:
    mixed = await stereo_caller.transcribe(STEREO)
    separate = await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)

    assert separate.kinds[0] == "recording_known"
    assert not reports(separate)[Stage.DECODE].cached
    assert mixed.result.channels == ()
    again = await stereo_caller.transcribe(STEREO)
    assert all(report.cached for report in again.result.stages)
    assert again.result.utterances == mixed.result.utterances != separate.result.utterances


async def test_a_channel_without_speech_has_no_speaker(stereo_stack: Stack, stereo_caller: Caller) -> None:
    transcriber, diarizer = engines(stereo_stack)
    second = digest_of(tone(2.0, hertz=880).tobytes())
    transcriber.segments_of, diarizer.turns_of = {second: ()}, {second: ()}

    result = (await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)).result

    assert [channel.speaker for channel in result.channels] == ["SPEAKER_00", None]
    assert [speaker.label for speaker in result.speakers] == ["SPEAKER_00"]
    assert {utterance.speaker for utterance in result.utterances} == {"SPEAKER_00"}


async def test_separate_channels_have_speakers_even_if_the_diarization_failed(
    stereo_stack: Stack, stereo_caller: Caller
) -> None:
    engines(stereo_stack)[1].failures = [OutOfMemory("the device has too little memory")]

    answer = await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)

    assert answer.result.partial
    assert answer.result.turns == ()
    assert [(utterance.speaker, utterance.text) for utterance in answer.result.utterances] == [
        ("SPEAKER_00", "is it raining?"),
        ("SPEAKER_01", "yes"),
    ]


async def test_separate_channels_have_turns_if_the_transcription_failed(
    stereo_stack: Stack, stereo_caller: Caller
) -> None:
    engines(stereo_stack)[0].failures = [OutOfMemory("the device has too little memory")]

    answer = await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)

    assert reports(answer)[Stage.TRANSCRIBE].state is StageState.FAILED
    assert answer.result.utterances == ()
    assert [turn.speaker for turn in answer.result.turns] == ["SPEAKER_00", "SPEAKER_01"]
    whole = await stereo_caller.transcribe(STEREO, channel_mode=SEPARATE)
    assert not whole.result.partial
    assert inferences(stereo_stack) == [3, 2]


@both_forms
async def test_separate_channels_use_one_place_in_a_model_service(uncached: MakeStack) -> None:
    services = {
        "transcriber": ModelService(FakeTranscriberEngine(), max_waiting=0),
        "diarizer": ModelService(FakeDiarizerEngine(), max_waiting=0),
    }
    data = wav(tone(1.0, channels=8, hertz=range(100, 900, 100)))
    async with uncached(**services) as stack, stack.caller() as caller:
        answer = await caller.transcribe(data, channel_mode=SEPARATE)

        assert len(answer.result.channels) == 8
        assert inferences(stack) == [8, 8]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(RECORDING, "SINGLE_CHANNEL"), (wav(tone(2.0, channels=2)), "IDENTICAL_CHANNELS")],
    ids=["mono", "dual mono"],
)
async def test_channels_that_cannot_be_separate_are_refused_and_can_be_mixed_without_sending_them_again(
    stack: Stack, caller: Caller, data: bytes, reason: str
) -> None:
    with pytest.raises(InvalidRecording) as caught:
        await caller.transcribe(data, channel_mode=SEPARATE)

    assert caught.value.reason == reason
    assert list((stack.store / "audio").iterdir()) == []
    assert list((stack.store / "drafts").iterdir()) == []
    mixed = await caller.transcribe(data)
    assert mixed.kinds[0] == "recording_known"
    assert inferences(stack) == [1, 1]


async def test_cancelling_a_call_stops_the_models_on_the_current_channel(
    stereo_stack: Stack, stereo_caller: Caller
) -> None:
    hold(stereo_stack)
    calling = asyncio.create_task(stereo_caller.transcribe(STEREO, channel_mode=SEPARATE))
    await both_compute(stereo_stack)

    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    await until(lambda: all(engine.cancellations and not engine.running for engine in engines(stereo_stack)))
    assert inferences(stereo_stack) == [1, 1]


@both_forms
async def test_a_failed_model_leaves_the_result_of_the_other_one(stack: Stack, caller: Caller) -> None:
    engines(stack)[1].failures = [OutOfMemory("the device has too little memory")]
    forms = [codec.encode_format(OutputFormat.TXT)]

    answer = await caller.transcribe(RECORDING, formats=forms)

    assert answer.result.partial
    assert [(utterance.speaker, utterance.text) for utterance in answer.result.utterances] == [
        (None, "hello there"),
        (None, "good morning"),
    ]
    report = reports(answer)[Stage.DIARIZE]
    assert (report.state, report.error_reason) == (StageState.FAILED, "OUT_OF_MEMORY")
    assert report.error_message == "the device has too little memory"
    assert answer.result.formats[OutputFormat.TXT].startswith(";; partial result: the stage diarize failed")

    whole = await caller.transcribe(RECORDING, formats=forms)

    assert not whole.result.partial
    assert inferences(stack) == [1, 2]


async def test_turns_are_returned_if_the_transcription_failed(stack: Stack, caller: Caller) -> None:
    engines(stack)[0].failures = [OutOfMemory("the device has too little memory")]

    answer = await caller.transcribe(RECORDING, formats=[codec.encode_format(OutputFormat.RTTM)])

    assert answer.result.partial
    assert answer.result.utterances == ()
    assert len(answer.result.turns) == 2
    assert len(answer.result.formats[OutputFormat.RTTM].splitlines()) == 2


@both_forms
async def test_an_internal_error_of_a_model_service_reveals_nothing(stack: Stack, caller: Caller) -> None:
    engines(stack)[0].failures = [RuntimeError("secret path /opt/models")]

    report = reports(await caller.transcribe(RECORDING))[Stage.TRANSCRIBE]

    assert report.error_reason == "INTERNAL"
    assert "secret" not in report.error_message


@both_forms
async def test_if_both_models_fail_the_more_important_error_is_returned(stack: Stack, caller: Caller) -> None:
    engines(stack)[0].failures = [OutOfMemory("the device has too little memory")]
    engines(stack)[1].failures = [PreconditionFailed("weights are missing")]

    with pytest.raises(OutOfMemory):
        await caller.transcribe(RECORDING)


@both_forms
async def test_an_unavailable_service_leaves_a_partial_result(
    stack: Stack, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "RETRY_SECONDS", (0.01,))
    await stack.diarizer.stop()

    assert reports(await caller.transcribe(RECORDING))[Stage.DIARIZE].error_reason == "UNAVAILABLE"

    monkeypatch.undo()
    await stack.diarizer.start(stack.redis_url)
    answer = await caller.transcribe(RECORDING)
    assert not answer.result.partial
    assert reports(answer)[Stage.TRANSCRIBE].cached


@both_forms
async def test_calls_wait_for_a_service_that_restarts(stack: Stack, caller: Caller) -> None:
    await stack.transcriber.stop()
    await stack.diarizer.stop()
    calling = asyncio.create_task(caller.transcribe(RECORDING))
    with capture_logs() as logs:
        await until(lambda: any(line["event"] == "a call is repeated" for line in logs))

    await stack.transcriber.start(stack.redis_url)
    await stack.diarizer.start(stack.redis_url)

    assert not (await calling).result.partial


@both_forms
async def test_without_any_model_service_the_gateway_is_unavailable(
    stack: Stack, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "RETRY_SECONDS", ())
    await stack.transcriber.stop()
    await stack.diarizer.stop()

    with pytest.raises(Unavailable):
        await caller.transcribe(RECORDING)


@both_forms
async def test_cancelling_a_call_stops_both_models(stack: Stack, caller: Caller) -> None:
    hold(stack)
    calling = asyncio.create_task(caller.transcribe(RECORDING))
    await both_compute(stack)

    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    await until(lambda: all(engine.cancellations and not engine.running for engine in engines(stack)))
    await until(lambda: stack.gateway is not None and not stack.gateway.calls_in_flight)
    resume_models(stack)
    assert not (await caller.transcribe(RECORDING)).result.partial


async def test_cancelling_an_upload_leaves_no_temporary_file(stack: Stack, caller: Caller) -> None:
    call = await caller.begin_upload(RECORDING)
    await call.write(gateway_pb2.TranscribeRequest(recording_chunk=RECORDING[:1000]))
    await until(lambda: any(draft.stat().st_size for draft in (stack.store / "drafts").iterdir()))

    call.cancel()

    await until(lambda: not list((stack.store / "drafts").iterdir()))
    assert list((stack.store / "recordings").iterdir()) == []


@both_forms
async def test_cancelling_a_call_while_it_decodes_ends_the_decoder(stack: Stack, caller: Caller) -> None:
    data = endless_silence(hours=11)
    chunks = [data[first : first + 1_000_000] for first in range(0, len(data), 1_000_000)]
    decoding = asyncio.Event()

    def look(response: gateway_pb2.TranscribeResponse) -> None:
        if response.progress.fraction > 0:
            decoding.set()

    calling = asyncio.create_task(caller.converse([config_for(data)], chunks, on_response=look))
    await decoding.wait()

    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    await until(lambda: not list((stack.store / "drafts").iterdir()))
    assert list((stack.store / "audio").iterdir()) == []
    assert inferences(stack) == [0, 0]


@both_forms
async def test_a_slow_model_leaves_the_result_of_the_other_one_before_the_deadline(
    stack: Stack, caller: Caller
) -> None:
    engines(stack)[1].may_go_on.clear()

    answer = await _answer_in_time(stack, caller)

    assert reports(answer)[Stage.DIARIZE].error_reason == "DEADLINE_EXCEEDED"
    assert len(answer.result.utterances) == 2
    await until(lambda: engines(stack)[1].cancellations)


async def _answer_in_time(stack: Stack, caller: Caller) -> Answer:
    """Returns the answer to a call whose deadline is long enough to start both models and to report one result."""
    deadlines = longer_and_longer(2.0)
    while True:
        with suppress(DeadlineExceeded):
            answer = await caller.transcribe(RECORDING, within=next(deadlines))
            if all(engine.started.is_set() for engine in engines(stack)):
                return answer


@both_forms
async def test_a_deadline_that_passes_stops_both_models(stack: Stack, caller: Caller) -> None:
    hold(stack)

    deadlines = longer_and_longer(0.5)
    while not all(engine.started.is_set() for engine in engines(stack)):
        with pytest.raises(DeadlineExceeded):
            await caller.transcribe(RECORDING, within=next(deadlines))

    await until(lambda: all(engine.cancellations and not engine.running for engine in engines(stack)))


async def test_too_many_requests_are_refused_and_health_checks_are_not(
    tmp_path: Path, redis_server: RedisServer, jobs: bool
) -> None:
    async with (
        Stack(
            tmp_path, NO_REDIS, jobs=jobs, jobs_redis_url=redis_server.url, gateway_settings={"max_requests": 1}
        ) as stack,
        stack.caller() as caller,
    ):
        hold(stack)
        first = asyncio.create_task(caller.transcribe(RECORDING))
        await both_compute(stack)

        with pytest.raises(Overloaded) as caught:
            await caller.transcribe(RECORDING)

        assert caught.value.retry_after_seconds
        assert sample_value(stack.metrics.registry, "careca_work_in_flight") == 1
        async with create_channel(stack.target) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=HANG_SECONDS
            )
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        resume_models(stack)
        assert not (await first).result.partial
        assert (await caller.transcribe(RECORDING)).kinds[0] == "recording_known"


@both_forms
async def test_a_full_model_service_refuses_the_request_with_a_retry_time(uncached: MakeStack) -> None:
    diarizer = ModelService(FakeDiarizerEngine(), max_waiting=0)
    async with uncached(diarizer=diarizer) as stack, stack.caller() as caller:
        hold(stack)
        first = asyncio.create_task(caller.transcribe(RECORDING))
        await both_compute(stack)

        with pytest.raises(Overloaded) as caught:
            await caller.transcribe(wav(tone(1.0)))

        assert caught.value.retry_after_seconds
        resume_models(stack)
        assert not (await first).result.partial


@both_forms
async def test_draining_finishes_calls_in_flight_and_refuses_new_ones(stack: Stack, caller: Caller) -> None:
    hold(stack)
    first = asyncio.create_task(caller.transcribe(RECORDING))
    await both_compute(stack)

    stopping = asyncio.create_task(stack.stop_gateway())
    await settle()
    with pytest.raises(Unavailable):
        await caller.transcribe(RECORDING)
    resume_models(stack)

    assert not (await first).result.partial
    await stopping


async def test_a_restarted_gateway_knows_its_recordings(stack: Stack, caller: Caller) -> None:
    first = await caller.transcribe(RECORDING)
    await stack.stop_gateway()
    await stack.start_gateway()

    async with stack.caller() as again:
        answer = await again.transcribe(RECORDING)

    assert answer.kinds[0] == "recording_known"
    assert reports(answer)[Stage.DECODE].cached
    assert answer.result.utterances == first.result.utterances


async def test_a_gateway_that_lost_the_audio_decodes_the_recording_again(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)
    for audio in (stack.store / "audio").iterdir():
        audio.unlink()

    answer = await caller.transcribe(RECORDING)

    assert answer.kinds[0] == "recording_known"
    assert not reports(answer)[Stage.DECODE].cached
    assert inferences(stack) == [1, 1]


@pytest.mark.parametrize("content", [None, b"other bytes"], ids=["missing", "changed"])
async def test_unreadable_stored_audio_is_an_internal_error(
    stack: Stack, tmp_path: Path, content: bytes | None
) -> None:
    audio = StoredAudio(Digest("a" * 64, 64_000), tmp_path / "audio.s16")
    if content:
        audio.path.write_bytes(content)
    async with Replicas(f"127.0.0.1:{stack.transcriber.port}") as replicas:
        client = TranscriberClient(replicas)

        with pytest.raises(InternalError):
            async for _ in client.run(audio, TranscriptionOptions(), skip_cache=False, deadline=Deadline()):
                pass


@both_forms
async def test_a_restarting_redis_fails_no_request(stack: Stack, caller: Caller, redis_server: RedisServer) -> None:
    await caller.transcribe(RECORDING)
    assert all(report.cached for report in (await caller.transcribe(RECORDING)).result.stages)
    redis_server.stop()

    without = await caller.transcribe(RECORDING)

    assert not without.result.partial
    assert not reports(without)[Stage.TRANSCRIBE].cached
    redis_server.start()
    await eventually(partial(_is_cached, caller))


async def _is_cached(caller: Caller) -> bool:
    return reports(await caller.transcribe(RECORDING))[Stage.TRANSCRIBE].cached


async def test_cached_results_survive_a_restart_of_the_model_services(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)
    for service in stack.model_services:
        await service.stop()
        await service.start(stack.redis_url)

    assert all(report.cached for report in (await caller.transcribe(RECORDING)).result.stages)


async def test_statistics_cover_both_services_and_the_gateway(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)

    stats = await caller.admin.Stats(admin_pb2.StatsRequest())

    assert [entry.stage for entry in stats.stages] == [audio_pb2.STAGE_TRANSCRIBE, audio_pb2.STAGE_DIARIZE]
    assert [entry.stats.cache.entries for entry in stats.stages] == [1, 1]
    assert [entry.error_message for entry in stats.stages] == ["", ""]
    assert all(entry.stats.models_loaded for entry in stats.stages)
    assert stats.gateway_memory.rss_bytes > 0
    assert stats.stored_recordings == 1
    assert stats.stored_bytes == len(RECORDING) + len(RECORDING) - 44


async def test_statistics_say_which_service_cannot_be_reached(stack: Stack, caller: Caller) -> None:
    await stack.diarizer.stop()

    stats = await caller.admin.Stats(admin_pb2.StatsRequest())

    assert stats.stages[0].HasField("stats")
    assert not stats.stages[1].HasField("stats")
    assert stats.stages[1].error_message


async def test_clearing_everything_makes_the_next_request_compute_again(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)

    cleared = await caller.admin.ClearCache(admin_pb2.ClearCacheRequest(scope=admin_pb2.CLEAR_SCOPE_ALL))

    assert [entry.clearance.removed_entries for entry in cleared.stages] == [1, 1]
    assert all(entry.clearance.memory.models_unloaded for entry in cleared.stages)
    assert not any(engine.loaded for engine in engines(stack))
    again = await caller.transcribe(RECORDING)
    assert {stage: report.cached for stage, report in reports(again).items()} == {
        Stage.DECODE: True,
        Stage.TRANSCRIBE: False,
        Stage.DIARIZE: False,
        Stage.MERGE: False,
    }
    assert inferences(stack) == [2, 2]


async def test_a_single_cache_can_be_cleared(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)
    request = admin_pb2.ClearCacheRequest(scope=admin_pb2.CLEAR_SCOPE_ALL, stages=[audio_pb2.STAGE_DIARIZE])

    cleared = await caller.admin.ClearCache(request)

    assert [entry.stage for entry in cleared.stages] == [audio_pb2.STAGE_DIARIZE]
    await caller.transcribe(RECORDING)
    assert inferences(stack) == [1, 2]


async def test_clearing_expired_entries_unloads_nothing(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)

    await caller.admin.ClearCache(admin_pb2.ClearCacheRequest(scope=admin_pb2.CLEAR_SCOPE_EXPIRED))

    assert all(engine.loaded for engine in engines(stack))
    await caller.transcribe(RECORDING)
    assert inferences(stack) == [1, 1]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (admin_pb2.ClearCacheRequest(), "scope"),
        (
            admin_pb2.ClearCacheRequest(scope=admin_pb2.CLEAR_SCOPE_ALL, stages=[audio_pb2.STAGE_MERGE]),
            "stages[0]",
        ),
    ],
)
async def test_clearing_without_a_scope_is_refused(
    stack: Stack, caller: Caller, request_: admin_pb2.ClearCacheRequest, field: str
) -> None:
    await caller.transcribe(RECORDING)

    with pytest.raises(InvalidRequest) as caught, translated_errors():
        await caller.admin.ClearCache(request_)

    assert caught.value.field == field
    await caller.transcribe(RECORDING)
    assert inferences(stack) == [1, 1]


async def test_clearing_reports_what_was_cleared_if_a_service_is_unavailable(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)
    await stack.diarizer.stop()

    with pytest.raises(Unavailable, match=r"cleared: transcribe; diarize failed: .+"), translated_errors():
        await caller.admin.ClearCache(admin_pb2.ClearCacheRequest(scope=admin_pb2.CLEAR_SCOPE_ALL))


async def test_releasing_memory_unloads_the_models_until_the_next_request(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)

    released = await caller.admin.ReleaseMemory(admin_pb2.ReleaseMemoryRequest())

    assert [entry.memory.models_unloaded for entry in released.stages] == [True, True]
    assert released.gateway.after.rss_bytes > 0
    assert not any(engine.loaded for engine in engines(stack))
    assert (await caller.transcribe(wav(tone(1.0)))).kinds[-1] == "result"


@both_forms
async def test_the_gateways_own_stages_and_its_store_are_counted_in_the_metrics(stack: Stack, caller: Caller) -> None:
    await caller.transcribe(RECORDING)
    await caller.transcribe(RECORDING)

    for stage in (Stage.DECODE, Stage.MERGE):
        for cached in ("false", "true"):
            labels = {"stage": stage.value, "cached": cached}
            assert sample_value(stack.metrics.registry, "careca_stage_seconds_count", **labels) == 1
    stored = 2 * len(RECORDING) - 44  # the recording and its audio, which are measured from time to time
    await until(lambda: sample_value(stack.metrics.registry, "careca_store_size_bytes") == stored)
    assert sample_value(stack.metrics.registry, "careca_store_recordings") == 1
    assert sample_value(stack.metrics.registry, "careca_store_max_bytes") == 50 * 2**30
    free = sample_value(stack.metrics.registry, "careca_store_free_bytes")
    assert 0 < free <= shutil.disk_usage(stack.store).total
