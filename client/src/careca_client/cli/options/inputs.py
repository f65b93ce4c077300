"""The recordings that a command line names."""

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
"""The argument that stands for the standard input."""

MEDIA_NAME = re.compile(
    r".*\.(3gp|aac|ac3|aiff?|amr|ape|asf|au|avi|caf|flac|flv|m2ts|m4[abv]|mk[av]|mov|mp[234]|mpe?g|mts|og[agv]|opus"
    r"|ra|rm|ts|wav|web[am]|wm[av]|wv)",
    re.IGNORECASE | re.DOTALL,
)
"""Names of recordings in a folder. A file that is named itself may be called anything."""


def shown_name(argument: str) -> str:
    """The recording's name as it is shown."""
    return "stdin" if argument == STDIN else argument


def check_stdin(files: Sequence[str]) -> None:
    """Raises a usage error where the standard input is asked for and cannot be read."""
    if files.count(STDIN) > 1:
        raise typer.BadParameter("- can be given once: there is one standard input")
    if STDIN in files and (sys.stdin is None or sys.stdin.isatty()):
        raise typer.BadParameter("the standard input is a terminal or closed: pipe a recording into it, or name a file")


def open_stdin() -> IO[bytes]:
    """The standard input, spooled where it is a pipe; read here so that an interrupt ends the waiting for it."""
    return sys.stdin.buffer if sys.stdin.buffer.seekable() else spool(sys.stdin.buffer)


def check_readable(argument: str) -> None:
    """Raises ``OSError`` where there is nothing to read.

    Looks without opening: a named pipe that is opened and closed again is spent.
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
    """The recordings, each once: for a folder those in it and below it, by name, hidden ones left out.

    Raises ``FileNotFoundError`` where a folder has none.
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
