"""Puts the command together."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from careca_client.access import Access
from careca_client.cli import connection
from careca_client.cli.commands import jobs, models, operations, result, submit, tokens, voices
from careca_client.cli.commands.transcribe import EXAMPLES, transcribe
from careca_client.cli.errors import EXIT_CODES_HELP, reporting

HELP = f"""\
Says who said what, and when, in recordings: the command line of Careca.

Talks to a gateway, by default at localhost:50051; --gateway or the variable CARECA_GATEWAY names another.
Where it wants to know who calls, give your token by the variable CARECA_TOKEN or the option --token-file.

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
    app.command("stats", epilog=operations.STATS_EXAMPLES)(operations.stats)
    app.command("clear-cache", epilog=operations.CLEAR_CACHE_EXAMPLES)(operations.clear_cache)
    app.command("release-memory", epilog=operations.RELEASE_MEMORY_EXAMPLES)(operations.release_memory)
    app.command("health", epilog=operations.HEALTH_EXAMPLES)(operations.health)
    app.add_typer(models.build_app(), name="models")
    app.add_typer(tokens.build_app(), name="tokens")
    return app


def main() -> None:
    """Runs the command line of this process."""
    build_app()()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"careca {metadata.version('careca-client')}")
        raise typer.Exit


def _root(
    *,
    token_file: connection.TokenFile = None,
    token: connection.Token = "",
    tls: connection.Tls = False,
    ca_file: connection.CaFile = None,
    cert_file: connection.CertFile = None,
    key_file: connection.KeyFile = None,
    insecure: connection.Insecure = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    with reporting():
        shown = token_file.read_text() if token_file else token
        connection.remember_access(
            Access(shown.strip(), tls, ca_file=ca_file, cert_file=cert_file, key_file=key_file, insecure=insecure)
        )
