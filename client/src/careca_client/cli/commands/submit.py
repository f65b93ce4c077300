"""``careca submit``: queues recordings as jobs, and waits for them on request."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import IO, Annotated, Any

import typer

from careca.types import AudioTracks, ChannelMode, Job, JobPriority
from careca_client.access import DEFAULT_TARGET
from careca_client.aio.client import AsyncClient
from careca_client.cli import concurrency
from careca_client.cli.connection import async_client
from careca_client.cli.errors import ExitCode, report_error, reporting, worst
from careca_client.cli.help import epilog
from careca_client.cli.job_watcher import JobWatcher
from careca_client.cli.options import recording as option
from careca_client.cli.options.common import Debug, Files, Gateway, Quiet, Submitter
from careca_client.cli.options.inputs import STDIN, check_readable, check_stdin, expand, open_stdin, shown_name
from careca_client.cli.options.recording import recording_options
from careca_client.cli.output import terminal
from careca_client.cli.output.display import Display, open_display
from careca_client.protocol.options import TranscribeOptions

EPILOG = epilog(
    "careca submit meeting.mp4",
    "careca submit calls/ --wait --max-speakers 4",
    "careca submit calls/ --webhook https://example.org/careca",
    "careca result $(careca submit --priority interactive --wait call.wav) --format srt",
)


@dataclass(frozen=True, slots=True)
class _Batch:
    """All recordings of one command line, and what to do with them."""

    recordings: tuple[str, ...]
    options: TranscribeOptions
    priority: JobPriority
    webhook_url: str
    again: bool
    wait: bool
    parallel: int
    gateway: str
    submitter: str
    as_json: bool
    debug: bool

    async def run(self, stdin: IO[bytes] | None, display: Display) -> ExitCode:
        """Submits all recordings, waits for their jobs on request, and returns the exit code for all of them."""
        async with async_client(self.gateway, self.submitter) as client:
            tried = await self._submit_all(client, stdin, display)
            codes = [code for _, _, code in tried]
            jobs = [(recording, job) for recording, job, _ in tried if job is not None]
            if self.wait:
                watcher = JobWatcher(client, display, self.gateway, debug=self.debug)
                watched = await watcher.watch_all((job.id, shown_name(recording)) for recording, job in jobs)
                codes += [code for _, code in watched]
                jobs = [(recording, last or job) for (recording, job), (last, _) in zip(jobs, watched, strict=True)]
        if self.as_json:
            terminal.print_document([_document(recording, job) for recording, job in jobs], as_json=True)
        return worst(codes)

    async def _submit_all(
        self, client: AsyncClient, stdin: IO[bytes] | None, display: Display
    ) -> list[tuple[str, Job | None, ExitCode]]:
        """Returns each recording with its job, or without one if the submission failed. Prints the ids."""
        slots = asyncio.Semaphore(self.parallel)

        async def work(recording: str, turn: concurrency.Turn) -> tuple[str, Job | None, ExitCode]:
            name = shown_name(recording)
            try:
                check_readable(recording)
                async with slots:
                    job = await self._submit(client, recording, stdin, display)
            except Exception as error:  # noqa: BLE001 -- the other recordings continue
                return recording, None, report_error(error, name, display, gateway=self.gateway, debug=self.debug)
            await turn()
            if not self.as_json:
                with display.paused():
                    typer.echo(job.id)
            if not self.wait:
                display.info(f"{job.id} is {job.state}", name)
            return recording, job, ExitCode.OK

        return await concurrency.for_each(self.recordings, work)

    async def _submit(self, client: AsyncClient, recording: str, stdin: IO[bytes] | None, display: Display) -> Job:
        name = shown_name(recording)
        source: str | IO[bytes] = recording
        options = self.options
        if recording == STDIN and stdin is not None:
            source, options = stdin, {**options, "display_name": name}
        with display.progress(name) as on_event:
            return await client.submit(
                source,
                once=not self.again,
                priority=self.priority,
                webhook_url=self.webhook_url,
                on_event=on_event,
                **options,
            )


def _document(recording: str, job: Job) -> dict[str, Any]:
    return {"file": shown_name(recording), **dataclasses.asdict(job)}


def submit(
    *,
    files: Files,
    wait: Annotated[
        bool,
        typer.Option("--wait", "-w", help="Show progress until the jobs have ended. They continue after an interrupt."),
    ] = False,
    priority: Annotated[
        JobPriority,
        typer.Option("--priority", case_sensitive=False, help="Interactive jobs run before all batch jobs."),
    ] = JobPriority.BATCH,
    webhook: Annotated[
        str, typer.Option("--webhook", metavar="URL", help="Address to notify when a job has ended.")
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Create new jobs even if the same was submitted before.")
    ] = False,
    speakers: option.Speakers = None,
    min_speakers: option.MinSpeakers = None,
    max_speakers: option.MaxSpeakers = None,
    channels: option.Channels = ChannelMode.MIX,
    audio_track: option.Track = AudioTracks.AUTO,
    known: option.Known = [],  # noqa: B006 -- typer copies it
    saved_voices: option.SavedVoices = False,
    language: option.Language = None,
    translate: option.Translate = False,
    prompt: option.Prompt = "",
    hotwords: option.Hotwords = [],  # noqa: B006
    beam_size: option.BeamSize = None,
    skip_cache: option.SkipCache = False,
    parallel: Annotated[int, typer.Option("--concurrency", "-j", min=1, help="Number of uploads at once.")] = 4,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of the ids: the jobs, each with its file.")
    ] = False,
    quiet: Quiet = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Queues recordings as jobs and prints the ids of the jobs.

    Prints one id per line, in the order of the recordings. Jobs run even if no caller waits for them. Submitting the
    same content, name and options again, by the same submitter, returns the existing job as long as it is kept. So the
    same command continues after an interrupt. --again creates new jobs.
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
        batch = _Batch(
            recordings=tuple(expand(files)),
            options=options,
            priority=priority,
            webhook_url=webhook,
            again=again,
            wait=wait,
            parallel=parallel,
            gateway=gateway,
            submitter=submitter,
            as_json=as_json,
            debug=debug,
        )
        stdin = open_stdin() if STDIN in batch.recordings else None
        with open_display(quiet=quiet) as display:
            raise typer.Exit(concurrency.run(batch.run(stdin, display)))
