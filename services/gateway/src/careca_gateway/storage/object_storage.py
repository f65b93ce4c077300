"""Object storage that all gateways share: a folder on a shared disk, or a service with the S3 protocol.

All functions block and are called from threads. Writing is atomic: a reader sees a complete object or none.
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
_READ_SECONDS = 10
"""How long the storage may send nothing, and how long it may take to receive one part."""
_REQUEST_SECONDS = 3600
"""A large recording may take this long, as long as its bytes keep coming."""
_PARALLEL_PARTS = 4
_RETRIES = 2
_RETRY_SECONDS = 5
_DELETE_BATCH = 500
_RETRY_AFTER_SECONDS = 5.0

_NO_SPACE = ("No space left", "os error 28", "Disk quota exceeded")
"""Texts in the library's errors if a disk is full."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the storage."""

    key: str
    size_bytes: int
    modified_unix: float


class ObjectStorage:
    """Objects in a storage that obstore supports.

    All methods raise ``Unavailable`` (STORE_UNREACHABLE) if the storage cannot be used. Methods that write raise
    ``Overloaded`` (STORE_FULL) if it has no space left.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def put(self, key: str, data: bytes) -> None:
        """Stores ``data``. Replaces an existing object."""
        with _own_errors(writing=True):
            obstore.put(self._store, key, data)

    def put_file(self, key: str, path: Path) -> None:
        """Stores the file at ``path``. Replaces an existing object. Large files are sent in parts to limit memory."""
        with _own_errors(writing=True), path.open("rb") as file:
            obstore.put(self._store, key, file, max_concurrency=_PARALLEL_PARTS)

    def get(self, key: str) -> bytes:
        """Returns the object's bytes. Raises ``NotFound``."""
        with _own_errors():
            return bytes(obstore.get(self._store, key).bytes())

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Returns ``length`` bytes of the object from ``offset``. All must exist. Raises ``NotFound``."""
        with _own_errors():
            return bytes(obstore.get_range(self._store, key, start=offset, length=length))

    def get_file(self, key: str, path: Path) -> None:
        """Writes the object to the file at ``path``. Raises ``NotFound``."""
        with _own_errors(), path.open("wb") as file:
            for chunk in obstore.get(self._store, key).stream():
                file.write(chunk)

    def find(self, key: str) -> StoredObject | None:
        """Returns the object's description, or ``None`` if it does not exist."""
        try:
            with _own_errors():
                return _stored_object(obstore.head(self._store, key))
        except NotFound:
            return None

    def delete(self, keys: Iterable[str]) -> None:
        """Removes objects. Keys that do not exist are ignored."""
        rest = list(keys)
        while rest:
            batch, rest = rest[:_DELETE_BATCH], rest[_DELETE_BATCH:]
            try:
                with _own_errors():
                    obstore.delete(self._store, batch)
            except NotFound:
                if len(batch) > 1:
                    for key in batch:
                        self.delete([key])

    def delete_prefix(self, prefix: str, *, keep: str = "") -> None:
        """Removes all objects whose keys begin with ``prefix``, which ends in a slash, except the object ``keep``."""
        self.delete([found.key for found in self.list(prefix) if found.key != keep])

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yields the objects whose keys begin with ``prefix``, which ends in a slash, in any order."""
        with _own_errors():
            for batch in obstore.list(self._store, prefix):
                for each in batch:
                    yield _stored_object(each)


class LocalObjectStorage(ObjectStorage):
    """Objects in a folder. Files on the same disk are linked instead of copied."""

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
        """Stores the file at ``path``, which must not be changed afterwards."""
        target = self._root / key
        with _own_errors(writing=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not _replace_with_link(path, target):
                super().put_file(key, path)
            os.utime(target)

    def get_file(self, key: str, path: Path) -> None:
        """Makes ``path`` the object's file, which must not be changed. Raises ``NotFound``."""
        source = self._root / key
        with _own_errors():
            path.unlink(missing_ok=True)
            if not _link(source, path):
                shutil.copyfile(source, path)


def open_object_storage(url: str, *, allow_http: bool = False) -> ObjectStorage:
    """Opens the storage at ``file:///folder`` or ``s3://bucket/prefix``.

    The address and the credentials of S3 come from the usual environment variables: AWS_ENDPOINT_URL, AWS_REGION,
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and so on. Raises ``PreconditionFailed`` if the URL has another form, or
    the storage cannot be used.
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
                "read_timeout": timedelta(seconds=_READ_SECONDS),
                "timeout": timedelta(seconds=_REQUEST_SECONDS),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        )
    except BaseError as error:
        raise PreconditionFailed(
            f"the S3 storage cannot be used: {_first_line(error)}", reason="STORE_UNUSABLE"
        ) from error


def _stored_object(found: Any) -> StoredObject:
    return StoredObject(found["path"], found["size"], found["last_modified"].timestamp())


@contextmanager
def _own_errors(*, writing: bool = False) -> Iterator[None]:
    """Converts errors of the library and of the disk to ``CarecaError``.

    If something is not found while writing, the bucket or the folder of the storage is missing, not an object.
    """
    try:
        yield
    except CarecaError:
        raise
    except (BaseError, OSError) as error:
        if isinstance(error, FileNotFoundError) and not writing:
            raise NotFound("the object is not in the store", reason="BLOB_NOT_FOUND") from error
        if any(sign in str(error) for sign in _NO_SPACE):
            raise store_full() from error
        raise Unavailable(
            f"the store cannot be used: {_first_line(error)}",
            reason="STORE_UNREACHABLE",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        ) from error


def _link(source: Path, target: Path) -> bool:
    """Makes ``target`` a hard link to the file ``source``. Returns false if that is impossible, as between disks."""
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _replace_with_link(source: Path, target: Path) -> bool:
    """Does the same as ``_link``, and replaces an existing file atomically."""
    # The library treats names of this form as incomplete uploads and does not list them.
    draft = target.with_name(f"{target.name}#{secrets.randbelow(10**12)}")
    if not _link(source, draft):
        return False
    draft.replace(target)
    draft.unlink(missing_ok=True)  # still exists if both were the same file already
    return True


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
