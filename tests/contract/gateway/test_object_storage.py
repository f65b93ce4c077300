"""Object storage, on a disk and in S3: one suite for both."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from careca.errors import NotFound, Overloaded, PreconditionFailed, Unavailable
from careca_gateway.storage import object_storage as blobs_module
from careca_gateway.storage.object_storage import LocalObjectStorage, ObjectStorage, open_object_storage
from support.s3_server import BUCKET, S3Server

LARGE = os.urandom(1024 * 1024) * 12
"""More than S3 accepts in one part."""


@pytest.fixture(params=["file", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStorage:
    if request.param == "file":
        return open_object_storage((tmp_path / "a folder" / "store").as_uri())
    request.getfixturevalue("s3_server")
    return open_object_storage(f"s3://{BUCKET}/some/prefix", allow_http=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def keys(blobs: ObjectStorage, folder: str) -> list[str]:
    return sorted(blob.key for blob in blobs.list(folder))


def test_an_object_can_be_read_back(blobs: ObjectStorage) -> None:
    blobs.put("results/1", b"one")
    blobs.put("results/1", b"another")
    blobs.put("results/empty", b"")

    assert blobs.get("results/1") == b"another"
    assert blobs.get("results/empty") == b""


@pytest.mark.parametrize("content", [b"content", b"", LARGE], ids=["small", "empty", "large"])
def test_a_file_can_be_read_back(blobs: ObjectStorage, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sent").write_bytes(content)

    blobs.put_file("recordings/a", tmp_path / "sent")
    blobs.get_file("recordings/a", tmp_path / "fetched")

    assert (tmp_path / "fetched").read_bytes() == content
    assert (tmp_path / "sent").read_bytes() == content


def test_parts_of_an_object_can_be_read(blobs: ObjectStorage) -> None:
    blobs.put("recordings/a", LARGE)

    assert blobs.get_range("recordings/a", 0, 5) == LARGE[:5]
    assert blobs.get_range("recordings/a", 5_000_000, 1 << 20) == LARGE[5_000_000 : 5_000_000 + (1 << 20)]
    assert blobs.get_range("recordings/a", len(LARGE) - 1, 1) == LARGE[-1:]
    with pytest.raises(NotFound):
        blobs.get_range("recordings/b", 0, 1)


def test_a_file_replaces_an_object(blobs: ObjectStorage, file: Path, tmp_path: Path) -> None:
    blobs.put("recordings/a", b"older")
    blobs.put_file("recordings/a", file)
    file.unlink()

    assert blobs.get("recordings/a") == b"content"


def test_a_file_can_be_fetched_twice(blobs: ObjectStorage, file: Path, tmp_path: Path) -> None:
    blobs.put_file("recordings/a", file)
    target = tmp_path / "fetched"
    target.write_bytes(b"something longer that was there before")

    for _ in range(2):
        blobs.get_file("recordings/a", target)
        assert target.read_bytes() == b"content"


def test_a_missing_object_is_not_found(blobs: ObjectStorage, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        blobs.get("results/none")
    with pytest.raises(NotFound):
        blobs.get_file("results/none", tmp_path / "fetched")
    assert blobs.find("results/none") is None


def test_an_object_is_found_with_its_size_and_time(blobs: ObjectStorage) -> None:
    blobs.put("results/1", b"12345")

    blob = blobs.find("results/1")

    assert blob
    assert (blob.key, blob.size_bytes) == ("results/1", 5)
    assert abs(blob.modified_unix - time.time()) < 60


def test_a_prefix_lists_exactly_the_objects_below_it(blobs: ObjectStorage) -> None:
    for key in ("results/1/a", "results/1/b", "results/10/a", "stages/1/a"):
        blobs.put(key, b"x")

    assert keys(blobs, "results/") == ["results/1/a", "results/1/b", "results/10/a"]
    assert keys(blobs, "results/1/") == ["results/1/a", "results/1/b"]
    assert keys(blobs, "none/") == []


def test_deleted_objects_are_gone_and_missing_ones_are_ignored(blobs: ObjectStorage) -> None:
    for key in ("results/1", "results/2", "results/3"):
        blobs.put(key, b"x")

    blobs.delete(["results/1", "results/none", "results/3"])
    blobs.delete([])

    assert keys(blobs, "results/") == ["results/2"]


def test_an_object_that_is_put_again_has_a_new_time(blobs: ObjectStorage, file: Path) -> None:
    blobs.put_file("recordings/a", file)
    if isinstance(blobs, LocalObjectStorage):
        os.utime(file, (1, 1))  # the same file by another name

    blobs.put_file("recordings/a", file)

    blob = blobs.find("recordings/a")
    assert blob
    assert abs(blob.modified_unix - time.time()) < 60
    assert keys(blobs, "recordings/") == ["recordings/a"]


def test_on_one_disk_files_are_linked(file: Path, tmp_path: Path) -> None:
    local = LocalObjectStorage(tmp_path / "store")

    local.put_file("recordings/a", file)
    local.get_file("recordings/a", tmp_path / "fetched")

    assert file.stat().st_nlink == 3


def test_an_object_exists_all_the_time_while_it_is_replaced(blobs: ObjectStorage, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(LARGE)
    blobs.put_file("recordings/a", tmp_path / "one")
    done = threading.Event()

    def put_again() -> None:
        for name in ("two", "one") * 5:
            blobs.put_file("recordings/a", tmp_path / name)
        done.set()

    with ThreadPoolExecutor() as pool:
        putting = pool.submit(put_again)
        looks = 0
        while not (done.is_set() or putting.done()) or not looks:
            blob = blobs.find("recordings/a")
            assert blob
            assert blob.size_bytes == len(LARGE)
            looks += 1
        putting.result()
    if isinstance(blobs, LocalObjectStorage):
        assert [path.name for path in (tmp_path / "a folder" / "store" / "recordings").iterdir()] == ["a"]


def test_between_disks_bytes_are_copied(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _source: Path) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    local = LocalObjectStorage(tmp_path / "store")

    local.put_file("recordings/a", file)
    local.get_file("recordings/a", tmp_path / "fetched")

    assert (tmp_path / "fetched").read_bytes() == b"content"
    assert file.stat().st_nlink == 1


def test_an_unavailable_storage_is_reported_and_works_again_later(s3_server: S3Server, file: Path) -> None:
    blobs = open_object_storage(f"s3://{BUCKET}", allow_http=True)
    s3_server.stop()
    try:
        for attempt in (
            lambda: blobs.put("a", b"x"),
            lambda: blobs.put_file("a", file),
            lambda: blobs.get("a"),
            lambda: blobs.find("a"),
            lambda: blobs.delete(["a"]),
            lambda: list(blobs.list("a/")),
        ):
            with pytest.raises(Unavailable) as caught:
                attempt()
            assert caught.value.reason == "STORE_UNREACHABLE"
            assert caught.value.retry_after_seconds
    finally:
        s3_server.start()

    blobs.put("a", b"x")
    assert blobs.get("a") == b"x"


def test_a_missing_bucket_is_an_unavailable_storage(s3_server: S3Server, file: Path) -> None:
    blobs = open_object_storage("s3://no-such-bucket", allow_http=True)

    for attempt in (lambda: blobs.put("a", b"x"), lambda: blobs.put_file("a", file), lambda: list(blobs.list("a/"))):
        with pytest.raises(Unavailable) as caught:
            attempt()
        assert caught.value.reason == "STORE_UNREACHABLE"


def test_a_storage_that_never_answers_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        blobs = open_object_storage(f"s3://{BUCKET}", allow_http=True)

        began = time.monotonic()
        with pytest.raises(Unavailable):
            blobs.find("a")

    assert time.monotonic() - began < 60


def test_a_full_disk_is_reported_with_a_retry_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalObjectStorage(tmp_path / "store")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(blobs_module.obstore, "put", refuse)
    with pytest.raises(Overloaded) as caught:
        local.put("results/1", b"x")

    assert caught.value.reason == "STORE_FULL"


@pytest.mark.parametrize("url", ["", "/a/folder", "ftp://host/x", "file://host/x", "s3://", "http://host/x"])
def test_an_invalid_address_is_refused_with_its_setting(url: str) -> None:
    with pytest.raises(PreconditionFailed, match="CARECA_STORE_URL"):
        open_object_storage(url)


def test_an_unusable_folder_is_refused_with_its_setting(file: Path) -> None:
    with pytest.raises(PreconditionFailed, match="CARECA_STORE_URL"):
        open_object_storage((file / "below").as_uri())
