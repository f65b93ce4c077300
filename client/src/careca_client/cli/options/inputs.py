"""The recordings named on the command line."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import typer

from careca_client.recording import spool

STDIN = "-"
"""The argument for the standard input."""

MEDIA_NAME = re.compile(
    r".*\.(3gp|aac|ac3|aiff?|amr|ape|asf|au|avi|caf|flac|flv|m2ts|m4[abv]|mk[av]|mov|mp[234]|mpe?g|mts|og[agv]|opus"
    r"|ra|rm|ts|wav|web[am]|wm[av]|wv)",
    re.IGNORECASE | re.DOTALL,
)
"""Names of recordings in a folder. A file that is named on the command line may have any name."""


def shown_name(argument: str) -> str:
    """Returns the recording's name for messages."""
    return "stdin" if argument == STDIN else argument


def check_stdin(files: Sequence[str]) -> None:
    """Raises a usage error if the standard input is named and cannot be read."""
    if files.count(STDIN) > 1:
        raise typer.BadParameter("- can be given only once: there is one standard input")
    if STDIN in files and (sys.stdin is None or sys.stdin.isatty()):
        raise typer.BadParameter("the standard input is a terminal or closed: pipe a recording into it, or name a file")


def open_stdin() -> IO[bytes]:
    """Returns the standard input. Copies a pipe to a file here, in the main thread, so that an interrupt ends it."""
    return sys.stdin.buffer if sys.stdin.buffer.seekable() else spool(sys.stdin.buffer)


def check_readable(argument: str) -> None:
    """Raises ``OSError`` if the recording cannot be read.

    Does not open the file: a named pipe can be opened only once.
    """
    if argument == STDIN:
        return
    path = Path(argument)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def expand(arguments: Sequence[str]) -> list[str]:
    """Returns each recording once. A folder stands for the recordings in it and below it that are not hidden, sorted.

    Raises ``FileNotFoundError`` if a folder has none.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        if argument == STDIN or not Path(argument).is_dir():
            found[argument] = None
            continue
        inside = [str(path) for path in _recordings_in(Path(argument))]
        if not inside:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"recording in {argument}")
        found.update(dict.fromkeys(inside))
    return list(found)


def _recordings_in(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if MEDIA_NAME.fullmatch(path.name) and not hidden and path.is_file():
            yield path
