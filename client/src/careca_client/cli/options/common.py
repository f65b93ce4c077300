"""Options that commands of different kinds have."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated

import typer

from careca.types import OutputFormat, Stage


class ModelStage(enum.StrEnum):
    """The stages that have a service with a model and a cache."""

    TRANSCRIBE = Stage.TRANSCRIBE.value
    DIARIZE = Stage.DIARIZE.value


Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE|DIR",
        help="Recordings, audio or video. For a folder: all files in it and below it that have the extension of a"
        " recording (.wav, .mp3, .mp4 ...) and are not hidden. - is the standard input.",
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
        help="Name of the owner of the calls and jobs: letters, digits and any of . _ - @. Default: no owner.",
    ),
]

Stages = Annotated[list[ModelStage], typer.Option("--stage", help="Only this stage. May be repeated. Default: all.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

Formats = Annotated[
    list[OutputFormat],
    typer.Option("--format", "-f", case_sensitive=False, help="Format of the result. May be repeated."),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")]

Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask for confirmation. Needed if stdin is not a terminal.")
]

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The id of the job.")]

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def stages_of(chosen: Iterable[ModelStage]) -> tuple[Stage, ...]:
    """Returns each chosen stage once."""
    return tuple(dict.fromkeys(Stage(stage.value) for stage in chosen))
