"""The commands of operators: statistics, caches, memory, health."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from careca.types import ClearScope
from careca_client.access import DEFAULT_TARGET
from careca_client.cli.connection import client_of
from careca_client.cli.errors import ExitCode, reporting
from careca_client.cli.options.common import AsJson, Debug, Gateway, Stages, stages_of
from careca_client.cli.output import tables, terminal

STATS_EXAMPLES = """\
Examples:

\b
  careca stats
  careca stats --json | jq '.stages[] | {stage, rate: .stats.cache.hit_rate}'
"""

CLEAR_CACHE_EXAMPLES = """\
Examples:

\b
  careca clear-cache --expired-only
  careca clear-cache --stage diarize --yes
"""

RELEASE_MEMORY_EXAMPLES = """\
Examples:

\b
  careca release-memory
  careca release-memory --stage diarize --json
"""

HEALTH_EXAMPLES = """\
Examples:

\b
  careca health && careca transcribe call.wav
  careca health --gateway localhost:50053 --service readiness
"""


def stats(*, gateway: Gateway = DEFAULT_TARGET, as_json: AsJson = False, debug: Debug = False) -> None:
    """Shows caches, memory and work of all services, and of each replica where there are several."""
    with reporting(gateway=gateway, debug=debug), client_of(gateway) as client:
        found = client.stats()
        if as_json:
            typer.echo(json.dumps(tables.stats_document(found), indent=2))
        else:
            terminal.stdout().print(tables.stats_table(found))
            if several := [stage for stage in found.stages if len(stage.replicas) > 1]:
                terminal.stdout().print(tables.replicas_table(several))


def clear_cache(
    *,
    expired_only: Annotated[
        bool,
        typer.Option("--expired-only", help="Only what is of no use: past its time, of an older model, orphaned."),
    ] = False,
    stages: Stages = [],  # noqa: B006 -- typer copies it
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can be asked.")] = False,
    gateway: Gateway = DEFAULT_TARGET,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Clears cached results. Clearing all of them also unloads the models and gives their memory back."""
    if not expired_only and not yes:
        terminal.ask(
            "Clear all cached results and unload the models?", "confirm with --yes, or clear with --expired-only"
        )
    scope = ClearScope.EXPIRED if expired_only else ClearScope.ALL
    with reporting(gateway=gateway, debug=debug), client_of(gateway) as client:
        cleared = client.clear_cache(scope, stages_of(stages))
        if as_json:
            typer.echo(json.dumps([dataclasses.asdict(entry) for entry in cleared], indent=2))
        else:
            terminal.stdout().print(tables.clearance_table(cleared))


def release_memory(
    *,
    stages: Stages = [],  # noqa: B006 -- typer copies it
    gateway: Gateway = DEFAULT_TARGET,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Gives memory back by unloading the models.

    The next recording loads them again.
    """
    with reporting(gateway=gateway, debug=debug), client_of(gateway) as client:
        released = client.release_memory(stages_of(stages))
        if as_json:
            typer.echo(json.dumps(tables.release_document(released), indent=2))
        else:
            terminal.stdout().print(tables.release_table(released))


def health(
    *,
    service: Annotated[
        str,
        typer.Option("--service", metavar="NAME", help="One service of the server: readiness, liveness."),
    ] = "",
    timeout: Annotated[float, typer.Option(min=0.001, metavar="SECONDS", help="How long to wait.")] = 5.0,
    gateway: Gateway = DEFAULT_TARGET,
    debug: Debug = False,
) -> None:
    """Says whether a server takes calls.

    Exits with 0 where it does, and with 1 in every other case. --gateway may name any of Careca's servers.
    """
    with reporting(gateway=gateway, debug=debug, failure=ExitCode.FAILED), client_of(gateway) as client:
        found = client.health(service, timeout=timeout)
    typer.echo(found.status)
    if not found.serving:
        raise typer.Exit(ExitCode.FAILED)
