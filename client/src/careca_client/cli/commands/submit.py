"""``careca submit``: recordings in, jobs out, whose results are fetched when they are there."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Annotated, Any

import typer

from careca.types import AudioTracks, ChannelMode, Job, JobPriority
from careca_client.access import DEFAULT_TARGET
from careca_client.aio.client import AsyncClient
from careca_client.cli import concurrency
from careca_client.cli.connection import async_client_of
from careca_client.cli.errors import ExitCode, report_error, reporting, worst
from careca_client.cli.options.common import Debug, Files, Gateway, Quiet, Submitter
from careca_client.cli.options.inputs import STDIN, check_readable, check_stdin, expand, open_stdin, shown_name
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
from careca_client.cli.output.following import Follower
from careca_client.cli.output.progress import Display, open_display
from careca_client.protocol.options import TranscribeOptions

EXAMPLES = """\
Examples:

\b
  careca submit meeting.mp4
  careca submit calls/ --wait --max-speakers 4
  careca submit calls/ --webhook https://example.org/careca
  careca result $(careca submit --priority interactive --wait call.wav) --format srt
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the command line asks for."""

    recordings: tuple[str, ...]
    options: TranscribeOptions
    priority: JobPriority
    webhook_url: str
    again: bool
    wait: bool
    concurrency: int
    gateway: str
    submitter: str
    as_json: bool
    quiet: bool
    debug: bool


def submit(
    *,
    files: Files,
    wait: Annotated[
        bool,
        typer.Option("--wait", "-w", help="Show the jobs' progress until they have ended; interrupted, they go on."),
    ] = False,
    priority: Annotated[
        JobPriority,
        typer.Option("--priority", case_sensitive=False, help="interactive goes before all that is batch."),
    ] = JobPriority.BATCH,
    webhook: Annotated[
        str, typer.Option("--webhook", metavar="URL", help="Address to send a notice to when a job has ended.")
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Make new jobs, even where the same was submitted before.")
    ] = False,
    speakers: Speakers = None,
    min_speakers: MinSpeakers = None,
    max_speakers: MaxSpeakers = None,
    channels: Channels = ChannelMode.MIX,
    audio_track: Track = AudioTracks.AUTO,
    known: Known = [],  # noqa: B006 -- typer copies it
    language: Language = None,
    translate: Translate = False,
    prompt: Prompt = "",
    hotwords: Hotwords = [],  # noqa: B006
    beam_size: BeamSize = None,
    skip_cache: SkipCache = False,
    uploads: Annotated[int, typer.Option("--concurrency", "-j", min=1, help="Uploads at once.")] = 4,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on stdout in place of the ids: the jobs, each with its file.")
    ] = False,
    quiet: Quiet = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Queues recordings to be worked on, whether or not anybody waits, and prints the jobs' ids.

    One id a line, in the order of the recordings. The same again, that is the same content under the same name with the
    same options by the same submitter, is the job that there is, as long as it is kept: after an interruption the same
    command goes on where it was. --again makes new jobs.
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
        plan = Plan(
            recordings=tuple(expand(files)),
            options=options,
            priority=priority,
            webhook_url=webhook,
            again=again,
            wait=wait,
            concurrency=uploads,
            gateway=gateway,
            submitter=submitter,
            as_json=as_json,
            quiet=quiet,
            debug=debug,
        )
        raise typer.Exit(_run(plan))


def _run(plan: Plan) -> ExitCode:
    stdin = open_stdin() if STDIN in plan.recordings else None
    with open_display(quiet=plan.quiet) as display:
        return concurrency.run(_submit_and_wait(plan, stdin, display))


async def _submit_and_wait(plan: Plan, stdin: IO[bytes] | None, display: Display) -> ExitCode:
    async with async_client_of(plan.gateway, plan.submitter) as client:
        tried = await _submit_all(plan, client, stdin, display)
        codes = [code for _, _, code in tried]
        jobs = [(recording, job) for recording, job, _ in tried if job is not None]
        if plan.wait:
            waited = await _wait_for_all(plan, client, jobs, display)
            codes += [code for _, _, code in waited]
            jobs = [(recording, job) for recording, job, _ in waited]
    if plan.as_json:
        typer.echo(json.dumps([_document(recording, job) for recording, job in jobs], indent=2))
    return worst(codes)


async def _submit_all(
    plan: Plan, client: AsyncClient, stdin: IO[bytes] | None, display: Display
) -> list[tuple[str, Job | None, ExitCode]]:
    """Each recording with its job, whose id is printed, or without one where that failed."""
    places = asyncio.Semaphore(plan.concurrency)

    async def work(recording: str, turn: concurrency.Turn) -> tuple[str, Job | None, ExitCode]:
        name = shown_name(recording)
        try:
            check_readable(recording)
            async with places:
                job = await _submit_one(plan, client, recording, stdin, display)
        except Exception as error:  # noqa: BLE001 -- the other recordings go on
            return recording, None, report_error(error, name, display.console, gateway=plan.gateway, debug=plan.debug)
        await turn()
        if not plan.as_json:
            with display.aside():
                typer.echo(job.id)
        if not plan.wait:
            display.say(f"{job.id} is {job.state}", name)
        return recording, job, ExitCode.OK

    return await concurrency.for_each(plan.recordings, work)


async def _submit_one(
    plan: Plan, client: AsyncClient, recording: str, stdin: IO[bytes] | None, display: Display
) -> Job:
    name = shown_name(recording)
    source: str | IO[bytes] = recording
    options = plan.options
    if recording == STDIN and stdin is not None:
        source, options = stdin, {**options, "display_name": name}
    with display.watching(name) as on_event:
        return await client.submit(
            source,
            once=not plan.again,
            priority=plan.priority,
            webhook_url=plan.webhook_url,
            on_event=on_event,
            **options,
        )


async def _wait_for_all(
    plan: Plan, client: AsyncClient, jobs: Sequence[tuple[str, Job]], display: Display
) -> list[tuple[str, Job, ExitCode]]:
    """Each recording with its job as it ended, and the code that this comes to."""
    follower = Follower(display, plan.gateway, debug=plan.debug)

    async def work(submitted: tuple[str, Job], _: concurrency.Turn) -> tuple[str, Job, ExitCode]:
        recording, job = submitted
        last, code = await follower.follow(client, job.id, shown_name(recording))
        return recording, last or job, code

    return await concurrency.for_each(jobs, work)


def _document(recording: str, job: Job) -> dict[str, Any]:
    return {"file": shown_name(recording), **dataclasses.asdict(job)}
