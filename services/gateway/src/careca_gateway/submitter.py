"""Who submits, as the caller says."""

from __future__ import annotations

from collections.abc import Iterable

from careca.errors import InvalidRequest
from careca.submitter import KEY, RULE, is_name

ANONYMOUS = "anonymous"
"""Everybody who gives no name."""


def submitter_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The caller's name. Raises ``InvalidRequest`` where it is given and is no name."""
    for key, value in metadata or ():
        if key == KEY:
            if not isinstance(value, str) or not is_name(value):
                raise InvalidRequest(f"the metadata {KEY} must have {RULE}", field=KEY)
            return value
    return ANONYMOUS
