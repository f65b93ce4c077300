"""The work of ``careca transcribe``: several recordings at once, their results in order, one exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import typer
from rich.filesize import decimal

from careca.formatting import format_notice
from careca.types import OutputFormat, Stage, StageState
from careca_client.aio.client import AsyncClient
from careca_client.cli import concurrency
from careca_client.cli.connection import async_client_of
from careca_client.cli.errors import ExitCode, code_of, describe, failures, report_error, worst
from careca_client.cli.options.inputs import STDIN, check_readable, open_stdin
from careca_client.cli.output import destinations, terminal
from careca_client.cli.output.progress import Display, open_display
from careca_client.protocol.transcribe import TranscribeOptions
from careca_client.result import TranscriptionResult


@dataclass(frozen=True, slots=True, eq=False)
class Item:
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

    items: tuple[Item, ...]
    options: TranscribeOptions
    formats: tuple[OutputFormat, ...]
    gateway: str
    submitter: str
    timeout: float | None
    concurrency: int
    overwrite: bool
    quiet: bool
    debug: bool


def run(plan: Plan) -> ExitCode:
    """Tries all recordings; what was wrong with any of them is said on stderr and comes back as the worst code."""
    with open_display(quiet=plan.quiet) as display:
        refused = {item: error for item in plan.items if (error := _refusal(item, plan.overwrite)) is not None}
        for item, error in refused.items():
            terminal.complain(describe(error), subject=item.name, console=display.console)
        accepted = [item for item in plan.items if item not in refused]
        stdin = open_stdin() if any(item.argument == STDIN for item in accepted) else None
        codes = concurrency.run(_transcribe_all(plan, accepted, stdin, display)) if accepted else []
    return worst([*codes, *(code_of(error) for error in refused.values())])


def _refusal(item: Item, overwrite: bool) -> OSError | None:
    """Why a recording cannot be read or its results not be written, found before anything is sent."""
    try:
        for path in item.files.values():
            destinations.refuse_existing(path, overwrite=overwrite)
        check_readable(item.argument)
    except OSError as error:
        return error
    return None


async def _transcribe_all(
    plan: Plan, items: Sequence[Item], stdin: IO[bytes] | None, display: Display
) -> list[ExitCode]:
    """Works on several recordings at once. Files are written as results come, stdout is in the order of the items."""
    places = asyncio.Semaphore(plan.concurrency)
    async with async_client_of(plan.gateway, plan.submitter) as client:

        async def work(item: Item, turn: concurrency.Turn) -> ExitCode:
            source = stdin if item.argument == STDIN and stdin is not None else item.argument
            async with places:
                outcome = await _transcribe_one(plan, client, item, source, display)
            if not item.files:
                await turn()
            return _conclude(plan, item, outcome, display)

        return await concurrency.for_each(items, work)


async def _transcribe_one(
    plan: Plan, client: AsyncClient, item: Item, source: str | IO[bytes], display: Display
) -> TranscriptionResult | Exception:
    options: TranscribeOptions = {**plan.options, "display_name": item.name if item.argument == STDIN else None}
    with display.watching(item.name) as on_event:
        try:
            return await client.transcribe(source, timeout=plan.timeout, on_event=on_event, **options)
        except Exception as error:  # noqa: BLE001 -- the other recordings go on; _conclude reports it
            return error


def _conclude(plan: Plan, item: Item, outcome: TranscriptionResult | Exception, display: Display) -> ExitCode:
    """Delivers one recording's result, or says why there is none."""
    if isinstance(outcome, Exception):
        return _report(plan, item, outcome, display)
    try:
        with display.aside():
            _deliver(plan, item, outcome)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _report(plan, item, error, display)
    for failure in failures(outcome.stages):
        terminal.complain(failure, subject=item.name, console=display.console)
    for notice in outcome.notices:
        display.warn(format_notice(notice), item.name)
    display.say(summarize(outcome), item.name)
    return ExitCode.PARTIAL if outcome.partial else ExitCode.OK


def _report(plan: Plan, item: Item, error: Exception, display: Display) -> ExitCode:
    return report_error(error, item.name, display.console, gateway=plan.gateway, debug=plan.debug)


def _deliver(plan: Plan, item: Item, result: TranscriptionResult) -> None:
    if not (item.files or plan.formats) and len(plan.items) > 1:
        typer.echo(f"==> {item.name} <==")
    destinations.deliver(result, plan.formats, item.files, overwrite=plan.overwrite)


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
