"""Converts the configuration message of a request to a ``Request``. Checks everything that comes from the caller."""

from __future__ import annotations

from careca import codec
from careca.names import check_name
from careca.v1 import gateway_pb2
from careca_gateway.request import Request

MAX_NAME_CHARACTERS = 255
"""The maximum length of a display name."""


def decode_request(config: gateway_pb2.TranscribeRequest.Config) -> Request:
    """Returns the request. Raises ``InvalidRequest`` with the path of the invalid field."""
    check_name(config.display_name, MAX_NAME_CHARACTERS, "config.display_name")
    formats = (codec.decode_format(number, f"config.formats[{index}]") for index, number in enumerate(config.formats))
    return Request(
        recording=codec.decode_digest(config.recording, "config.recording"),
        display_name=config.display_name,
        transcription=codec.decode_transcription_options(config.transcription, "config.transcription"),
        diarization=codec.decode_diarization_options(config.diarization, "config.diarization"),
        skip_cache=config.cache_control.skip_cache,
        formats=tuple(dict.fromkeys(formats)),
        channel_mode=codec.decode_channel_mode(config.channel_mode, config.diarization),
        audio_track=codec.decode_audio_track(config),
        known_speakers=codec.decode_known_speakers(config.known_speakers),
    )
