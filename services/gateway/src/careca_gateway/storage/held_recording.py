"""A recording that a request holds: its bytes and its decoded audio stay in the store until the request ends."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from careca.errors import PreconditionFailed
from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Digest, Notice
from careca_gateway.request import AudioSelection
from careca_gateway.storage.decoded_record import DecodedRecord
from careca_gateway.storage.files import StoreFiles, read_record, touch
from careca_gateway.storage.shared_store import SharedStore
from careca_gateway.storage.stored_bytes import StoredBytes, open_file
from careca_gateway.storage.upload import Upload, disk_space


@dataclass(frozen=True, slots=True)
class StoredAudio:
    """Decoded audio in the store."""

    digest: Digest
    path: Path

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.digest.size_bytes / SAMPLE_BYTES / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class DecodedAudio:
    """What an audio selection of a recording decodes to."""

    audio: tuple[StoredAudio, ...]
    """One, or one for each channel or track if each has its own speaker. All have the same length."""
    notices: tuple[Notice, ...] = ()
    """The decoder's notices."""


class HeldRecording:
    """One recording while a request uses it. The recording need not be in the store yet.

    Args:
        files: the files of the store.
        digest: names the recording.
        shared: the recordings of all gateways, if they share them.
        check_size: is called before an upload; raises an error if the store cannot take the recording.
    """

    def __init__(
        self, files: StoreFiles, digest: Digest, *, shared: SharedStore | None, check_size: Callable[[Digest], None]
    ) -> None:
        self.digest = digest
        self.path = files.recording_path(digest)
        self._files = files
        self._shared = shared
        self._check_size = check_size
        self._pinned: list[Path] = []
        self._released = False
        # A cancelled request ends while a thread that it started may still use the recording.
        self._lock = threading.Lock()

    def pin(self, path: Path) -> None:
        """Protects ``path`` from being removed until ``release``. Does nothing after ``release``."""
        with self._lock:
            if not self._released:
                self._files.pin(path)
                self._pinned.append(path)

    def release(self) -> None:
        """Unpins everything, finally."""
        with self._lock:
            self._released = True
            while self._pinned:
                self._files.unpin(self._pinned.pop())

    def known(self, selection: AudioSelection) -> bool:
        """Returns whether the selection can be processed without an upload. Marks the recording as used now.

        If gateways share recordings, any gateway can then process it.
        """
        is_local = touch(self.path, self.digest.size_bytes)
        if not self._shared:
            return bool(self.stored_audio(selection)) or is_local
        if is_local:
            self._shared.put_recording(self.digest, self.path)
            return True
        if self._shared.touch_recording(self.digest):
            return True
        record = self._shared.record(self.digest, selection)
        return record is not None and self._shared.touch_audio(record.audio)

    def require(self, selection: AudioSelection) -> None:
        """Checks that the selection can be processed, possibly long after the upload.

        Raises ``PreconditionFailed`` if neither the recording nor its audio exists (RECORDING_MISSING), or if its bytes
        have changed (RECORDING_CORRUPT).
        """
        if self.stored_audio(selection):
            return
        if self.path.exists():
            self._check_content(self.path)
        else:
            self.fetch()

    def fetch(self) -> None:
        """Fetches the recording from the shared store if it is not here. Raises as ``require`` does."""
        if not self._fetch_file(self.path, lambda shared, draft: shared.fetch_recording(self.digest, draft)):
            raise PreconditionFailed(
                f"the recording {self.digest.sha256} is no longer in the store: upload it again",
                reason="RECORDING_MISSING",
                metadata={"sha256": self.digest.sha256},
            )

    def stored_audio(self, selection: AudioSelection) -> DecodedAudio | None:
        """Returns the audio that the selection was decoded to before. Marks it as used now.

        ``None`` if the store does not have all of it.
        """
        record = read_record(self._files.record_path(self.digest, selection))
        audio = self._pin_audio(record)
        if self._shared and not (audio and all(each.path.exists() for each in audio)):
            record = self._shared.record(self.digest, selection)
            audio = self._pin_audio(record)
            if not all(self._fetch_audio(each) for each in audio):
                return None
        present = [touch(each.path, each.digest.size_bytes) for each in audio]
        if not record or not all(present):
            return None
        touch(self.path, self.digest.size_bytes)
        return DecodedAudio(audio, record.notices)

    def open_recording(self) -> StoredBytes | None:
        """Returns the recording, to be read in parts. Does not fetch it. Marks it as used now.

        ``None`` if the store does not have it.
        """
        if touch(self.path, self.digest.size_bytes):
            return open_file(self.digest, self.path)
        return self._shared.open_recording(self.digest) if self._shared else None

    def open_audio(self, selection: AudioSelection) -> tuple[StoredBytes, ...]:
        """Returns the audio that the selection was decoded to before, as ``open_recording`` does.

        Empty if the store does not have all of it.
        """
        record = read_record(self._files.record_path(self.digest, selection))
        if record is None and self._shared:
            record = self._shared.record(self.digest, selection)
        opened = [self._open_audio(each) for each in self._pin_audio(record)]
        present = tuple(each for each in opened if each)
        return present if len(present) == len(opened) else ()

    @contextmanager
    def upload(self) -> Iterator[Upload]:
        """Receives the recording's bytes. Raises as ``Store.check_size`` does, before the first byte."""
        self._check_size(self.digest)
        with self._files.draft() as draft, Upload(draft, self.digest, self.path, self._share_recording) as upload:
            yield upload

    @contextmanager
    def drafts(self, count: int) -> Iterator[tuple[Path, ...]]:
        """Creates temporary files for the decoded audio."""
        with ExitStack() as stack:
            yield tuple(stack.enter_context(self._files.draft()) for _ in range(count))

    def store_audio(self, selection: AudioSelection, drafts: Sequence[Path], record: DecodedRecord) -> DecodedAudio:
        """Stores what the selection decodes to: the first of ``drafts``, one for each audio in ``record``."""
        audio = self._pin_audio(record)
        with disk_space(), self._files.draft() as written:
            for each, draft in zip(audio, drafts, strict=False):
                draft.replace(each.path)
            written.write_bytes(record.to_json())
            written.replace(self._files.record_path(self.digest, selection))
        if self._shared:
            self._shared.put_audio(self.digest, selection, record, [each.path for each in audio])
        return DecodedAudio(audio, record.notices)

    def discard(self) -> None:
        """Removes the recording because it is unusable, unless another request uses it too."""
        self._files.discard(self.path)
        if self._shared:
            self._shared.discard(self.digest)

    def _share_recording(self) -> None:
        if self._shared:
            self._shared.put_recording(self.digest, self.path)

    def _fetch_file(self, path: Path, fetch: Callable[[SharedStore, Path], bool]) -> bool:
        """Fetches a file from the shared store if it is not here. Returns whether it is here now."""
        if path.exists():
            return True
        if not self._shared:
            return False
        with disk_space(), self._files.draft() as draft:
            if not fetch(self._shared, draft):
                return False
            if path == self.path:
                self._check_content(draft)
            draft.replace(path)
        return True

    def _check_content(self, path: Path) -> None:
        """Removes the recording and raises ``PreconditionFailed`` if the file at ``path`` has other bytes."""
        if _digest_of(path) != self.digest:
            self.discard()
            raise PreconditionFailed(
                f"the stored recording {self.digest.sha256} is corrupt: upload it again",
                reason="RECORDING_CORRUPT",
                metadata={"sha256": self.digest.sha256},
            )

    def _fetch_audio(self, audio: StoredAudio) -> bool:
        return self._fetch_file(audio.path, lambda shared, draft: shared.fetch_audio(audio.digest, draft))

    def _open_audio(self, audio: StoredAudio) -> StoredBytes | None:
        if touch(audio.path, audio.digest.size_bytes):
            return open_file(audio.digest, audio.path)
        return self._shared.open_audio(audio.digest) if self._shared else None

    def _pin_audio(self, record: DecodedRecord | None) -> tuple[StoredAudio, ...]:
        """Returns the audio that ``record`` lists, pinned from now on."""
        digests = record.audio if record else ()
        audio = tuple(StoredAudio(digest, self._files.audio_path(digest)) for digest in digests)
        for each in audio:
            self.pin(each.path)
        return audio


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
