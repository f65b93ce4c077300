"""``careca jobs``: what has become of the recordings that were submitted."""

from __future__ import annotations

import dataclasses
import json
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
from careca_client.cli.connection import async_client_of, client_of
from careca_client.cli.errors import EXIT_CODES_HELP, ExitCode, report_error, reporting, worst
from careca_client.cli.options.common import AsJson, Debug, Gateway, Quiet, Submitter
from careca_client.cli.output import destinations, job_tables, tables, terminal
from careca_client.cli.output.following import Follower
from careca_client.cli.output.progress import Display, open_display

HELP = """\
Lists, shows, watches and ends jobs: recordings that `careca submit` queued.

Those that are listed and cleared are the submitter's own.
"""

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]

JobIds = Annotated[list[str], typer.Argument(metavar="JOB", help="The jobs' ids.")]

Everybody = Annotated[
    bool, typer.Option("--all", help="The jobs of all submitters; where there are tokens, for administrators.")
]

_SINCE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def build_app() -> typer.Typer:
    """The command with its subcommands."""
    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    failed = "list --state failed --since 24h --json | jq -r '.[].id' | xargs careca jobs retry"
    app.command("list", epilog=_examples("list --since 24h", failed))(list_jobs)
    app.command("show", epilog=_examples("show JOB", "show JOB --json | jq .attempts"))(show)
    app.command("watch", epilog=_examples("watch JOB && careca result JOB", "watch JOB --segments"))(watch)
    app.command("cancel", epilog=_examples("cancel JOB"))(cancel)
    app.command("retry", epilog=_examples("retry JOB && careca jobs watch JOB"))(retry)
    app.command("delete", epilog=_examples("delete JOB"))(delete)
    app.command("clear", epilog=_examples("clear --yes"))(clear)
    return app


def _examples(*lines: str) -> str:
    return "\n".join(["Examples:", "", "\b", *(f"  careca jobs {line}" for line in lines), "", EXIT_CODES_HELP])


