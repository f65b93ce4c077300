"""Bytes in the store that are read in parts: of a local file, or of an object in the storage that gateways share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from careca.types import Digest

Read = Callable[[int, int], bytes]
"""Returns a number of bytes from an offset. All of them must exist. Blocks."""


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """A recording or an audio in the store.

    ``read`` raises ``NotFound`` if the bytes were removed from a shared store meanwhile.
    """

    digest: Digest
    read: Read


def open_file(digest: Digest, path: Path) -> StoredBytes:
    """Returns the bytes of a local file, which must not be removed while they are read."""
    return StoredBytes(digest, partial(_read_file, path))


def _read_file(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
