"""Conversion of options, with the limits that audio.proto and gateway.proto document."""

from __future__ import annotations

from careca import languages
from careca.codec.enums import AUDIO_TRACK_MODES, CHANNEL_MODES, SCHEDULING_CLASSES
from careca.codec.messages import Field, MessageCodec
from careca.errors import InvalidRequest
from careca.types import AudioTrack, AudioTracks, ChannelMode, DiarizationOptions, Scheduling, TranscriptionOptions
from careca.v1 import audio_pb2, gateway_pb2, live_pb2

MAX_BEAM_SIZE = 20
"""Largest width of the beam search."""

MAX_PROMPT_CHARACTERS = 1_000
"""Largest length of the initial prompt."""

MAX_HOTWORDS = 100
"""Largest number of hotwords."""

MAX_HOTWORD_CHARACTERS = 100
"""Largest length of one hotword."""

MAX_SPEAKERS = 50
"""Largest number of speakers in a request."""

MAX_AUDIO_TRACK = 999
"""Largest number of an audio track in a request: recordings do not have more tracks."""

MAX_LIVE_CHANNELS = 2
"""Largest number of channels of live audio."""

MAX_SUBMITTER_CHARACTERS = 64
"""Largest length of the name of a submitter."""

_TRANSCRIPTION_OPTIONS = MessageCodec(
    TranscriptionOptions, audio_pb2.TranscriptionOptions, language=Field("language_code")
)
_DIARIZATION_OPTIONS = MessageCodec(DiarizationOptions, audio_pb2.DiarizationOptions)

# The other direction is below, because it checks what callers send.
encode_transcription_options = _TRANSCRIPTION_OPTIONS.encode
encode_diarization_options = _DIARIZATION_OPTIONS.encode


def decode_transcription_options(
    message: audio_pb2.TranscriptionOptions, field: str = "config.options"
) -> TranscriptionOptions:
    """Returns the options in ``message``. Raises ``InvalidRequest`` with the path of a field that is out of range."""
    language = _decode_language(message.language_code, f"{field}.language_code")
    if len(message.initial_prompt) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(
            f"{field}.initial_prompt has {len(message.initial_prompt)} characters; "
            f"at most {MAX_PROMPT_CHARACTERS} are accepted",
            field=f"{field}.initial_prompt",
        )
    _check_hotwords(tuple(message.hotwords), f"{field}.hotwords")
    defaults = TranscriptionOptions()
    beam_size = message.beam_size if message.HasField("beam_size") else defaults.beam_size
    _check_range(beam_size, MAX_BEAM_SIZE, f"{field}.beam_size")
    return TranscriptionOptions(
        language=language,
        translate=message.translate,
        initial_prompt=message.initial_prompt,
        hotwords=tuple(message.hotwords),
        beam_size=beam_size,
    )


def decode_diarization_options(
    message: audio_pb2.DiarizationOptions, field: str = "config.options"
) -> DiarizationOptions:
    """Returns the options in ``message``. Raises ``InvalidRequest`` with the path of a field that is out of range."""
    exact = message.speaker_count if message.HasField("speaker_count") else None
    least = message.min_speaker_count if message.HasField("min_speaker_count") else None
    most = message.max_speaker_count if message.HasField("max_speaker_count") else None
    for name, count in (("speaker_count", exact), ("min_speaker_count", least), ("max_speaker_count", most)):
        if count is not None:
            _check_range(count, MAX_SPEAKERS, f"{field}.{name}")
    if exact is not None and (least is not None or most is not None):
        raise InvalidRequest(
            f"{field}.speaker_count is exact: use it alone, or use min_speaker_count and max_speaker_count without it",
            field=f"{field}.speaker_count",
        )
    if least is not None and most is not None and least > most:
        raise InvalidRequest(
            f"{field}.min_speaker_count is {least} but max_speaker_count is {most}: it must not be greater",
            field=f"{field}.min_speaker_count",
            metadata={"min_speaker_count": str(least), "max_speaker_count": str(most)},
        )
    return DiarizationOptions(exact, least, most)


def decode_channel_mode(
    number: gateway_pb2.ChannelMode.ValueType, options: audio_pb2.DiarizationOptions
) -> ChannelMode:
    """Returns the mode; ``MIX`` if it is unspecified.

    Raises ``InvalidRequest`` if it is unknown, or if the channels are separate, so that each is one speaker, and
    ``options`` have a number of speakers.
    """
    mode = CHANNEL_MODES.decode(number, "config.channel_mode")
    if mode is ChannelMode.SEPARATE:
        _refuse_speaker_counts(options, "separate channels", "mix the channels")
    return mode


