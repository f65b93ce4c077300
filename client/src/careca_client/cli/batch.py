"""The work of ``careca transcribe``: several recordings at once, their results in order, one exit code."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import typer
from rich.filesize import decimal

from careca.types import OutputFormat, Stage, StageReport, StageState
from careca_client.aio import AsyncClient
from careca_client.cli import outputs, terminal
from careca_client.cli.exits import ExitCode, code_of, describe, worst
from careca_client.cli.watching import Display, open_display
from careca_client.conversation import TranscribeOptions
from careca_client.recording import spool
from careca_client.result import TranscriptionResult

STDIN = "-"
"""The argument that stands for the standard input."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One recording of the command line and what becomes of it."""

    argument: str
    """As the caller wrote it."""
    name: str
    """As it is shown."""
    files: Mapping[OutputFormat, Path]
    """Where its formats go; empty: to stdout."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the command line asks for."""

    jobs: tuple[Job, ...]
    options: TranscribeOptions
    formats: tuple[OutputFormat, ...]
    gateway: str
    timeout: float | None
    concurrency: int
    overwrite: bool
    quiet: bool
    debug: bool


def run(plan: Plan) -> ExitCode:
    """Tries all recordings; what was wrong with any of them is said on stderr and comes back as the worst code."""
    with open_display(quiet=plan.quiet) as display:
        refused = {job: error for job in plan.jobs if (error := _refusal(job, plan.overwrite)) is not None}
        for job, error in refused.items():
            terminal.complain(describe(error), subject=job.name, console=display.console)
        accepted = [job for job in plan.jobs if job not in refused]
        stdin = _open_stdin() if any(job.argument == STDIN for job in accepted) else None
        try:
            codes = asyncio.run(_transcribe_all(plan, accepted, stdin, display)) if accepted else []
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
    return worst([*codes, *(code_of(error) for error in refused.values())])


def _refusal(job: Job, overwrite: bool) -> OSError | None:
    """Why a recording cannot be read or its results not be written, found before anything is sent."""
    try:
        for path in job.files.values():
            outputs.refuse_existing(path, overwrite=overwrite)
        if job.argument != STDIN:
            _check_readable(Path(job.argument))
    except OSError as error:
        return error
    return None


def _check_readable(path: Path) -> None:
    """Looks without opening: a named pipe that is opened and closed again is spent."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _open_stdin() -> IO[bytes]:
    """The standard input, spooled where it is a pipe; read here so that an interrupt ends the waiting for it."""
    return sys.stdin.buffer if sys.stdin.buffer.seekable() else spool(sys.stdin.buffer)


async def _transcribe_all(plan: Plan, jobs: Sequence[Job], stdin: IO[bytes] | None, display: Display) -> list[ExitCode]:
    """Works on several recordings at once. Files are written as results come, stdout is in the order of the jobs."""
    _cancel_on_interrupt()
    places = asyncio.Semaphore(plan.concurrency)
    async with AsyncClient(plan.gateway) as client:

        async def work(job: Job, previous: asyncio.Task[ExitCode] | None) -> ExitCode:
            source = stdin if job.argument == STDIN and stdin is not None else job.argument
            async with places:
                outcome = await _transcribe_one(plan, client, job, source, display)
            if previous is not None and not job.files:
                await asyncio.wait([previous])
            return _conclude(plan, job, outcome, display)

        tasks: list[asyncio.Task[ExitCode]] = []
        for job in jobs:
            tasks.append(asyncio.create_task(work(job, tasks[-1] if tasks else None)))
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _cancel_on_interrupt() -> None:
    """Cancels the current task at an interrupt.

    asyncio's own handler does not wake its loop where another thread gets the signal, as one of gRPC's may.
    """
    task = asyncio.current_task()
    with suppress(NotImplementedError, RuntimeError):  # not on Windows, and not outside the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: task and task.cancel())


async def _transcribe_one(
    plan: Plan, client: AsyncClient, job: Job, source: str | IO[bytes], display: Display
) -> TranscriptionResult | Exception:
    options: TranscribeOptions = {**plan.options, "display_name": job.name if job.argument == STDIN else None}
    with display.watching(job.name) as on_event:
        try:
            return await client.transcribe(source, timeout=plan.timeout, on_event=on_event, **options)
        except Exception as error:  # noqa: BLE001 -- the other recordings go on; _conclude reports it
            return error


def _conclude(plan: Plan, job: Job, outcome: TranscriptionResult | Exception, display: Display) -> ExitCode:
    """Delivers one recording's result, or says why there is none."""
    if isinstance(outcome, Exception):
        return _report(plan, job, outcome, display)
    try:
        with display.aside():
            _deliver(plan, job, outcome)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _report(plan, job, error, display)
    for report in outcome.stages:
        if report.state is StageState.FAILED:
            terminal.complain(_failure(report), subject=job.name, console=display.console)
    display.say(summarize(outcome), job.name)
    return ExitCode.PARTIAL if outcome.partial else ExitCode.OK


def _report(plan: Plan, job: Job, error: Exception, display: Display) -> ExitCode:
    message = describe(error, plan.gateway)
    terminal.complain(message, error if plan.debug else None, subject=job.name, console=display.console)
    return code_of(error)


def _deliver(plan: Plan, job: Job, result: TranscriptionResult) -> None:
    for output_format, path in job.files.items():
        outputs.write_file(path, result.formats[output_format], overwrite=plan.overwrite)
    if job.files:
        return
    if not plan.formats:
        if len(plan.jobs) > 1:
            typer.echo(f"==> {job.name} <==")
        outputs.print_utterances(result, terminal.stdout())
    else:
        text = result.formats[plan.formats[0]]
        typer.echo(text, nl=not text.endswith("\n"))
    sys.stdout.flush()


def _failure(report: StageReport) -> str:
    return f"{report.stage} failed: {report.error_message or report.error_reason}; the rest is delivered without it"


def summarize(result: TranscriptionResult) -> str:
    """How long it took and where the answer came from."""
    origins = [
        f"{report.stage} from the cache" if report.cached else f"{report.stage} computed in {report.seconds:.1f} s"
        for report in result.stages
        if report.stage in {Stage.TRANSCRIBE, Stage.DIARIZE} and report.state is StageState.SUCCEEDED
    ]
    sent = "nothing uploaded" if result.known else f"{decimal(result.uploaded_bytes)} uploaded"
    said = "" if result.message.utterances else "no speech was found; "
    return f"{said}{result.duration:.1f} s of audio in {result.seconds:.2f} s: {', '.join([*origins, sent])}"
