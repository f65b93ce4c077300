"""``careca jobs``: lists, shows, watches and changes jobs."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated

import typer

from careca.errors import CarecaError, NotFound
from careca.types import Job, JobState, Notice, Segment
from careca_client.access import DEFAULT_TARGET
from careca_client.blocking.client import Client
from careca_client.cli import concurrency
from careca_client.cli.connection import async_client, connected
from careca_client.cli.errors import ExitCode, report_error, reporting, worst
from careca_client.cli.help import epilog
from careca_client.cli.job_watcher import JobWatcher
from careca_client.cli.options.common import AsJson, Debug, Gateway, JobId, Quiet, Submitter, Yes
from careca_client.cli.output import admin_tables, job_tables, terminal
from careca_client.cli.output.display import Display, open_display
from careca_client.cli.output.results import print_segment

HELP = """\
Lists, shows, watches and changes jobs: recordings that were queued with `careca submit`.

`list` and `clear` concern the jobs of the submitter only, unless --all is given.
"""

JobIds = Annotated[list[str], typer.Argument(metavar="JOB", help="The ids of the jobs.")]

AllSubmitters = Annotated[
    bool,
    typer.Option("--all", help="The jobs of all submitters. If the gateway requires tokens: administrators only."),
]

_SINCE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def build_app() -> typer.Typer:
    """Returns the command with its subcommands."""
    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    failed = "list --state failed --since 24h --json | jq -r '.[].id' | xargs careca jobs retry"
    app.command("list", epilog=_epilog("list --since 24h", 'list --search "budget 2026"', failed))(list_jobs)
    app.command("show", epilog=_epilog("show JOB", "show JOB --json | jq .attempts"))(show)
    app.command("watch", epilog=_epilog("watch JOB && careca result JOB", "watch JOB --segments"))(watch)
    app.command("cancel", epilog=_epilog("cancel JOB"))(cancel)
    app.command("retry", epilog=_epilog("retry JOB && careca jobs watch JOB"))(retry)
    app.command("delete", epilog=_epilog("delete JOB"))(delete)
    app.command("clear", epilog=_epilog("clear --yes"))(clear)
    return app


def _epilog(*arguments: str) -> str:
    return epilog(*(f"careca jobs {each}" for each in arguments))


def parse_since(text: str) -> float:
    """Returns a time in seconds since 1970. ``text`` is a duration before now (90m, 24h, 7d), or a date.

    Raises a usage error if it is neither.
    """
    if match := _SINCE.fullmatch(text):
        return time.time() - float(match[1]) * _UNIT_SECONDS[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise typer.BadParameter(
            f"{text} is not a time: give a duration before now, such as 90m, 24h or 7d, or a date, such as 2026-01-31"
        ) from None


def list_jobs(
    *,
    states: Annotated[
        list[JobState], typer.Option("--state", case_sensitive=False, help="Only jobs in this state. May be repeated.")
    ] = [],  # noqa: B006 -- typer copies it
    since: Annotated[
        float | None,
        typer.Option(
            "--since",
            parser=parse_since,
            metavar="TIME",
            help="Only jobs submitted since: 90m, 24h or 7d ago, or a date.",
        ),
    ] = None,
    search: Annotated[
        str,
        typer.Option(
            "--search",
            metavar="TEXT",
            help="Only jobs that have each of these words in the name of the recording or in what was said. Case and"
            " accents make no difference.",
        ),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Greatest number of jobs.")] = 50,
    all_submitters: AllSubmitters = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Lists the submitter's jobs, newest first. With --all, the jobs of all submitters."""
    with connected(gateway, submitter, debug=debug) as client:
        found = list(
            client.jobs(states=states, created_from=since, query=search, limit=limit, all_submitters=all_submitters)
        )
        document = [dataclasses.asdict(job) for job in found]
        terminal.print_document(document, job_tables.list_table(found), as_json=as_json)


