"""The folder of uploads. Each upload has two files: ``ID.json`` describes it, and ``ID.part`` has its bytes so far.

The size of the second file is the offset, so nothing has to be written together and a restart loses nothing. Ids are
random: no name that a caller sends becomes a path.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError

from careca.errors import InvalidRequest, NotFound, Overloaded, PreconditionFailed
from careca.telemetry.logs import get_logger

MAX_UPLOADS_OF_CALLER = 100
"""Most unfinished uploads of one caller."""

SHARE_OF_CALLER = 4
"""A caller's unfinished uploads may reserve this part of the room together: 1/4. One alone may be larger."""

_ID = re.compile(r"[0-9a-f]{32}")
_RETRY_SECONDS = 60.0

_log = get_logger(__name__)


class UploadRecord(BaseModel):
    """What is kept of an upload besides its bytes."""

    caller: str
    """Who may see it. Contains no token."""
    name: str
    size_bytes: int
    sha256: str = ""
    """The digest, once the gateway has the recording; the bytes are then removed."""


class Upload:
    """One upload."""

    def __init__(self, upload_id: str, folder: Path, record: UploadRecord) -> None:
        self.id = upload_id
        self.record = record
        self._description = folder / f"{upload_id}.json"
        self._partial = folder / f"{upload_id}.new"
        """The description while it is written."""
        self.path = folder / f"{upload_id}.part"
        self.lock = asyncio.Lock()
        """Held while its files are written, handed over or removed."""
        self.offset = 0
        """The number of bytes that have been written to disk."""
        self.changed_unix = 0.0
        """When the last bytes were received, or handed over."""

    @property
    def complete(self) -> bool:
        """Whether all bytes have been received."""
        return self.offset == self.record.size_bytes

    def measure(self) -> None:
        """Takes the offset, and the time of the last change, from the files. Blocks."""
        status = (self._description if self.record.sha256 else self.path).stat()
        self.offset = self.record.size_bytes if self.record.sha256 else status.st_size
        self.changed_unix = status.st_mtime

    def append(self, data: bytes) -> None:
        """Writes bytes to the end. Blocks."""
        try:
            with self.path.open("r+b") as file:
                file.seek(0, os.SEEK_END)
                file.write(data)
        finally:
            self.measure()  # also if the disk is full after a part of the bytes

    def write(self) -> None:
        """Writes the description. Blocks."""
        try:
            self._partial.write_text(self.record.model_dump_json())
            self._partial.replace(self._description)
        except OSError:
            self._partial.unlink(missing_ok=True)
            raise

    def finish(self, sha256: str) -> None:
        """The gateway has the recording: removes the bytes. Blocks."""
        self.record = self.record.model_copy(update={"sha256": sha256})
        self.write()
        self.path.unlink()
        self.measure()

    def remove(self) -> None:
        """Removes everything. Blocks."""
        self._description.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class UploadStore:
    """All uploads in one folder. One process at a time may use the folder.

    Args:
        folder: created if it does not exist. Uploads of an earlier process are found again.
        max_bytes: the maximum size of all unfinished uploads together.
        retention_seconds: how long after its last bytes an upload is kept.
        clock: returns seconds since 1970.

    Raises ``PreconditionFailed`` (UPLOADS_DIR) if the folder cannot be created.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, retention_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self.retention_seconds = retention_seconds
        """How long after its last bytes an upload is kept."""
        self._clock = clock
        self._uploads = _found(folder)

    @property
    def unfinished_bytes(self) -> int:
        """Bytes on disk."""
        return sum(upload.offset for upload in self._uploads.values() if not upload.record.sha256)

    async def create(self, caller: str, name: str, size_bytes: int) -> Upload:
        """Begins an upload.

        Its bytes are reserved, so that it can be finished. Raises ``Overloaded`` if there is no room for it now: of
        all callers (UPLOADS_FULL) or of this one (TOO_MANY_UPLOADS); ``InvalidRequest`` (RECORDING_TOO_LARGE) if there
        never is.
        """
        if size_bytes > self._max_bytes:
            raise InvalidRequest(
                f"the recording has {size_bytes:,} bytes; this service accepts uploads of at most {self._max_bytes:,}",
                reason="RECORDING_TOO_LARGE",
            )
        self._check_room(caller, size_bytes)
        record = UploadRecord(caller=caller, name=name, size_bytes=size_bytes)
        upload = Upload(secrets.token_hex(16), self._folder, record)
        self._uploads[upload.id] = upload  # before the first pause, so that its bytes are reserved
        try:
            async with upload.lock:
                await asyncio.to_thread(_write_new, upload)
        except OSError:  # if the caller does not wait any more, it stays and expires
            del self._uploads[upload.id]
            raise
        return upload

    def _check_room(self, caller: str, size_bytes: int) -> None:
        unfinished = [upload.record for upload in self._uploads.values() if not upload.record.sha256]
        own = [record.size_bytes for record in unfinished if record.caller == caller]
        share = self._max_bytes // SHARE_OF_CALLER
        if own and (len(own) >= MAX_UPLOADS_OF_CALLER or sum(own) + size_bytes > share):
            raise Overloaded(
                f"you have {len(own)} unfinished uploads of {sum(own):,} bytes; at most {MAX_UPLOADS_OF_CALLER} of "
                f"{share:,} bytes together are accepted: finish or delete some",
                reason="TOO_MANY_UPLOADS",
                retry_after_seconds=_RETRY_SECONDS,
            )
        if sum(record.size_bytes for record in unfinished) + size_bytes > self._max_bytes:
            raise Overloaded(
                "too many uploads are unfinished: try again later",
                reason="UPLOADS_FULL",
                retry_after_seconds=_RETRY_SECONDS,
            )

    def get(self, upload_id: str, caller: str) -> Upload:
        """Returns the upload. Raises ``NotFound`` (UPLOAD_NOT_FOUND) if this caller has none with this id."""
        upload = self._uploads.get(upload_id)
        if upload is None or upload.record.caller != caller:
            raise _not_found()
        return upload

    @asynccontextmanager
    async def holding(self, upload: Upload) -> AsyncIterator[None]:
        """Waits for requests that write to the upload, and keeps others from it as long as the context lasts.

        Raises ``NotFound`` (UPLOAD_NOT_FOUND) if it was removed meanwhile.
        """
        async with upload.lock:
            if upload.id not in self._uploads:
                raise _not_found()
            yield

    @asynccontextmanager
    async def writing(self, upload: Upload, offset: int) -> AsyncIterator[None]:
        """Keeps others from writing to the upload as long as the context lasts.

        Raises ``PreconditionFailed``: UPLOAD_BUSY if another request writes to it, OFFSET_MISMATCH if ``offset`` is not
        its offset; ``NotFound`` as ``holding`` does.
        """
        if upload.lock.locked():
            raise PreconditionFailed("another request sends this upload", reason="UPLOAD_BUSY")
        async with self.holding(upload):
            if upload.offset != offset:
                raise PreconditionFailed(
                    f"the upload has {upload.offset:,} bytes, and the request continues at {offset:,}",
                    reason="OFFSET_MISMATCH",
                    metadata={"offset": str(upload.offset)},
                )
            yield

    async def delete(self, upload: Upload) -> None:
        """Removes the upload. Waits for a request that writes to it."""
        async with upload.lock:
            self._uploads.pop(upload.id, None)
            await asyncio.to_thread(upload.remove)

    def expires_unix(self, upload: Upload) -> float:
        """Returns when the upload is removed if nothing more arrives."""
        return upload.changed_unix + self.retention_seconds

    async def remove_expired(self) -> None:
        """Removes all uploads whose time has passed, unless bytes arrive just now."""
        now = self._clock()
        for upload in list(self._uploads.values()):
            if not upload.lock.locked() and self.expires_unix(upload) < now:
                _log.info("an upload has expired", upload_id=upload.id)
                await self.delete(upload)


def _not_found() -> NotFound:
    return NotFound("there is no such upload: it may have expired", reason="UPLOAD_NOT_FOUND")


def _write_new(upload: Upload) -> None:
    try:
        upload.path.touch(mode=0o600)
        upload.write()
        upload.measure()
    except OSError:  # as a rule the disk is full
        upload.remove()
        raise


def _found(folder: Path) -> dict[str, Upload]:
    """Returns the uploads in the folder. Removes files that belong to none, as a crash may leave them."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PreconditionFailed(
            f"the folder for uploads, {folder}, cannot be created: {error.strerror}; choose another with "
            "CARECA_UPLOADS_DIR",
            reason="UPLOADS_DIR",
        ) from error
    uploads = {}
    for path in folder.glob("*.json"):
        if _ID.fullmatch(path.stem):
            try:
                upload = Upload(path.stem, folder, UploadRecord.model_validate_json(path.read_bytes()))
                upload.measure()
                if upload.offset <= upload.record.size_bytes:
                    uploads[upload.id] = upload
            except (ValidationError, OSError) as error:
                _log.warning("a file of the uploads cannot be used", file=path.name, error=str(error))
    for path in folder.iterdir():
        if path.suffix in (".part", ".new", ".json") and _ID.fullmatch(path.stem) and path.stem not in uploads:
            path.unlink()
    return uploads
