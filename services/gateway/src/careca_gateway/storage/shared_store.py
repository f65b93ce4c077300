"""Recordings and audio that several gateways share: what one receives or decodes, the others fetch.

    recordings/<sha256>             as they were uploaded
    audio/<sha256>                  decoded audio
    decoded/<sha256>.<sound>.json   which audio a recording decodes to, by the choice of its sound
    used/<key of a file>            empty; written when the file was used

S3 does not know when a file was last used, and would have to be sent a recording again to be told: hence the marks.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from careca.errors import NotFound
from careca.telemetry.logs import get_logger
from careca.types import Digest
from careca_gateway.request import AudioSelection
from careca_gateway.storage.decoded_record import DecodedRecord
from careca_gateway.storage.object_storage import ObjectStorage, StoredObject

RECORDINGS, AUDIO, DECODED, USED = "recordings/", "audio/", "decoded/", "used/"
"""What the keys begin with: of recordings, of audio, of notes of what a recording decodes to, and of marks of use."""

YOUNG_SECONDS = 600.0
"""What was used so lately stays, however full the store is: somebody may be about to make a job of it."""

_log = get_logger(__name__)


class SharedStore:
    """The recordings of all gateways.

    Args:
        blobs: where they are.
        max_bytes: bytes of recordings and audio to keep.
        retention_seconds: how long what nobody uses is kept.
    """

    def __init__(self, blobs: ObjectStorage, *, max_bytes: int, retention_seconds: float) -> None:
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._retention_seconds = retention_seconds

    def use_recording(self, digest: Digest) -> bool:
        """Whether the recording is there, whole; marks it as used now."""
        return self._use(RECORDINGS, digest)

    def use_audio(self, audio: Sequence[Digest]) -> bool:
        """Whether all of the audio is there, and there is any; marks it as used now."""
        return bool(audio) and all(self._use(AUDIO, each) for each in audio)

    def share_recording(self, digest: Digest, path: Path) -> None:
        """Takes the recording at ``path``, or marks it as used now."""
        if not self.use_recording(digest):
            self._blobs.put_file(RECORDINGS + digest.sha256, path)

    def share_audio(self, recording: Digest, sound: AudioSelection, note: DecodedRecord, paths: Sequence[Path]) -> None:
        """Takes what the recording's sound decodes to, which is at ``paths``."""
        for digest, path in zip(note.audio, paths, strict=True):
            if not self._use(AUDIO, digest):
                self._blobs.put_file(AUDIO + digest.sha256, path)
        self._blobs.put(f"{DECODED}{recording.sha256}.{sound}.json", note.pack())

    def decoded(self, recording: Digest, sound: AudioSelection) -> DecodedRecord | None:
        """What the recording's sound decodes to, ``None`` where that is not known."""
        return self._read(f"{DECODED}{recording.sha256}.{sound}.json")

    def fetch_recording(self, digest: Digest, path: Path) -> bool:
        """Writes the recording to ``path``, if it is there."""
        return self._fetch(RECORDINGS + digest.sha256, path)

    def fetch_audio(self, digest: Digest, path: Path) -> bool:
        """Writes audio to ``path``, if it is there."""
        return self._fetch(AUDIO + digest.sha256, path)

    def discard(self, recording: Digest) -> None:
        """Removes a recording that proved to be unusable."""
        self._blobs.delete([RECORDINGS + recording.sha256])

    def usage(self) -> tuple[int, int]:
        """Recordings, and bytes of recordings and audio."""
        recordings, audio = list(self._blobs.list(RECORDINGS)), list(self._blobs.list(AUDIO))
        return len(recordings), sum(blob.size_bytes for blob in (*recordings, *audio))

    def sweep(self, in_use: frozenset[str]) -> None:
        """Removes what nobody used for the retention time, then the least recently used beyond the size.

        Recordings ``in_use``, by their SHA-256, stay, or their audio where that is all that is left of them.
        """
        files = [*self._blobs.list(RECORDINGS), *self._blobs.list(AUDIO)]
        notes = list(self._blobs.list(DECODED))
        left = in_use - {_name(file.key) for file in files if file.key.startswith(RECORDINGS)}
        needed_notes = {note.key for note in notes if _recording_of(note.key) in left}
        left_audio = (digest for key in needed_notes if (note := self._read(key)) for digest in note.audio)
        needed = in_use | {digest.sha256 for digest in left_audio}
        # Marks come last: whoever uses a file marks it, looks whether it is still there, and only then relies on it.
        marks = {mark.key.removeprefix(USED): mark.modified_unix for mark in self._blobs.list(USED)}
        gone = list(self._disposable(files, needed, marks))
        oldest = time.time() - self._retention_seconds
        kept = {file.key for file in files}.difference(gone)
        lost = [note.key for note in notes if note.modified_unix < oldest and note.key not in needed_notes]
        lost += [USED + key for key, when in marks.items() if key not in kept and when < oldest]
        if gone or lost:
            self._blobs.delete([*gone, *lost])
            _log.info("swept from the shared store", blobs=len(gone))

    def _disposable(
        self, files: Iterable[StoredObject], needed: frozenset[str], marks: Mapping[str, float]
    ) -> Iterator[str]:
        """The keys of the files to remove."""
        used = {file: max(file.modified_unix, marks.get(file.key, 0.0)) for file in files}
        excess = sum(file.size_bytes for file in used) - self._max_bytes
        now = time.time()
        for file in sorted(used, key=lambda file: used[file]):
            age = now - used[file]
            if _name(file.key) not in needed and age > YOUNG_SECONDS and (excess > 0 or age > self._retention_seconds):
                yield file.key
                excess -= file.size_bytes

    def _use(self, folder: str, digest: Digest) -> bool:
        """Whether the file is there, whole: still so once it is marked, as a sweep may just have come by."""
        key = folder + digest.sha256
        if not self._has(key, digest.size_bytes):
            return False
        self._blobs.put(USED + key, b"")
        return self._has(key, digest.size_bytes)

    def _has(self, key: str, size_bytes: int) -> bool:
        blob = self._blobs.find(key)
        return blob is not None and blob.size_bytes == size_bytes

    def _read(self, key: str) -> DecodedRecord | None:
        try:
            return DecodedRecord.unpack(self._blobs.get(key))
        except NotFound:
            return None

    def _fetch(self, key: str, path: Path) -> bool:
        try:
            self._blobs.fetch(key, path)
        except NotFound:
            return False
        return True


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _recording_of(note: str) -> str:
    return _name(note).partition(".")[0]
