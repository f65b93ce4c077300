"""Whose calls these are, as the gateway is told with each of them."""

from __future__ import annotations

from typing import TypeAlias

from careca.errors import InvalidRequest
from careca.submitter import KEY, RULE, is_name

Metadata: TypeAlias = tuple[tuple[str, str], ...]
"""What a call carries beside its message."""


def metadata_for(submitter: str) -> Metadata:
    """What says that ``submitter`` calls; empty for nobody in particular, whom the gateway calls anonymous.

    Raises ``InvalidRequest`` where it is no name that the gateway takes.
    """
    if not submitter:
        return ()
    if not is_name(submitter):
        raise InvalidRequest(
            f"a submitter's name must have {RULE}",
            field=KEY,
            metadata={"submitter": submitter},
        )
    return ((KEY, submitter),)
