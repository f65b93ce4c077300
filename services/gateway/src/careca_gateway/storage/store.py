"""The store of one gateway: recordings and their decoded audio on disk, named by their content.

If the files need too much space, the least recently used ones are removed first. Files that a running request holds
stay. All functions block and are called from threads.

If several gateways share recordings (``careca_gateway.storage.shared_store``), this is the local copy of one of them:
it shares what it receives and decodes, and it fetches what it does not have.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from careca.errors import InvalidRecording
from careca.telemetry.logs import get_logger
from careca.types import Digest
from careca_gateway.storage import caller_limits
from careca_gateway.storage.files import StoreFiles, list_files, read_record
from careca_gateway.storage.held_recording import HeldRecording
from careca_gateway.storage.shared_store import SharedStore
from careca_gateway.storage.stored_bytes import open_file
from careca_gateway.storage.upload import disk_space, store_full

FREE_BYTES = 64 * 1024 * 1024
"""The space that an upload must leave on the disk, for decoding and for other programs."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """What the store contains."""

    recordings: int
    size_bytes: int
    """Bytes of recordings and of decoded audio."""


class Store:
    """The store in the folder ``root``.

    Args:
        root: is created if it does not exist. Only this user can read it.
        max_bytes: the maximum size of recordings and audio. Files in use may exceed it.
        retention_seconds: how long an unused file is kept.
        max_recording_bytes: the maximum size of a recording.
        shared: the recordings of all gateways; ``None`` if there is only this gateway.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int,
        retention_seconds: float,
        max_recording_bytes: int,
        shared: SharedStore | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._retention_seconds = retention_seconds
        self._max_recording_bytes = max_recording_bytes
        self.files = StoreFiles(root)
        self.shared = shared

    def open(self) -> None:
        """Locks the folder for this process. Raises ``PreconditionFailed`` if that is not possible."""
        self.files.open()

    def close(self) -> None:
        """Unlocks the folder."""
        self.files.close()

    @contextmanager
    def hold(self, recording: Digest) -> Iterator[HeldRecording]:
        """Protects ``recording`` and its audio from being removed until the context ends.

        Raises ``InvalidRecording`` if the recording is larger than the caller's token allows.
        """
        caller_limits.check_size(recording)
        held = HeldRecording(self.files, recording, shared=self.shared, check_size=self.check_size)
        try:
            held.pin(held.path)
            yield held
        finally:
            held.release()

    def check_size(self, recording: Digest) -> None:
        """Raises ``InvalidRecording`` if the recording is too large or empty, ``Overloaded`` if the disk is full."""
        if recording.size_bytes > self._max_recording_bytes:
            raise InvalidRecording(
                f"the recording has {recording.size_bytes} bytes; at most {self._max_recording_bytes} are accepted",
                reason="RECORDING_TOO_LARGE",
                field="config.recording.size_bytes",
                metadata={"size_bytes": str(recording.size_bytes), "max_bytes": str(self._max_recording_bytes)},
            )
        if not recording.size_bytes:
            raise InvalidRecording(
                "the recording is empty: it has no bytes", reason="EMPTY_AUDIO", field="config.recording.size_bytes"
            )
        if self.free_bytes() < recording.size_bytes + FREE_BYTES:
            raise store_full()

    def free_bytes(self) -> int:
        """Returns the number of free bytes on the disk. A recording must leave at least ``FREE_BYTES`` of them."""
        return self.files.free_bytes()

    def usage(self) -> StoreUsage:
        """Returns what the store contains now; if gateways share recordings, what all of them have."""
        if self.shared:
            return StoreUsage(*self.shared.usage())
        recordings, audio = list_files(self.files.recordings), list_files(self.files.audio)
        return StoreUsage(len(recordings), sum(status.st_size for _, status in (*recordings, *audio)))

    def sweep(self, in_use: frozenset[str] = frozenset(), *, shared: bool = True) -> None:
        """Removes unused files after the retention time, then the least recently used ones beyond the maximum size.

        Args:
            in_use: recordings to keep, by their SHA-256.
            shared: whether to sweep the shared store too, which takes longer.
        """
        if self.shared:
            if shared:
                self.shared.sweep(in_use)
            in_use = frozenset()  # shared recordings can be fetched again
        needed = in_use | self._audio_of_missing(in_use)
        files = sorted(
            (*list_files(self.files.recordings), *list_files(self.files.audio)), key=lambda file: file[1].st_mtime_ns
        )
        excess = sum(status.st_size for _, status in files) - self._max_bytes
        oldest = time.time() - self._retention_seconds
        for path, status in files:
            if path.name not in needed and (status.st_mtime < oldest or excess > 0) and self.files.remove(path):
                excess -= status.st_size
                _log.info("swept from the store", folder=path.parent.name, name=path.name, size_bytes=status.st_size)
        for path, _ in list_files(self.files.decoded):
            record = read_record(path)
            if not record or not all(self.files.audio_path(digest).exists() for digest in record.audio):
                path.unlink(missing_ok=True)
        audio = {path.stem for path, _ in list_files(self.files.audio)}
        for path, _ in list_files(self.files.waveforms):
            if path.stem not in audio:
                path.unlink(missing_ok=True)

    def waveform(self, audio: Digest, offset: int, length: int) -> bytes | None:
        """Returns a part of the waveform of the audio, or ``None`` if it is not stored."""
        if self.shared:
            return self.shared.waveform(audio, offset, length)
        try:
            return open_file(audio, self.files.waveform_path(audio)).read(offset, length)
        except FileNotFoundError:
            return None

    def put_waveform(self, audio: Digest, waveform: bytes) -> None:
        """Stores the waveform of the audio, which a request holds. It is removed with the audio."""
        if self.shared:
            self.shared.put_waveform(audio, waveform)
            return
        with disk_space(), self.files.draft() as draft:
            draft.write_bytes(waveform)
            draft.replace(self.files.waveform_path(audio))

    def _audio_of_missing(self, recordings: frozenset[str]) -> frozenset[str]:
        """Returns the names of the audio files of recordings that are missing: jobs can use only the audio then."""
        missing = {sha256 for sha256 in recordings if not (self.files.recordings / sha256).exists()}
        if not missing:
            return frozenset()
        paths = (path for path, _ in list_files(self.files.decoded) if path.name.partition(".")[0] in missing)
        records = (record for path in paths if (record := read_record(path)))
        return frozenset(self.files.audio_path(digest).name for record in records for digest in record.audio)
