"""``careca transcribe``: recordings in, who said what out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from careca.types import ChannelMode, OutputFormat
from careca_client.cli import outputs
from careca_client.cli.batch import STDIN, Job, Plan, run
from careca_client.cli.exits import reporting
from careca_client.cli.options import Debug, Gateway
from careca_client.cli.voices import known_speakers
from careca_client.client import DEFAULT_TARGET
from careca_client.conversation import TranscribeOptions

EXAMPLES = """\
Examples:

\b
  careca transcribe meeting.mp4
  careca transcribe --max-speakers 4 --language en call.wav
  careca transcribe --known-speaker Ana=ana.wav --known-speaker Bob=bob.json meeting.mp4
  careca transcribe --channels separate stereo-call.wav
  careca transcribe -f srt -f json -o subtitles/ *.mkv
  ffmpeg -i rtsp://camera -t 60 -f wav - | careca transcribe -f txt -
  careca transcribe -f json call.wav | jq '.utterances[0]'
"""


def transcribe(
    *,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Recordings, audio or video; - is the standard input.")
    ],
    formats: Annotated[
        list[OutputFormat],
        typer.Option("--format", "-f", case_sensitive=False, help="Form of the result; may be repeated."),
    ] = [],  # noqa: B006 -- typer copies it
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            file_okay=False,
            help="Folder for one file per recording and format, named STEM.EXT; made where it is missing."
            " Without --format: txt.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")] = False,
    speakers: Annotated[
        int | None, typer.Option("--speakers", "-s", min=1, max=50, help="The exact number of speakers.")
    ] = None,
    min_speakers: Annotated[int | None, typer.Option(min=1, max=50, help="The least number of speakers.")] = None,
    max_speakers: Annotated[int | None, typer.Option(min=1, max=50, help="The greatest number of speakers.")] = None,
    channels: Annotated[
        ChannelMode,
        typer.Option(
            "--channels",
            case_sensitive=False,
            help="mix them and tell speakers apart by their voices; or separate: each channel is its own speaker,"
            " as in a stereo call with one party on each.",
        ),
    ] = ChannelMode.MIX,
    known: Annotated[
        list[str],
        typer.Option(
            "--known-speaker",
            metavar="NAME=FILE",
            help="Somebody to call by name, and a recording of that person alone or a voice that `careca voice` saved"
            " as .json; may be repeated.",
        ),
    ] = [],  # noqa: B006 -- typer copies it
    language: Annotated[
        str | None, typer.Option("--language", "-l", metavar="CODE", help="Language spoken, such as en; else detected.")
    ] = None,
    translate: Annotated[bool, typer.Option("--translate", help="Translate to English.")] = False,
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="TEXT", help="Text to take as said before: names, spelling, style.")
    ] = "",
    hotwords: Annotated[
        list[str], typer.Option("--hotword", metavar="WORD", help="A word or phrase to listen for; may be repeated.")
    ] = [],  # noqa: B006 -- typer copies it
    beam_size: Annotated[int | None, typer.Option(min=1, max=20, help="Width of the search; 1 is the fastest.")] = None,
    skip_cache: Annotated[bool, typer.Option("--skip-cache", help="Compute anew even what is cached.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="Limit for each recording; none by default.")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-j", min=1, help="Recordings in work at once.")] = 2,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors on stderr.")] = False,
    gateway: Gateway = DEFAULT_TARGET,
    debug: Debug = False,
) -> None:
    """Says who said what, and when, in each recording.

    Without --format the utterances are printed for people, one a line. stdout carries results only, in the order of the
    arguments; progress and messages go to stderr. A recording that the gateway has seen before is not uploaded again.
    """
    _check_speakers(speakers, min_speakers, max_speakers, channels)
    _check_stdin(files)
    chosen = _choose_formats(files, formats, output_dir)
    with reporting(gateway=gateway, debug=debug):
        people = known_speakers(known)
    plan = Plan(
        jobs=_plan_jobs(files, chosen, output_dir),
        options=TranscribeOptions(
            language=language,
            translate=translate,
            initial_prompt=prompt,
            hotwords=hotwords,
            beam_size=beam_size,
            speaker_count=speakers,
            min_speaker_count=min_speakers,
            max_speaker_count=max_speakers,
            channel_mode=channels,
            known_speakers=people,
            formats=chosen,
            skip_cache=skip_cache,
        ),
        formats=chosen,
        gateway=gateway,
        timeout=timeout,
        concurrency=concurrency,
        overwrite=overwrite,
        quiet=quiet,
        debug=debug,
    )
    with reporting(gateway=gateway, debug=debug):
        if output_dir is not None:
            output_dir.mkdir(parents=True, exist_ok=True)
        raise typer.Exit(run(plan))


def _check_speakers(exact: int | None, least: int | None, most: int | None, channels: ChannelMode) -> None:
    if channels is ChannelMode.SEPARATE and (exact, least, most) != (None, None, None):
        raise typer.BadParameter(
            "--channels separate makes each channel a speaker:"
            " it goes with none of --speakers, --min-speakers and --max-speakers"
        )
    if exact is not None and (least is not None or most is not None):
        raise typer.BadParameter("--speakers is exact: it goes with neither --min-speakers nor --max-speakers")
    if least is not None and most is not None and least > most:
        raise typer.BadParameter(f"--min-speakers {least} is greater than --max-speakers {most}")


def _check_stdin(files: Sequence[str]) -> None:
    if files.count(STDIN) > 1:
        raise typer.BadParameter("- can be given once: there is one standard input")
    if STDIN in files and (sys.stdin is None or sys.stdin.isatty()):
        raise typer.BadParameter("the standard input is a terminal or closed: pipe a recording into it, or name a file")


def _choose_formats(
    files: Sequence[str], formats: Sequence[OutputFormat], output_dir: Path | None
) -> tuple[OutputFormat, ...]:
    """The formats to ask for. Refuses what would make an unreadable mixture on stdout."""
    chosen = tuple(dict.fromkeys(formats))
    if output_dir is not None:
        return chosen or (OutputFormat.TXT,)
    if len(chosen) > 1:
        raise typer.BadParameter("several formats need --output-dir, since they cannot be told apart on stdout")
    if len(files) > 1 and chosen and chosen[0] not in outputs.JOINABLE:
        raise typer.BadParameter(f"{chosen[0]} of several recordings needs --output-dir: they cannot be joined")
    return chosen


def _plan_jobs(files: Sequence[str], formats: Sequence[OutputFormat], output_dir: Path | None) -> tuple[Job, ...]:
    shown = ["stdin" if file == STDIN else file for file in files]
    if output_dir is None:
        return tuple(Job(file, name, {}) for file, name in zip(files, shown, strict=True))
    inputs = [Path(file) for file in files if file != STDIN and Path(file).parent.resolve() == output_dir.resolve()]
    names = outputs.plan_names(shown, formats, inputs)
    return tuple(
        Job(file, shown_name, {chosen: output_dir / f"{name}.{chosen}" for chosen in formats})
        for file, shown_name, name in zip(files, shown, names, strict=True)
    )
