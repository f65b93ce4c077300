"""Sweeping the store in the background."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from careca.errors import Unavailable
from careca.resources.memory import MemoryCleaner
from careca_gateway.storage.retention import StoreRetention
from careca_gateway.storage.store import Store


@pytest.mark.parametrize(
    ("error", "level"),
    [(Unavailable("Redis is away", reason="JOBS_UNAVAILABLE"), "warning"), (OSError("the disk is broken"), "error")],
)
async def test_a_sweep_that_fails_is_logged(tmp_path: Path, error: Exception, level: str) -> None:
    """An error with a traceback is for what nobody expects. That Redis is away is told as by all other tasks."""
    store = Store(tmp_path, max_bytes=1, retention_seconds=1.0, max_recording_bytes=1)
    store.open()
    asked = asyncio.Event()

    async def recordings_in_use() -> frozenset[str]:
        asked.set()
        raise error

    retention = StoreRetention(store, MemoryCleaner(), lambda _usage: None, recordings_in_use)
    with capture_logs() as logs:
        await retention.start()
        await asked.wait()
        await retention.close()
    store.close()

    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("the store could not be swept", level)]
    assert ("exc_info" in logs[0]) == (level == "error")
