"""Files that may be replaced while the process runs, as Kubernetes does with mounted secrets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from careca.errors import PreconditionFailed
from careca.telemetry.logs import get_logger

V = TypeVar("V")

_Stamp: TypeAlias = tuple[int, int, int]

_MISSING: _Stamp = (0, 0, 0)

_log = get_logger(__name__)


class WatchedFiles(Generic[V]):
    """A value that is read from files, and read again when they change.

    If the new files cannot be used, that is logged and the old value stays.

    Args:
        paths: the files.
        read: reads the value. Raises ``PreconditionFailed`` if the files cannot be used; at the start this is passed
            on.
        what: what the files contain, for the log.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], V], *, what: str) -> None:
        self._paths = paths
        self._read = read
        self._what = what
        self._stamps = self._stamp()
        self._value = read()

    def current(self) -> V:
        """Returns the current value."""
        stamps = self._stamp()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._value = self._read()
            except PreconditionFailed as error:
                _log.error(f"new {self._what} cannot be used; the old ones stay in use", error=error.message)
            else:
                _log.info(f"{self._what} read again", files=[str(path) for path in self._paths])
        return self._value

    def _stamp(self) -> list[_Stamp]:
        """Changes when a file is replaced or written. Cheaper than reading the files."""
        return [_stamp_of(path) for path in self._paths]


def _stamp_of(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return _MISSING
    return status.st_ino, status.st_size, status.st_mtime_ns
