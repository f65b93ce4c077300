"""Output files: their names, their folders, and writing them."""

from __future__ import annotations

import errno
import os
import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

import typer

from careca.types import OutputFormat

MAX_NAME_BYTES = 200
"""Longest name that is taken from a recording. File systems allow 255 bytes; the rest is for what is added."""


def plan_names(recordings: Sequence[str], formats: Collection[OutputFormat], taken: Collection[Path]) -> list[str]:
    """Returns for each recording the name of its output files without their extension. No two are the same.

    The name is the recording's stem, or its whole name if several recordings have the same stem or an output file would
    replace a recording (``taken``). A number is added if this is not enough.
    """
    names = [name_of(recording) for recording in recordings]
    stems = Counter(_normalize(PurePath(name).stem) for name in names)
    used = {_normalize(path.name) for path in taken}
    planned = []
    for name in names:
        stem = PurePath(name).stem
        choices = _choices(name, first=stem if stems[_normalize(stem)] == 1 else name)
        chosen = next(choice for choice in choices if not used & _files(choice, formats))
        used |= _files(chosen, formats)
        planned.append(chosen)
    return planned


def name_of(recording: str) -> str:
    """Returns a file name for the recording: the last part of its name, shortened to what file systems allow.

    Names of dots only would be folders and are replaced.
    """
    name = PurePath(recording).name
    encoded = name.encode("utf-8", "surrogateescape")[:MAX_NAME_BYTES]
    short = encoded.decode("utf-8", "ignore") if len(encoded) == MAX_NAME_BYTES else name
    return short if short.strip(".") else "recording"


def _choices(name: str, *, first: str) -> Iterator[str]:
    yield first
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _files(name: str, formats: Collection[OutputFormat]) -> set[str]:
    return {_normalize(f"{name}.{output_format}") for output_format in formats}


def _normalize(name: str) -> str:
    """Makes names equal that are the same on some file systems."""
    return name.casefold()


def write_file(path: Path, text: str, *, overwrite: bool) -> None:
    """Writes ``text`` as ``new_file`` does."""
    with new_file(path, overwrite=overwrite) as file:
        file.write(text.encode())


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Yields a file to write to. It is at ``path`` after the context, and nowhere if the context raised an error.

    Raises ``FileExistsError`` if the file exists and ``overwrite`` is false.
    """
    check_overwrite(path, overwrite=overwrite)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def create_folder(folder: Path, option: str) -> None:
    """Creates ``folder`` if it is missing. Raises a usage error about ``option`` if no file can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        files = (path for path in (folder, *folder.parents) if path.exists() and not path.is_dir())
        why = next((f"{path} is a file" for path in files), error.strerror or str(error))
        raise _unusable(folder, f"it cannot be created: {why}", option) from None
    check_folder(folder, option)


def check_folder(folder: Path, option: str) -> None:
    """Raises a usage error about ``option`` if no file can be written to ``folder``."""
    if not folder.is_dir():
        raise _unusable(folder, "it is a file" if folder.exists() else "it does not exist", option)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(folder, "check its permissions", option)


def _unusable(folder: Path, why: str, option: str) -> typer.BadParameter:
    return typer.BadParameter(f"nothing can be written to the folder {folder}: {why}", param_hint=option)


def check_overwrite(path: Path, *, overwrite: bool) -> None:
    """Raises ``FileExistsError`` if ``path`` exists and ``overwrite`` is false."""
    if path.exists() and not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
