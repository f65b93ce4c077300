"""Recordings and audio that several gateways share: what one receives or decodes, the others fetch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from careca.errors import NotFound
from careca.logs import get_logger
from careca.types import ChannelMode, Digest
from careca_gateway.blobs import Blob, Blobs

RECORDINGS, AUDIO, DECODED = "recordings/", "audio/", "decoded/"
"""What the keys begin with: of recordings, of audio, and of notes of what a recording decodes to."""

YOUNG_SECONDS = 600.0
"""What was used so lately stays, however full the store is: somebody may be about to fetch it."""

REFRESH_SECONDS = 3600.0
"""What was marked as used so lately is not marked again: that can mean writing it again."""

_log = get_logger(__name__)


class Sharing:
    """The recordings of all gateways.

    Args:
        blobs: where they are.
        max_bytes: bytes of recordings and audio to keep.
        retention_seconds: how long what nobody uses is kept.
    """

    def __init__(self, blobs: Blobs, *, max_bytes: int, retention_seconds: float) -> None:
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._retention_seconds = retention_seconds

    def has_recording(self, digest: Digest) -> bool:
        """Whether the recording is there, whole."""
        return self._has(RECORDINGS, digest)

    def has_audio(self, audio: Sequence[Digest]) -> bool:
        """Whether all of the audio is there, and there is any."""
        return bool(audio) and all(self._has(AUDIO, each) for each in audio)

    def share_recording(self, digest: Digest, path: Path) -> None:
        """Takes the recording at ``path``, or marks it as used now."""
        self._share(RECORDINGS + digest.sha256, path)

    def share_audio(self, recording: Digest, mode: ChannelMode, audio: Sequence[tuple[Digest, Path]]) -> None:
        """Takes what the recording decodes to in that mode."""
        for digest, path in audio:
            self._share(AUDIO + digest.sha256, path)
        note = json.dumps([asdict(digest) for digest, _ in audio])
        self._blobs.put(_note(recording, mode), note.encode())

    def decoded(self, recording: Digest, mode: ChannelMode) -> tuple[Digest, ...]:
        """The digests of what the recording decodes to, none where that is not known."""
        try:
            return tuple(Digest(**each) for each in json.loads(self._blobs.get(_note(recording, mode))))
        except (NotFound, ValueError, TypeError):
            return ()

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

        Recordings ``in_use``, by their SHA-256, stay.
        """
        blobs = [blob for blob in self._files() if blob.key.rpartition("/")[2] not in in_use]
        excess = sum(blob.size_bytes for blob in self._files()) - self._max_bytes
        now = time.time()
        gone = []
        for blob in sorted(blobs, key=lambda blob: blob.modified_unix):
            age = now - blob.modified_unix
            if age > self._retention_seconds or (excess > 0 and age > YOUNG_SECONDS):
                gone.append(blob.key)
                excess -= blob.size_bytes
        gone += [note.key for note in self._blobs.list(DECODED) if now - note.modified_unix > self._retention_seconds]
        if gone:
            self._blobs.delete(gone)
            _log.info("swept from the shared store", blobs=len(gone))

    def _files(self) -> Iterator[Blob]:
        yield from self._blobs.list(RECORDINGS)
        yield from self._blobs.list(AUDIO)

    def _share(self, key: str, path: Path) -> None:
        blob = self._blobs.find(key)
        if blob is None or blob.size_bytes != path.stat().st_size:
            self._blobs.put_file(key, path)
        elif blob.modified_unix < time.time() - REFRESH_SECONDS:
            self._blobs.used(key, path)

    def _has(self, folder: str, digest: Digest) -> bool:
        blob = self._blobs.find(folder + digest.sha256)
        return blob is not None and blob.size_bytes == digest.size_bytes

    def _fetch(self, key: str, path: Path) -> bool:
        try:
            self._blobs.fetch(key, path)
        except NotFound:
            return False
        return True


def _note(recording: Digest, mode: ChannelMode) -> str:
    return f"{DECODED}{recording.sha256}.{mode}.json"
