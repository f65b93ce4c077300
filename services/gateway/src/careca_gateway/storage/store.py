"""Recordings and their decoded audio on disk, named by their content.

    recordings/<sha256>         the bytes as they were uploaded
    audio/<sha256>.s16          decoded audio: 16 kHz mono signed 16-bit little-endian PCM
    decoded/<sha256>.mix.json   which audio a recording decodes to, and the decoder's notices (see storage/decoded.py);
                                .separate.json: where each channel is a speaker's own; .mix.2.json: of track 2
    drafts/                     what is being written; moved into place when it is whole, removed at the next start

Everything here blocks and is called from threads. The least recently used files go first once there are too many bytes;
what a running request holds stays. One process uses a store at a time.

Where several gateways share recordings (``careca_gateway.storage.shared_store``), this is what one of them has at
hand: what it receives and decodes it also shares, and what it lacks it fetches.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from careca.errors import InvalidRecording, PreconditionFailed
from careca.telemetry.logs import get_logger
from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Digest, Notice
from careca_gateway.request import AudioSelection
from careca_gateway.storage import caller_limits
from careca_gateway.storage.decoded_record import DecodedRecord
from careca_gateway.storage.shared_store import SharedStore
from careca_gateway.storage.upload import Upload, disk_space, store_full

FREE_BYTES = 64 * 1024 * 1024
"""Space that an upload must leave on the disk, for decoding and for others."""

_log = get_logger(__name__)


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
    """What a recording's sound decodes to."""

    audio: tuple[StoredAudio, ...]
    """One, or one for each channel or track where each is a speaker's own; all of the same length."""
    notices: tuple[Notice, ...] = ()
    """What the decoder noticed."""


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """What the store holds."""

    recordings: int
    size_bytes: int
    """Bytes of recordings and of decoded audio."""


class Store:
    """The store in the folder ``root``.

    Args:
        root: is made if it does not exist; only this user can read it.
        max_bytes: bytes of recordings and audio to keep; files in use may exceed it.
        retention_seconds: how long a file that nobody uses is kept.
        max_recording_bytes: size of the largest recording that is accepted.
        sharing: the recordings of all gateways; ``None`` where there is only this one.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int,
        retention_seconds: float,
        max_recording_bytes: int,
        sharing: SharedStore | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._retention_seconds = retention_seconds
        self._max_recording_bytes = max_recording_bytes
        self.sharing = sharing
        self.root = root
        self.recordings = root / "recordings"
        self.audio = root / "audio"
        self.decoded = root / "decoded"
        self.drafts = root / "drafts"
        self._pins: Counter[Path] = Counter()
        self._let_go: set[Path] | None = None
        """What was let go of while it was asked what has to stay; ``None`` where nobody asks."""
        self._lock = threading.Lock()
        self._owner: IO[bytes] | None = None

    def open(self) -> None:
        """Takes possession of the folder and removes what a crash left half written.

        Raises ``PreconditionFailed`` where another process has it, or it cannot be written.
        """
        try:
            for folder in (self.recordings, self.audio, self.decoded, self.drafts):
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
        """Lets another process have the folder."""
        if self._owner:
            self._owner.close()

    @contextmanager
    def hold(self, recording: Digest) -> Iterator[HeldRecording]:
        """Keeps ``recording`` and its audio from being swept away until the context ends.

        Raises ``InvalidRecording`` where the caller may not have one so large.
        """
        caller_limits.check_size(recording)
        held = HeldRecording(self, recording)
        try:
            held.pin(held.path)
            yield held
        finally:
            held.release()

    def check_size(self, recording: Digest) -> None:
        """Raises ``InvalidRecording`` for too many bytes or none, ``Overloaded`` where the disk has no space."""
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

    def usage(self) -> StoreUsage:
        """What the store holds now, drafts apart; of all gateways where they share it."""
        if self.sharing:
            return StoreUsage(*self.sharing.usage())
        recordings, audio = _files(self.recordings), _files(self.audio)
        return StoreUsage(len(recordings), sum(status.st_size for _, status in (*recordings, *audio)))

    @contextmanager
    def sparing(self) -> Iterator[None]:
        """What is let go of in this context is not swept away in it.

        To be entered before it is asked which recordings have to stay: who holds one may let go of it just after a job
        that needs it was too late for the answer.
        """
        self._let_go = set()
        try:
            yield
        finally:
            self._let_go = None

    def free_bytes(self) -> int:
        """Bytes that are free on the disk; a recording that would leave less than ``FREE_BYTES`` of them is refused."""
        return shutil.disk_usage(self.root).free

    def sweep(self, in_use: frozenset[str] = frozenset(), *, shared: bool = True) -> None:
        """Removes what nobody used for the retention time, then the least recently used beyond the size.

        Recordings ``in_use``, by their SHA-256, stay. Without ``shared`` only what is at hand is looked at, which costs
        less than looking at what all gateways share.
        """
        if self.sharing:
            if shared:
                self.sharing.sweep(in_use)
            in_use = frozenset()  # what is shared can be fetched again
        needed = in_use | self._audio_of(in_use)
        files = sorted((*_files(self.recordings), *_files(self.audio)), key=lambda file: file[1].st_mtime_ns)
        excess = sum(status.st_size for _, status in files) - self._max_bytes
        oldest = time.time() - self._retention_seconds
        for path, status in files:
            if path.name not in needed and (status.st_mtime < oldest or excess > 0) and self._sweep(path):
                excess -= status.st_size
                _log.info("swept from the store", folder=path.parent.name, name=path.name, size_bytes=status.st_size)
        for path, _ in _files(self.decoded):
            note = _read_decoded(path)
            if not note or not all(self.audio_path(digest).exists() for digest in note.audio):
                path.unlink(missing_ok=True)

    def _audio_of(self, recordings: frozenset[str]) -> frozenset[str]:
        """The names of the audio of recordings that are not there themselves: all that is left to work on."""
        missing = {sha256 for sha256 in recordings if not (self.recordings / sha256).exists()}
        if not missing:
            return frozenset()
        paths = (path for path, _ in _files(self.decoded) if path.name.partition(".")[0] in missing)
        notes = (note for path in paths if (note := _read_decoded(path)))
        return frozenset(self.audio_path(digest).name for note in notes for digest in note.audio)

    def audio_path(self, digest: Digest) -> Path:
        """Where the audio of that digest is or would be."""
        return self.audio / f"{digest.sha256}.s16"

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A new empty file to write to, removed in the end unless it was moved away."""
        handle, name = tempfile.mkstemp(dir=self.drafts)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def pin(self, path: Path) -> None:
        """Keeps ``path`` from being removed until it is unpinned as often as it was pinned."""
        with self._lock:
            self._pins[path] += 1

    def unpin(self, path: Path) -> None:
        """Takes back one ``pin``."""
        with self._lock:
            self._pins[path] -= 1
            if not self._pins[path]:
                del self._pins[path]
                if self._let_go is not None:
                    self._let_go.add(path)

    def discard(self, path: Path) -> None:
        """Removes ``path``, unless others hold it beside the caller."""
        with self._lock:
            if self._pins[path] <= 1:
                path.unlink(missing_ok=True)

    def _sweep(self, path: Path) -> bool:
        with self._lock:
            if self._pins[path] or path in (self._let_go or ()):
                return False
            path.unlink(missing_ok=True)
            return True


