"""Who submits: the name of the caller's token; where nobody is asked for one, the name that the caller gives."""

from __future__ import annotations

from collections.abc import Iterable

from careca.auth.caller import current_caller
from careca.auth.submitter import KEY, RULE, is_name
from careca.errors import InvalidRequest, PermissionDenied

ANONYMOUS = "anonymous"
"""Everybody who gives no name."""


def submitter_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The caller's name.

    Raises ``InvalidRequest`` where it gives one that is none, ``PermissionDenied`` (NOT_YOUR_NAME) where it is another
    than its token's.
    """
    known = current_caller().name
    for key, value in metadata or ():
        if key == KEY:
            if not isinstance(value, str) or not is_name(value):
                raise InvalidRequest(f"the metadata {KEY} must have {RULE}", field=KEY)
            if known and value != known:
                raise PermissionDenied(f"the token is {known}'s: leave {KEY} away", reason="NOT_YOUR_NAME")
            return value
    return known or ANONYMOUS
