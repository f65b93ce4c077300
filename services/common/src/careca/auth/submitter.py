"""The submitter: a name that callers may send as metadata to tell their jobs apart. It is not authenticated."""

from __future__ import annotations

import re

KEY = "x-careca-submitter"
"""The metadata key."""

RULE = "from 1 to 64 letters, digits and any of . _ - @"
"""The rule for names, for error messages."""

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def is_name(text: str) -> bool:
    """Whether ``text`` is a valid name."""
    return _NAME.fullmatch(text) is not None
