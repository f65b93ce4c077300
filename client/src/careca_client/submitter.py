"""Whose calls these are, as the gateway is told with each of them."""

from __future__ import annotations

import re
from typing import TypeAlias

from careca.errors import InvalidRequest

METADATA_KEY = "x-careca-submitter"
"""The key of the name in a call's metadata."""

Metadata: TypeAlias = tuple[tuple[str, str], ...]
"""What a call carries beside its message."""

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def metadata_for(submitter: str) -> Metadata:
    """What says that ``submitter`` calls; empty for nobody in particular, whom the gateway calls anonymous.

    Raises ``InvalidRequest`` where it is no name that the gateway takes.
    """
    if not submitter:
        return ()
    if not _NAME.fullmatch(submitter):
        raise InvalidRequest(
            "a submitter must be named by 1 to 64 letters, digits and any of . _ - @",
            field=METADATA_KEY,
            metadata={"submitter": submitter},
        )
    return ((METADATA_KEY, submitter),)
