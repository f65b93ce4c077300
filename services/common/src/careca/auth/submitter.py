"""Who submits: a name that callers give in metadata, which tells jobs apart and proves nothing."""

from __future__ import annotations

import re

KEY = "x-careca-submitter"
"""The metadata key."""

RULE = "from 1 to 64 letters, digits and any of . _ - @"
"""What a name is made of, in words."""

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def is_name(text: str) -> bool:
    """Whether ``text`` can be a submitter's name."""
    return _NAME.fullmatch(text) is not None
