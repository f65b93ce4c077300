"""Exit codes, and the message for each error."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer

from careca.errors import (
    CarecaError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    OutOfMemory,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from careca.types import Job, JobStage, JobState, StageReport, StageState
from careca_client.cli.output import terminal
from careca_client.cli.output.display import Display


class ExitCode(enum.IntEnum):
    """The exit codes that scripts can rely on. ``careca_client.cli.help`` describes them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    UNAVAILABLE = 4
    REFUSED = 5
    OVERLOADED = 6
    INTERRUPTED = 130


WORST_FIRST = (
    ExitCode.INTERRUPTED,
    ExitCode.FAILED,
    ExitCode.UNAVAILABLE,
    ExitCode.OVERLOADED,
    ExitCode.REFUSED,
    ExitCode.PARTIAL,
    ExitCode.OK,
)
"""With several recordings, the first of these that applies is the exit code."""

_REFUSED_REASONS = (
    "INVALID_REQUEST",
    "INVALID_RECORDING",
    "NO_AUDIO",
    "NOT_A_RECORDING",
    "EMPTY_AUDIO",
    "EMPTY_RECORDING",
    "RECORDING_TOO_LARGE",
    "RECORDING_TOO_LONG",
    "AUDIO_TOO_LONG",
    "DECODE_LIMIT_EXCEEDED",
    "DIGEST_MISMATCH",
    "NO_SPEECH",
    "EMBEDDING_MISMATCH",
    "SINGLE_CHANNEL",
    "IDENTICAL_CHANNELS",
    "TOO_MANY_CHANNELS",
    "LANGUAGE_NOT_SUPPORTED",
    "TRANSLATION_NOT_SUPPORTED",
)

# A job has only the reason of its error, not the class. All other reasons are FAILED.
_CODES_BY_REASON = {
    **dict.fromkeys(_REFUSED_REASONS, ExitCode.REFUSED),
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "OVERLOADED": ExitCode.OVERLOADED,
    "DEADLINE_EXCEEDED": ExitCode.OVERLOADED,
}


def code_of(error: BaseException) -> ExitCode:
    """Returns the exit code for ``error``."""
    match error:
        case KeyboardInterrupt() | asyncio.CancelledError():
            return ExitCode.INTERRUPTED
        case Unavailable():
            return ExitCode.UNAVAILABLE
        case InvalidRequest() | NotFound() | Unauthenticated() | PermissionDenied():
            return ExitCode.REFUSED
        case FileNotFoundError() | FileExistsError() | IsADirectoryError() | PermissionError():
            return ExitCode.REFUSED
        case Overloaded() | DeadlineExceeded():
            return ExitCode.OVERLOADED
        case _:
            return ExitCode.FAILED


def code_of_job(job: Job) -> ExitCode:
    """Returns the exit code for the job in its present state. For a failed job it is that of the error's reason."""
    match job.state:
        case JobState.SUCCEEDED:
            return ExitCode.PARTIAL if job.partial else ExitCode.OK
        case JobState.FAILED:
            return _CODES_BY_REASON.get(job.error_reason, ExitCode.FAILED)
        case JobState.CANCELLED:
            return ExitCode.FAILED
        case _:
            return ExitCode.OVERLOADED


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Returns the exit code for several recordings."""
    return min(codes, key=WORST_FIRST.index, default=ExitCode.OK)


def describe_job(job: Job) -> str:
    """Says in one line why the job has no result, and what to do."""
    match job.state:
        case JobState.FAILED:
            reason = _one_line(job.error_message or job.error_reason)
            return f"the job failed: {reason}; `careca jobs retry {job.id}` tries again"
        case JobState.CANCELLED:
            return f"the job was cancelled; `careca jobs retry {job.id}` queues it again"
        case _:
            return f"the job is {job.state}: wait for it with `careca jobs watch {job.id}`"


def describe_failures(stages: Iterable[StageReport | JobStage]) -> list[str]:
    """Returns a line for each stage that failed while the rest was delivered."""
    return [
        f"{stage.stage} failed: {stage.error_message or stage.error_reason}; the rest is delivered without it"
        for stage in stages
        if stage.state is StageState.FAILED
    ]


def describe(error: BaseException, gateway: str = "") -> str:
    """Says in one line what is wrong and what to do."""
    match error:
        case KeyboardInterrupt() | asyncio.CancelledError():
            return "interrupted"
        case Unavailable() if gateway:
            return f"{_one_line(error.message)} (gateway {gateway}: is it running? --gateway selects another)"
        case Overloaded():
            return f"{_one_line(error.message)}; try again in {error.retry_after_seconds or 0:.0f} s"
        case Unauthenticated():
            return f"{_one_line(error.message)}; pass a token with --token-file or in the variable CARECA_TOKEN"
        case OutOfMemory():
            return f"{_one_line(error.message)}; try a shorter recording or a larger device"
        case CarecaError():
            return _one_line(error.message)
        case OSError():
            return _describe_os_error(error)
        case _:
            return f"unexpected {type(error).__name__}: {_one_line(str(error))}; --debug shows the traceback"


def report_error(error: Exception, subject: str, display: Display, *, gateway: str, debug: bool) -> ExitCode:
    """Prints the error of one of several recordings or jobs and returns its exit code. The others continue.

    Raises the error if nothing reads the output any more.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    display.error(describe(error, gateway), subject, error if debug else None)
    return code_of(error)


@contextmanager
def reporting(*, gateway: str = "", debug: bool = False, failure: ExitCode | None = None) -> Iterator[None]:
    """Turns an error of a command into one line and an exit code. ``debug`` prints the traceback first.

    ``failure``, if given, is the exit code of every ``CarecaError``.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError:  # the reader of the output has closed it
        raise typer.Exit(ExitCode.FAILED) from None
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- a command ends with a line, not a traceback
        terminal.print_error(describe(error, gateway), error=error if debug else None)
        raise typer.Exit(failure if failure and isinstance(error, CarecaError) else code_of(error)) from None


def _describe_os_error(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no {error.filename}: check the name"
        case IsADirectoryError():
            return f"{error.filename} is a directory: name the recordings in it, such as {error.filename}/*.wav"
        case PermissionError():
            return f"permission denied: check the permissions of {error.filename}"
        case FileExistsError():
            return f"{error.filename} exists already: move it, or replace it with --overwrite"
        case _:
            return _one_line(str(error))


def _one_line(text: str) -> str:
    return " ".join(text.split())
