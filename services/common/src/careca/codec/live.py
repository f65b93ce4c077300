"""Conversion of windows of live audio, with the limits that transcriber.proto and diarizer.proto document."""

from __future__ import annotations

from collections.abc import Iterable

from careca.codec.messages import Field, MessageCodec, duration_field
from careca.codec.options import (
    decode_diarization_options,
    decode_transcription_options,
    encode_diarization_options,
    encode_transcription_options,
)
from careca.codec.scalars import decode_duration, set_duration
from careca.codec.speech import read_turns, read_words, write_turns, write_words
from careca.errors import InvalidRequest
from careca.types import (
    SAMPLE_BYTES,
    SAMPLE_RATE,
    ClusteredVoices,
    DiarizedWindow,
    ReadWindow,
    VoicePiece,
    VoicesToCluster,
    WindowToRead,
)
from careca.v1 import diarizer_pb2, transcriber_pb2

MAX_READ_SECONDS = 30
"""Longest window that the transcriber reads."""

MAX_DIARIZED_SECONDS = 10
"""Longest window that the diarizer takes."""

MAX_PIECES = 4_000
"""Largest number of pieces to cluster."""

_PIECE = MessageCodec(
    VoicePiece,
    diarizer_pb2.VoicePiece,
    embedding=Field(decode=tuple),
    speech=duration_field("speech"),
    start=duration_field("start_offset"),
    end=duration_field("end_offset"),
    speaker=Field("speaker_label"),
)

encode_voice_piece, decode_voice_piece = _PIECE.encode, _PIECE.decode


def decode_window(audio: bytes, most_seconds: int) -> bytes:
    """Returns the audio. Raises ``InvalidRequest`` if it is too long, or not of whole samples."""
    if len(audio) % SAMPLE_BYTES:
        raise InvalidRequest(f"16-bit audio has an even number of bytes, not {len(audio)}", field="audio")
    seconds = len(audio) / SAMPLE_BYTES / SAMPLE_RATE
    if seconds > most_seconds:
        raise InvalidRequest(
            f"the window is {seconds:.1f} s long; at most {most_seconds} s are accepted",
            reason="AUDIO_TOO_LONG",
            field="audio",
        )
    return audio


def encode_window_to_read(audio: bytes, window: WindowToRead) -> transcriber_pb2.ReadWindowRequest:
    """Returns the request, without its scheduling."""
    return transcriber_pb2.ReadWindowRequest(
        audio=audio,
        options=encode_transcription_options(window.options),
        final_words=window.final_words,
        previous_words=window.previous_words,
        earlier_words=window.earlier_words,
        last=window.last,
        likely_language_code=window.likely_language,
    )


def decode_window_to_read(message: transcriber_pb2.ReadWindowRequest) -> WindowToRead:
    """Returns the value. Raises ``InvalidRequest`` for options that a window cannot have."""
    options = decode_transcription_options(message.options, "options")
    for name in ("translate", "initial_prompt"):
        if getattr(message.options, name):
            raise InvalidRequest(f"options.{name} is not for windows: leave it out", field=f"options.{name}")
    return WindowToRead(
        options=options,
        final_words=tuple(message.final_words),
        previous_words=tuple(message.previous_words),
        earlier_words=tuple(message.earlier_words),
        last=message.last,
        likely_language=message.likely_language_code,
    )


def encode_read_window(window: ReadWindow) -> transcriber_pb2.ReadWindowResponse:
    """Returns the message."""
    message = transcriber_pb2.ReadWindowResponse(agreed_count=window.agreed_count, language_code=window.language)
    write_words(message.words, window.words)
    if window.speech_start is not None:
        set_duration(message.speech_start_offset, window.speech_start)
    if window.speech_end is not None:
        set_duration(message.speech_end_offset, window.speech_end)
    return message


def decode_read_window(message: transcriber_pb2.ReadWindowResponse) -> ReadWindow:
    """Returns the value."""
    spoken = message.HasField("speech_start_offset")
    return ReadWindow(
        words=read_words(message.words),
        agreed_count=message.agreed_count,
        language=message.language_code,
        speech_start=decode_duration(message.speech_start_offset) if spoken else None,
        speech_end=decode_duration(message.speech_end_offset) if spoken else None,
    )


def encode_diarized_window(window: DiarizedWindow) -> diarizer_pb2.DiarizeWindowResponse:
    """Returns the message."""
    message = diarizer_pb2.DiarizeWindowResponse(
        pieces=map(_PIECE.encode, window.pieces), embedding_model=window.embedding_model
    )
    write_turns(message.turns, window.turns)
    return message


def decode_diarized_window(message: diarizer_pb2.DiarizeWindowResponse) -> DiarizedWindow:
    """Returns the value."""
    return DiarizedWindow(read_turns(message.turns), tuple(map(_PIECE.decode, message.pieces)), message.embedding_model)


def encode_voices_to_cluster(voices: VoicesToCluster) -> diarizer_pb2.ClusterVoicesRequest:
    """Returns the request, without its scheduling."""
    return diarizer_pb2.ClusterVoicesRequest(
        pieces=map(_PIECE.encode, voices.pieces), options=encode_diarization_options(voices.options)
    )


def decode_voices_to_cluster(message: diarizer_pb2.ClusterVoicesRequest) -> VoicesToCluster:
    """Returns the value. Raises ``InvalidRequest`` for too many pieces, and embeddings that do not fit together."""
    if len(message.pieces) > MAX_PIECES:
        raise InvalidRequest(
            f"there are {len(message.pieces)} pieces; at most {MAX_PIECES} are accepted", field="pieces"
        )
    _check_sizes(len(piece.embedding) for piece in message.pieces)
    return VoicesToCluster(
        tuple(map(_PIECE.decode, message.pieces)), decode_diarization_options(message.options, "options")
    )


def encode_clustered_voices(voices: ClusteredVoices) -> diarizer_pb2.ClusterVoicesResponse:
    """Returns the message."""
    return diarizer_pb2.ClusterVoicesResponse(speakers=voices.speakers)


def decode_clustered_voices(message: diarizer_pb2.ClusterVoicesResponse) -> ClusteredVoices:
    """Returns the value."""
    return ClusteredVoices(tuple(message.speakers))


def _check_sizes(sizes: Iterable[int]) -> None:
    found = set(sizes)
    if 0 in found or len(found) > 1:
        raise InvalidRequest("all embeddings must have the same length, which is not 0", field="pieces")
