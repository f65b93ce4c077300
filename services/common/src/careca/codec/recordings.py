"""Conversion of what is read of recordings."""

from __future__ import annotations

from careca.codec.scalars import decode_duration, encode_duration
from careca.types import Peaks, RecordingInfo, Waveform
from careca.v1 import recordings_pb2


def encode_recording_info(info: RecordingInfo) -> recordings_pb2.RecordingInfo:
    """Returns the message of the info."""
    return recordings_pb2.RecordingInfo(
        size_bytes=info.size_bytes,
        content_type=info.content_type,
        browser_plays=info.browser_plays,
        display_name=info.display_name,
        entity_tag=info.entity_tag,
    )


def decode_recording_info(message: recordings_pb2.RecordingInfo) -> RecordingInfo:
    """Returns the info in ``message``."""
    return RecordingInfo(
        size_bytes=message.size_bytes,
        content_type=message.content_type,
        browser_plays=message.browser_plays,
        display_name=message.display_name,
        entity_tag=message.entity_tag,
    )


def encode_waveform(waveform: Waveform) -> recordings_pb2.GetWaveformResponse:
    """Returns the message of the waveform."""
    channel = recordings_pb2.GetWaveformResponse.Channel
    return recordings_pb2.GetWaveformResponse(
        bucket_duration=encode_duration(waveform.bucket_seconds),
        start_offset=encode_duration(waveform.start),
        audio_duration=encode_duration(waveform.audio_seconds),
        channels=[channel(minima=peaks.minima, maxima=peaks.maxima) for peaks in waveform.channels],
    )


def decode_waveform(message: recordings_pb2.GetWaveformResponse) -> Waveform:
    """Returns the waveform in ``message``."""
    return Waveform(
        bucket_seconds=decode_duration(message.bucket_duration),
        start=decode_duration(message.start_offset),
        audio_seconds=decode_duration(message.audio_duration),
        channels=tuple(Peaks(each.minima, each.maxima) for each in message.channels),
    )
