"""The option that names a revision of a transcript."""

from __future__ import annotations

from typing import Annotated

import typer

ORIGINAL = "original"
"""What was recognised: revision 0."""


def parse_revision(text: str) -> int:
    """Returns the number of a revision. Raises a usage error if ``text`` names none."""
    if text.lower() == ORIGINAL:
        return 0
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise typer.BadParameter(f"{text} is no revision: give a number, as in `careca revisions`, or {ORIGINAL}")


Revision = Annotated[
    int | None,
    typer.Option(
        "--revision",
        parser=parse_revision,
        metavar=f"{ORIGINAL}|N",
        help=f"Revision of a corrected transcript; {ORIGINAL} is what was recognised. Default: the newest.",
    ),
]
