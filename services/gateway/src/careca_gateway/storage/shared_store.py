"""Recordings and audio that several gateways share: one receives or decodes them, the others fetch them.

    recordings/<sha256>                     recordings as they were uploaded
    audio/<sha256>                          decoded audio
    waveforms/<sha256>                      peaks of decoded audio (``careca_gateway.playback.waveform``)
    decoded/<sha256>.<selection>.json       which audio a recording decodes to, for each audio selection
    used/<key of a file>                    empty; written whenever the file is used

S3 does not know when a file was last used, and cannot change a file's time without a new upload. The marks below
``used/`` record it instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from careca.errors import NotFound
from careca.telemetry.logs import get_logger
from careca.types import Digest
from careca_gateway.request import AudioSelection
from careca_gateway.storage.decoded_record import DecodedRecord
from careca_gateway.storage.object_storage import ObjectStorage, StoredObject
from careca_gateway.storage.stored_bytes import StoredBytes

RECORDINGS, AUDIO, DECODED, USED = "recordings/", "audio/", "decoded/", "used/"
"""Key prefixes: of recordings, of audio, of records of what a recording decodes to, and of marks of use."""

WAVEFORMS = "waveforms/"
"""The key prefix of waveforms."""

YOUNG_SECONDS = 600.0
"""Files that were used within this time stay even if the store is full: a client may be about to submit a job."""

_log = get_logger(__name__)


class SharedStore:
    """The recordings of all gateways.

    Args:
        storage: holds the files.
        max_bytes: the maximum size of recordings and audio.
        retention_seconds: how long an unused file is kept.
    """

    def __init__(self, storage: ObjectStorage, *, max_bytes: int, retention_seconds: float) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._retention_seconds = retention_seconds

    def touch_recording(self, digest: Digest) -> bool:
        """Returns whether the complete recording exists. Marks it as used now."""
        return self._touch(RECORDINGS, digest)

    def touch_audio(self, audio: Sequence[Digest]) -> bool:
        """Returns whether all of the audio exists; false if ``audio`` is empty. Marks it as used now."""
        return bool(audio) and all(self._touch(AUDIO, each) for each in audio)

    def put_recording(self, digest: Digest, path: Path) -> None:
        """Stores the recording at ``path``, or marks it as used now if it exists."""
        if not self.touch_recording(digest):
            self._storage.put_file(RECORDINGS + digest.sha256, path)

    def put_audio(
        self, recording: Digest, selection: AudioSelection, record: DecodedRecord, paths: Sequence[Path]
    ) -> None:
        """Stores the audio at ``paths`` that the selection of the recording decodes to, and its record."""
        for digest, path in zip(record.audio, paths, strict=True):
            if not self._touch(AUDIO, digest):
                self._storage.put_file(AUDIO + digest.sha256, path)
        self._storage.put(_record_key(recording, selection), record.to_json())

    def record(self, recording: Digest, selection: AudioSelection) -> DecodedRecord | None:
        """Returns what the selection of the recording decodes to, or ``None`` if that is not known."""
        return self._read_record(_record_key(recording, selection))

    def fetch_recording(self, digest: Digest, path: Path) -> bool:
        """Writes the recording to ``path``. Returns whether it exists."""
        return self._fetch(RECORDINGS + digest.sha256, path)

    def fetch_audio(self, digest: Digest, path: Path) -> bool:
        """Writes the audio to ``path``. Returns whether it exists."""
        return self._fetch(AUDIO + digest.sha256, path)

    def open_recording(self, digest: Digest) -> StoredBytes | None:
        """Returns the recording, to be read in parts, or ``None`` if it does not exist. Marks it as used now."""
        return self._open(RECORDINGS, digest)

    def open_audio(self, digest: Digest) -> StoredBytes | None:
        """Returns the audio, as ``open_recording`` does."""
        return self._open(AUDIO, digest)

    def waveform(self, audio: Digest, offset: int, length: int) -> bytes | None:
        """Returns a part of the waveform of the audio, or ``None`` if it is not stored."""
        try:
            return self._storage.get_range(WAVEFORMS + audio.sha256, offset, length)
        except NotFound:
            return None

    def put_waveform(self, audio: Digest, waveform: bytes) -> None:
        """Stores the waveform of the audio. It is removed with the audio."""
        self._storage.put(WAVEFORMS + audio.sha256, waveform)

    def discard(self, recording: Digest) -> None:
        """Removes a recording that is unusable."""
        self._storage.delete([RECORDINGS + recording.sha256])

    def usage(self) -> tuple[int, int]:
        """Returns the number of recordings, and the bytes of recordings and audio."""
        recordings, audio = list(self._storage.list(RECORDINGS)), list(self._storage.list(AUDIO))
        return len(recordings), sum(file.size_bytes for file in (*recordings, *audio))

    def sweep(self, in_use: frozenset[str]) -> None:
        """Removes unused files after the retention time, then the least recently used ones beyond the maximum size.

        Recordings ``in_use``, by their SHA-256, stay. If such a recording is missing, its audio stays.
        """
        files = [*self._storage.list(RECORDINGS), *self._storage.list(AUDIO)]
        records = list(self._storage.list(DECODED))
        missing = in_use - {_name(file.key) for file in files if file.key.startswith(RECORDINGS)}
        needed_records = {record.key for record in records if _recording_of(record.key) in missing}
        needed_audio = (
            digest for key in needed_records if (record := self._read_record(key)) for digest in record.audio
        )
        needed = in_use | {digest.sha256 for digest in needed_audio}
        # The marks are read last: a gateway marks a file first, then checks that it still exists, and then uses it.
        marks = {mark.key.removeprefix(USED): mark.modified_unix for mark in self._storage.list(USED)}
        removed = list(self._removable(files, needed, marks))
        oldest = time.time() - self._retention_seconds
        kept = {file.key for file in files}.difference(removed)
        stale = [record.key for record in records if record.modified_unix < oldest and record.key not in needed_records]
        stale += [each.key for each in self._storage.list(WAVEFORMS) if AUDIO + _name(each.key) not in kept]
        stale += [USED + key for key, when in marks.items() if key not in kept and when < oldest]
        if removed or stale:
            self._storage.delete([*removed, *stale])
            _log.info("swept from the shared store", blobs=len(removed))

    def _removable(
        self, files: Iterable[StoredObject], needed: frozenset[str], marks: Mapping[str, float]
    ) -> Iterator[str]:
        used = {file: max(file.modified_unix, marks.get(file.key, 0.0)) for file in files}
        excess = sum(file.size_bytes for file in used) - self._max_bytes
        now = time.time()
        for file in sorted(used, key=lambda file: used[file]):
            age = now - used[file]
            if _name(file.key) not in needed and age > YOUNG_SECONDS and (excess > 0 or age > self._retention_seconds):
                yield file.key
                excess -= file.size_bytes

    def _open(self, prefix: str, digest: Digest) -> StoredBytes | None:
        if not self._touch(prefix, digest):
            return None
        return StoredBytes(digest, partial(self._storage.get_range, prefix + digest.sha256))

    def _touch(self, prefix: str, digest: Digest) -> bool:
        """Marks a file as used. Returns whether it is complete, also after the mark: a sweep may remove it before."""
        key = prefix + digest.sha256
        if not self._has(key, digest.size_bytes):
            return False
        self._storage.put(USED + key, b"")
        return self._has(key, digest.size_bytes)

    def _has(self, key: str, size_bytes: int) -> bool:
        found = self._storage.find(key)
        return found is not None and found.size_bytes == size_bytes

    def _read_record(self, key: str) -> DecodedRecord | None:
        try:
            return DecodedRecord.from_json(self._storage.get(key))
        except NotFound:
            return None

    def _fetch(self, key: str, path: Path) -> bool:
        try:
            self._storage.get_file(key, path)
        except NotFound:
            return False
        return True


def _record_key(recording: Digest, selection: AudioSelection) -> str:
    return f"{DECODED}{recording.sha256}.{selection}.json"


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _recording_of(record_key: str) -> str:
    return _name(record_key).partition(".")[0]
