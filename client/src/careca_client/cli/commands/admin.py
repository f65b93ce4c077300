"""The commands for operators: ``careca stats``, ``clear-cache``, ``release-memory`` and ``health``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from careca.types import ClearScope
from careca_client.access import DEFAULT_TARGET
from careca_client.cli.connection import connected
from careca_client.cli.errors import ExitCode
from careca_client.cli.help import epilog
from careca_client.cli.options.common import AsJson, Debug, Gateway, Stages, Yes, stages_of
from careca_client.cli.output import admin_tables, terminal

STATS_EPILOG = epilog(
    "careca stats",
    "careca stats --json | jq '.stages[] | {stage, rate: .stats.cache.hit_rate}'",
    exit_codes="",
)

CLEAR_CACHE_EPILOG = epilog(
    "careca clear-cache --expired-only", "careca clear-cache --stage diarize --yes", exit_codes=""
)

RELEASE_MEMORY_EPILOG = epilog("careca release-memory", "careca release-memory --stage diarize --json", exit_codes="")

HEALTH_EPILOG = epilog(
    "careca health && careca transcribe call.wav",
    "careca health --gateway localhost:50053 --service readiness",
    exit_codes="",
)


def stats(*, gateway: Gateway = DEFAULT_TARGET, as_json: AsJson = False, debug: Debug = False) -> None:
    """Shows the caches, memory and work of all services, and of each replica if a service has several."""
    with connected(gateway, debug=debug) as client:
        found = client.stats()
        tables = [admin_tables.stats_table(found)]
        if replicated := [stage for stage in found.stages if len(stage.replicas) > 1]:
            tables.append(admin_tables.replicas_table(replicated))
        terminal.print_document(admin_tables.stats_document(found), *tables, as_json=as_json)


def clear_cache(
    *,
    expired_only: Annotated[
        bool,
        typer.Option("--expired-only", help="Only entries that are useless: expired, of an older model, or orphaned."),
    ] = False,
    stages: Stages = [],  # noqa: B006 -- typer copies it
    yes: Yes = False,
    gateway: Gateway = DEFAULT_TARGET,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Clears cached results. Without --expired-only, also unloads the models and releases their memory."""
    if not expired_only and not yes:
        terminal.confirm(
            "Clear all cached results and unload the models?", "confirm with --yes, or clear with --expired-only"
        )
    scope = ClearScope.EXPIRED if expired_only else ClearScope.ALL
    with connected(gateway, debug=debug) as client:
        cleared = client.clear_cache(scope, stages_of(stages))
        document = [dataclasses.asdict(entry) for entry in cleared]
        terminal.print_document(document, admin_tables.clearance_table(cleared), as_json=as_json)


def release_memory(
    *,
    stages: Stages = [],  # noqa: B006 -- typer copies it
    gateway: Gateway = DEFAULT_TARGET,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Releases memory by unloading the models.

    The next recording loads them again.
    """
    with connected(gateway, debug=debug) as client:
        released = client.release_memory(stages_of(stages))
        document = admin_tables.release_document(released)
        terminal.print_document(document, admin_tables.release_table(released), as_json=as_json)


def health(
    *,
    service: Annotated[
        str,
        typer.Option("--service", metavar="NAME", help="One service of the server: readiness or liveness."),
    ] = "",
    timeout: Annotated[float, typer.Option(min=0.001, metavar="SECONDS", help="Limit for the check.")] = 5.0,
    gateway: Gateway = DEFAULT_TARGET,
    debug: Debug = False,
) -> None:
    """Checks whether a server accepts calls.

    The exit code is 0 if it does, and 1 in all other cases. --gateway may name any of Careca's servers.
    """
    with connected(gateway, debug=debug, failure=ExitCode.FAILED) as client:
        found = client.health(service, timeout=timeout)
    typer.echo(found.status)
    if not found.serving:
        raise typer.Exit(ExitCode.FAILED)
