"""``careca transcribe``: recordings in, who said what out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from careca.types import AudioTracks, ChannelMode, OutputFormat
from careca_client.access import DEFAULT_TARGET
from careca_client.cli.commands.batch import Item, Plan, run
from careca_client.cli.errors import reporting
from careca_client.cli.options.common import Debug, Files, Formats, Gateway, Overwrite, Quiet, Submitter
from careca_client.cli.options.inputs import STDIN, check_stdin, expand, shown_name
from careca_client.cli.options.recording import (
    BeamSize,
    Channels,
    Hotwords,
    Known,
    Language,
    MaxSpeakers,
    MinSpeakers,
    Prompt,
    SkipCache,
    Speakers,
    Track,
    Translate,
    recording_options,
)
from careca_client.cli.output import destinations

EXAMPLES = """\
Examples:

\b
  careca transcribe meeting.mp4
  careca transcribe --max-speakers 4 --language pt-BR call.wav
  careca transcribe calls/ -f vtt -o captions/
  careca transcribe --known-speaker Ana=ana.wav --known-speaker Bob=bob.json meeting.mp4
  careca transcribe --channels separate stereo-call.wav
  careca transcribe --audio-track 2 film.mkv
  careca transcribe -f srt -f json -o subtitles/ *.mkv
  ffmpeg -i rtsp://camera -t 60 -f wav - | careca transcribe -f txt -
  careca transcribe -f json call.wav | jq '.utterances[0]'
"""


def transcribe(
    *,
    files: Files,
    formats: Formats = [],  # noqa: B006 -- typer copies it
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            help="Folder for one file per recording and format, named STEM.EXT; made where it is missing."
            " Without --format: txt.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    speakers: Speakers = None,
    min_speakers: MinSpeakers = None,
    max_speakers: MaxSpeakers = None,
    channels: Channels = ChannelMode.MIX,
    audio_track: Track = AudioTracks.AUTO,
    known: Known = [],  # noqa: B006
    language: Language = None,
    translate: Translate = False,
    prompt: Prompt = "",
    hotwords: Hotwords = [],  # noqa: B006
    beam_size: BeamSize = None,
    skip_cache: SkipCache = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="Limit for each recording; none by default.")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-j", min=1, help="Recordings in work at once.")] = 2,
    quiet: Quiet = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Says who said what, and when, in each recording.

    Without --format the utterances are printed for people, one a line. stdout carries results only, in the order of the
    arguments; progress, messages, and notices of what a person should know about a recording go to stderr. A recording
    that the gateway has seen before is not uploaded again.
    """
    check_stdin(files)
    with reporting(gateway=gateway, debug=debug):
        options = recording_options(
            speakers=speakers,
            min_speakers=min_speakers,
            max_speakers=max_speakers,
            channels=channels,
            audio_track=audio_track,
            known=known,
            language=language,
            translate=translate,
            prompt=prompt,
            hotwords=hotwords,
            beam_size=beam_size,
            skip_cache=skip_cache,
        )
        recordings = expand(files)
        chosen = _choose_formats(recordings, formats, output_dir)
        if output_dir is not None:
            destinations.make_folder(output_dir, "--output-dir")
        plan = Plan(
            items=_plan_items(recordings, chosen, output_dir),
            options={**options, "formats": chosen},
            formats=chosen,
            gateway=gateway,
            submitter=submitter,
            timeout=timeout,
            concurrency=concurrency,
            overwrite=overwrite,
            quiet=quiet,
            debug=debug,
        )
        raise typer.Exit(run(plan))


def _choose_formats(
    files: Sequence[str], formats: Sequence[OutputFormat], output_dir: Path | None
) -> tuple[OutputFormat, ...]:
    """The formats to ask for. Refuses what would make an unreadable mixture on stdout."""
    chosen = tuple(dict.fromkeys(formats))
    if output_dir is not None:
        return chosen or (OutputFormat.TXT,)
    if len(chosen) > 1:
        raise typer.BadParameter("several formats need --output-dir, since they cannot be told apart on stdout")
    if len(files) > 1 and chosen and chosen[0] not in destinations.JOINABLE:
        raise typer.BadParameter(f"{chosen[0]} of several recordings needs --output-dir: they cannot be joined")
    return chosen


def _plan_items(files: Sequence[str], formats: Sequence[OutputFormat], output_dir: Path | None) -> tuple[Item, ...]:
    shown = [shown_name(file) for file in files]
    if output_dir is None:
        return tuple(Item(file, name, {}) for file, name in zip(files, shown, strict=True))
    inputs = [Path(file) for file in files if file != STDIN and Path(file).parent.resolve() == output_dir.resolve()]
    names = destinations.plan_names(shown, formats, inputs)
    return tuple(
        Item(file, name, {chosen: output_dir / f"{planned}.{chosen}" for chosen in formats})
        for file, name, planned in zip(files, shown, names, strict=True)
    )
