"""Files by key that all gateways share: on a disk that all of them see, or in a storage that speaks S3.

Everything here blocks and is called from threads. A blob is whole or not there: nobody reads what is being written.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from careca.errors import CarecaError, NotFound, PreconditionFailed, Unavailable
from careca_gateway.storage.upload import store_full

_CONNECT_SECONDS = 2
_SILENCE_SECONDS = 10
"""How long a storage may send nothing, and how long it may take to receive one part."""
_REQUEST_SECONDS = 3600
"""A large recording may take long, as long as its bytes keep coming."""
_PARTS_AT_ONCE = 4
_RETRIES = 2
_RETRY_SECONDS = 5
_DELETE_AT_ONCE = 500
_RETRY_AFTER_SECONDS = 5.0

_NO_SPACE = ("No space left", "os error 28", "Disk quota exceeded")
"""What the library's errors say where a disk is full."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A file by its key."""

    key: str
    size_bytes: int
    modified_unix: float


class ObjectStorage:
    """Blobs in a storage that obstore knows.

    All methods raise ``Unavailable`` (STORE_UNREACHABLE) where the storage cannot be used, and those that write
    ``Overloaded`` (STORE_FULL) where it has no room.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def put(self, key: str, data: bytes) -> None:
        """Stores ``data``, in place of what was there."""
        with _translated(writing=True):
            obstore.put(self._store, key, data)

    def put_file(self, key: str, path: Path) -> None:
        """Stores the file at ``path``, in place of what was there. Large ones go in parts: memory is bounded."""
        with _translated(writing=True), path.open("rb") as file:
            obstore.put(self._store, key, file, max_concurrency=_PARTS_AT_ONCE)

    def get(self, key: str) -> bytes:
        """The blob's bytes. Raises ``NotFound``."""
        with _translated():
            return bytes(obstore.get(self._store, key).bytes())

    def fetch(self, key: str, path: Path) -> None:
        """Writes the blob into the file at ``path``. Raises ``NotFound``."""
        with _translated(), path.open("wb") as file:
            for chunk in obstore.get(self._store, key).stream():
                file.write(chunk)

    def find(self, key: str) -> StoredObject | None:
        """The blob, ``None`` where there is none."""
        try:
            with _translated():
                return _blob(obstore.head(self._store, key))
        except NotFound:
            return None

    def delete(self, keys: Iterable[str]) -> None:
        """Removes blobs; those that are not there are no trouble."""
        rest = list(keys)
        while rest:
            some, rest = rest[:_DELETE_AT_ONCE], rest[_DELETE_AT_ONCE:]
            try:
                with _translated():
                    obstore.delete(self._store, some)
            except NotFound:
                if len(some) > 1:
                    for key in some:
                        self.delete([key])

    def clear(self, folder: str, *, keep: str = "") -> None:
        """Removes the blobs whose keys begin with ``folder``, which ends in a slash, but for the one named ``keep``."""
        self.delete([blob.key for blob in self.list(folder) if blob.key != keep])

    def list(self, folder: str) -> Iterator[StoredObject]:
        """The blobs whose keys begin with ``folder``, which ends in a slash, in no order."""
        with _translated():
            for batch in obstore.list(self._store, folder):
                for each in batch:
                    yield _blob(each)


class LocalObjectStorage(ObjectStorage):
    """Blobs in a folder. On the disk of the files that come and go no bytes are copied."""

    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise PreconditionFailed(
                f"the store {root} cannot be used ({error.strerror}); choose another with CARECA_STORE_URL",
                reason="STORE_UNUSABLE",
            ) from error
        super().__init__(LocalStore(root))
        self._root = root

    def put_file(self, key: str, path: Path) -> None:
        """Stores the file at ``path``, which must not be written to any more."""
        target = self._root / key
        with _translated(writing=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not _linked_over(path, target):
                super().put_file(key, path)
            os.utime(target)

    def fetch(self, key: str, path: Path) -> None:
        """Makes ``path`` the blob's file, which must not be written to. Raises ``NotFound``."""
        source = self._root / key
        with _translated():
            path.unlink(missing_ok=True)
            if not _linked(source, path):
                shutil.copyfile(source, path)


def open_object_storage(url: str, *, allow_http: bool = False) -> ObjectStorage:
    """The blobs at ``file:///folder`` or ``s3://bucket/prefix``.

    Where S3 is and who we are is said by the environment variables that its other clients read: AWS_ENDPOINT_URL,
    AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their like. Raises ``PreconditionFailed`` for another kind
    of address, or one that cannot be used.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc:
        return LocalObjectStorage(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return ObjectStorage(_s3(parts.netloc, parts.path.strip("/"), allow_http=allow_http))
    raise PreconditionFailed(
        f"CARECA_STORE_URL is {url}, but must be file:///FOLDER or s3://BUCKET/PREFIX", reason="STORE_UNUSABLE"
    )


def _s3(bucket: str, prefix: str, *, allow_http: bool) -> S3Store:
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            client_options={
                "allow_http": allow_http,
                "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
                "read_timeout": timedelta(seconds=_SILENCE_SECONDS),
                "timeout": timedelta(seconds=_REQUEST_SECONDS),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        )
    except BaseError as error:
        raise PreconditionFailed(
            f"the S3 storage cannot be used: {_first_line(error)}", reason="STORE_UNUSABLE"
        ) from error


def _blob(found: Any) -> StoredObject:
    return StoredObject(found["path"], found["size"], found["last_modified"].timestamp())


@contextmanager
def _translated(*, writing: bool = False) -> Iterator[None]:
    """Raises what the library and the disk raise as errors of ours.

    What is not found where something is written is no blob, but the bucket or the folder of the whole storage.
    """
    try:
        yield
    except CarecaError:
        raise
    except (BaseError, OSError) as error:
        if isinstance(error, FileNotFoundError) and not writing:
            raise NotFound("the store does not have it", reason="BLOB_NOT_FOUND") from error
        if any(sign in str(error) for sign in _NO_SPACE):
            raise store_full() from error
        raise Unavailable(
            f"the store cannot be used: {_first_line(error)}",
            reason="STORE_UNREACHABLE",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        ) from error


def _linked(source: Path, target: Path) -> bool:
    """Whether ``target`` could be made another name of the file ``source``: not over the bounds of a disk."""
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _linked_over(source: Path, target: Path) -> bool:
    """As ``_linked``, in place of the file that may be there: whoever reads ``target`` finds the one or the other."""
    # The library takes such a name for what is being written, and does not list it.
    draft = target.with_name(f"{target.name}#{secrets.randbelow(10**12)}")
    if not _linked(source, draft):
        return False
    draft.replace(target)
    draft.unlink(missing_ok=True)  # it stays where both were the same file before
    return True


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
