"""Conversion of what is read of recordings."""

from __future__ import annotations

from careca.codec.messages import MessageCodec, duration_field, repeated_field
from careca.types import Peaks, RecordingInfo, Waveform
from careca.v1 import recordings_pb2

_INFO = MessageCodec(RecordingInfo, recordings_pb2.RecordingInfo)

_WAVEFORM = MessageCodec(
    Waveform,
    recordings_pb2.GetWaveformResponse,
    bucket_seconds=duration_field("bucket_duration"),
    start=duration_field("start_offset"),
    audio_seconds=duration_field("audio_duration"),
    channels=repeated_field(MessageCodec(Peaks, recordings_pb2.GetWaveformResponse.Channel)),
)

encode_recording_info, decode_recording_info = _INFO.encode, _INFO.decode
encode_waveform, decode_waveform = _WAVEFORM.encode, _WAVEFORM.decode
