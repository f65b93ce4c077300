"""Where lines for people go: stderr, so that stdout carries results only."""

from __future__ import annotations

import sys
import traceback

import typer
from rich.console import Console
from rich.text import Text

PROGRAM = "careca"
"""What every line on stderr starts with."""

UNLIMITED_WIDTH = 1_000
"""Characters in a line where nobody's terminal sets a limit."""


def stderr() -> Console:
    """The console for people. Lines are never wrapped, so that each message stays one line in a log."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def stdout() -> Console:
    """The console for results that people read; plain text, of any width, where stdout is no terminal."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = UNLIMITED_WIDTH
    return console


def complain(
    message: str, error: BaseException | None = None, *, subject: str = "", console: Console | None = None
) -> None:
    """One line on what went wrong with ``subject``; the traceback of ``error``, where given, above it."""
    console = console or stderr()
    if error is not None:
        console.print("".join(traceback.format_exception(error)).rstrip())
    console.print(Text.assemble((line(message, subject), "red")))


def warn(message: str, subject: str, console: Console | None = None) -> None:
    """One line on ``subject`` that a person should not miss, though nothing failed.

    The message may have names from a recording in it.
    """
    (console or stderr()).print(Text(line(printable(message), subject), "yellow"))


def line(message: str, subject: str = "") -> str:
    """``careca: SUBJECT: MESSAGE``."""
    return ": ".join(part for part in (PROGRAM, printable(subject), message) if part)


def printable(name: str) -> str:
    """``name`` without what a terminal would act upon: names of files and tracks may have anything in them."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)


def ask(question: str, otherwise: str) -> None:
    """Lets a person confirm; ends the command, all being well, where that person does not.

    Raises a usage error, with what to do ``otherwise``, where there is none to ask.
    """
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"nobody can be asked here: {otherwise}")
    if not typer.confirm(question, err=True):
        raise typer.Exit(0)
