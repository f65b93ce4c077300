"""Repositories of the Hugging Face hub as models: their names and folders."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
