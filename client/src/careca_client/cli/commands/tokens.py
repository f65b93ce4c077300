"""``careca tokens``: creates tokens for the file of tokens of a gateway. Calls no gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from careca.auth.caller import Role
from careca.auth.tokens import TokenFile, entry_text, hash_token, new_token
from careca_client.cli.errors import reporting
from careca_client.cli.help import epilog
from careca_client.cli.output import terminal

NEW_EPILOG = epilog(
    "careca tokens new ana --file tokens.toml > ana.token",
    "careca tokens new ops --role admin --file tokens.toml > ops.token",
    "careca tokens new batch --requests-per-second 5 --jobs 100",
    exit_codes="",
)


def build_app() -> typer.Typer:
    """Returns the command with its subcommands."""
    app = typer.Typer(help="Creates tokens for callers of a gateway.", no_args_is_help=True)
    app.command("new", epilog=NEW_EPILOG)(new)
    app.callback()(lambda: None)
    return app


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the owner: letters, digits and any of . _ - @.")],
    *,
    role: Annotated[Role, typer.Option(help="What the owner may do.")] = Role.USER,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add the token's hash to this file (CARECA_TOKENS_FILE of the gateway)."),
    ] = None,
    requests_per_second: Annotated[float | None, typer.Option(help="Greatest number of calls per second.")] = None,
    recording_bytes: Annotated[int | None, typer.Option(help="Size of the largest recording.")] = None,
    recording_seconds: Annotated[float | None, typer.Option(help="Length of the longest recording.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Greatest number of waiting jobs.")] = None,
    live_sessions: Annotated[int | None, typer.Option(help="Greatest number of live sessions at once.")] = None,
) -> None:
    """Creates a token and prints it. It cannot be shown again: only its hash is stored.

    Without --file, the entry for the gateway's file is printed on stderr.
    """
    token = new_token()
    limits = {
        "requests_per_second": requests_per_second,
        "recording_bytes": recording_bytes,
        "recording_seconds": recording_seconds,
        "jobs": jobs,
        "live_sessions": live_sessions,
    }
    with reporting():
        entry = entry_text(name, role, hash_token(token), limits)
        if file:
            _append(file, entry)
        else:
            terminal.stderr().print(entry, markup=False, highlight=False, end="")
    typer.echo(token)


def _append(path: Path, entry: str) -> None:
    """Adds the entry to the file. Replaces the file atomically, so that no reader sees half of it."""
    text = path.read_text() if path.exists() else ""
    if text:
        TokenFile(path)  # raises an error if the gateway would refuse the file
        text = text.rstrip("\n") + "\n\n"
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(text + entry)
    fresh.replace(path)
