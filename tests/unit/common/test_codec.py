"""Conversion of values to messages and back."""

import dataclasses
import math

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from careca import codec
from careca.errors import InvalidRequest
from careca.rpc.channel import MAX_REQUEST_BYTES
from careca.types import (
    CacheClearance,
    CacheStats,
    Channel,
    ChannelMode,
    ClearScope,
    Diarization,
    DiarizationOptions,
    Digest,
    KnownSpeaker,
    MemoryRelease,
    MemoryUsage,
    ModelServiceStats,
    OutputFormat,
    Progress,
    Result,
    SavedVoice,
    Scheduling,
    SchedulingClass,
    Segment,
    Speaker,
    SpeakerCountCandidate,
    Stage,
    StageReport,
    StageState,
    Transcript,
    TranscriptionOptions,
    Turn,
    Utterance,
    Voice,
    Word,
)
from careca.v1 import admin_pb2, audio_pb2, gateway_pb2

DIGEST = Digest("0123456789abcdef" * 4, 32_000)

# Numbers that 32-bit floats and nanoseconds hold exactly, so that what comes back can be compared with ==.
times = st.integers(0, 48 * 3600 * 1000).map(lambda milliseconds: milliseconds / 1000)
fractions = st.floats(0, 1, width=32)
labels = st.integers(0, 49).map(lambda number: f"SPEAKER_{number:02}")

words = st.builds(Word, st.text(), st.none() | times, st.none() | times, st.none() | fractions, st.none() | labels)
segments = st.builds(Segment, times, times, st.text(), st.lists(words, max_size=5).map(tuple))
transcripts = st.builds(
    Transcript, st.lists(segments, max_size=5).map(tuple), st.sampled_from(["", "en"]), fractions, times, st.text()
)
turns = st.lists(st.builds(Turn, times, times, labels), max_size=5).map(tuple)
candidates = st.builds(SpeakerCountCandidate, st.integers(1, 50), st.none() | st.floats(-1, 1))
embeddings = st.lists(st.floats(-1, 1, width=32), max_size=4).map(tuple)
names = st.none() | st.text(min_size=1)
speakers = st.builds(Speaker, labels, embeddings, st.text(), names, st.none() | fractions)
diarizations = st.builds(
    Diarization,
    *(turns, turns, times, st.text()),
    st.lists(candidates, max_size=3).map(tuple),
    st.lists(speakers, max_size=3).map(tuple),
)


@given(transcripts)
def test_a_transcript_comes_back_as_it_was(transcript):
    message = audio_pb2.Transcript.FromString(codec.encode_transcript(transcript).SerializeToString())

    assert codec.decode_transcript(message) == transcript


@given(diarizations)
def test_a_diarization_comes_back_as_it_was(diarization):
    message = audio_pb2.Diarization.FromString(codec.encode_diarization(diarization).SerializeToString())

    assert codec.decode_diarization(message) == diarization


@given(segments)
def test_a_segment_comes_back_as_it_was(segment):
    assert codec.decode_segment(codec.encode_segment(segment)) == segment


@pytest.mark.parametrize("stage", Stage)
def test_progress_of_every_stage_comes_back_as_it_was(stage):
    assert codec.decode_progress(codec.encode_progress(Progress(stage, 0.25))) == Progress(stage, 0.25)


def test_a_result_comes_back_as_it_was():
    result = Result(
        recording=DIGEST,
        audio=dataclasses.replace(DIGEST, size_bytes=64_000),
        duration=2.0,
        stages=(
            StageReport(Stage.DECODE, StageState.SUCCEEDED, 0.5),
            StageReport(Stage.TRANSCRIBE, StageState.SUCCEEDED, 1.25, cached=True),
            StageReport(Stage.DIARIZE, StageState.FAILED, 0.25, error_reason="OUT_OF_MEMORY", error_message="too much"),
            StageReport(Stage.MERGE, StageState.SKIPPED, 0.0),
        ),
        language="en",
        language_probability=0.5,
        utterances=(Utterance(0.0, 1.0, "hi", "SPEAKER_00", (Word("hi", 0.0, 1.0, 0.5, "SPEAKER_00"),)),),
        turns=(Turn(0.0, 1.5, "SPEAKER_00"),),
        exclusive_turns=(Turn(0.0, 1.0, "SPEAKER_00"),),
        speakers=(Speaker("SPEAKER_00", (0.5, -0.5), "voices", "Ana", 0.75), Speaker("SPEAKER_01")),
        candidates=(SpeakerCountCandidate(1, None), SpeakerCountCandidate(2, 0.75)),
        transcription_model="whisper",
        diarization_model="pyannote",
        channels=(Channel(DIGEST, "SPEAKER_00"), Channel(dataclasses.replace(DIGEST, size_bytes=64_000))),
        formats={output_format: f"as {output_format}" for output_format in OutputFormat},
    )

    message = codec.encode_result(result)

    assert message.partial
    assert codec.decode_result(gateway_pb2.TranscribeResult.FromString(message.SerializeToString())) == result


