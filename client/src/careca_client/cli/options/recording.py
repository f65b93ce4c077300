"""The options that say what to make of a recording, whether it is waited for or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from careca import languages
from careca.codec.options import MAX_AUDIO_TRACK
from careca.types import AudioTrack, AudioTracks, ChannelMode
from careca_client.cli.commands.voices import known_speakers
from careca_client.protocol.options import TranscribeOptions, build_config


def _parse_language(text: str) -> str:
    """The code of the language, empty where there is no text. Raises a usage error where it is none that is known."""
    code = languages.code_of(text) if text else ""
    if code is None:
        raise typer.BadParameter(languages.unknown(text))
    return code


Speakers = Annotated[int | None, typer.Option("--speakers", "-s", min=1, max=50, help="The exact number of speakers.")]

MinSpeakers = Annotated[int | None, typer.Option(min=1, max=50, help="The least number of speakers.")]

MaxSpeakers = Annotated[int | None, typer.Option(min=1, max=50, help="The greatest number of speakers.")]

Channels = Annotated[
    ChannelMode,
    typer.Option(
        "--channels",
        case_sensitive=False,
        help="mix them and tell speakers apart by their voices; or separate: each channel is its own speaker,"
        " as in a stereo call with one party on each.",
    ),
]


def _audio_track(text: str) -> AudioTrack:
    """The track or tracks that ``text`` names. Raises a usage error."""
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
        help="Of several audio tracks the Nth; or all, mixed; or each: each track is its own speaker, as in meetings"
        " that are recorded with a person on each. Otherwise the default track, or the first one that is not silent.",
    ),
]

Known = Annotated[
    list[str],
    typer.Option(
        "--known-speaker",
        metavar="NAME=FILE",
        help="Somebody to call by name, and a recording of that person alone or a voice that `careca voice` saved"
        " as .json; may be repeated.",
    ),
]

Language = Annotated[
    str | None,
    typer.Option(
        "--language",
        "-l",
        metavar="LANGUAGE",
        parser=_parse_language,
        help="Language spoken, as a code (pt, pt-BR) or a name (Portuguese, português); else detected.",
    ),
]

Translate = Annotated[bool, typer.Option("--translate", help="Translate to English.")]

Prompt = Annotated[
    str, typer.Option("--prompt", metavar="TEXT", help="Text to take as said before: names, spelling, style.")
]

Hotwords = Annotated[
    list[str], typer.Option("--hotword", metavar="WORD", help="A word or phrase to listen for; may be repeated.")
]

BeamSize = Annotated[int | None, typer.Option(min=1, max=20, help="Width of the search; 1 is the fastest.")]

SkipCache = Annotated[bool, typer.Option("--skip-cache", help="Compute anew even what is cached.")]


def recording_options(
    *,
    speakers: int | None,
    min_speakers: int | None,
    max_speakers: int | None,
    channels: ChannelMode,
    audio_track: str,
    known: Sequence[str],
    language: str | None,
    translate: bool,
    prompt: str,
    hotwords: Sequence[str],
    beam_size: int | None,
    skip_cache: bool,
) -> TranscribeOptions:
    """The options as the client takes them, checked once for all recordings.

    Raises a usage error where they contradict each other, and as ``known_speakers`` and ``build_config`` do.
    """
    track = _audio_track(audio_track)
    _check_speakers(speakers, min_speakers, max_speakers, channels, track)
    options = TranscribeOptions(
        language=language,
        translate=translate,
        initial_prompt=prompt,
        hotwords=hotwords,
        beam_size=beam_size,
        speaker_count=speakers,
        min_speaker_count=min_speakers,
        max_speaker_count=max_speakers,
        channel_mode=channels,
        audio_track=track,
        known_speakers=known_speakers(known),
        skip_cache=skip_cache,
    )
    build_config(options)
    return options


def _check_speakers(
    exact: int | None, least: int | None, most: int | None, channels: ChannelMode, track: AudioTrack
) -> None:
    counted = (exact, least, most) != (None, None, None)
    if channels is ChannelMode.SEPARATE and counted:
        raise typer.BadParameter(
            "--channels separate makes each channel a speaker:"
            " it goes with none of --speakers, --min-speakers and --max-speakers"
        )
    if track == AudioTracks.EACH and counted:
        raise typer.BadParameter(
            "--audio-track each makes each track a speaker:"
            " it goes with none of --speakers, --min-speakers and --max-speakers"
        )
    if track in (AudioTracks.ALL, AudioTracks.EACH) and channels is ChannelMode.SEPARATE:
        raise typer.BadParameter(
            f"--audio-track {track} does not go with --channels separate, which needs one track: give its number"
        )
    if exact is not None and (least is not None or most is not None):
        raise typer.BadParameter("--speakers is exact: it goes with neither --min-speakers nor --max-speakers")
    if least is not None and most is not None and least > most:
        raise typer.BadParameter(f"--min-speakers {least} is greater than --max-speakers {most}")
