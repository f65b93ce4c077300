"""Conversion of the gateway's result, with its output formats."""

from __future__ import annotations

from functools import partial

from careca.codec.enums import FORMATS, STAGE_STATES, STAGES
from careca.codec.messages import Field, MessageCodec, duration_field, field_of, none_if_empty
from careca.codec.scalars import decode_digest, decode_duration, encode_digest, set_duration
from careca.codec.speech import CANDIDATE, SPEAKER, read_speakers, read_turns, read_words, write_turns, write_words
from careca.types import Channel, Notice, Result, StageReport, Utterance
from careca.v1 import gateway_pb2

_REPORT = MessageCodec(
    StageReport,
    gateway_pb2.StageReport,
    stage=field_of(STAGES),
    state=field_of(STAGE_STATES),
    seconds=duration_field("elapsed"),
)

_NOTICE = MessageCodec(
    Notice,
    gateway_pb2.Notice,
    start=duration_field("start_offset", optional=True),
    end=duration_field("end_offset", optional=True),
)

_CHANNEL = MessageCodec(
    Channel,
    gateway_pb2.Channel,
    audio=Field(encode=encode_digest, decode=partial(decode_digest, field="result.channels")),
    speaker=Field("speaker_label", decode=none_if_empty),
)


def encode_result(result: Result) -> gateway_pb2.TranscribeResult:
    """Returns the message of the result."""
    message = gateway_pb2.TranscribeResult(
        recording=encode_digest(result.recording),
        audio=encode_digest(result.audio),
        language_code=result.language,
        language_probability=result.language_probability,
        stages=map(_REPORT.encode, result.stages),
        partial=result.partial,
        transcription_model=result.transcription_model,
        diarization_model=result.diarization_model,
        notices=map(_NOTICE.encode, result.notices),
        channels=map(_CHANNEL.encode, result.channels),
        speakers=map(SPEAKER.encode, result.speakers),
        candidates=map(CANDIDATE.encode, result.candidates),
        revision=result.revision,
    )
    set_duration(message.duration, result.duration)
    for utterance in result.utterances:
        write_utterance(message.utterances.add(), utterance)
    write_turns(message.turns, result.turns)
    write_turns(message.exclusive_turns, result.exclusive_turns)
    for output_format, text in result.formats.items():
        message.formats.add(format=FORMATS.encode(output_format), text=text)
    return message


def decode_result(message: gateway_pb2.TranscribeResult) -> Result:
    """Returns the result in ``message``."""
    return Result(
        recording=decode_digest(message.recording, "result.recording"),
        audio=decode_digest(message.audio, "result.audio"),
        duration=decode_duration(message.duration),
        stages=tuple(map(_REPORT.decode, message.stages)),
        channels=tuple(map(_CHANNEL.decode, message.channels)),
        language=message.language_code,
        language_probability=message.language_probability,
        utterances=tuple(decode_utterance(utterance) for utterance in message.utterances),
        turns=read_turns(message.turns),
        exclusive_turns=read_turns(message.exclusive_turns),
        speakers=read_speakers(message.speakers),
        candidates=tuple(map(CANDIDATE.decode, message.candidates)),
        transcription_model=message.transcription_model,
        diarization_model=message.diarization_model,
        formats={FORMATS.decode(form.format, "result.formats"): form.text for form in message.formats},
        notices=tuple(map(_NOTICE.decode, message.notices)),
        revision=message.revision,
    )


def write_utterance(message: gateway_pb2.Utterance, utterance: Utterance) -> None:
    """Writes ``utterance`` into ``message``."""
    set_duration(message.start_offset, utterance.start)
    set_duration(message.end_offset, utterance.end)
    message.speaker_label = utterance.speaker or ""
    message.text = utterance.text
    message.language_code = utterance.language
    write_words(message.words, utterance.words)


def decode_utterance(message: gateway_pb2.Utterance) -> Utterance:
    """Returns the utterance in ``message``."""
    return Utterance(
        start=decode_duration(message.start_offset),
        end=decode_duration(message.end_offset),
        text=message.text,
        speaker=message.speaker_label or None,
        words=read_words(message.words),
        language=message.language_code,
    )
