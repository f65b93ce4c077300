"""Conversion of the gateway's result, with its output formats."""

from __future__ import annotations

from careca.codec.enums import FORMATS, STAGE_STATES, STAGES
from careca.codec.scalars import (
    decode_digest,
    decode_duration,
    encode_digest,
    set_duration,
)
from careca.codec.speech import (
    read_candidates,
    read_speakers,
    read_turns,
    read_words,
    write_candidates,
    write_speakers,
    write_turns,
    write_words,
)
from careca.types import Channel, Notice, Result, StageReport, Utterance
from careca.v1 import gateway_pb2


def encode_result(result: Result) -> gateway_pb2.TranscribeResult:
    """Returns the message of the result."""
    message = gateway_pb2.TranscribeResult(
        recording=encode_digest(result.recording),
        audio=encode_digest(result.audio),
        language_code=result.language,
        language_probability=result.language_probability,
        stages=[_encode_report(report) for report in result.stages],
        partial=result.partial,
        transcription_model=result.transcription_model,
        diarization_model=result.diarization_model,
        channels=[
            gateway_pb2.Channel(audio=encode_digest(channel.audio), speaker_label=channel.speaker or "")
            for channel in result.channels
        ],
    )
    set_duration(message.duration, result.duration)
    for utterance in result.utterances:
        _write_utterance(message.utterances.add(), utterance)
    write_turns(message.turns, result.turns)
    write_turns(message.exclusive_turns, result.exclusive_turns)
    write_speakers(message.speakers, result.speakers)
    write_candidates(message.candidates, result.candidates)
    for output_format, text in result.formats.items():
        message.formats.add(format=FORMATS.encode(output_format), text=text)
    for notice in result.notices:
        _write_notice(message.notices.add(), notice)
    return message


def decode_result(message: gateway_pb2.TranscribeResult) -> Result:
    """Returns the result in ``message``."""
    return Result(
        recording=decode_digest(message.recording, "result.recording"),
        audio=decode_digest(message.audio, "result.audio"),
        duration=decode_duration(message.duration),
        stages=tuple(_decode_report(report) for report in message.stages),
        channels=tuple(
            Channel(decode_digest(channel.audio, "result.channels"), channel.speaker_label or None)
            for channel in message.channels
        ),
        language=message.language_code,
        language_probability=message.language_probability,
        utterances=tuple(_decode_utterance(utterance) for utterance in message.utterances),
        turns=read_turns(message.turns),
        exclusive_turns=read_turns(message.exclusive_turns),
        speakers=read_speakers(message.speakers),
        candidates=read_candidates(message.candidates),
        transcription_model=message.transcription_model,
        diarization_model=message.diarization_model,
        formats={FORMATS.decode(form.format, "result.formats"): form.text for form in message.formats},
        notices=tuple(_decode_notice(notice) for notice in message.notices),
    )


def _write_utterance(message: gateway_pb2.Utterance, utterance: Utterance) -> None:
    set_duration(message.start_offset, utterance.start)
    set_duration(message.end_offset, utterance.end)
    message.speaker_label = utterance.speaker or ""
    message.text = utterance.text
    message.language_code = utterance.language
    write_words(message.words, utterance.words)


def _decode_utterance(message: gateway_pb2.Utterance) -> Utterance:
    return Utterance(
        start=decode_duration(message.start_offset),
        end=decode_duration(message.end_offset),
        text=message.text,
        speaker=message.speaker_label or None,
        words=read_words(message.words),
        language=message.language_code,
    )


def _write_notice(message: gateway_pb2.Notice, notice: Notice) -> None:
    message.code, message.message = notice.code, notice.message
    if notice.start is not None:
        set_duration(message.start_offset, notice.start)
    if notice.end is not None:
        set_duration(message.end_offset, notice.end)


def _decode_notice(message: gateway_pb2.Notice) -> Notice:
    return Notice(
        code=message.code,
        message=message.message,
        start=decode_duration(message.start_offset) if message.HasField("start_offset") else None,
        end=decode_duration(message.end_offset) if message.HasField("end_offset") else None,
    )


def _encode_report(report: StageReport) -> gateway_pb2.StageReport:
    message = gateway_pb2.StageReport(
        stage=STAGES.encode(report.stage),
        state=STAGE_STATES.encode(report.state),
        cached=report.cached,
        error_reason=report.error_reason,
        error_message=report.error_message,
    )
    set_duration(message.elapsed, report.seconds)
    return message


def _decode_report(message: gateway_pb2.StageReport) -> StageReport:
    return StageReport(
        stage=STAGES.decode(message.stage),
        state=STAGE_STATES.decode(message.state),
        seconds=decode_duration(message.elapsed),
        cached=message.cached,
        error_reason=message.error_reason,
        error_message=message.error_message,
    )
