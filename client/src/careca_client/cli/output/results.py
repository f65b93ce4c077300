"""Writes results: to files in the chosen formats, or to stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from careca.formatting import format_time, printable
from careca.types import OutputFormat, Segment
from careca_client.cli.output.files import write_file
from careca_client.cli.output.terminal import stdout
from careca_client.result import TranscriptionResult

JOINABLE = frozenset({OutputFormat.JSON, OutputFormat.TXT, OutputFormat.RTTM, OutputFormat.STM})
"""Formats of which several results may follow each other on stdout. The others have headers or count from one."""

SPEAKER_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")
"""Styles of speakers in a terminal, in order of first speech."""


def write_result(
    result: TranscriptionResult,
    formats: Sequence[OutputFormat],
    files: Mapping[OutputFormat, Path],
    *,
    overwrite: bool,
) -> None:
    """Writes the ``files`` of the result. Without any, prints its first format, or its utterances for people.

    Raises ``OSError`` if something cannot be written.
    """
    for output_format, path in files.items():
        write_file(path, result.formats[output_format], overwrite=overwrite)
    if files:
        return
    if not formats:
        _print_utterances(result, stdout())
    else:
        text = result.formats[formats[0]]
        typer.echo(text, nl=not text.endswith("\n"))
    sys.stdout.flush()


def print_segment(segment: Segment, name: str, console: Console) -> None:
    """Prints one line: the recording's ``name``, unless it is empty, the time, and the text."""
    prefix = f"{printable(name)}: " if name else ""
    console.print(Text.assemble(prefix, times_text(segment.start, segment.end), segment.text.strip()))


def _print_utterances(result: TranscriptionResult, console: Console) -> None:
    """Prints one line for each utterance: time, speaker, text."""
    styles = {
        speaker.display_name: SPEAKER_STYLES[index % len(SPEAKER_STYLES)]
        for index, speaker in enumerate(result.speakers)
    }
    for utterance in result.utterances:
        speaker = (f"{utterance.speaker or 'UNKNOWN'}: ", styles.get(utterance.speaker or "", ""))
        console.print(Text.assemble(times_text(utterance.start, utterance.end), speaker, utterance.text))


def times_text(start: float, end: float) -> tuple[str, str]:
    """Returns the times before a line, with their style."""
    return f"[{format_time(start)} - {format_time(end)}] ", "dim"
