"""The folder of a store: its files, which of them are in use, and temporary files.

    recordings/<sha256>         the bytes as they were uploaded
    audio/<sha256>.s16          decoded audio: 16 kHz mono signed 16-bit little-endian PCM
    decoded/<sha256>.mix.json   which audio a recording decodes to, with the decoder's notices (``decoded_record.py``);
                                .separate.json: each channel by itself; .mix.2.json: only track 2
    waveforms/<sha256>.i8       peaks of the decoded audio (``careca_gateway.playback.waveform``)
    drafts/                     files that are being written; moved when they are complete, removed at the next start

All functions block and are called from threads. One process uses a folder at a time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from careca.errors import PreconditionFailed
from careca.types import Digest
from careca_gateway.request import AudioSelection
from careca_gateway.storage.decoded_record import DecodedRecord


class StoreFiles:
    """The files of the store in the folder ``root``, which is created if it does not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recordings = root / "recordings"
        self.audio = root / "audio"
        self.decoded = root / "decoded"
        self.waveforms = root / "waveforms"
        self.drafts = root / "drafts"
        self._pins: Counter[Path] = Counter()
        self._unpinned: set[Path] | None = None
        """Files that were unpinned in the context ``protect_unpinned``; ``None`` outside of it."""
        self._lock = threading.Lock()
        self._owner: IO[bytes] | None = None

    def open(self) -> None:
        """Locks the folder for this process and removes temporary files that a crash left. Only this user can read it.

        Raises ``PreconditionFailed`` if another process has locked it, or it cannot be written.
        """
        try:
            for folder in (self.recordings, self.audio, self.decoded, self.waveforms, self.drafts):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._owner = (self.root / "owner.lock").open("wb")
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PreconditionFailed(
                f"the store {self.root} is in use by another gateway; give each its own with CARECA_STORE_DIR",
                reason="STORE_IN_USE",
            ) from None
        except OSError as error:
            raise PreconditionFailed(
                f"the store {self.root} cannot be used ({error.strerror}); choose another with CARECA_STORE_DIR",
                reason="STORE_UNUSABLE",
            ) from error
        for draft in self.drafts.iterdir():
            draft.unlink()

    def close(self) -> None:
        """Unlocks the folder."""
        if self._owner:
            self._owner.close()

    def recording_path(self, digest: Digest) -> Path:
        """Returns the path for the recording, whether it exists or not."""
        return self.recordings / digest.sha256

    def audio_path(self, digest: Digest) -> Path:
        """Returns the path for the decoded audio, whether it exists or not."""
        return self.audio / f"{digest.sha256}.s16"

    def record_path(self, recording: Digest, selection: AudioSelection) -> Path:
        """Returns the path for the record of what the recording decodes to, whether it exists or not."""
        return self.decoded / f"{recording.sha256}.{selection}.json"

    def waveform_path(self, audio: Digest) -> Path:
        """Returns the path for the waveform of the decoded audio, whether it exists or not."""
        return self.waveforms / f"{audio.sha256}.i8"

    def free_bytes(self) -> int:
        """Returns the number of free bytes on the disk."""
        return shutil.disk_usage(self.root).free

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Creates an empty temporary file. It is removed at the end unless it was moved."""
        handle, name = tempfile.mkstemp(dir=self.drafts)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def pin(self, path: Path) -> None:
        """Protects ``path`` from being removed until it is unpinned as often as it was pinned."""
        with self._lock:
            self._pins[path] += 1

    def unpin(self, path: Path) -> None:
        """Undoes one ``pin``."""
        with self._lock:
            self._pins[path] -= 1
            if not self._pins[path]:
                del self._pins[path]
                if self._unpinned is not None:
                    self._unpinned.add(path)

    @contextmanager
    def protect_unpinned(self) -> Iterator[None]:
        """Files that are unpinned in this context are not removed by ``remove`` in it.

        The context must begin before the caller asks which recordings are in use: a request may unpin a recording just
        after a new job needs it, and that job may be missing from the answer.
        """
        self._unpinned = set()
        try:
            yield
        finally:
            self._unpinned = None

    def remove(self, path: Path) -> bool:
        """Removes ``path`` and returns true, unless it is pinned or protected."""
        with self._lock:
            if self._pins[path] or path in (self._unpinned or ()):
                return False
            path.unlink(missing_ok=True)
            return True

    def discard(self, path: Path) -> None:
        """Removes ``path``, which the caller has pinned, unless others have pinned it too."""
        with self._lock:
            if self._pins[path] <= 1:
                path.unlink(missing_ok=True)


def touch(path: Path, size_bytes: int) -> bool:
    """Marks the file as used now. Returns whether it exists with that size."""
    try:
        if path.stat().st_size != size_bytes:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def list_files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Returns the files in ``folder``. Files that are removed meanwhile are left out."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found.append((Path(entry.path), entry.stat()))
            except FileNotFoundError:
                continue
    return found


def read_record(path: Path) -> DecodedRecord | None:
    """Returns the record, or ``None`` if the file does not exist or has another format."""
    try:
        return DecodedRecord.from_json(path.read_bytes())
    except FileNotFoundError:
        return None
