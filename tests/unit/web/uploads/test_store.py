"""The folder of uploads when requests meet: one creates, writes or waits while another one removes or counts."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from careca.errors import InvalidRequest, NotFound, Overloaded
from careca_web.uploads.store import MAX_UPLOADS_OF_CALLER, Upload, UploadStore
from support.waiting import HANG_SECONDS, until


def store_in(folder: Path) -> UploadStore:
    return UploadStore(folder, max_bytes=1000, retention_seconds=3600.0)


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@contextmanager
def threads_busy() -> Iterator[None]:
    """Keeps the event loop's only thread busy as long as the context lasts."""
    free = threading.Event()
    executor = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    executor.submit(free.wait, HANG_SECONDS)
    try:
        yield
    finally:
        free.set()


async def test_an_upload_whose_files_are_not_yet_there_disturbs_nobody(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with threads_busy():
        creating = asyncio.create_task(store.create("ana", "call.wav", 5))
        await until(lambda: bool(store._uploads))

        assert store.unfinished_bytes == 0
        await store.remove_expired()

    assert store.get((await creating).id, "ana").offset == 0


async def test_an_upload_for_which_the_disk_has_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, text: str) -> int:
        path.write_bytes(text[:5].encode())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = store_in(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", fill)
        with pytest.raises(OSError, match="No space left"):
            await store.create("ana", "call.wav", 1000)

    assert files_in(tmp_path) == []
    assert (await store.create("ana", "call.wav", 1000)).offset == 0


async def test_an_upload_for_which_the_caller_does_not_wait_expires(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with threads_busy():
        creating = asyncio.create_task(store.create("ana", "call.wav", 5))
        await until(lambda: bool(store._uploads))
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
    await asyncio.to_thread(lambda: None)  # the only thread has done everything before

    await store.remove_expired()

    assert store._uploads == {}
    assert files_in(tmp_path) == []


async def enter(store: UploadStore, upload: Upload) -> None:
    async with store.holding(upload):
        pass


async def test_whoever_waits_for_an_upload_that_is_deleted_finds_none(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    upload = await store.create("ana", "call.wav", 5)
    async with upload.lock:
        deleting = asyncio.create_task(store.delete(upload))
        await until(lambda: bool(upload.lock._waiters))
        waiting = asyncio.create_task(enter(store, upload))
        await until(lambda: len(upload.lock._waiters or ()) == 2)

    await deleting
    with pytest.raises(NotFound, match="no such upload"):
        await waiting
    assert store.unfinished_bytes == 0
    assert not upload.path.exists()


async def test_the_offset_is_what_is_on_disk(tmp_path: Path) -> None:
    upload = await store_in(tmp_path).create("ana", "call.wav", 5)
    upload.append(b"123")

    (found,) = store_in(tmp_path)._uploads.values()

    assert upload.offset == found.offset == upload.path.stat().st_size == 3
    assert found.changed_unix == upload.changed_unix == upload.path.stat().st_mtime


async def test_one_caller_cannot_reserve_the_room_of_all(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    first = await store.create("ana", "call.wav", 200)
    await store.create("ana", "call.wav", 50)

    with pytest.raises(Overloaded, match=r"2 unfinished uploads of 250 bytes; .* of 250 bytes together") as refused:
        await store.create("ana", "call.wav", 1)
    assert refused.value.reason == "TOO_MANY_UPLOADS"
    assert refused.value.retry_after_seconds
    await store.create("bo", "call.wav", 250)
    await store.delete(first)
    await store.create("ana", "call.wav", 200)


async def test_one_upload_may_be_larger_than_the_share_of_a_caller_if_there_is_room(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    await store.create("ana", "call.wav", 900)

    with pytest.raises(Overloaded) as refused:
        await store.create("bo", "call.wav", 101)
    assert refused.value.reason == "UPLOADS_FULL"
    assert refused.value.retry_after_seconds
    await store.create("bo", "call.wav", 100)
    with pytest.raises(InvalidRequest, match="at most 1,000"):
        await store.create("bo", "call.wav", 1001)


async def test_a_caller_has_a_limited_number_of_unfinished_uploads(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for _ in range(MAX_UPLOADS_OF_CALLER):
        await store.create("ana", "call.wav", 1)

    with pytest.raises(Overloaded) as refused:
        await store.create("ana", "call.wav", 1)
    assert refused.value.reason == "TOO_MANY_UPLOADS"
