"""What a session keeps on disk, so that it survives a restart of the gateway.

    live/<id>/config    the caller's config and name
    live/<id>/audio     the audio, in the caller's encoding, as it was received
    live/<id>/events    the numbered events
    live/<id>/voices    the pieces of speech that were heard, with their speakers

Each entry is written at once, and survives the end of the process. All methods block and are called from threads, those
of one journal from one at a time.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import Message

from careca.telemetry.logs import get_logger
from careca.v1 import diarizer_pb2, live_pb2
from careca_gateway.storage.upload import disk_space

_LENGTH = struct.Struct("<I")
_READ_BYTES = 1024 * 1024

Config = live_pb2.LiveServiceTranscribeRequest.Config
Response = live_pb2.LiveServiceTranscribeResponse

_log = get_logger(__name__)


class Journal:
    """The files of one session, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        """Opens the files of a session that exists."""
        self.folder = folder
        self.config = Config.FromString((folder / "config").read_bytes())
        self.submitter = (folder / "submitter").read_text()
        self._audio = (folder / "audio").open("ab", buffering=0)
        self._events = _opened(folder / "events")
        self._voices = _opened(folder / "voices")

    @classmethod
    def create(cls, folder: Path, config: Config, submitter: str) -> Journal:
        """Creates the files of a new session. Raises ``Overloaded`` (STORE_FULL) if the disk is full."""
        with disk_space():
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
            (draft / "config").write_bytes(config.SerializeToString())
            (draft / "submitter").write_text(submitter)
            draft.rename(folder)
            return cls(folder)

    @property
    def audio_bytes(self) -> int:
        """The size of the audio."""
        return (self.folder / "audio").stat().st_size

    def append_audio(self, data: bytes) -> None:
        """Appends audio. Raises ``Overloaded`` (STORE_FULL) if the disk is full; then nothing is appended."""
        size = self.audio_bytes
        try:
            with disk_space():
                _write(self._audio, data)
        except BaseException:
            self._audio.truncate(size)
            raise

    def append_event(self, event: Response) -> None:
        """Appends an event."""
        with disk_space():
            _write(self._events, _framed(event))

    def append_voice(self, piece: diarizer_pb2.VoicePiece) -> None:
        """Appends a piece of speech."""
        with disk_space():
            _write(self._voices, _framed(piece))

    def audio(self) -> Iterator[bytes]:
        """Yields the audio from its start."""
        with (self.folder / "audio").open("rb") as file:
            while data := file.read(_READ_BYTES):
                yield data

    def events(self) -> list[Response]:
        """Returns all events."""
        return [Response.FromString(entry) for entry in _entries(self.folder / "events")]

    def voices(self) -> list[diarizer_pb2.VoicePiece]:
        """Returns all pieces of speech."""
        return [diarizer_pb2.VoicePiece.FromString(entry) for entry in _entries(self.folder / "voices")]

    def close(self) -> None:
        """Closes the files."""
        for file in (self._audio, self._events, self._voices):
            file.close()

    def remove(self) -> None:
        """Removes the session."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def open_journals(root: Path) -> list[Journal]:
    """Returns the journals of all sessions in ``root``. One that cannot be read is logged and left alone."""
    journals = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.name.startswith("."):
            shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            journals.append(Journal(folder))
        except Exception as error:  # noqa: BLE001 - one damaged session must not stop the others
            _log.error("a live session cannot be restored", session_id=folder.name, exc_info=error)
    return journals


def _opened(path: Path) -> BinaryIO:
    """Opens a file of entries. The process may have ended while it wrote the last one: that is removed."""
    file = path.open("ab", buffering=0)
    file.truncate(sum(_LENGTH.size + len(entry) for entry in _entries(path)))
    return file


def _framed(message: Message) -> bytes:
    data = message.SerializeToString()
    return _LENGTH.pack(len(data)) + data


def _write(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _entries(path: Path) -> Iterator[bytes]:
    """Yields the entries of a file that are whole. None is empty: a disk may show zeros for what was not written."""
    data = path.read_bytes()
    position = 0
    while position + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if not length or position + length > len(data):
            return
        yield data[position : position + length]
        position += length
