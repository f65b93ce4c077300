"""Who submits: a name that the caller gives in metadata. It tells jobs apart and takes turns; it proves nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

from careca.errors import InvalidRequest

KEY = "x-careca-submitter"
"""The metadata key."""

ANONYMOUS = "anonymous"
"""Everybody who gives no name."""

_ACCEPTED = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def submitter_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The caller's name. Raises ``InvalidRequest`` where it is given and is no name."""
    for key, value in metadata or ():
        if key == KEY:
            if not isinstance(value, str) or not _ACCEPTED.fullmatch(value):
                raise InvalidRequest(
                    f"the metadata {KEY} must have from 1 to 64 letters, digits and any of . _ - @", field=KEY
                )
            return value
    return ANONYMOUS
