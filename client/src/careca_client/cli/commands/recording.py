"""``careca recording``: saves the recording of a job."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePath
from typing import Annotated

import typer

from careca.types import Job, RecordingForm
from careca_client.access import DEFAULT_TARGET
from careca_client.cli.connection import connected
from careca_client.cli.help import epilog
from careca_client.cli.options.common import Debug, Gateway, JobId, Overwrite, Submitter
from careca_client.cli.output import files

EPILOG = epilog(
    "careca recording JOB -o call.mp3",
    "careca recording JOB -o recordings/",
    "careca recording JOB --playable -o call.wav",
    "careca recording JOB | ffplay -i -",
)


def recording(
    *,
    job_id: JobId,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="File. Or folder, if it is a folder already or ends in /, for a file with the name of the recording;"
            " created if it is missing. Default: stdout, if it is not a terminal.",
        ),
    ] = None,
    playable: Annotated[
        bool,
        typer.Option(
            "--playable",
            help="What Careca heard: the decoded audio, 16 kHz and mono, as a WAV file. Default: what was uploaded.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Saves the recording of a job, as long as the gateway has it."""
    if output is None and sys.stdout.isatty():
        raise typer.BadParameter("a recording cannot be shown in a terminal: give --output")
    form = RecordingForm.PLAYABLE if playable else RecordingForm.ORIGINAL
    with connected(gateway, submitter, debug=debug) as client:
        path = None if output is None else _plan_file(client.job(job_id), output, form)
        if path is not None:
            files.check_overwrite(path, overwrite=overwrite)
        with client.read_recording(job_id, form=form) as reader:
            if path is None:
                sys.stdout.buffer.writelines(reader.chunks)
                sys.stdout.buffer.flush()
            else:
                with files.new_file(path, overwrite=overwrite) as file:
                    file.writelines(reader.chunks)


def _plan_file(job: Job, output: str, form: RecordingForm) -> Path:
    """Returns the file to write. Creates the folder."""
    path = Path(output)
    if not (path.is_dir() or output.endswith(os.sep)):
        files.check_folder(path.parent, "--output")
        return path
    files.create_folder(path, "--output")
    name = files.name_of(job.display_name or job.id)
    return path / (PurePath(name).stem + ".wav" if form is RecordingForm.PLAYABLE else name)
