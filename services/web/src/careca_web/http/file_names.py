"""Names of files that callers send, and names for the files that they download. No name is ever used as a path."""

from __future__ import annotations

import re
from urllib.parse import quote

from careca_client.recording import displayable

_SEPARATORS = re.compile(r"[/\\]")
_UNSAFE = re.compile(r"[^A-Za-z0-9._ ()-]|^\.+")
_MAX_STEM = 150


def received_name(text: str | None) -> str:
    """Returns the last part of the name or path that a caller sent for a file, as the gateway accepts it."""
    return displayable(_SEPARATORS.split(text or "")[-1].strip())


def download_name(name: str, extension: str) -> str:
    """Returns the name of the file with the result of the recording ``name``."""
    stem, dot, _ = received_name(name).rpartition(".")
    return f"{(stem if dot and stem else received_name(name))[:_MAX_STEM].strip() or 'recording'}.{extension}"


def attachment(name: str) -> str:
    """Returns the Content-Disposition with which browsers save a response as the file ``name`` (RFC 6266)."""
    plain = _UNSAFE.sub("_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
