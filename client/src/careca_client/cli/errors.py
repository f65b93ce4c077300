"""Exit codes, and the one line that says what went wrong."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

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


class ExitCode(enum.IntEnum):
    """What a script can rely on. With several recordings the one that comes first in ``WORST_FIRST`` is returned."""

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

EXIT_CODES_HELP = """\
Exit codes:

\b
  0    all is well
  1    a recording failed, its job failed or was cancelled, or something unexpected happened
  2    the command line is wrong
  3    a stage failed; the rest of the result was delivered
  4    the gateway cannot be reached or takes no calls now
  5    the input was refused: no such file or job, no recording, an option out of range, a token that is not enough
  6    overloaded, out of time, or a job has not ended: later or with more time it may work
  130  interrupted

With several recordings all are tried; the code is the first that applies of 130, 1, 4, 6, 5, 3, 0."""


_REFUSED_RECORDINGS = (
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

# A job tells of its error by the reason alone. Any that is not here is FAILED.
_CODES_BY_REASON = {
    **dict.fromkeys(_REFUSED_RECORDINGS, ExitCode.REFUSED),
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "OVERLOADED": ExitCode.OVERLOADED,
    "DEADLINE_EXCEEDED": ExitCode.OVERLOADED,
}


def code_of(error: BaseException) -> ExitCode:
    """The exit code that ``error`` comes to."""
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
    """The exit code that a job comes to as it is: where it failed, that of its reason."""
    match job.state:
        case JobState.SUCCEEDED:
            return ExitCode.PARTIAL if job.partial else ExitCode.OK
        case JobState.FAILED:
            return _CODES_BY_REASON.get(job.error_reason, ExitCode.FAILED)
        case JobState.CANCELLED:
            return ExitCode.FAILED
        case _:
            return ExitCode.OVERLOADED


def describe_job(job: Job) -> str:
    """Why there is no result of the job, and what to do, in one line."""
    match job.state:
        case JobState.FAILED:
            reason = _one_line(job.error_message or job.error_reason)
            return f"the job failed: {reason}; `careca jobs retry {job.id}` tries again"
        case JobState.CANCELLED:
            return f"the job was cancelled; `careca jobs retry {job.id}` queues it again"
        case _:
            return f"the job is {job.state}: wait for it with `careca jobs watch {job.id}`"


def failures(stages: Iterable[StageReport | JobStage]) -> list[str]:
    """A line for each stage without which the rest was delivered."""
    return [
        f"{stage.stage} failed: {stage.error_message or stage.error_reason}; the rest is delivered without it"
        for stage in stages
        if stage.state is StageState.FAILED
    ]


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The code to return for several recordings."""
    return min(codes, key=WORST_FIRST.index, default=ExitCode.OK)


def describe(error: BaseException, gateway: str = "") -> str:
    """What is wrong and what to do, in one line."""
    match error:
        case KeyboardInterrupt() | asyncio.CancelledError():
            return "interrupted"
        case Unavailable() if gateway:
            return f"{_one_line(error.message)} (gateway {gateway}: is it running? --gateway names another)"
        case Overloaded():
            return f"{_one_line(error.message)}; try again in {error.retry_after_seconds or 0:.0f} s"
        case Unauthenticated():
            return f"{_one_line(error.message)}; --token-file or the variable CARECA_TOKEN gives one"
        case OutOfMemory():
            return f"{_one_line(error.message)}; try a shorter recording or a larger device"
        case CarecaError():
            return _one_line(error.message)
        case OSError():
            return _describe_os_error(error)
        case _:
            return f"unexpected {type(error).__name__}: {_one_line(str(error))}; --debug shows where"


def report_error(error: Exception, subject: str, console: Console, *, gateway: str, debug: bool) -> ExitCode:
    """Says on stderr what went wrong with one of several, and gives its exit code, so that the others can go on.

    Raises the error where nobody reads our output any more.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    terminal.complain(describe(error, gateway), error if debug else None, subject=subject, console=console)
    return code_of(error)


def _describe_os_error(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no {error.filename}: check the name"
        case IsADirectoryError():
            return f"{error.filename} is a directory: name the recordings in it, such as {error.filename}/*.wav"
        case PermissionError():
            return f"permission denied: check the permissions of {error.filename}"
        case FileExistsError():
            return f"{error.filename} exists already: move it away, or replace it with --overwrite"
        case _:
            return _one_line(str(error))


def _one_line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def reporting(*, gateway: str = "", debug: bool = False, failure: ExitCode | None = None) -> Iterator[None]:
    """Turns what goes wrong in a command into one line and an exit code; with ``debug`` shows the traceback first.

    ``failure`` is the code of every expected error, for commands that know but one way to fail.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError:  # whoever read our output has seen enough
        raise typer.Exit(ExitCode.FAILED) from None
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- a command ends with a line, never a traceback
        terminal.complain(describe(error, gateway), error if debug else None)
        raise typer.Exit(failure if failure and isinstance(error, CarecaError) else code_of(error)) from None
