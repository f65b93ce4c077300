"""The options of a session, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from careca import codec
from careca.errors import InvalidRequest
from careca.names import check_name
from careca.types import ChannelMode, DiarizationOptions, KnownSpeaker, TranscriptionOptions
from careca.v1 import gateway_pb2, live_pb2
from careca_gateway.live.audio import Encoding, decode_encoding
from careca_gateway.request_codec import MAX_NAME_CHARACTERS

Config = live_pb2.LiveServiceTranscribeRequest.Config

_PAUSE_SECONDS = 0.8
_LEAST_PAUSE_SECONDS, _GREATEST_PAUSE_SECONDS = 0.2, 5.0

_BEAM_SIZE = 5
"""Of all readings. A step of the decoder takes little more time for five beams than for one, because it has to load the
same weights; fewer words are wrong, and fewer change."""

_FILE_NAME, _CONTAINER_NAME = "live.wav", "live"


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What the caller of a session asks for."""

    encoding: Encoding | None
    """``None`` for a container, which says it itself."""
    channel_mode: ChannelMode
    transcription: TranscriptionOptions
    """For windows: greedy, without a prompt and without translation."""
    diarization: DiarizationOptions
    known_speakers: tuple[KnownSpeaker, ...]
    interim_results: bool
    utterance_pause: float
    """Seconds of silence that end an utterance."""

    @property
    def separate(self) -> bool:
        """Whether each channel is one speaker."""
        return self.channel_mode is ChannelMode.SEPARATE

    @property
    def channels(self) -> Sequence[int]:
        """The numbers of the channels that are read, as in events: 0 has all channels, mixed."""
        return range(1, self.encoding.channels + 1) if self.encoding and self.separate else (0,)


def decode_options(config: Config) -> LiveOptions:
    """Returns the options in ``config``. Raises ``InvalidRequest`` with the path of the invalid field."""
    check_name(config.display_name, MAX_NAME_CHARACTERS, "config.display_name")
    transcription = codec.decode_transcription_options(config.transcription, "config.transcription")
    return LiveOptions(
        encoding=decode_encoding(config),
        channel_mode=codec.decode_live_channels(config),
        transcription=replace(transcription, beam_size=_BEAM_SIZE, initial_prompt="", translate=False),
        diarization=codec.decode_diarization_options(config.diarization, "config.diarization"),
        known_speakers=codec.decode_known_speakers(config.known_speakers),
        interim_results=config.interim_results,
        utterance_pause=_decode_pause(config),
    )


def job_config(config: Config) -> gateway_pb2.TranscribeRequest.Config:
    """Returns the config of the job of a session, without its recording."""
    in_container = config.encoding == live_pb2.LIVE_ENCODING_CONTAINER
    return gateway_pb2.TranscribeRequest.Config(
        display_name=config.display_name or (_CONTAINER_NAME if in_container else _FILE_NAME),
        transcription=config.transcription,
        diarization=config.diarization,
        channel_mode=config.channel_mode,
        known_speakers=config.known_speakers,
        use_saved_voices=config.use_saved_voices,
    )


def _decode_pause(config: Config) -> float:
    if not config.HasField("utterance_pause"):
        return _PAUSE_SECONDS
    pause = codec.decode_duration(config.utterance_pause)
    if not _LEAST_PAUSE_SECONDS <= pause <= _GREATEST_PAUSE_SECONDS:
        raise InvalidRequest(
            f"config.utterance_pause must be from {_LEAST_PAUSE_SECONDS} to {_GREATEST_PAUSE_SECONDS:g} s, "
            f"but is {pause:g} s",
            field="config.utterance_pause",
            metadata={"value": f"{pause:g}"},
        )
    return pause
