"""The options of ``careca transcribe``, ``careca submit`` and ``careca live`` that change the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from careca import languages
from careca.codec.options import MAX_AUDIO_TRACK
from careca.types import AudioTrack, AudioTracks, ChannelMode
from careca_client.protocol.options import SpeechOptions, TranscribeOptions, build_config
from careca_client.speakers import KnownSpeaker, read_reference, read_voice


def _parse_language(text: str) -> str:
    """Returns the code of the language, empty for an empty ``text``. Raises a usage error if it is unknown."""
    code = languages.code_of(text) if text else ""
    if code is None:
        raise typer.BadParameter(languages.unknown(text))
    return code


Speakers = Annotated[int | None, typer.Option("--speakers", "-s", min=1, max=50, help="The exact number of speakers.")]

MinSpeakers = Annotated[int | None, typer.Option(min=1, max=50, help="The smallest number of speakers.")]

MaxSpeakers = Annotated[int | None, typer.Option(min=1, max=50, help="The greatest number of speakers.")]

Channels = Annotated[
    ChannelMode,
    typer.Option(
        "--channels",
        case_sensitive=False,
        help="mix: mix the channels and distinguish speakers by their voices. separate: each channel is one speaker,"
        " as in a stereo call with one party on each channel.",
    ),
]


def _parse_audio_track(text: str) -> AudioTrack:
    """Returns the track or tracks. Raises a usage error if ``text`` is invalid."""
    if text.lower() in set(AudioTracks):
        return AudioTracks(text.lower())
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_AUDIO_TRACK:
        return int(text)
    raise typer.BadParameter(f"{text} is neither a number from 1 to {MAX_AUDIO_TRACK} nor one of all, each and auto")


Track = Annotated[
    str,
    typer.Option(
        "--audio-track",
        metavar="N|all|each",
        help="Which of several audio tracks to use: number N; all, mixed; or each: each track is one speaker, as in"
        " meetings recorded with one person on each track. Default: the track that is marked as default, or the first"
        " one that is not silent.",
    ),
]

Known = Annotated[
    list[str],
    typer.Option(
        "--known-speaker",
        metavar="NAME=FILE",
        help="A person to recognise: the name, and a recording of this person alone or a .json file from"
        " `careca voice`. May be repeated.",
    ),
]

SavedVoices = Annotated[
    bool,
    typer.Option("--saved-voices", help="Recognise the people whose voices were saved with `careca voices save`."),
]

Language = Annotated[
    str | None,
    typer.Option(
        "--language",
        "-l",
        metavar="LANGUAGE",
        parser=_parse_language,
        help="Language spoken: a code (pt, pt-BR) or a name (Portuguese, português). Default: detected.",
    ),
]

Translate = Annotated[bool, typer.Option("--translate", help="Translate to English.")]

Prompt = Annotated[
    str,
    typer.Option("--prompt", metavar="TEXT", help="Text that the model takes as said before: names, spelling, style."),
]

Hotwords = Annotated[
    list[str], typer.Option("--hotword", metavar="WORD", help="A word or phrase that may occur. May be repeated.")
]

BeamSize = Annotated[int | None, typer.Option(min=1, max=20, help="Width of the beam search. 1 is the fastest.")]

SkipCache = Annotated[bool, typer.Option("--skip-cache", help="Compute again even if the result is cached.")]


def recording_options(
    *,
    speakers: int | None,
    min_speakers: int | None,
    max_speakers: int | None,
    channels: ChannelMode,
    audio_track: str,
    known: Sequence[str],
    saved_voices: bool,
    language: str | None,
    translate: bool,
    prompt: str,
    hotwords: Sequence[str],
    beam_size: int | None,
    skip_cache: bool,
) -> TranscribeOptions:
    """Returns the options for the client, checked once for all recordings.

    Raises a usage error if options contradict each other or are malformed, ``OSError`` if the file of a known speaker
    cannot be read, ``InvalidRequest`` if it is not valid or an option is out of its range.
    """
    track = _parse_audio_track(audio_track)
    counted = (speakers, min_speakers, max_speakers) != (None, None, None)
    check_channels(channels, counted=counted)
    _check_tracks(channels, track, counted=counted)
    options: TranscribeOptions = {
        **speech_options(
            speakers=speakers,
            min_speakers=min_speakers,
            max_speakers=max_speakers,
            known=known,
            saved_voices=saved_voices,
            language=language,
            translate=translate,
            prompt=prompt,
            hotwords=hotwords,
            beam_size=beam_size,
        ),
        "channel_mode": channels,
        "audio_track": track,
        "skip_cache": skip_cache,
        "formats": (),
        "display_name": None,
    }
    build_config(options)
    return options


def speech_options(
    *,
    speakers: int | None,
    min_speakers: int | None,
    max_speakers: int | None,
    known: Sequence[str],
    saved_voices: bool,
    language: str | None,
    translate: bool,
    prompt: str,
    hotwords: Sequence[str],
    beam_size: int | None,
) -> SpeechOptions:
    """Returns the options that recordings and live audio have, unchecked. Raises as ``recording_options`` does."""
    if speakers is not None and (min_speakers is not None or max_speakers is not None):
        raise typer.BadParameter("--speakers is exact: it cannot be combined with --min-speakers or --max-speakers")
    if min_speakers is not None and max_speakers is not None and min_speakers > max_speakers:
        raise typer.BadParameter(f"--min-speakers {min_speakers} is greater than --max-speakers {max_speakers}")
    return SpeechOptions(
        language=language,
        translate=translate,
        initial_prompt=prompt,
        hotwords=hotwords,
        beam_size=beam_size,
        speaker_count=speakers,
        min_speaker_count=min_speakers,
        max_speaker_count=max_speakers,
        known_speakers=[_parse_known_speaker(each) for each in known],
        use_saved_voices=saved_voices,
    )


def check_channels(channels: ChannelMode, *, counted: bool) -> None:
    """Raises a usage error if separate channels are combined with a number of speakers."""
    if channels is ChannelMode.SEPARATE and counted:
        raise typer.BadParameter(
            "--channels separate makes each channel a speaker:"
            " it cannot be combined with --speakers, --min-speakers or --max-speakers"
        )


def _check_tracks(channels: ChannelMode, track: AudioTrack, *, counted: bool) -> None:
    if track == AudioTracks.EACH and counted:
        raise typer.BadParameter(
            "--audio-track each makes each track a speaker:"
            " it cannot be combined with --speakers, --min-speakers or --max-speakers"
        )
    if track in (AudioTracks.ALL, AudioTracks.EACH) and channels is ChannelMode.SEPARATE:
        raise typer.BadParameter(
            f"--audio-track {track} cannot be combined with --channels separate, which needs one track: give its number"
        )


def _parse_known_speaker(text: str) -> KnownSpeaker:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise typer.BadParameter(f"--known-speaker must be NAME=FILE, but is {text}")
    return KnownSpeaker(name, read_voice(file) if file.endswith(".json") else read_reference(name, file))
