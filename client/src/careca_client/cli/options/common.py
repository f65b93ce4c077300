"""Options that several commands share."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated

import typer

from careca.types import OutputFormat, Stage


class ModelStage(enum.StrEnum):
    """The stages that have a model, a cache and a service of their own."""

    TRANSCRIBE = Stage.TRANSCRIBE.value
    DIARIZE = Stage.DIARIZE.value


Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE|DIR",
        help="Recordings, audio or video; of a folder all files in it and below that are named as recordings are"
        " (.wav, .mp3, .mp4 ...) and not hidden. - is the standard input.",
    ),
]

Gateway = Annotated[
    str,
    typer.Option("--gateway", "-g", envvar="CARECA_GATEWAY", metavar="HOST:PORT", help="Address of the gateway."),
]

Submitter = Annotated[
    str,
    typer.Option(
        "--submitter",
        envvar="CARECA_SUBMITTER",
        metavar="NAME",
        help="Whose calls and jobs these are: letters, digits and any of . _ - @; nobody's in particular by default.",
    ),
]

Stages = Annotated[list[ModelStage], typer.Option("--stage", help="Only this stage; may be repeated. All by default.")]

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of a table.")]

Formats = Annotated[
    list[OutputFormat],
    typer.Option("--format", "-f", case_sensitive=False, help="Form of the result; may be repeated."),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors on stderr.")]

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of what goes wrong.")]


def stages_of(chosen: Iterable[ModelStage]) -> tuple[Stage, ...]:
    """The stages chosen, each once."""
    return tuple(dict.fromkeys(Stage(stage.value) for stage in chosen))
