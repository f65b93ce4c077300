"""Records of the files in a folder with their digests, for folders whose digests no catalogue knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from careca.models.catalogue import ModelFile
from careca.models.digests import sha256_of

_RECORD = "careca.json"


def write_record(folder: Path, origin: Mapping[str, str]) -> None:
    """Writes the origin and the digests of the files into their folder, for later checks."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [ModelFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path)) for path in paths]
    record = {**origin, "files": [asdict(file) for file in files]}
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> tuple[ModelFile, ...] | None:
    """Returns the files that a record says are in this folder, or ``None`` if there is no record."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return tuple(ModelFile(**file) for file in record["files"])
