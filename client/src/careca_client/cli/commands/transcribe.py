"""``careca transcribe``: transcribes recordings and waits for the results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.filesize import decimal

from careca.formatting import format_notice
from careca.types import AudioTracks, ChannelMode, OutputFormat, Stage, StageState
from careca_client.access import DEFAULT_TARGET
from careca_client.aio.client import AsyncClient
from careca_client.cli import concurrency
from careca_client.cli.connection import async_client
from careca_client.cli.errors import ExitCode, code_of, describe, describe_failures, report_error, reporting, worst
from careca_client.cli.help import epilog
from careca_client.cli.options import recording as option
from careca_client.cli.options.common import Debug, Files, Formats, Gateway, Overwrite, Quiet, Submitter
from careca_client.cli.options.inputs import STDIN, check_readable, check_stdin, expand, open_stdin, shown_name
from careca_client.cli.options.recording import recording_options
from careca_client.cli.output import files as output_files
from careca_client.cli.output.display import Display, open_display
from careca_client.cli.output.results import JOINABLE, write_result
from careca_client.protocol.options import TranscribeOptions
from careca_client.result import TranscriptionResult

EPILOG = epilog(
    "careca transcribe meeting.mp4",
    "careca transcribe --max-speakers 4 --language pt-BR call.wav",
    "careca transcribe calls/ -f vtt -o captions/",
    "careca transcribe --known-speaker Ana=ana.wav --known-speaker Bob=bob.json meeting.mp4",
    "careca transcribe --channels separate stereo-call.wav",
    "careca transcribe --audio-track 2 film.mkv",
    "careca transcribe -f srt -f json -o subtitles/ *.mkv",
    "ffmpeg -i rtsp://camera -t 60 -f wav - | careca transcribe -f txt -",
    "careca transcribe -f json call.wav | jq '.utterances[0]'",
)


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """One recording of the command line."""

    argument: str
    name: str
    """The name to show."""
    files: Mapping[OutputFormat, Path]
    """The output file of each format. Empty: the result goes to stdout."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """All recordings of one command line, and what to do with them."""

    items: tuple[_Item, ...]
    options: TranscribeOptions
    formats: tuple[OutputFormat, ...]
    gateway: str
    submitter: str
    timeout: float | None
    parallel: int
    overwrite: bool
    debug: bool

    def run(self, display: Display) -> ExitCode:
        """Tries all recordings, prints what went wrong, and returns the exit code for all of them."""
        refused = {item: error for item in self.items if (error := self._refusal(item)) is not None}
        for item, error in refused.items():
            display.error(describe(error), item.name)
        accepted = [item for item in self.items if item not in refused]
        stdin = open_stdin() if any(item.argument == STDIN for item in accepted) else None
        codes = concurrency.run(self._transcribe_all(accepted, stdin, display)) if accepted else []
        return worst([*codes, *(code_of(error) for error in refused.values())])

    def _refusal(self, item: _Item) -> OSError | None:
        """Returns why a recording cannot be read or its result cannot be written, before anything is sent."""
        try:
            for path in item.files.values():
                output_files.check_overwrite(path, overwrite=self.overwrite)
            check_readable(item.argument)
        except OSError as error:
            return error
        return None

    async def _transcribe_all(
        self, items: Sequence[_Item], stdin: IO[bytes] | None, display: Display
    ) -> list[ExitCode]:
        """Works on several recordings at once. Files are written at once, stdout in the order of the items."""
        slots = asyncio.Semaphore(self.parallel)
        async with async_client(self.gateway, self.submitter) as client:

            async def work(item: _Item, turn: concurrency.Turn) -> ExitCode:
                source = stdin if item.argument == STDIN and stdin is not None else item.argument
                async with slots:
                    outcome = await self._transcribe(client, item, source, display)
                if not item.files:
                    await turn()
                return self._conclude(item, outcome, display)

            return await concurrency.for_each(items, work)

    async def _transcribe(
        self, client: AsyncClient, item: _Item, source: str | IO[bytes], display: Display
    ) -> TranscriptionResult | Exception:
        options: TranscribeOptions = {**self.options, "display_name": item.name if item.argument == STDIN else None}
        with display.progress(item.name) as on_event:
            try:
                return await client.transcribe(source, timeout=self.timeout, on_event=on_event, **options)
            except Exception as error:  # noqa: BLE001 -- the other recordings continue; _conclude reports it
                return error

    def _conclude(self, item: _Item, outcome: TranscriptionResult | Exception, display: Display) -> ExitCode:
        """Writes the result of one recording, or reports why there is none."""
        if isinstance(outcome, Exception):
            return self._report(item, outcome, display)
        try:
            with display.paused():
                if not (item.files or self.formats) and len(self.items) > 1:
                    typer.echo(f"==> {item.name} <==")
                write_result(outcome, self.formats, item.files, overwrite=self.overwrite)
        except OSError as error:
            return self._report(item, error, display)
        for failure in describe_failures(outcome.stages):
            display.error(failure, item.name)
        for notice in outcome.notices:
            display.warning(format_notice(notice), item.name)
        display.info(_summarize(outcome), item.name)
        return ExitCode.PARTIAL if outcome.partial else ExitCode.OK

    def _report(self, item: _Item, error: Exception, display: Display) -> ExitCode:
        return report_error(error, item.name, display, gateway=self.gateway, debug=self.debug)


def _summarize(result: TranscriptionResult) -> str:
    """Says how long the call took and where the results came from."""
    origins = [
        f"{report.stage} from the cache" if report.cached else f"{report.stage} computed in {report.seconds:.1f} s"
        for report in result.stages
        if report.stage in {Stage.TRANSCRIBE, Stage.DIARIZE} and report.state is StageState.SUCCEEDED
    ]
    sent = "nothing uploaded" if result.known else f"{decimal(result.uploaded_bytes)} uploaded"
    speech = "" if result.message.utterances else "no speech was found; "
    return f"{speech}{result.duration:.1f} s of audio in {result.seconds:.2f} s: {', '.join([*origins, sent])}"


def transcribe(
    *,
    files: Files,
    formats: Formats = [],  # noqa: B006 -- typer copies it
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            help="Folder for one file per recording and format, named STEM.EXT. Created if it is missing."
            " Without --format: txt.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    speakers: option.Speakers = None,
    min_speakers: option.MinSpeakers = None,
    max_speakers: option.MaxSpeakers = None,
    channels: option.Channels = ChannelMode.MIX,
    audio_track: option.Track = AudioTracks.AUTO,
    known: option.Known = [],  # noqa: B006
    saved_voices: option.SavedVoices = False,
    language: option.Language = None,
    translate: option.Translate = False,
    prompt: option.Prompt = "",
    hotwords: option.Hotwords = [],  # noqa: B006
    beam_size: option.BeamSize = None,
    skip_cache: option.SkipCache = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="Limit for each recording. Default: none.")
    ] = None,
    parallel: Annotated[int, typer.Option("--concurrency", "-j", min=1, help="Number of recordings at once.")] = 2,
    quiet: Quiet = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Prints who said what, and when, in each recording.

    Without --format, prints one line for each utterance. stdout has only results, in the order of the arguments.
    Progress, messages, and notices about a recording go to stderr. A recording that the gateway has already is not
    uploaded again.
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
            saved_voices=saved_voices,
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
            output_files.create_folder(output_dir, "--output-dir")
        batch = _Batch(
            items=_plan_items(recordings, chosen, output_dir),
            options={**options, "formats": chosen},
            formats=chosen,
            gateway=gateway,
            submitter=submitter,
            timeout=timeout,
            parallel=parallel,
            overwrite=overwrite,
            debug=debug,
        )
        with open_display(quiet=quiet) as display:
            raise typer.Exit(batch.run(display))


def _choose_formats(
    files: Sequence[str], formats: Sequence[OutputFormat], output_dir: Path | None
) -> tuple[OutputFormat, ...]:
    """Returns the formats to request. Raises a usage error if stdout would get several that cannot be separated."""
    chosen = tuple(dict.fromkeys(formats))
    if output_dir is not None:
        return chosen or (OutputFormat.TXT,)
    if len(chosen) > 1:
        raise typer.BadParameter("several formats need --output-dir: they cannot be separated on stdout")
    if len(files) > 1 and chosen and chosen[0] not in JOINABLE:
        raise typer.BadParameter(f"{chosen[0]} of several recordings needs --output-dir: they cannot be joined")
    return chosen


def _plan_items(files: Sequence[str], formats: Sequence[OutputFormat], output_dir: Path | None) -> tuple[_Item, ...]:
    shown = [shown_name(file) for file in files]
    if output_dir is None:
        return tuple(_Item(file, name, {}) for file, name in zip(files, shown, strict=True))
    inputs = [Path(file) for file in files if file != STDIN and Path(file).parent.resolve() == output_dir.resolve()]
    names = output_files.plan_names(shown, formats, inputs)
    return tuple(
        _Item(file, name, {chosen: output_dir / f"{planned}.{chosen}" for chosen in formats})
        for file, name, planned in zip(files, shown, names, strict=True)
    )
