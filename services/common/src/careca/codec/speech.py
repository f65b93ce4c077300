"""Conversion of words, segments, transcripts, turns, speakers, diarizations and progress.

An hour of speech has about ten thousand words. So words are written field by field into messages that protobuf has
already allocated, which is several times faster than to create each message and copy it.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer as Repeated

from careca.codec.enums import STAGES
from careca.codec.messages import Field, MessageCodec, field_of, none_if_empty
from careca.codec.scalars import NANOS, decode_duration, set_duration
from careca.types import Diarization, Progress, Segment, Speaker, SpeakerCountCandidate, Transcript, Turn, Word
from careca.v1 import audio_pb2

CANDIDATE = MessageCodec(SpeakerCountCandidate, audio_pb2.SpeakerCountCandidate, silhouette_score=Field(optional=True))
SPEAKER = MessageCodec(
    Speaker,
    audio_pb2.Speaker,
    embedding=Field(decode=tuple),
    name=Field(decode=none_if_empty),
    similarity=Field(optional=True),
)
PROGRESS = MessageCodec(Progress, audio_pb2.Progress, stage=field_of(STAGES))

encode_progress, decode_progress = PROGRESS.encode, PROGRESS.decode


def write_words(messages: Repeated[audio_pb2.Word], words: Iterable[Word]) -> None:
    """Appends ``words`` to ``messages``."""
    add = messages.add
    for word in words:
        message = add(text=word.text)
        if word.start is not None:
            set_duration(message.start_offset, word.start)
        if word.end is not None:
            set_duration(message.end_offset, word.end)
        if word.probability is not None:
            message.probability = word.probability
        if word.speaker:
            message.speaker_label = word.speaker


def read_words(messages: Iterable[audio_pb2.Word]) -> tuple[Word, ...]:
    """Returns the words in ``messages``; unset fields become ``None``."""
    words = []
    for message in messages:
        present = message.HasField
        start, end = message.start_offset, message.end_offset
        words.append(
            Word(
                message.text,
                (start.seconds * NANOS + start.nanos) / NANOS if present("start_offset") else None,
                (end.seconds * NANOS + end.nanos) / NANOS if present("end_offset") else None,
                message.probability if present("probability") else None,
                message.speaker_label or None,
            )
        )
    return tuple(words)


def _write_segment(message: audio_pb2.Segment, segment: Segment) -> None:
    set_duration(message.start_offset, segment.start)
    set_duration(message.end_offset, segment.end)
    message.text = segment.text
    message.language_code = segment.language
    write_words(message.words, segment.words)


def encode_segment(segment: Segment) -> audio_pb2.Segment:
    """Returns the message of the segment."""
    message = audio_pb2.Segment()
    _write_segment(message, segment)
    return message


def decode_segment(message: audio_pb2.Segment) -> Segment:
    """Returns the segment in ``message``."""
    return Segment(
        decode_duration(message.start_offset),
        decode_duration(message.end_offset),
        message.text,
        read_words(message.words),
        message.language_code,
    )


def encode_transcript(transcript: Transcript) -> audio_pb2.Transcript:
    """Returns the message of the transcript."""
    message = audio_pb2.Transcript(
        language_code=transcript.language,
        language_probability=transcript.language_probability,
        model=transcript.model,
    )
    set_duration(message.duration, transcript.duration)
    for segment in transcript.segments:
        _write_segment(message.segments.add(), segment)
    return message


def decode_transcript(message: audio_pb2.Transcript) -> Transcript:
    """Returns the transcript in ``message``."""
    return Transcript(
        segments=tuple(decode_segment(segment) for segment in message.segments),
        language=message.language_code,
        language_probability=message.language_probability,
        duration=decode_duration(message.duration),
        model=message.model,
    )


def write_turns(messages: Repeated[audio_pb2.Turn], turns: Iterable[Turn]) -> None:
    """Appends ``turns`` to ``messages``."""
    for turn in turns:
        message = messages.add(speaker_label=turn.speaker)
        set_duration(message.start_offset, turn.start)
        set_duration(message.end_offset, turn.end)


def read_turns(messages: Iterable[audio_pb2.Turn]) -> tuple[Turn, ...]:
    """Returns the turns in ``messages``."""
    return tuple(
        Turn(decode_duration(message.start_offset), decode_duration(message.end_offset), message.speaker_label)
        for message in messages
    )


def read_speakers(messages: Iterable[audio_pb2.Speaker]) -> tuple[Speaker, ...]:
    """Returns the speakers in ``messages``."""
    return tuple(map(SPEAKER.decode, messages))


def encode_diarization(diarization: Diarization) -> audio_pb2.Diarization:
    """Returns the message of the diarization."""
    message = audio_pb2.Diarization(
        model=diarization.model,
        candidates=map(CANDIDATE.encode, diarization.candidates),
        speakers=map(SPEAKER.encode, diarization.speakers),
    )
    set_duration(message.duration, diarization.duration)
    write_turns(message.turns, diarization.turns)
    write_turns(message.exclusive_turns, diarization.exclusive_turns)
    return message


def decode_diarization(message: audio_pb2.Diarization) -> Diarization:
    """Returns the diarization in ``message``."""
    return Diarization(
        turns=read_turns(message.turns),
        exclusive_turns=read_turns(message.exclusive_turns),
        duration=decode_duration(message.duration),
        model=message.model,
        candidates=tuple(map(CANDIDATE.decode, message.candidates)),
        speakers=read_speakers(message.speakers),
    )
