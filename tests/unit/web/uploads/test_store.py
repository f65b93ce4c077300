"""The folder of uploads when requests meet: one creates, writes or waits while another one removes or counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from careca.errors import NotFound
from careca_web.uploads.store import Upload, UploadStore
from support.waiting import HANG_SECONDS, until


def store_in(folder: Path) -> UploadStore:
    return UploadStore(folder, max_bytes=1000, retention_seconds=3600.0)


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
