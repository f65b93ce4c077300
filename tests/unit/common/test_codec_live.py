"""Conversion of windows of live audio to messages and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca import codec
from careca.errors import InvalidRequest
from careca.types import (
    SAMPLE_RATE,
    ClusteredVoices,
    DiarizationOptions,
    DiarizedWindow,
    ReadWindow,
    TranscriptionOptions,
    Turn,
    VoicePiece,
    VoicesToCluster,
    WindowToRead,
    Word,
)
from careca.v1 import audio_pb2, diarizer_pb2, transcriber_pb2

# Numbers that 32-bit floats and nanoseconds hold exactly, so that what comes back can be compared with ==.
times = st.integers(0, 30_000).map(lambda milliseconds: milliseconds / 1000)
texts = st.lists(st.text(), max_size=4).map(tuple)
words = st.builds(
    Word, st.text(), st.none() | times, st.none() | times, st.none() | st.floats(0, 1, width=32), st.none()
)
options = st.builds(
    TranscriptionOptions,
    language=st.sampled_from([None, "en", "nl"]),
    hotwords=st.sampled_from([(), ("Careca", "New Jersey")]),
    beam_size=st.integers(1, 20),
)
windows = st.builds(WindowToRead, options, texts, texts, texts, st.booleans(), st.sampled_from(["", "en"]))
speech = st.none() | st.tuples(times, times)
pieces = st.builds(
    VoicePiece,
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).map(tuple),
    times,
    times,
    times,
    st.text(),
    st.booleans(),
    st.booleans(),
)
turns = st.lists(st.builds(Turn, times, times, st.text(min_size=1)), max_size=4).map(tuple)


@given(windows, st.binary())
def test_a_window_to_read_comes_back_as_it_was(window: WindowToRead, audio: bytes) -> None:
    request = codec.encode_window_to_read(audio, window)
    request = transcriber_pb2.ReadWindowRequest.FromString(request.SerializeToString())

    assert request.audio == audio
    assert codec.decode_window_to_read(request) == window


@given(st.lists(words, max_size=4).map(tuple), st.integers(0, 4), st.sampled_from(["", "en"]), speech)
def test_a_read_window_comes_back_as_it_was(
    heard: tuple[Word, ...], agreed: int, language: str, span: tuple[float, float] | None
) -> None:
    start, end = span or (None, None)
    window = ReadWindow(heard, agreed, language, start, end)

    message = transcriber_pb2.ReadWindowResponse.FromString(codec.encode_read_window(window).SerializeToString())

    assert codec.decode_read_window(message) == window


def test_speech_at_the_very_start_is_speech() -> None:
    window = ReadWindow((), 0, "", 0.0, 0.0)

    assert codec.decode_read_window(codec.encode_read_window(window)) == window


@given(turns, st.lists(pieces, max_size=3).map(tuple), st.text())
def test_a_diarized_window_comes_back_as_it_was(
    found: tuple[Turn, ...], voices: tuple[VoicePiece, ...], model: str
) -> None:
    window = DiarizedWindow(found, voices, model)

    message = diarizer_pb2.DiarizeWindowResponse.FromString(codec.encode_diarized_window(window).SerializeToString())

    assert codec.decode_diarized_window(message) == window


@given(st.lists(pieces, max_size=3).map(tuple), st.none() | st.integers(1, 50))
def test_voices_to_cluster_come_back_as_they_were(voices: tuple[VoicePiece, ...], count: int | None) -> None:
    asked = VoicesToCluster(voices, DiarizationOptions(speaker_count=count))

    message = codec.encode_voices_to_cluster(asked)

    assert codec.decode_voices_to_cluster(
        diarizer_pb2.ClusterVoicesRequest.FromString(message.SerializeToString())
    ) == (asked)


@given(st.lists(st.integers(0, 50), max_size=9).map(tuple))
def test_clustered_voices_come_back_as_they_were(speakers: tuple[int, ...]) -> None:
    voices = ClusteredVoices(speakers)

    assert codec.decode_clustered_voices(codec.encode_clustered_voices(voices)) == voices


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"translate": True}, "options.translate"),
        ({"initial_prompt": "So,"}, "options.initial_prompt"),
        ({"language_code": "klingon"}, "options.language_code"),
        ({"beam_size": -1}, "options.beam_size"),
    ],
)
def test_options_that_a_window_cannot_have_are_refused(fields: dict[str, Any], field: str) -> None:
    request = transcriber_pb2.ReadWindowRequest(options=audio_pb2.TranscriptionOptions(**fields))

    with pytest.raises(InvalidRequest) as refused:
        codec.decode_window_to_read(request)

    assert refused.value.field == field


@pytest.mark.parametrize("most", [codec.MAX_READ_SECONDS, codec.MAX_DIARIZED_SECONDS])
def test_a_window_may_be_as_long_as_is_allowed(most: int) -> None:
    audio = bytes(2 * SAMPLE_RATE * most)
    assert codec.decode_window(audio, most) is audio
    assert codec.decode_window(b"", most) == b""

    with pytest.raises(InvalidRequest) as refused:
        codec.decode_window(audio + b"\1\1", most)
    assert (refused.value.reason, refused.value.field) == ("AUDIO_TOO_LONG", "audio")


@pytest.mark.parametrize("size", [1, 31_999])
def test_a_window_has_whole_samples(size: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        codec.decode_window(bytes(size), 30)

    assert refused.value.field == "audio"


def test_voices_that_do_not_fit_together_are_refused() -> None:
    piece = codec.encode_voice_piece(VoicePiece((1.0, 0.0), 2.0))
    longer = codec.encode_voice_piece(VoicePiece((1.0, 0.0, 0.0), 2.0))
    empty = codec.encode_voice_piece(VoicePiece((), 2.0))
    for found in ([piece, longer], [empty], [piece, empty], [piece] * (codec.MAX_PIECES + 1)):
        with pytest.raises(InvalidRequest) as refused:
            codec.decode_voices_to_cluster(diarizer_pb2.ClusterVoicesRequest(pieces=found))
        assert refused.value.field == "pieces"

    most = codec.decode_voices_to_cluster(diarizer_pb2.ClusterVoicesRequest(pieces=[piece] * codec.MAX_PIECES))
    assert len(most.pieces) == codec.MAX_PIECES
    assert codec.decode_voices_to_cluster(diarizer_pb2.ClusterVoicesRequest()).pieces == ()


def test_options_for_the_number_of_speakers_are_checked() -> None:
    asked = diarizer_pb2.ClusterVoicesRequest(options={"speaker_count": 51})

    with pytest.raises(InvalidRequest) as refused:
        codec.decode_voices_to_cluster(asked)

    assert refused.value.field == "options.speaker_count"


def test_a_piece_keeps_everything() -> None:
    piece = VoicePiece((0.5, -0.25), 1.5, 2.0, 4.5, "1", alone=True, part=True)

    assert codec.decode_voice_piece(codec.encode_voice_piece(piece)) == piece
    assert codec.decode_voice_piece(codec.encode_voice_piece(replace(piece, alone=False))) != piece