def parse_since(text: str) -> float:
    """The time, in seconds since 1970, that ``text`` names: so long ago (90m, 24h, 7d), or a date.

    Raises a usage error where it is neither.
    """
    if match := _SINCE.fullmatch(text):
        return time.time() - float(match[1]) * _UNIT_SECONDS[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise typer.BadParameter(
            f"{text} is no time: give how long ago, such as 90m, 24h or 7d, or a date, such as 2026-01-31"
        ) from None


def list_jobs(
    *,
    states: Annotated[
        list[JobState], typer.Option("--state", case_sensitive=False, help="Only in this state; may be repeated.")
    ] = [],  # noqa: B006 -- typer copies it
    since: Annotated[
        float | None,
        typer.Option(
            "--since", parser=parse_since, metavar="TIME", help="Only submitted since: 90m, 24h, 7d ago, or a date."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    everybody: Everybody = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Lists the submitter's jobs, newest first; with --all everybody's."""
    with reporting(gateway=gateway, debug=debug), client_of(gateway, submitter) as client:
        found = list(client.jobs(states=states, created_from=since, limit=limit, all_submitters=everybody))
        if as_json:
            typer.echo(json.dumps([dataclasses.asdict(job) for job in found], indent=2))
        else:
            terminal.stdout().print(job_tables.list_table(found))


def show(
    *,
    job_id: JobId,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Shows all about one job: its stages, its attempts, why it failed, and the notices of its result."""
    with reporting(gateway=gateway, debug=debug), client_of(gateway, submitter) as client:
        job = client.job(job_id)
        notices = _notices_of(client, job)
        if as_json:
            document = dataclasses.asdict(job)
            document["notices"] = None if notices is None else [dataclasses.asdict(notice) for notice in notices]
            typer.echo(json.dumps(document, indent=2))
            return
        shown = [job_tables.job_table(job), job_tables.stage_table(job), job_tables.attempt_table(job)]
        if notices:
            shown.append(job_tables.notice_table(notices))
        console = terminal.stdout()
        for table in shown:
            console.print(table)
            console.print()


def _notices_of(client: Client, job: Job) -> tuple[Notice, ...] | None:
    """Those of the job's result; ``None`` where there is no result, or it is not kept any more."""
    if job.state is not JobState.SUCCEEDED:
        return None
    try:
        return client.job_result(job.id).notices
    except NotFound as error:
        terminal.warn(error.message, job.id)
        return None


def watch(
    *,
    job_ids: JobIds,
    segments: Annotated[
        bool, typer.Option("--segments", help="Print what is said, segment by segment, as soon as it is known.")
    ] = False,
    quiet: Quiet = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Shows how jobs come on until they have ended.

    The exit code is theirs. Interrupting it ends only the watching.
    """
    wanted = list(dict.fromkeys(job_ids))
    with reporting(gateway=gateway, debug=debug), open_display(quiet=quiet) as display:
        on_segment = partial(_print_segment, display=display, named=len(wanted) > 1) if segments else None
        follower = Follower(display, gateway, debug=debug, on_segment=on_segment)
        codes = concurrency.run(_watch_all(wanted, follower, gateway, submitter))
        raise typer.Exit(worst(codes))


async def _watch_all(job_ids: Sequence[str], follower: Follower, gateway: str, submitter: str) -> list[ExitCode]:
    async with async_client_of(gateway, submitter) as client:

        async def watch_one(job_id: str, _turn: concurrency.Turn) -> ExitCode:
            _, code = await follower.follow(client, job_id, job_id)
            return code

        return await concurrency.for_each(job_ids, watch_one)


def _print_segment(segment: Segment, name: str, *, display: Display, named: bool) -> None:
    with display.aside():
        destinations.print_segment(segment, name if named else "", terminal.stdout())


def cancel(
    *, job_ids: JobIds, gateway: Gateway = DEFAULT_TARGET, submitter: Submitter = "", debug: Debug = False
) -> None:
    """Ends jobs that have not ended, and prints what state each is in then.

    Work on them stops within a second, and what was found so far is dropped. Those that have ended stay as they are.
    """
    _change(job_ids, lambda client, job_id: client.cancel_job(job_id).state, gateway, submitter, debug=debug)


def retry(
    *, job_ids: JobIds, gateway: Gateway = DEFAULT_TARGET, submitter: Submitter = "", debug: Debug = False
) -> None:
    """Queues jobs again that failed, were cancelled, or of which a stage failed.

    Only what failed is done again.
    """
    _change(job_ids, lambda client, job_id: client.retry_job(job_id).state, gateway, submitter, debug=debug)


def delete(
    *, job_ids: JobIds, gateway: Gateway = DEFAULT_TARGET, submitter: Submitter = "", debug: Debug = False
) -> None:
    """Removes jobs and their results. Those that have not ended are cancelled first."""
    _change(job_ids, _delete, gateway, submitter, debug=debug)


def clear(
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can be asked.")] = False,
    everybody: Everybody = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Removes all of the submitter's jobs that have ended, with their results, and unloads the models.

    With --all everybody's. Where the gateway asks for tokens, that and unloading are for administrators.
    """
    if not yes:
        terminal.ask(
            "Remove all jobs that have ended, with their results, and unload the models?", "confirm with --yes"
        )
    with reporting(gateway=gateway, debug=debug), client_of(gateway, submitter) as client:
        cleared = client.clear_jobs(all_submitters=everybody)
        if as_json:
            memory = tables.release_document(cleared.memory) if cleared.memory else None
            typer.echo(json.dumps({"removed_jobs": cleared.removed_jobs, "memory": memory}, indent=2))
        else:
            typer.echo(f"{cleared.removed_jobs} jobs removed")
            if cleared.memory:
                terminal.stdout().print(tables.release_table(cleared.memory))


def _delete(client: Client, job_id: str) -> str:
    client.delete_job(job_id)
    return "deleted"


def _change(
    job_ids: Sequence[str], change: Callable[[Client, str], str], gateway: str, submitter: str, *, debug: bool
) -> None:
    """Changes each job and prints what it is then. One that cannot be changed does not keep the others from it."""
    with reporting(gateway=gateway, debug=debug), client_of(gateway, submitter) as client:
        codes = []
        for job_id in dict.fromkeys(job_ids):
            try:
                typer.echo(f"{job_id} {change(client, job_id)}")
            except CarecaError as error:
                codes.append(report_error(error, job_id, terminal.stderr(), gateway=gateway, debug=debug))
        raise typer.Exit(worst(codes))
