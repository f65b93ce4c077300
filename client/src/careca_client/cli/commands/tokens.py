"""Making tokens for a gateway's file of tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from careca.auth.caller import Role
from careca.auth.tokens import TokenFile, entry_text, hash_token, new_token
from careca_client.cli.errors import reporting
from careca_client.cli.output import terminal

NEW_EXAMPLES = """\
Examples:

\b
  careca tokens new ana --file tokens.toml > ana.token
  careca tokens new ops --role admin --file tokens.toml > ops.token
  careca tokens new batch --requests-per-second 5 --jobs 100
"""


def build_app() -> typer.Typer:
    """The command ``tokens`` with its subcommands."""
    app = typer.Typer(help="Makes tokens that callers show a gateway.", no_args_is_help=True)
    app.command("new", epilog=NEW_EXAMPLES)(new)
    app.callback()(lambda: None)
    return app


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token: letters, digits and any of . _ - @.")],
    *,
    role: Annotated[Role, typer.Option(help="What its owner may do.")] = Role.USER,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add the token's hash to this file (CARECA_TOKENS_FILE of the gateway)."),
    ] = None,
    requests_per_second: Annotated[float | None, typer.Option(help="Most calls a second.")] = None,
    recording_bytes: Annotated[int | None, typer.Option(help="Size of the largest recording.")] = None,
    recording_seconds: Annotated[float | None, typer.Option(help="Length of the longest recording.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Most jobs that wait.")] = None,
) -> None:
    """Makes a token and shows it, once: only its hash is kept.

    Without --file the entry for the gateway's file is shown on stderr.
    """
    token = new_token()
    limits = {
        "requests_per_second": requests_per_second,
        "recording_bytes": recording_bytes,
        "recording_seconds": recording_seconds,
        "jobs": jobs,
    }
    with reporting():
        entry = entry_text(name, role, hash_token(token), limits)
        if file:
            _append(file, entry)
        else:
            terminal.stderr().print(entry, markup=False, highlight=False, end="")
    typer.echo(token)


def _append(path: Path, entry: str) -> None:
    """Adds the entry to the file, which is replaced at once so that nobody reads half of it."""
    text = path.read_text() if path.exists() else ""
    if text:
        TokenFile(path)  # to refuse a file that a gateway would refuse
        text = text.rstrip("\n") + "\n\n"
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(text + entry)
    fresh.replace(path)