def test_an_utterance_without_a_speaker_has_no_label_in_protobuf():
    result = Result(DIGEST, DIGEST, 1.0, (), utterances=(Utterance(0.0, 1.0, "hi"),))

    message = codec.encode_result(result)

    assert message.utterances[0].speaker_label == ""
    assert codec.decode_result(message).utterances[0].speaker is None


def test_a_time_of_zero_is_not_decoded_as_none():
    message = codec.encode_segment(Segment(0.0, 0.0, "", (Word("a", 0.0, 0.0), Word("b"))))

    assert message.words[0].HasField("start_offset")
    assert message.words[0].HasField("end_offset")
    assert not message.words[1].HasField("start_offset")
    assert not message.words[1].HasField("probability")


@pytest.mark.parametrize(
    ("seconds", "whole", "nanos"),
    [(0.0, 0, 0), (1.5, 1, 500_000_000), (-1.5, -1, -500_000_000), (-0.25, 0, -250_000_000), (0.999999999999, 1, 0)],
)
def test_both_fields_of_a_duration_have_its_sign(seconds, whole, nanos):
    duration = codec.encode_duration(seconds)

    assert (duration.seconds, duration.nanos) == (whole, nanos)
    assert duration.ToTimedelta().total_seconds() == pytest.approx(seconds)


@given(st.floats(-1e6, 1e6))
def test_a_duration_is_off_by_less_than_a_nanosecond(seconds):
    assert math.isclose(codec.decode_duration(codec.encode_duration(seconds)), seconds, abs_tol=1e-9)


def test_a_digest_comes_back_as_it_was():
    assert codec.decode_digest(codec.encode_digest(DIGEST), "config.audio") == DIGEST


@pytest.mark.parametrize(
    "sha256", ["", "abc", "0123456789ABCDEF" * 4, "0123456789abcdeg" * 4, "0" * 64 + "\n", "0" * 65]
)
def test_an_invalid_sha_256_is_refused_by_field(sha256):
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode_digest(audio_pb2.Digest(sha256=sha256, size_bytes=1), "config.audio")

    assert refusal.value.field == "config.audio.sha256"


def test_a_negative_size_is_refused_by_field():
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode_digest(audio_pb2.Digest(sha256=DIGEST.sha256, size_bytes=-1), "config.audio")

    assert refusal.value.field == "config.audio.size_bytes"


@pytest.mark.parametrize(
    "options",
    [
        TranscriptionOptions(),
        TranscriptionOptions("de", True, "Careca", ("gRPC", "Redis"), 1),
        TranscriptionOptions(initial_prompt="é" * 1000, hotwords=("x" * 100,) * 100, beam_size=20),
        TranscriptionOptions(language="haw"),
    ],
)
def test_transcription_options_within_the_limits_come_back_as_they_were(options):
    assert codec.decode_transcription_options(codec.encode_transcription_options(options)) == options


def test_transcription_options_that_are_not_set_are_the_defaults():
    assert codec.decode_transcription_options(audio_pb2.TranscriptionOptions()) == TranscriptionOptions()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (audio_pb2.TranscriptionOptions(language_code="Englisch!x"), "language_code"),
        (audio_pb2.TranscriptionOptions(language_code="x"), "language_code"),
        (audio_pb2.TranscriptionOptions(initial_prompt="x" * 1001), "initial_prompt"),
        (audio_pb2.TranscriptionOptions(hotwords=["x"] * 101), "hotwords"),
        (audio_pb2.TranscriptionOptions(hotwords=["x", "x" * 101]), "hotwords[1]"),
        (audio_pb2.TranscriptionOptions(hotwords=[""]), "hotwords[0]"),
        (audio_pb2.TranscriptionOptions(beam_size=0), "beam_size"),
        (audio_pb2.TranscriptionOptions(beam_size=21), "beam_size"),
    ],
)
def test_transcription_options_out_of_range_are_refused_by_field(message, field):
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode_transcription_options(message, "config.transcription")

    assert refusal.value.field == f"config.transcription.{field}"
    assert f"config.transcription.{field}" in refusal.value.message


