"""What files hold that may be replaced while the process runs, as Kubernetes does with mounted secrets."""

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
    """The value of files, as they are now, or were last while they could be used: what cannot be is logged.

    Args:
        paths: the files.
        read: their value. Raises ``PreconditionFailed`` where they cannot be used, which at the start is passed on.
        what: what they hold, in words.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], V], *, what: str) -> None:
        self._paths = paths
        self._read = read
        self._what = what
        self._stamps = self._stamp()
        self._value = read()

    def current(self) -> V:
        """The value now."""
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
        """Differs where a file was replaced or written, which costs less to see than to read it."""
        return [_stamp_of(path) for path in self._paths]


def _stamp_of(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return _MISSING
    return status.st_ino, status.st_size, status.st_mtime_ns
