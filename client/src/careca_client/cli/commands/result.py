"""``careca result``: prints or writes the result of a job, in the formats of `careca transcribe`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from careca.formatting import format_notice
from careca.types import Job, JobState, OutputFormat
from careca_client.access import DEFAULT_TARGET
from careca_client.cli.connection import connected
from careca_client.cli.errors import ExitCode, code_of_job, describe_failures, describe_job
from careca_client.cli.help import epilog
from careca_client.cli.options.common import Debug, Formats, Gateway, JobId, Overwrite, Submitter
from careca_client.cli.options.revision import Revision
from careca_client.cli.output import files as output_files
from careca_client.cli.output.results import write_result
from careca_client.cli.output.terminal import print_error, print_warning

EPILOG = epilog(
    "careca result JOB",
    "careca result JOB --format json | jq '.utterances[0]'",
    "careca result JOB -o call.srt",
    "careca result JOB -f srt -f json -o subtitles/",
)


def result(
    *,
    job_id: JobId,
    formats: Formats = [],  # noqa: B006 -- typer copies it
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="File; without --format, its extension gives the format. Or folder for one file per format, named"
            " STEM.EXT: if it is a folder already, ends in /, or there are several formats. Created if it is missing.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    revision: Revision = None,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Prints who said what, and when, in the recording of a job that has succeeded.

    Without --format, prints one line for each utterance. If the transcript was corrected with `careca edit`, it is the
    newest revision. Notices about the recording go to stderr. If the job has no
    result, the exit code says why: that of the failure, 1 if the job was cancelled, 6 if it has not ended.
    """
    chosen = _choose_formats(formats, output)
    with connected(gateway, submitter, debug=debug) as client:
        job = client.job(job_id)
        if job.state is not JobState.SUCCEEDED:
            print_error(describe_job(job), job_id)
            raise typer.Exit(code_of_job(job))
        files = _plan_files(job, chosen, output)
        for path in files.values():
            output_files.check_overwrite(path, overwrite=overwrite)
        found = client.job_result(job_id, formats=chosen, revision=revision)
        write_result(found, chosen, files, overwrite=overwrite)
        for failure in describe_failures(found.stages):
            print_error(failure, job_id)
        for notice in found.notices:
            print_warning(format_notice(notice), job_id)
        raise typer.Exit(ExitCode.PARTIAL if found.partial else ExitCode.OK)


def _choose_formats(formats: Sequence[OutputFormat], output: str | None) -> tuple[OutputFormat, ...]:
    """Returns the formats to request: those given, else the one of the file's extension, else text for a file."""
    chosen = tuple(dict.fromkeys(formats))
    if len(chosen) > 1 and output is None:
        raise typer.BadParameter("several formats need --output: they cannot be separated on stdout")
    if chosen or output is None:
        return chosen
    suffix = Path(output).suffix.lower().removeprefix(".")
    return (OutputFormat(suffix) if suffix in set(OutputFormat) else OutputFormat.TXT,)


def _plan_files(job: Job, formats: Sequence[OutputFormat], output: str | None) -> Mapping[OutputFormat, Path]:
    """Returns the file of each format, empty for stdout. Creates the folder."""
    if output is None:
        return {}
    path = Path(output)
    if not (path.is_dir() or output.endswith(os.sep) or len(formats) > 1):
        output_files.check_folder(path.parent, "--output")
        return {formats[0]: path}
    output_files.create_folder(path, "--output")
    (name,) = output_files.plan_names([job.display_name or job.id], formats, [])
    return {chosen: path / f"{name}.{chosen}" for chosen in formats}