@pytest.mark.parametrize(
    "options",
    [
        DiarizationOptions(),
        DiarizationOptions(speaker_count=1),
        DiarizationOptions(speaker_count=50),
        DiarizationOptions(min_speaker_count=2, max_speaker_count=2),
        DiarizationOptions(max_speaker_count=50),
    ],
)
def test_diarization_options_within_the_limits_come_back_as_they_were(options):
    assert codec.decode_diarization_options(codec.encode_diarization_options(options)) == options


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (audio_pb2.DiarizationOptions(speaker_count=0), "speaker_count"),
        (audio_pb2.DiarizationOptions(speaker_count=51), "speaker_count"),
        (audio_pb2.DiarizationOptions(min_speaker_count=-1), "min_speaker_count"),
        (audio_pb2.DiarizationOptions(max_speaker_count=51), "max_speaker_count"),
        (audio_pb2.DiarizationOptions(min_speaker_count=3, max_speaker_count=2), "min_speaker_count"),
        (audio_pb2.DiarizationOptions(speaker_count=2, min_speaker_count=1), "speaker_count"),
        (audio_pb2.DiarizationOptions(speaker_count=2, max_speaker_count=3), "speaker_count"),
    ],
)
def test_diarization_options_out_of_range_are_refused_by_field(message, field):
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode_diarization_options(message)

    assert refusal.value.field == f"config.options.{field}"


@pytest.mark.parametrize("output_format", OutputFormat)
def test_every_output_format_comes_back_as_it_was(output_format):
    assert codec.decode_format(codec.encode_format(output_format)) is output_format


@pytest.mark.parametrize("mode", ChannelMode)
def test_every_channel_mode_comes_back_as_it_was(mode):
    assert codec.decode_channel_mode(codec.encode_channel_mode(mode), audio_pb2.DiarizationOptions()) is mode


def test_a_channel_mode_that_is_unknown_is_refused_by_field():
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode_channel_mode(99, audio_pb2.DiarizationOptions())

    assert refusal.value.field == "config.channel_mode"


@pytest.mark.parametrize("name", ["speaker_count", "min_speaker_count", "max_speaker_count"])
def test_a_number_of_speakers_goes_with_mixed_channels_only(name):
    options = audio_pb2.DiarizationOptions(**{name: 2})

    assert codec.decode_channel_mode(gateway_pb2.CHANNEL_MODE_MIX, options) is ChannelMode.MIX
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode_channel_mode(gateway_pb2.CHANNEL_MODE_SEPARATE, options)

    assert refusal.value.field == f"config.diarization.{name}"


@pytest.mark.parametrize("scope", ClearScope)
def test_every_clear_scope_comes_back_as_it_was(scope):
    assert codec.decode_clear_scope(codec.encode_clear_scope(scope)) is scope


@pytest.mark.parametrize(
    ("decode", "field"),
    [(codec.decode_format, "config.formats"), (codec.decode_clear_scope, "scope"), (codec.decode_stage, "stage")],
)
@pytest.mark.parametrize("number", [0, 99])
def test_an_enum_that_is_unspecified_or_unknown_is_refused_by_field(decode, field, number):
    with pytest.raises(InvalidRequest) as refusal:
        decode(number)

    assert refusal.value.field == field


MEMORY = MemoryUsage(4, 3, 2, 1)


@pytest.mark.parametrize(
    "cache",
    [
        CacheStats(available=False, max_entries=100, ttl_seconds=86_400.0),
        CacheStats(True, 1, 2, 3, 4, 5, 6, 7, 1_700_000_000.5, 1_700_000_001.25, 100, 0.5),
    ],
)
def test_statistics_come_back_as_they_were(cache):
    stats = ModelServiceStats(cache, MEMORY, True, "whisper", "cpu", 1, 2)

    message = codec.encode_model_service_stats(stats)

    assert codec.decode_model_service_stats(message) == stats
    assert message.cache.HasField("hit_rate") == (cache.hit_rate is not None)
    assert message.cache.HasField("oldest_entry_time") == (cache.oldest_entry_unix is not None)


def test_a_clearance_comes_back_as_it_was():
    clearance = CacheClearance(1, 2, 3)
    release = MemoryRelease(MEMORY, MemoryUsage(1, 1), models_unloaded=True)

    message = admin_pb2.CacheClearance.FromString(codec.encode_clearance(clearance, release).SerializeToString())

    assert codec.decode_clearance(message) == (clearance, release)


def test_durations_of_other_writers_are_decoded():
    assert codec.decode_duration(Duration(seconds=90, nanos=1_000_000)) == 90.001


def known(name="Ana", **reference):
    return gateway_pb2.KnownSpeaker(name=name, **(reference or {"recording": b"RIFF"}))


