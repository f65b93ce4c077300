"""``careca result``: what came of a job, in the forms that `careca transcribe` has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from careca.formatting import format_notice
from careca.types import Job, JobState, OutputFormat
from careca_client.blocking.client import DEFAULT_TARGET
from careca_client.cli.commands.jobs import JobId
from careca_client.cli.connection import client_of
from careca_client.cli.errors import ExitCode, code_of_job, describe_job, failures, reporting
from careca_client.cli.options.common import Debug, Formats, Gateway, Overwrite, Submitter
from careca_client.cli.output import destinations, terminal

EXAMPLES = """\
Examples:

\b
  careca result JOB
  careca result JOB --format json | jq '.utterances[0]'
  careca result JOB -o call.srt
  careca result JOB -f srt -f json -o subtitles/
"""


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
            help="File, of the format that its name ends in where --format gives none; or folder, made where it is"
            " missing, for one file per format, named STEM.EXT: it is one already, or ends in /, or there are several.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Prints who said what, and when, in the recording of a job that has succeeded.

    Without --format the utterances are printed for people, one a line. What else a person should know about the
    recording goes to stderr, as notices. Where the job has no result, the exit code says
    why: that of the failure, 1 where it was cancelled, 6 where it has not ended.
    """
    chosen = _choose_formats(formats, output)
    with reporting(gateway=gateway, debug=debug), client_of(gateway, submitter) as client:
        job = client.job(job_id)
        if job.state is not JobState.SUCCEEDED:
            terminal.complain(describe_job(job), subject=job_id)
            raise typer.Exit(code_of_job(job))
        files = _plan_files(job, chosen, output)
        for path in files.values():
            destinations.refuse_existing(path, overwrite=overwrite)
        found = client.job_result(job_id, formats=chosen)
        destinations.deliver(found, chosen, files, overwrite=overwrite)
        for failure in failures(found.stages):
            terminal.complain(failure, subject=job_id)
        for notice in found.notices:
            terminal.warn(format_notice(notice), job_id)
        raise typer.Exit(ExitCode.PARTIAL if found.partial else ExitCode.OK)


def _choose_formats(formats: Sequence[OutputFormat], output: str | None) -> tuple[OutputFormat, ...]:
    """The formats to ask for: those given, else what the file's name says, else text for files."""
    chosen = tuple(dict.fromkeys(formats))
    if len(chosen) > 1 and output is None:
        raise typer.BadParameter("several formats need --output, since they cannot be told apart on stdout")
    if chosen or output is None:
        return chosen
    suffix = Path(output).suffix.lower().removeprefix(".")
    return (OutputFormat(suffix) if suffix in set(OutputFormat) else OutputFormat.TXT,)


def _plan_files(job: Job, formats: Sequence[OutputFormat], output: str | None) -> Mapping[OutputFormat, Path]:
    """Where each format goes; nowhere where all goes to stdout. Makes the folder."""
    if output is None:
        return {}
    path = Path(output)
    if not (path.is_dir() or output.endswith(os.sep) or len(formats) > 1):
        destinations.check_folder(path.parent, "--output")
        return {formats[0]: path}
    destinations.make_folder(path, "--output")
    (name,) = destinations.plan_names([job.display_name or job.id], formats, [])
    return {chosen: path / f"{name}.{chosen}" for chosen in formats}
