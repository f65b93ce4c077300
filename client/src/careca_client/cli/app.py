"""Builds the command from its subcommands."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from careca_client.access import Access
from careca_client.cli import connection
from careca_client.cli.commands import (
    admin,
    edit,
    jobs,
    live,
    models,
    recording,
    result,
    submit,
    tokens,
    transcribe,
    voice,
    voices,
)
from careca_client.cli.errors import reporting
from careca_client.cli.help import EXIT_CODES

HELP = f"""\
Says who said what, and when, in recordings: the command line of Careca.

It calls a gateway, by default the one at localhost:50051. --gateway or the variable CARECA_GATEWAY selects another.
If the gateway requires a token, pass it in the variable CARECA_TOKEN or with the option --token-file.

Examples:

\b
  careca transcribe meeting.mp4
  careca transcribe --speakers 2 --format srt call.wav > call.srt
  careca live meeting.wav
  careca submit calls/ --wait
  careca jobs list
  careca stats

{EXIT_CODES}
"""


def build_app() -> typer.Typer:
    """Returns the command with all its subcommands."""
    app = typer.Typer(
        name="careca",
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.command("transcribe", epilog=transcribe.EPILOG)(transcribe.transcribe)
    app.command("live", epilog=live.EPILOG)(live.live)
    app.command("submit", epilog=submit.EPILOG)(submit.submit)
    app.add_typer(jobs.build_app(), name="jobs")
    app.command("result", epilog=result.EPILOG)(result.result)
    app.command("recording", epilog=recording.EPILOG)(recording.recording)
    app.command("edit", epilog=edit.EDIT_EPILOG)(edit.edit)
    app.command("revisions", epilog=edit.REVISIONS_EPILOG)(edit.revisions)
    app.command("voice", epilog=voice.EPILOG)(voice.voice)
    app.add_typer(voices.build_app(), name="voices")
    app.command("stats", epilog=admin.STATS_EPILOG)(admin.stats)
    app.command("clear-cache", epilog=admin.CLEAR_CACHE_EPILOG)(admin.clear_cache)
    app.command("release-memory", epilog=admin.RELEASE_MEMORY_EPILOG)(admin.release_memory)
    app.command("health", epilog=admin.HEALTH_EPILOG)(admin.health)
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
        secret = token_file.read_text() if token_file else token
        connection.set_access(
            Access(secret.strip(), tls, ca_file=ca_file, cert_file=cert_file, key_file=key_file, insecure=insecure)
        )