class HeldRecording:
    """One recording in the store, or to be stored, while a request works on it."""

    def __init__(self, store: Store, digest: Digest) -> None:
        self.digest = digest
        self.path = store.recordings / digest.sha256
        self._store = store
        self._pinned: list[Path] = []
        self._released = False
        # A cancelled request leaves while a thread that it started may still work on the recording.
        self._lock = threading.Lock()

    def pin(self, path: Path) -> None:
        """Keeps ``path`` until ``release``; does nothing after it."""
        with self._lock:
            if not self._released:
                self._store.pin(path)
                self._pinned.append(path)

    def release(self) -> None:
        """Lets go of everything for good."""
        with self._lock:
            self._released = True
            while self._pinned:
                self._store.unpin(self._pinned.pop())

    def known(self, sound: AudioSelection) -> bool:
        """Whether that sound of the recording can be worked on without it being sent; marks it as used now.

        Where gateways share recordings, any of them can then.
        """
        at_hand = _touch(self.path, self.digest.size_bytes)
        if not self._sharing:
            return bool(self.stored_audio(sound)) or at_hand
        if at_hand:
            self._sharing.share_recording(self.digest, self.path)
            return True
        if self._sharing.use_recording(self.digest):
            return True
        note = self._sharing.decoded(self.digest, sound)
        return note is not None and self._sharing.use_audio(note.audio)

    def require(self, sound: AudioSelection) -> None:
        """Makes sure that that sound of the recording can be worked on, long after it was sent.

        Raises ``PreconditionFailed`` where neither it nor its audio is there any more (RECORDING_MISSING), and where
        its bytes are not what they were (RECORDING_CORRUPT).
        """
        if self.stored_audio(sound):
            return
        if self.path.exists():
            self._check(self.path)
        else:
            self.bring()

    def bring(self) -> None:
        """Fetches the recording if it is not at hand. Raises as ``require`` does."""
        if not self.path.exists() and not self._fetched_recording():
            raise PreconditionFailed(
                f"the recording {self.digest.sha256} is not in the store any more: upload it again",
                reason="RECORDING_MISSING",
                metadata={"sha256": self.digest.sha256},
            )

    def stored_audio(self, sound: AudioSelection) -> DecodedAudio | None:
        """What that sound of the recording was decoded to before.

        ``None`` where the store does not have all of it any more. Marks it as used now.
        """
        note = _read_decoded(self._decoded(sound))
        audio = self._audio(note)
        if self._sharing and not (audio and all(each.path.exists() for each in audio)):
            note = self._sharing.decoded(self.digest, sound)
            audio = self._audio(note)
            if not all(self._fetched_audio(each) for each in audio):
                return None
        present = [_touch(each.path, each.digest.size_bytes) for each in audio]
        if not note or not all(present):
            return None
        _touch(self.path, self.digest.size_bytes)
        return DecodedAudio(audio, note.notices)

    @contextmanager
    def upload(self) -> Iterator[Upload]:
        """Receives the recording's bytes. Raises as ``Store.check_size`` does, before the first one."""
        self._store.check_size(self.digest)
        with self._store.draft() as draft, Upload(draft, self.digest, self.path, self._share) as upload:
            yield upload

    @contextmanager
    def drafts(self, count: int) -> Iterator[tuple[Path, ...]]:
        """New files for the decoded audio."""
        with ExitStack() as stack:
            yield tuple(stack.enter_context(self._store.draft()) for _ in range(count))

    def keep_audio(self, sound: AudioSelection, drafts: Sequence[Path], note: DecodedRecord) -> DecodedAudio:
        """Takes the first of ``drafts``, which ``note`` tells of, as what that sound of the recording decodes to."""
        audio = self._audio(note)
        with disk_space(), self._store.draft() as written:
            for each, draft in zip(audio, drafts, strict=False):
                draft.replace(each.path)
            written.write_bytes(note.pack())
            written.replace(self._decoded(sound))
        if self._sharing:
            self._sharing.share_audio(self.digest, sound, note, [each.path for each in audio])
        return DecodedAudio(audio, note.notices)

    def discard(self) -> None:
        """Removes the recording, which proved to be unusable, unless another request works on it as well."""
        self._store.discard(self.path)
        if self._sharing:
            self._sharing.discard(self.digest)

    @property
    def _sharing(self) -> SharedStore | None:
        return self._store.sharing

    def _share(self) -> None:
        if self._sharing:
            self._sharing.share_recording(self.digest, self.path)

    def _fetched_recording(self) -> bool:
        """Whether the recording could be fetched from where gateways share theirs."""
        with disk_space(), self._store.draft() as draft:
            if self._sharing and self._sharing.fetch_recording(self.digest, draft):
                self._check(draft)
                draft.replace(self.path)
                return True
        return False

    def _check(self, path: Path) -> None:
        """Raises ``PreconditionFailed`` and removes the recording where ``path`` does not have its bytes."""
        if _digest_of(path) != self.digest:
            self.discard()
            raise PreconditionFailed(
                f"the recording {self.digest.sha256} is not in the store as it was: upload it again",
                reason="RECORDING_CORRUPT",
                metadata={"sha256": self.digest.sha256},
            )

    def _fetched_audio(self, audio: StoredAudio) -> bool:
        """Whether the audio is at hand, or could be fetched."""
        if audio.path.exists():
            return True
        with disk_space(), self._store.draft() as draft:
            if self._sharing and self._sharing.fetch_audio(audio.digest, draft):
                draft.replace(audio.path)
                return True
        return False

    def _decoded(self, sound: AudioSelection) -> Path:
        """The note of what that sound of the recording decodes to."""
        return self._store.decoded / f"{self.digest.sha256}.{sound}.json"

    def _audio(self, note: DecodedRecord | None) -> tuple[StoredAudio, ...]:
        """The audio that ``note`` tells of, held from now on."""
        digests = note.audio if note else ()
        audio = tuple(StoredAudio(digest, self._store.audio_path(digest)) for digest in digests)
        for each in audio:
            self.pin(each.path)
        return audio


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The files in ``folder``, those that vanish meanwhile left out."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found.append((Path(entry.path), entry.stat()))
            except FileNotFoundError:
                continue
    return found


def _touch(path: Path, size_bytes: int) -> bool:
    """Marks ``path`` as used now; says whether it exists with that size."""
    try:
        if path.stat().st_size != size_bytes:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _read_decoded(path: Path) -> DecodedRecord | None:
    """A note of the store, ``None`` where there is no such note or it cannot be read."""
    try:
        return DecodedRecord.unpack(path.read_bytes())
    except FileNotFoundError:
        return None
