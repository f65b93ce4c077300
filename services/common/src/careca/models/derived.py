"""Files that are made from the weights of models, such as networks in another format, and kept beside the weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from careca.models.digests import find_fault
from careca.models.locking import locked
from careca.models.records import read_record, write_record
from careca.telemetry.logs import get_logger

_LOCK_FILE = ".lock"
_WORK_FOLDER = ".new"

_KEPT = 2
"""How many folders stay: the newest, and the one before, which processes of the previous version may still load."""

Make = Callable[[Path], None]
"""Writes the files into an empty folder."""

_log = get_logger(__name__)


@contextmanager
def derived_folder(folder: Path, make: Make) -> Iterator[Path]:
    """Yields a folder with the files of ``make``: ``folder``, if it has them and their digests are right.

    Otherwise ``make`` writes them into a temporary folder, which exists until the context is left, and they are copied
    to ``folder`` for the next time. A ``folder`` that cannot be written, as on a read-only volume, is not an error.
    """
    fault = _fault_of(folder)
    if not fault:
        yield folder
        return
    with _made(make) as made:
        try:
            _keep(made, folder)
        except OSError as error:
            _log.info("derived files are not kept", folder=str(folder), fault=fault, error=str(error))
        yield made


def keep_derived(folder: Path, make: Make) -> None:
    """Makes the files in ``folder``, unless it has them and their digests are right.

    Raises ``OSError`` if ``folder`` cannot be written.
    """
    if _fault_of(folder):
        with _made(make) as made:
            _keep(made, folder)


@contextmanager
def _made(make: Make) -> Iterator[Path]:
    with TemporaryDirectory(prefix="careca-derived-") as name:
        made = Path(name) / "files"  # the folder above is for this user only, and a copy would be so too
        made.mkdir()
        make(made)
        yield made


def _keep(made: Path, folder: Path) -> None:
    """Copies the files to ``folder`` in one step, or in two if a damaged folder must be replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / _LOCK_FILE):
        if not _fault_of(folder):  # another process was faster, and a third one may read them now
            return
        work = folder.parent / _WORK_FOLDER
        shutil.rmtree(work, ignore_errors=True)  # what an interrupted process left
        shutil.copytree(made, work)
        write_record(work, {"derived": folder.name})
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        _remove_old(folder.parent)


def _remove_old(parent: Path) -> None:
    folders = [folder for folder in parent.iterdir() if folder.is_dir()]
    for old in sorted(folders, key=lambda folder: folder.stat().st_mtime_ns)[:-_KEPT]:
        shutil.rmtree(old)


def _fault_of(folder: Path) -> str | None:
    try:
        files = read_record(folder)
        return find_fault(folder, files) if files else f"{folder} has no files"
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"{folder} cannot be read: {error}"