def show(
    *,
    job_id: JobId,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Shows one job: its state, stages, attempts and errors, and the notices of its result."""
    with connected(gateway, submitter, debug=debug) as client:
        job = client.job(job_id)
        notices = _notices_of(client, job)
        document = dataclasses.asdict(job)
        document["notices"] = None if notices is None else [dataclasses.asdict(notice) for notice in notices]
        tables = [job_tables.job_table(job), job_tables.stage_table(job), job_tables.attempt_table(job)]
        if notices:
            tables.append(job_tables.notice_table(notices))
        parts = (part for table in tables for part in (table, ""))
        terminal.print_document(document, *parts, as_json=as_json)


def _notices_of(client: Client, job: Job) -> tuple[Notice, ...] | None:
    """Returns the notices of the job's result, ``None`` if there is no result or it is no longer kept."""
    if job.state is not JobState.SUCCEEDED:
        return None
    try:
        return client.job_result(job.id).notices
    except NotFound as error:
        terminal.print_warning(error.message, job.id)
        return None


def watch(
    *,
    job_ids: JobIds,
    segments: Annotated[
        bool, typer.Option("--segments", help="Print each segment of the transcript as soon as it is finished.")
    ] = False,
    quiet: Quiet = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Shows the progress of jobs until they have ended.

    The exit code is that of the jobs. An interrupt ends the watching; the jobs continue.
    """
    unique = list(dict.fromkeys(job_ids))
    with reporting(gateway=gateway, debug=debug), open_display(quiet=quiet) as display:
        on_segment = partial(_print_segment, display=display, named=len(unique) > 1) if segments else None

        async def watch_all() -> list[ExitCode]:
            async with async_client(gateway, submitter) as client:
                watcher = JobWatcher(client, display, gateway, debug=debug, on_segment=on_segment)
                return [code for _, code in await watcher.watch_all((job_id, job_id) for job_id in unique)]

        raise typer.Exit(worst(concurrency.run(watch_all())))


def _print_segment(segment: Segment, name: str, *, display: Display, named: bool) -> None:
    with display.paused():
        print_segment(segment, name if named else "", terminal.stdout())


def cancel(
    *, job_ids: JobIds, gateway: Gateway = DEFAULT_TARGET, submitter: Submitter = "", debug: Debug = False
) -> None:
    """Cancels jobs and prints the state of each.

    The work stops within a second, and partial results are removed. Jobs that have ended do not change.
    """
    _change(job_ids, lambda client, job_id: client.cancel_job(job_id).state, gateway, submitter, debug=debug)


def retry(
    *, job_ids: JobIds, gateway: Gateway = DEFAULT_TARGET, submitter: Submitter = "", debug: Debug = False
) -> None:
    """Queues jobs again that failed, that were cancelled, or in which a stage failed.

    Only what failed is repeated.
    """
    _change(job_ids, lambda client, job_id: client.retry_job(job_id).state, gateway, submitter, debug=debug)


def delete(
    *, job_ids: JobIds, gateway: Gateway = DEFAULT_TARGET, submitter: Submitter = "", debug: Debug = False
) -> None:
    """Removes jobs and their results. Cancels jobs first that have not ended."""
    _change(job_ids, _delete, gateway, submitter, debug=debug)


def clear(
    *,
    yes: Yes = False,
    all_submitters: AllSubmitters = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Removes the submitter's jobs that have ended, with their results, and unloads the models.

    With --all, the jobs of all submitters. If the gateway requires tokens, only administrators may use --all, and the
    models are unloaded only for them.
    """
    if not yes:
        terminal.confirm(
            "Remove all jobs that have ended, with their results, and unload the models?", "confirm with --yes"
        )
    with connected(gateway, submitter, debug=debug) as client:
        cleared = client.clear_jobs(all_submitters=all_submitters)
        memory = admin_tables.release_document(cleared.memory) if cleared.memory else None
        terminal.print_document(
            {"removed_jobs": cleared.removed_jobs, "memory": memory},
            f"{cleared.removed_jobs} jobs removed",
            *([admin_tables.release_table(cleared.memory)] if cleared.memory else []),
            as_json=as_json,
        )


def _delete(client: Client, job_id: str) -> str:
    client.delete_job(job_id)
    return "deleted"


def _change(
    job_ids: Sequence[str], change: Callable[[Client, str], str], gateway: str, submitter: str, *, debug: bool
) -> None:
    """Changes each job and prints its new state. Continues with the others if one job cannot be changed."""
    with connected(gateway, submitter, debug=debug) as client, open_display(quiet=True) as display:
        codes = []
        for job_id in dict.fromkeys(job_ids):
            try:
                typer.echo(f"{job_id} {change(client, job_id)}")
            except CarecaError as error:
                codes.append(report_error(error, job_id, display, gateway=gateway, debug=debug))
        raise typer.Exit(worst(codes))
