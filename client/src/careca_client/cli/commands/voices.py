"""``careca voices``: saves, lists and deletes the voices that the gateway keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from careca.formatting import printable
from careca.types import Voice
from careca_client.access import DEFAULT_TARGET
from careca_client.cli.connection import connected
from careca_client.cli.help import epilog
from careca_client.cli.options.common import AsJson, Debug, Gateway, Submitter
from careca_client.cli.output import terminal, voice_tables
from careca_client.speakers import read_voice

HELP = """\
Saves, lists and deletes the voices of people, which the gateway keeps for the submitter.

`careca transcribe --saved-voices` and `careca submit --saved-voices` then show these people by name.
"""

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the person.")]


def build_app() -> typer.Typer:
    """Returns the command with its subcommands."""
    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    examples = ("save Ana --job JOB --speaker SPEAKER_00", "save Ana --file ana.json")
    app.command("save", epilog=epilog(*(f"careca voices {each}" for each in examples)))(save)
    app.command("list", epilog=epilog("careca voices list"))(list_voices)
    app.command("delete", epilog=epilog("careca voices delete Ana"))(delete)
    return app


def save(
    *,
    name: Name,
    job: Annotated[str | None, typer.Option("--job", metavar="JOB", help="A job in which the person speaks.")] = None,
    speaker: Annotated[
        str | None,
        typer.Option("--speaker", metavar="LABEL", help="The person in the result of that job, such as SPEAKER_00."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Instead of a job: a .json file from `careca voice`."),
    ] = None,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Saves the voice of a person. Replaces the voice that has this name.

    A voice is biometric data. It is kept until it is deleted.
    """
    if (file is None) == (job is None) or (job is None) != (speaker is None):
        raise typer.BadParameter("give either --job and --speaker, or --file")
    with connected(gateway, submitter, debug=debug) as client:
        voice: Voice | None = read_voice(file) if file else None
        saved = client.save_voice(name, job_id=job, speaker=speaker, voice=voice)
        typer.echo(f"{printable(saved.name)} saved")


def list_voices(
    *, gateway: Gateway = DEFAULT_TARGET, submitter: Submitter = "", as_json: AsJson = False, debug: Debug = False
) -> None:
    """Lists the submitter's saved voices."""
    with connected(gateway, submitter, debug=debug) as client:
        voices = client.voices()
        document = [dataclasses.asdict(voice) for voice in voices]
        terminal.print_document(document, voice_tables.voice_table(voices), as_json=as_json)


def delete(*, name: Name, gateway: Gateway = DEFAULT_TARGET, submitter: Submitter = "", debug: Debug = False) -> None:
    """Deletes a saved voice."""
    with connected(gateway, submitter, debug=debug) as client:
        client.delete_voice(name)
        typer.echo(f"{printable(name)} deleted")