def voice(*embedding, model="voices@1"):
    return gateway_pb2.Voice(embedding=embedding, embedding_model=model)


def test_known_speakers_come_back_as_they_were():
    people = (
        KnownSpeaker("Ana", b"RIFF"),
        KnownSpeaker("Bob B. O'Brien", Voice((0.0, 1.0), "voices@1")),
        KnownSpeaker("Eve", Voice((1.0, 0.0), "voices@1"), skip_if_incomparable=True),
        KnownSpeaker("علی\u200cرضا", b"OggS"),  # noqa: RUF001
    )

    assert codec.decode_known_speakers([codec.encode_known_speaker(each) for each in people]) == people


def test_an_embedding_is_scaled_to_unit_length():
    (speaker,) = codec.decode_known_speakers([known(voice=voice(3.0, 0.0, -4.0))])

    assert speaker.reference == Voice((0.6, 0.0, -0.8), "voices@1")


@pytest.mark.parametrize("job_id", ["", "0123abc"])
def test_a_saved_voice_comes_back_as_it_was(job_id):
    voice_ = SavedVoice("Ana de Sá", "voices@1", 1_700_000_000.25, job_id)

    assert codec.decode_saved_voice(codec.encode_saved_voice(voice_)) == voice_


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([known(f"p{number}") for number in range(51)], ""),
        ([known("a", recording=bytes(4 << 20)), known("b", recording=bytes((4 << 20) + 1))], ""),
        ([known(""), known("b")], "[0].name"),
        ([known("x" * 101)], "[0].name"),
        ([known("a"), known("two\nlines")], "[1].name"),
        ([known(" a")], "[0].name"),
        ([known("a\u3000")], "[0].name"),
        ([known("SPEAKER_00")], "[0].name"),
        ([known("SPEAKER_123")], "[0].name"),
        ([known("a"), known("b"), known("a")], "[2].name"),
        ([known("Ana Maria"), known("Ana_Maria")], "[1].name"),
        ([known("a"), gateway_pb2.KnownSpeaker(name="b")], "[1].recording"),
        ([known(recording=b"")], "[0].recording"),
        ([known(voice=voice())], "[0].voice.embedding"),
        ([known(voice=voice(*[1.0] * 4097))], "[0].voice.embedding"),
        ([known(voice=voice(0.0, 0.0))], "[0].voice.embedding"),
        ([known("a"), known("b", voice=voice(1.0, math.nan))], "[1].voice.embedding"),
        ([known(voice=voice(1.0, math.inf))], "[0].voice.embedding"),
        ([known(voice=voice(1.0, model=""))], "[0].voice.embedding_model"),
        ([known(voice=voice(1.0, model="m" * 256))], "[0].voice.embedding_model"),
    ],
)
def test_known_speakers_out_of_bounds_are_refused_by_field(messages, field):
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode_known_speakers(messages)

    assert refusal.value.field == f"config.known_speakers{field}"


def test_the_largest_number_of_known_speakers_fits_into_one_message():
    each = (8 << 20) // 49
    heard = [known(f"{number:02}{'é' * 98}", recording=bytes(each)) for number in range(49)]
    given = known("last", voice=voice(*[0.5] * 4096, model="m" * 255))

    assert len(codec.decode_known_speakers([*heard, given])) == 50
    config = gateway_pb2.TranscribeRequest.Config(
        transcription=audio_pb2.TranscriptionOptions(initial_prompt="é" * 1000, hotwords=["é" * 100] * 100),
        known_speakers=[*heard, *[given] * 50],
    )
    assert config.ByteSize() < MAX_REQUEST_BYTES


@pytest.mark.parametrize(
    "scheduling", [Scheduling(), Scheduling(SchedulingClass.BATCH, "ana"), Scheduling(submitter="x" * 64)]
)
def test_scheduling_survives_the_way(scheduling: Scheduling) -> None:
    assert codec.decode_scheduling(codec.encode_scheduling(scheduling)) == scheduling


def test_a_call_without_scheduling_is_interactive_and_has_no_submitter() -> None:
    assert codec.decode_scheduling(audio_pb2.Scheduling()) == Scheduling(SchedulingClass.INTERACTIVE, "")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (audio_pb2.Scheduling(submitter="x" * 65), "config.scheduling.submitter"),
        (audio_pb2.Scheduling(scheduling_class=9), "config.scheduling.scheduling_class"),  # type: ignore[arg-type]
    ],
)
def test_invalid_scheduling_is_refused_with_its_field(message: audio_pb2.Scheduling, field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode_scheduling(message)

    assert refusal.value.field == field
