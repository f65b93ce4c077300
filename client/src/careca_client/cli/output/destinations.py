"""Where results go: names of output files, and what stands on stdout."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

import typer
from rich.console import Console
from rich.text import Text

from careca.formatting import format_time
from careca.types import OutputFormat, Segment, Utterance
from careca_client.cli.output import terminal
from careca_client.result import TranscriptionResult

JOINABLE = frozenset({OutputFormat.JSON, OutputFormat.TXT, OutputFormat.RTTM, OutputFormat.STM})
"""Formats of which several may follow each other on stdout; the others have headers or count from one."""

MAX_NAME_BYTES = 200
"""Longest name that output files have from their recording: file systems take 255 bytes, some of which are ours."""

SPEAKER_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")
"""Styles of speakers in a terminal, in order of first speech."""


def plan_names(recordings: Sequence[str], formats: Collection[OutputFormat], taken: Collection[Path]) -> list[str]:
    """For each recording's file name the output file name without its last extension, none of them alike.

    This is the stem; the whole name where several recordings share the stem or the output would replace one of the
    recordings (``taken``); a number is added where even that is not enough.
    """
    names = [_fitting(PurePath(recording).name) for recording in recordings]
    stems = Counter(_alike(PurePath(name).stem) for name in names)
    used = {_alike(path.name) for path in taken}
    planned = []
    for name in names:
        stem = PurePath(name).stem
        choices = _choices(name, first=stem if stems[_alike(stem)] == 1 else name)
        chosen = next(choice for choice in choices if not used & _files(choice, formats))
        used |= _files(chosen, formats)
        planned.append(chosen)
    return planned


def _fitting(name: str) -> str:
    """``name``, short enough for a file system with what is added to it, and never one that says a folder."""
    encoded = name.encode("utf-8", "surrogateescape")[:MAX_NAME_BYTES]
    fitting = encoded.decode("utf-8", "ignore") if len(encoded) == MAX_NAME_BYTES else name
    return fitting if fitting.strip(".") else "recording"


def _choices(name: str, *, first: str) -> Iterator[str]:
    yield first
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _files(name: str, formats: Collection[OutputFormat]) -> set[str]:
    return {_alike(f"{name}.{output_format}") for output_format in formats}


def _alike(name: str) -> str:
    """Names that some file systems take for the same."""
    return name.casefold()


def write_file(path: Path, text: str, *, overwrite: bool) -> None:
    """Writes ``text`` whole or not at all. Raises ``FileExistsError`` where it exists and must stay."""
    refuse_existing(path, overwrite=overwrite)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def deliver(
    result: TranscriptionResult,
    formats: Sequence[OutputFormat],
    files: Mapping[OutputFormat, Path],
    *,
    overwrite: bool,
) -> None:
    """Writes the result's ``files``; where there are none, prints its first format, or its utterances for people.

    Raises ``OSError`` where something cannot be written.
    """
    for output_format, path in files.items():
        write_file(path, result.formats[output_format], overwrite=overwrite)
    if files:
        return
    if not formats:
        print_utterances(result, terminal.stdout())
    else:
        text = result.formats[formats[0]]
        typer.echo(text, nl=not text.endswith("\n"))
    sys.stdout.flush()


def make_folder(folder: Path, option: str) -> None:
    """Makes ``folder`` where it is missing. Raises a usage error about ``option`` where it cannot take files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        files = (path for path in (folder, *folder.parents) if path.exists() and not path.is_dir())
        why = next((f"{path} is a file" for path in files), error.strerror or str(error))
        raise _unusable(folder, f"it cannot be made: {why}", option) from None
    check_folder(folder, option)


def check_folder(folder: Path, option: str) -> None:
    """Raises a usage error about ``option`` where ``folder`` cannot take files."""
    if not folder.is_dir():
        raise _unusable(folder, "it is a file" if folder.exists() else "there is none of this name", option)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(folder, "check its permissions", option)


def _unusable(folder: Path, why: str, option: str) -> typer.BadParameter:
    return typer.BadParameter(f"nothing can be written to the folder {folder}: {why}", param_hint=option)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raises ``FileExistsError`` where ``path`` exists and must not be replaced."""
    if path.exists() and not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def print_utterances(result: TranscriptionResult, console: Console) -> None:
    """One line for each utterance: time, speaker, text."""
    styles = {
        speaker.display_name: SPEAKER_STYLES[index % len(SPEAKER_STYLES)]
        for index, speaker in enumerate(result.speakers)
    }
    for utterance in result.utterances:
        console.print(_line_of(utterance, styles.get(utterance.speaker or "", "")))


def print_segment(segment: Segment, name: str, console: Console) -> None:
    """One line: whose it is, where that has to be said, time, text."""
    start, end = format_time(segment.start), format_time(segment.end)
    console.print(
        Text.assemble(
            f"{terminal.printable(name)}: " if name else "", (f"[{start} - {end}] ", "dim"), segment.text.strip()
        )
    )


def _line_of(utterance: Utterance, style: str) -> Text:
    return Text.assemble(
        (f"[{format_time(utterance.start)} - {format_time(utterance.end)}] ", "dim"),
        (f"{utterance.speaker or 'UNKNOWN'}: ", style),
        utterance.text,
    )
