"""Repositories of the Hugging Face hub as models: their names, their folders, and the record of what was pulled."""

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
    """A repository, such as ``Systran/faster-whisper-small``, and a revision after ``@`` where one was chosen."""

    repository: str
    revision: str | None

    @property
    def folder(self) -> str:
        """The name of its folder in the store."""
        return self.repository.replace("/", "--") + (f"@{self.revision}" if self.revision else "")


def parse_snapshot_name(name: str) -> SnapshotName | None:
    """The repository that a name means, or ``None`` where it means none."""
    matched = _NAME.fullmatch(name)
    return SnapshotName(matched["repository"], matched["revision"]) if matched else None


def write_record(folder: Path, repository: str, revision: str) -> None:
    """Notes beside the files where they came from and their digests, which later checks go by."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [ModelFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path)) for path in paths]
    record = {"repository": repository, "revision": revision, "files": [asdict(file) for file in files]}
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> tuple[ModelFile, ...] | None:
    """The files that were pulled into this folder, or ``None`` where none were."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return tuple(ModelFile(**file) for file in record["files"])
