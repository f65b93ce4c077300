"""Writes to the terminal. stdout has results only; messages for people go to stderr."""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from careca.formatting import printable

PROGRAM = "careca"
"""Every line on stderr starts with this."""

UNLIMITED_WIDTH = 1_000
"""Characters in a line of stdout if it is not a terminal."""


def stderr() -> Console:
    """Returns the console for messages. It never wraps lines, so that each message is one line in a log."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def stdout() -> Console:
    """Returns the console for results. If stdout is not a terminal, it writes plain text of any width."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = UNLIMITED_WIDTH
    return console


def print_document(document: Any, *parts: Table | str, as_json: bool) -> None:
    """Prints the document as JSON, or else the tables and lines in ``parts``."""
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        for part in parts:
            stdout().print(part)


def print_error(
    message: str, subject: str = "", error: BaseException | None = None, console: Console | None = None
) -> None:
    """Prints one line about what went wrong with ``subject``, below the traceback of ``error`` if there is one."""
    console = console or stderr()
    if error is not None:
        console.print("".join(traceback.format_exception(error)).rstrip())
    console.print(Text.assemble((line(message, subject), "red")))


def print_warning(message: str, subject: str, console: Console | None = None) -> None:
    """Prints one line about ``subject`` that a person should see although nothing failed.

    The message may contain names from a recording.
    """
    (console or stderr()).print(Text(line(printable(message), subject), "yellow"))


def line(message: str, subject: str = "") -> str:
    """Returns ``careca: SUBJECT: MESSAGE``."""
    return ": ".join(part for part in (PROGRAM, printable(subject), message) if part)


def confirm(question: str, alternative: str) -> None:
    """Asks the person at the terminal. Ends the command with exit code 0 if the answer is no.

    Raises a usage error that names the ``alternative`` if stdin is not a terminal.
    """
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"there is no terminal to ask for confirmation: {alternative}")
    if not typer.confirm(question, err=True):
        raise typer.Exit(0)
