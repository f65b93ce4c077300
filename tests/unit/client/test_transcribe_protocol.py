"""The rules of the Transcribe stream, without a network, and how recordings are read."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
import time
from pathlib import Path

import pytest

from careca import codec
from careca.errors import DeadlineExceeded, InternalError, InvalidRecording, InvalidRequest, Overloaded, Unavailable
from careca.types import (
    AudioTracks,
    ChannelMode,
    Digest,
    OutputFormat,
    Progress,
    Result,
    Segment,
    Stage,
    StageReport,
    StageState,
    Utterance,
)
from careca.v1 import audio_pb2, gateway_pb2
from careca_client.digests import SETTLED_SECONDS, DigestCache
from careca_client.events import RecordingKnown, Uploading
from careca_client.protocol.attempts import Attempts
from careca_client.protocol.options import build_config
from careca_client.protocol.streams import TranscribeStream
from careca_client.recording import CHUNK_BYTES, Recording, open_recording
from careca_client.result import TranscriptionResult

DATA = b"RIFF" + bytes(2 * CHUNK_BYTES)
DIGEST = Digest(hashlib.sha256(DATA).hexdigest(), len(DATA))

NEEDED = gateway_pb2.TranscribeResponse(recording_needed=gateway_pb2.TranscribeResponse.RecordingNeeded())
KNOWN = gateway_pb2.TranscribeResponse(recording_known=gateway_pb2.TranscribeResponse.RecordingKnown())
PROGRESS = gateway_pb2.TranscribeResponse(progress=codec.encode_progress(Progress(Stage.DECODE, 0.5)))
SEGMENT = gateway_pb2.TranscribeResponse(segment=codec.encode_segment(Segment(0.0, 1.0, "Hello.")))
RESULT = gateway_pb2.TranscribeResponse(
    result=codec.encode_result(
        Result(
            recording=DIGEST,
            audio=DIGEST,
            duration=2.0,
            stages=(
                StageReport(Stage.TRANSCRIBE, StageState.SUCCEEDED, 0.0, cached=True),
                StageReport(Stage.DIARIZE, StageState.FAILED, 1.0, error_reason="OUT_OF_MEMORY"),
            ),
            utterances=(Utterance(0.0, 1.0, "Hello."), Utterance(1.0, 2.0, "Bye.")),
            formats={OutputFormat.TXT: "Hello.\nBye.\n"},
        )
    )
)


def hashed(recording: Recording) -> Recording:
    for _ in recording.hash():
        pass
    return recording


def begin() -> TranscribeStream:
    return TranscribeStream(build_config({}), hashed(open_recording(DATA)))


def answered_by(*responses: gateway_pb2.TranscribeResponse) -> TranscribeStream:
    conversation = begin()
    for response in responses:
        conversation.receive(response)
    return conversation


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_message_has_the_digest_the_name_and_the_options() -> None:
    config = build_config(
        {"language": "en", "hotwords": ["Careca"], "max_speaker_count": 4, "formats": ["srt"], "skip_cache": True}
    )

    config_sent = TranscribeStream(config, hashed(open_recording(DATA, "talk.wav"))).first_request.config

    assert codec.decode_digest(config_sent.recording, "recording") == DIGEST
    assert config_sent.display_name == "talk.wav"
    assert config_sent.transcription.language_code == "en"
    assert list(config_sent.transcription.hotwords) == ["Careca"]
    assert not config_sent.transcription.HasField("beam_size")
    assert config_sent.diarization.max_speaker_count == 4
    assert not config_sent.diarization.HasField("speaker_count")
    assert list(config_sent.formats) == [gateway_pb2.OUTPUT_FORMAT_SRT]
    assert config_sent.cache_control.skip_cache


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"beam_size": 21}, "config.transcription.beam_size"),
        ({"language": "Klingon"}, "config.transcription.language_code"),
        ({"speaker_count": 2, "max_speaker_count": 3}, "config.diarization.speaker_count"),
        ({"formats": ["docx"]}, "config.formats"),
        ({"channel_mode": "stereo"}, "config.channel_mode"),
        ({"channel_mode": "separate", "speaker_count": 2}, "config.diarization.speaker_count"),
        ({"audio_track": "both"}, "config.audio_track"),
        ({"audio_track": "2"}, "config.audio_track"),
        ({"audio_track": 0}, "config.audio_track"),
        ({"audio_track": 10**12}, "config.audio_track"),
        ({"audio_track": "each", "max_speaker_count": 2}, "config.diarization.max_speaker_count"),
        ({"audio_track": "all", "channel_mode": "separate"}, "config.audio_track_mode"),
    ],
)
def test_an_option_out_of_range_is_refused_before_anything_is_hashed(options: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        build_config(options)  # type: ignore[arg-type]

    assert raised.value.field == field


@pytest.mark.parametrize("track", [*AudioTracks, "auto", "all", "each", 1, 7])
def test_audio_tracks_are_selected_by_number_or_name(track: AudioTracks | str | int) -> None:
    assert codec.decode_audio_track(build_config({"audio_track": track})) == track
    assert codec.decode_audio_track(build_config({})) is AudioTracks.AUTO


def test_a_language_is_sent_as_its_code_however_it_is_written() -> None:
    for written in ("pt", "pt-BR", "Português", "Portuguese", "POR"):
        assert build_config({"language": written}).transcription.language_code == "pt"
    assert build_config({"language": None}).transcription.language_code == ""


def test_one_word_or_format_may_be_given_as_a_plain_string() -> None:
    config = build_config({"hotwords": "Careca", "formats": "vtt"})

    assert list(config.transcription.hotwords) == ["Careca"]
    assert list(config.formats) == [gateway_pb2.OUTPUT_FORMAT_VTT]


@pytest.mark.parametrize("mode", [ChannelMode.SEPARATE, "separate"])
def test_channels_are_mixed_by_default(mode: ChannelMode | str) -> None:
    assert build_config({}).channel_mode == gateway_pb2.CHANNEL_MODE_MIX
    assert build_config({"channel_mode": mode}).channel_mode == gateway_pb2.CHANNEL_MODE_SEPARATE


def test_nothing_is_known_before_the_gateway_has_answered() -> None:
    conversation = begin()

    assert not conversation.answered
    assert not conversation.recording_needed


def test_a_recording_that_is_needed_is_sent_in_chunks_of_one_mebibyte() -> None:
    conversation = answered_by(NEEDED)

    sent = list(conversation.chunks())

    assert conversation.recording_needed
    assert b"".join(request.recording_chunk for request, _ in sent) == DATA
    assert [len(request.recording_chunk) for request, _ in sent] == [CHUNK_BYTES, CHUNK_BYTES, 4]
    assert [event.done_bytes for _, event in sent] == [CHUNK_BYTES, 2 * CHUNK_BYTES, len(DATA)]
    assert conversation.uploaded_bytes == len(DATA)


def test_a_recording_that_is_known_is_not_sent() -> None:
    conversation = answered_by(KNOWN, PROGRESS, SEGMENT, RESULT)

    assert conversation.answered
    assert not conversation.recording_needed
    assert conversation.uploaded_bytes == 0
    assert conversation.finish() == RESULT.result


def test_each_response_becomes_a_typed_event() -> None:
    conversation = begin()

    events = [conversation.event_of(response) for response in (NEEDED, KNOWN, PROGRESS, SEGMENT, RESULT)]

    assert events == [
        Uploading(0, len(DATA)),
        RecordingKnown(DIGEST),
        Progress(Stage.DECODE, 0.5),
        Segment(0.0, 1.0, "Hello."),
        None,
    ]


@pytest.mark.parametrize(
    "responses",
    [
        (PROGRESS,),
        (RESULT,),
        (NEEDED, NEEDED),
        (KNOWN, NEEDED),
        (KNOWN, RESULT, PROGRESS),
        (KNOWN, RESULT, RESULT),
        (KNOWN, gateway_pb2.TranscribeResponse()),
    ],
    ids=["progress first", "result first", "needed twice", "needed after known", "on and on", "two results", "unknown"],
)
def test_an_unexpected_response_is_a_protocol_error(
    responses: tuple[gateway_pb2.TranscribeResponse, ...],
) -> None:
    with pytest.raises(InternalError) as raised:
        answered_by(*responses)

    assert raised.value.reason == "PROTOCOL_ERROR"


@pytest.mark.parametrize("responses", [(), (KNOWN,), (NEEDED, PROGRESS)])
def test_a_stream_that_ends_without_a_result_is_an_error(responses: tuple[gateway_pb2.TranscribeResponse, ...]) -> None:
    with pytest.raises(InternalError, match="without a result"):
        answered_by(*responses).finish()


def test_an_unavailable_gateway_is_called_again_after_increasing_delays() -> None:
    attempts = Attempts(retries=3, timeout=None)

    retries = [attempts.after(Unavailable("gone"), begin()) for _ in range(3)]

    assert [retry.delay_seconds for retry in retries] == [0.25, 0.5, 1.0]
    assert [retry.attempt for retry in retries] == [2, 3, 4]
    with pytest.raises(Unavailable):
        attempts.after(Unavailable("gone"), begin())


def test_the_delay_that_a_gateway_asks_for_is_respected_up_to_a_limit() -> None:
    attempts = Attempts(retries=2, timeout=None)

    assert attempts.after(Unavailable("loading", retry_after_seconds=2.0), begin()).delay_seconds == 2.0
    assert attempts.after(Unavailable("loading", retry_after_seconds=600.0), begin()).delay_seconds == 5.0


@pytest.mark.parametrize("error", [Overloaded("full"), InvalidRecording("junk"), InternalError("a fault")])
def test_an_error_that_another_attempt_cannot_solve_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        Attempts(retries=3, timeout=None).after(error, begin())  # type: ignore[arg-type]


def test_a_digest_mismatch_is_explained_as_a_recording_that_changed() -> None:
    mismatch = InvalidRequest("the bytes do not match their digest", reason="DIGEST_MISMATCH")

    with pytest.raises(InvalidRecording) as raised:
        Attempts(retries=3, timeout=None).after(mismatch, begin())

    assert raised.value.reason == "RECORDING_CHANGED"


def test_all_attempts_share_one_deadline() -> None:
    clock = Clock()
    attempts = Attempts(retries=3, timeout=10.0, clock=clock)

    clock.now += 4.0

    assert attempts.remaining() == 6.0
    clock.now += 6.0
    with pytest.raises(DeadlineExceeded):
        attempts.remaining()


def test_no_attempt_begins_after_the_deadline() -> None:
    clock = Clock()
    attempts = Attempts(retries=3, timeout=10.0, clock=clock)
    clock.now += 9.9

    with pytest.raises(Unavailable):
        attempts.after(Unavailable("gone"), begin())


def test_bytes_sent_are_counted_over_all_attempts() -> None:
    attempts = Attempts(retries=3, timeout=None)
    first, second = answered_by(NEEDED), answered_by(KNOWN, RESULT)
    next(first.chunks())

    attempts.after(Unavailable("gone"), first)
    result = attempts.conclude(second.finish(), second)

    assert result.uploaded_bytes == CHUNK_BYTES
    assert not result.known


def test_a_result_reads_like_the_domain_value() -> None:
    result = TranscriptionResult(RESULT.result, uploaded_bytes=0, seconds=0.1)

    assert result.known
    assert result.partial
    assert not result.cached
    assert result.text == "Hello.\nBye."
    assert result.recording == DIGEST
    assert result.duration == 2.0
    assert result.formats == {OutputFormat.TXT: "Hello.\nBye.\n"}
    assert [report.stage for report in result.stages] == [Stage.TRANSCRIBE, Stage.DIARIZE]
    assert result.utterances == result.values.utterances
    assert result.values == codec.decode_result(RESULT.result)


def test_a_result_declares_all_attributes_of_the_domain_value() -> None:
    result = TranscriptionResult(RESULT.result, uploaded_bytes=0, seconds=0.1)

    assert TranscriptionResult.__annotations__ == Result.__annotations__
    assert set(Result.__annotations__) <= set(dir(result))
    with pytest.raises(AttributeError, match="no_such_attribute"):
        _ = result.no_such_attribute


@pytest.mark.parametrize(
    "source",
    [DATA, bytearray(DATA), memoryview(DATA), io.BytesIO(DATA)],
    ids=lambda source: type(source).__name__,
)
def test_bytes_and_files_in_memory_are_recordings(source: bytes) -> None:
    with open_recording(source) as recording:
        assert hashed(recording).digest == DIGEST
        assert b"".join(recording.chunks()) == DATA


def test_a_file_object_is_read_from_its_position_on_and_left_open(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(b"skipped" + DATA)
    with path.open("rb") as file:
        file.seek(len(b"skipped"))

        with open_recording(file) as recording:
            digest, name = hashed(recording).digest, recording.name

        assert not file.closed
    assert digest == DIGEST
    assert name == "talk.wav"


def test_a_pipe_is_spooled_so_that_it_can_be_read_twice() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(DATA)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as pipe, open_recording(pipe) as recording:
        assert hashed(recording).digest == DIGEST
        assert b"".join(recording.chunks()) == DATA
    writer.join()


def test_an_upload_may_begin_while_an_earlier_one_still_reads() -> None:
    with open_recording(DATA) as recording:
        old = hashed(recording).chunks()
        begun = next(old)

        assert b"".join(recording.chunks()) == DATA
        assert begun + b"".join(old) == DATA


@pytest.mark.parametrize("empty", [b"", io.BytesIO()])
def test_an_empty_recording_is_refused(empty: bytes) -> None:
    with pytest.raises(InvalidRecording) as raised:
        open_recording(empty)

    assert raised.value.reason == "EMPTY_RECORDING"


def test_a_missing_file_and_a_directory_are_refused_by_the_operating_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_recording(tmp_path / "nothing.wav")
    with pytest.raises(IsADirectoryError):
        open_recording(tmp_path)


def test_a_text_file_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("hello")

    with path.open(encoding="utf-8") as file, pytest.raises(TypeError, match="binary"):
        open_recording(file)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", ["grows", "shrinks", "is rewritten"])
def test_a_file_that_changes_between_hashing_and_upload_is_not_sent(tmp_path: Path, change: str) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(DATA)
    os.utime(path, ns=(0, 0))
    with open_recording(path) as recording:
        hashed(recording)
        path.write_bytes({"grows": DATA + b"!", "shrinks": DATA[:100], "is rewritten": DATA[::-1]}[change])

        with pytest.raises(InvalidRecording) as raised:
            list(recording.chunks())

    assert raised.value.reason == "RECORDING_CHANGED"
    assert "talk.wav" in raised.value.message


def test_a_file_that_is_truncated_while_it_is_sent_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(DATA)
    with open_recording(path) as recording:
        chunks = hashed(recording).chunks()
        next(chunks)
        os.truncate(path, CHUNK_BYTES)

        with pytest.raises(InvalidRecording, match="changed"):
            list(chunks)


def test_a_file_that_is_replaced_under_its_name_is_sent_as_it_was_hashed(tmp_path: Path) -> None:
    path, other = tmp_path / "talk.wav", tmp_path / "other.wav"
    path.write_bytes(DATA)
    other.write_bytes(b"other")
    with open_recording(path) as recording:
        hashed(recording)
        other.replace(path)

        assert b"".join(recording.chunks()) == DATA


def test_a_file_name_that_is_not_unicode_or_too_long_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"talk-\xff.wav")
    path.write_bytes(DATA)

    with open_recording(path) as recording:
        assert recording.name == "talk-?.wav"
        audio_pb2.TranscriptionOptions(initial_prompt=recording.name)


class LaterNow:
    """A clock far in the future, for which every file was changed long ago."""

    def __call__(self) -> int:
        return time.time_ns() + int(2 * SETTLED_SECONDS * 1e9)


def steps_to_hash(memory: DigestCache, path: Path) -> int:
    with open_recording(path) as recording:
        steps = list(memory.hash(recording))
        assert recording.digest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    return len(steps)


def test_a_file_that_has_not_changed_is_hashed_once(tmp_path: Path) -> None:
    path, memory = tmp_path / "talk.wav", DigestCache(now_ns=LaterNow())
    path.write_bytes(DATA)

    assert steps_to_hash(memory, path) == 3
    assert steps_to_hash(memory, path) == 0
    assert steps_to_hash(DigestCache(), path) == 3


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_file_that_was_written_to_is_hashed_again(tmp_path: Path, keep_times: bool) -> None:
    path, memory = tmp_path / "talk.wav", DigestCache(now_ns=LaterNow())
    path.write_bytes(DATA)
    os.utime(path, ns=(0, 0))
    steps_to_hash(memory, path)
    before = path.stat()

    path.write_bytes(DATA[::-1])
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert steps_to_hash(memory, path) == 3


def test_the_digest_of_a_file_that_was_just_written_is_not_cached(tmp_path: Path) -> None:
    path, memory = tmp_path / "talk.wav", DigestCache()
    path.write_bytes(DATA)

    assert steps_to_hash(memory, path) == 3
    assert steps_to_hash(memory, path) == 3


def test_the_digest_of_a_file_object_that_is_not_at_its_start_is_not_cached(tmp_path: Path) -> None:
    path, memory = tmp_path / "talk.wav", DigestCache(now_ns=LaterNow())
    path.write_bytes(DATA)
    for _ in range(2):
        with path.open("rb") as file:
            file.seek(4)
            with open_recording(file) as recording:
                assert len(list(memory.hash(recording))) == 2
                assert recording.digest.size_bytes == len(DATA) - 4


def test_a_file_that_shrinks_while_it_is_hashed_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(DATA)
    with open_recording(path) as recording:
        path.write_bytes(DATA[:100])

        with pytest.raises(InvalidRecording) as raised:
            hashed(recording)

    assert raised.value.reason == "RECORDING_CHANGED"


class Spooled(io.BytesIO):
    """Goes to disk when its descriptor is asked for, as ``SpooledTemporaryFile`` does. The disk is full."""

    def fileno(self) -> int:
        self.truncate(0)
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_spooled_file_that_has_no_room_on_the_disk_is_not_sent_in_part() -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        open_recording(Spooled(DATA))

    assert raised.value.errno == errno.ENOSPC
