"""Digests of files, and the check of a folder against expected digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from careca.models.catalogue import ModelFile


def sha256_of(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_fault(folder: Path, files: Iterable[ModelFile]) -> str | None:
    """Returns a description of the first wrong file in the folder, or ``None`` if all files are right."""
    for file in files:
        path = folder / file.name
        if not path.is_file():
            return f"{path} is missing"
        if (size := path.stat().st_size) != file.size_bytes:
            return f"{path} has {size:,} bytes instead of {file.size_bytes:,}"
        if (sha256 := sha256_of(path)) != file.sha256:
            return f"{path} has the SHA-256 {sha256} instead of {file.sha256}"
    return None
