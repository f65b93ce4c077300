"""The options of ``transcribe``, ``submit`` and ``live``, and the config messages that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TypedDict, TypeVar

from careca import codec
from careca.errors import InvalidRequest
from careca.types import AudioTracks, ChannelMode, OutputFormat
from careca.v1 import audio_pb2, gateway_pb2, live_pb2
from careca_client.speakers import KnownSpeaker, encode_known_speakers

E = TypeVar("E", bound=StrEnum)


class SpeechOptions(TypedDict, total=False):
    """The options that recordings and live audio have. The services choose what is left out."""

    language: str | None
    """The language spoken: a code (pt), a tag (pt-BR) or a name (Portuguese, português). ``None`` detects it, and
    detects it again if the recording changes its language."""
    translate: bool
    """Whether to translate to English instead of writing the language spoken."""
    initial_prompt: str
    """Text that the model takes as said before the recording: names, spelling, style."""
    hotwords: Sequence[str]
    """Words and phrases to listen for."""
    beam_size: int | None
    """Width of the beam search, 1 (fastest) to 20."""
    speaker_count: int | None
    """The exact number of speakers. Cannot be combined with the next two."""
    min_speaker_count: int | None
    """The smallest number of speakers."""
    max_speaker_count: int | None
    """The greatest number of speakers."""
    known_speakers: Sequence[KnownSpeaker]
    """People whose voices are to be recognised and shown by name."""
    use_saved_voices: bool
    """Whether to recognise the submitter's saved voices too: see ``save_voice``."""


class TranscribeOptions(SpeechOptions, total=False):
    """What a caller may ask for. The services choose what is left out. The protos of ``careca.v1`` give the ranges."""

    channel_mode: ChannelMode | str
    """``mix``, the default, or ``separate``: each channel is one speaker. ``separate`` allows no number of speakers."""
    audio_track: AudioTracks | str | int
    """Which of several audio tracks to use: the number of one, from 1; ``all``: mixed; ``each``: each track is one
    speaker, and no number of speakers is allowed; or ``auto``, the default: the track marked as default, or the first,
    unless it is silent."""
    formats: Iterable[OutputFormat | str]
    """The text formats to make of the result."""
    skip_cache: bool
    """Whether to compute again even if the result is cached."""
    display_name: str | None
    """The name to show in formats and logs. Default: the name of the file."""


def build_config(options: TranscribeOptions) -> gateway_pb2.TranscribeRequest.Config:
    """Returns the config of the first message, without the recording.

    Checks the options before anything is hashed or sent. Raises ``InvalidRequest`` if an option is out of its range,
    ``OSError`` if a known speaker's recording cannot be read.
    """
    config = gateway_pb2.TranscribeRequest.Config(
        cache_control=audio_pb2.CacheControl(skip_cache=options.get("skip_cache", False)),
        formats=encode_formats(options.get("formats", ())),
        channel_mode=encode_channel_mode(options.get("channel_mode")),
    )
    _set_audio_track(config, options.get("audio_track", AudioTracks.AUTO))
    set_speech_options(config, options)
    codec.decode_channel_mode(config.channel_mode, config.diarization)
    codec.decode_audio_track(config)
    return config


def set_speech_options(
    config: gateway_pb2.TranscribeRequest.Config | live_pb2.LiveServiceTranscribeRequest.Config, options: SpeechOptions
) -> None:
    """Sets the options in ``config`` and checks them. Raises as ``build_config`` does."""
    hotwords = options.get("hotwords", ())
    transcription = audio_pb2.TranscriptionOptions(
        language_code=options.get("language") or "",
        translate=options.get("translate", False),
        initial_prompt=options.get("initial_prompt", ""),
        hotwords=[hotwords] if isinstance(hotwords, str) else hotwords,
        beam_size=options.get("beam_size"),
    )
    diarization = audio_pb2.DiarizationOptions(
        speaker_count=options.get("speaker_count"),
        min_speaker_count=options.get("min_speaker_count"),
        max_speaker_count=options.get("max_speaker_count"),
    )
    config.known_speakers.extend(encode_known_speakers(options.get("known_speakers", ())))
    config.use_saved_voices = options.get("use_saved_voices", False)
    checked = codec.decode_transcription_options(transcription, field="config.transcription")
    transcription.language_code = checked.language or ""
    codec.decode_diarization_options(diarization, field="config.diarization")
    codec.decode_known_speakers(config.known_speakers)
    config.transcription.CopyFrom(transcription)
    config.diarization.CopyFrom(diarization)


def encode_channel_mode(mode: ChannelMode | str | None) -> gateway_pb2.ChannelMode.ValueType:
    """Returns the mode as on the wire, by default ``mix``. Raises ``InvalidRequest`` if it is unknown."""
    name = mode or ChannelMode.MIX
    return codec.encode_channel_mode(choice(ChannelMode, name, "channel mode", "modes", "config.channel_mode"))


def encode_formats(
    formats: Iterable[OutputFormat | str], field: str = "config.formats"
) -> list[gateway_pb2.OutputFormat.ValueType]:
    """Returns each format once, as on the wire. Raises ``InvalidRequest`` if a format is unknown."""
    names = dict.fromkeys([formats] if isinstance(formats, str) else formats)
    return [codec.encode_format(choice(OutputFormat, name, "format", "formats", field)) for name in names]


def choice(choices: type[E], name: str, kind: str, kinds: str, field: str) -> E:
    """Returns the member of ``choices`` with this name. Raises ``InvalidRequest`` that lists all if there is none."""
    if name not in set(choices):
        raise InvalidRequest(f"there is no {kind} {name}; the {kinds} are {', '.join(choices)}", field=field)
    return choices(name)


def _set_audio_track(config: gateway_pb2.TranscribeRequest.Config, track: AudioTracks | str | int) -> None:
    if isinstance(track, str) and track not in set(AudioTracks):
        raise InvalidRequest(
            f"there is no audio track {track}; it is a number from 1, or one of {', '.join(AudioTracks)}",
            field="config.audio_track",
        )
    try:
        codec.set_audio_track(config, AudioTracks(track) if isinstance(track, str) else track)
    except ValueError:
        raise InvalidRequest(f"there is no audio track {track}", field="config.audio_track") from None
