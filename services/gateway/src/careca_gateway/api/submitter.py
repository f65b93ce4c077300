"""The submitter of a call: the name of the caller's token or, without tokens, the name in the call's metadata."""

from __future__ import annotations

from collections.abc import Iterable

from careca.auth.caller import current_caller
from careca.auth.submitter import KEY, RULE, is_name
from careca.errors import InvalidRequest, PermissionDenied

ANONYMOUS = "anonymous"
"""The submitter of all calls without a name."""


def submitter_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Returns the submitter.

    Raises ``InvalidRequest`` if the name in the metadata is invalid, ``PermissionDenied`` (NOT_YOUR_NAME) if it differs
    from the token's name.
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
