"""Repositories of the Hugging Face hub as models: names, folders, and records of the pulled files."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from careca.models.catalogue import ModelFile
from careca.models.digests import sha256_of

_RECORD = "careca.json"
_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """A repository, such as ``Systran/faster-whisper-small``, and the optional revision after ``@``."""

    repository: str
    revision: str | None

    @property
    def folder(self) -> str:
        """The name of its folder in the store."""
        return self.repository.replace("/", "--") + (f"@{self.revision}" if self.revision else "")


def parse_snapshot_name(name: str) -> SnapshotName | None:
    """Returns the repository of a name, or ``None`` if the name is not a repository."""
    matched = _NAME.fullmatch(name)
    return SnapshotName(matched["repository"], matched["revision"]) if matched else None


def write_record(folder: Path, repository: str, revision: str) -> None:
    """Writes the source and the digests of the files into their folder, for later checks."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [ModelFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path)) for path in paths]
    record = {"repository": repository, "revision": revision, "files": [asdict(file) for file in files]}
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> tuple[ModelFile, ...] | None:
    """Returns the files that were pulled into this folder, or ``None`` if there is no record."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return tuple(ModelFile(**file) for file in record["files"])