def decode_live_channels(config: live_pb2.LiveServiceTranscribeRequest.Config) -> ChannelMode:
    """Returns how the channels of live audio are used.

    Raises ``InvalidRequest`` as ``decode_channel_mode`` does, and if there are too many channels, or too few to be
    separate.
    """
    in_container = config.encoding == live_pb2.LIVE_ENCODING_CONTAINER
    count = config.channel_count
    if not 0 <= count <= (0 if in_container else MAX_LIVE_CHANNELS):
        allowed = "0 for a container, which says it itself" if in_container else f"1 or {MAX_LIVE_CHANNELS}"
        raise InvalidRequest(
            f"config.channel_count must be {allowed}, but is {count}",
            field="config.channel_count",
            metadata={"value": str(count)},
        )
    mode = decode_channel_mode(config.channel_mode, config.diarization)
    if mode is ChannelMode.SEPARATE and in_container:
        raise InvalidRequest(
            "config.channel_mode must be CHANNEL_MODE_MIX for a container: its channels cannot be separated while it "
            "grows",
            field="config.channel_mode",
        )
    if mode is ChannelMode.SEPARATE and count != MAX_LIVE_CHANNELS:
        raise InvalidRequest(
            f"config.channel_count must be {MAX_LIVE_CHANNELS} for separate channels, but is {count}",
            field="config.channel_count",
            metadata={"value": str(count)},
        )
    return mode


def set_audio_track(config: gateway_pb2.TranscribeRequest.Config, track: AudioTrack) -> None:
    """Sets the audio track or tracks in ``config``."""
    if isinstance(track, AudioTracks):
        config.audio_track_mode = AUDIO_TRACK_MODES.encode(track)
    else:
        config.audio_track = track


def decode_audio_track(config: gateway_pb2.TranscribeRequest.Config) -> AudioTrack:
    """Returns the audio track or tracks in ``config``.

    Raises ``InvalidRequest`` if the track is out of range or conflicts with other options.
    """
    if config.HasField("audio_track"):
        _check_range(config.audio_track, MAX_AUDIO_TRACK, "config.audio_track")
        return config.audio_track
    mode = AUDIO_TRACK_MODES.decode(config.audio_track_mode, "config.audio_track_mode")
    if mode is not AudioTracks.AUTO and config.channel_mode == gateway_pb2.CHANNEL_MODE_SEPARATE:
        raise InvalidRequest(
            f"config.audio_track_mode {mode} cannot be combined with separate channels: select one track by its "
            "number, or mix the channels",
            field="config.audio_track_mode",
            metadata={"value": mode},
        )
    if mode is AudioTracks.EACH:
        _refuse_speaker_counts(config.diarization, "separate tracks", "use one track")
    return mode


def encode_scheduling(scheduling: Scheduling) -> audio_pb2.Scheduling:
    """Returns the message."""
    return audio_pb2.Scheduling(
        scheduling_class=SCHEDULING_CLASSES.encode(scheduling.scheduling_class), submitter=scheduling.submitter
    )


def decode_scheduling(message: audio_pb2.Scheduling, field: str = "config.scheduling") -> Scheduling:
    """Returns the value. Raises ``InvalidRequest`` for an unknown class, or a name of a submitter that is too long."""
    if len(message.submitter) > MAX_SUBMITTER_CHARACTERS:
        raise InvalidRequest(
            f"{field}.submitter has {len(message.submitter)} characters; "
            f"at most {MAX_SUBMITTER_CHARACTERS} are accepted",
            field=f"{field}.submitter",
        )
    return Scheduling(
        SCHEDULING_CLASSES.decode(message.scheduling_class, f"{field}.scheduling_class"), message.submitter
    )


def _refuse_speaker_counts(options: audio_pb2.DiarizationOptions, what: str, instead: str) -> None:
    for name in ("speaker_count", "min_speaker_count", "max_speaker_count"):
        if options.HasField(name):
            raise InvalidRequest(
                f"config.diarization.{name} cannot be combined with {what}, because each is one speaker: "
                f"leave it out, or {instead}",
                field=f"config.diarization.{name}",
            )


def _decode_language(text: str, field: str) -> str | None:
    """Returns the language's code, so that all its names share cached results; ``None`` if the text is empty."""
    if not text:
        return None
    code = languages.code_of(text)
    if code is None:
        raise InvalidRequest(f"{field}: {languages.unknown(text)}", reason="UNKNOWN_LANGUAGE", field=field)
    return code


def _check_range(value: int, greatest: int, field: str) -> None:
    if not 1 <= value <= greatest:
        raise InvalidRequest(
            f"{field} must be from 1 to {greatest}, but is {value}", field=field, metadata={"value": str(value)}
        )


def _check_hotwords(hotwords: tuple[str, ...], field: str) -> None:
    if len(hotwords) > MAX_HOTWORDS:
        raise InvalidRequest(f"{field} has {len(hotwords)} entries; at most {MAX_HOTWORDS} are accepted", field=field)
    for index, hotword in enumerate(hotwords):
        if not 1 <= len(hotword) <= MAX_HOTWORD_CHARACTERS:
            raise InvalidRequest(
                f"{field}[{index}] must have from 1 to {MAX_HOTWORD_CHARACTERS} characters, but has {len(hotword)}",
                field=f"{field}[{index}]",
            )
