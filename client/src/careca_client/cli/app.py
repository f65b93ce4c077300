"""Puts the command together."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from careca_client.cli import jobs, maintenance, models, result, submit, voices
from careca_client.cli.exits import EXIT_CODES_HELP
from careca_client.cli.transcribe import EXAMPLES, transcribe

HELP = f"""\
Says who said what, and when, in recordings: the command line of Careca.

Talks to a gateway, by default at localhost:50051; --gateway or the variable CARECA_GATEWAY names another.

Examples:

\b
  careca transcribe meeting.mp4
  careca transcribe --speakers 2 --format srt call.wav > call.srt
  careca submit calls/ --wait
  careca jobs list
  careca stats

{EXIT_CODES_HELP}
"""


def build_app() -> typer.Typer:
    """The command with all its subcommands."""
    app = typer.Typer(
        name="careca",
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.command("transcribe", epilog=f"{EXAMPLES}\n{EXIT_CODES_HELP}")(transcribe)
    app.command("submit", epilog=f"{submit.EXAMPLES}\n{EXIT_CODES_HELP}")(submit.submit)
    app.add_typer(jobs.build_app(), name="jobs")
    app.command("result", epilog=f"{result.EXAMPLES}\n{EXIT_CODES_HELP}")(result.result)
    app.command("voice", epilog=f"{voices.VOICE_EXAMPLES}\n{EXIT_CODES_HELP}")(voices.voice)
    app.command("stats", epilog=maintenance.STATS_EXAMPLES)(maintenance.stats)
    app.command("clear-cache", epilog=maintenance.CLEAR_CACHE_EXAMPLES)(maintenance.clear_cache)
    app.command("release-memory", epilog=maintenance.RELEASE_MEMORY_EXAMPLES)(maintenance.release_memory)
    app.command("health", epilog=maintenance.HEALTH_EXAMPLES)(maintenance.health)
    app.add_typer(models.build_app(), name="models")
    return app


def main() -> None:
    """Runs the command line of this process."""
    build_app()()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"careca {metadata.version('careca-client')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
