"""Keeps the store within its limits and releases memory, in the background between requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from careca.cancellation import cancel_and_wait
from careca.errors import CarecaError
from careca.resources.memory import MemoryCleaner
from careca.telemetry.logs import get_logger
from careca_gateway.storage.store import Store, StoreUsage

QUIET_SECONDS = 1.0
"""How long after a request its memory is released, so that a request that follows at once does not wait for it."""

SWEEP_SECONDS = 300.0
"""How often the store is swept for old files if there are no requests."""

_log = get_logger(__name__)


class StoreRetention:
    """Cleans up in the background after requests. Requests that end at the same time share one clean-up.

    Args:
        store: the store to sweep.
        memory: releases memory.
        report: is called with the store's usage after a sweep.
        recordings_in_use: returns the recordings to keep, by their SHA-256.
    """

    def __init__(
        self,
        store: Store,
        memory: MemoryCleaner,
        report: Callable[[StoreUsage], None],
        recordings_in_use: Callable[[], Awaitable[frozenset[str]]] | None = None,
    ) -> None:
        self._store = store
        self._memory = memory
        self._report = report
        self._recordings_in_use = recordings_in_use
        self._request_ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def request_ended(self) -> None:
        """Schedules a clean-up and returns at once."""
        self._request_ended.set()

    async def start(self) -> None:
        """Starts, with a first sweep of the store."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stops."""
        await cancel_and_wait([self._task])

    async def _run(self) -> None:
        full_sweep_at = -SWEEP_SECONDS
        while True:
            full = time.monotonic() >= full_sweep_at + SWEEP_SECONDS
            await self._sweep(full=full)
            if full:
                full_sweep_at = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._request_ended.wait()
            if self._request_ended.is_set():
                await asyncio.sleep(QUIET_SECONDS)
                self._request_ended.clear()
                await asyncio.to_thread(self._clean_up)

    def _clean_up(self) -> None:
        release = self._memory.clean_up()
        _log.info(
            "memory given back after requests",
            rss_before_bytes=release.before.rss_bytes,
            rss_after_bytes=release.after.rss_bytes,
        )

    async def _sweep(self, *, full: bool) -> None:
        """Sweeps the store. Only a ``full`` sweep includes the shared store, which the other gateways sweep too."""
        try:
            with self._store.files.protect_unpinned():
                in_use = await self._recordings_in_use() if self._recordings_in_use else frozenset()
                await asyncio.to_thread(self._store.sweep, in_use, shared=full)
            if full or not self._store.shared:
                self._report(await asyncio.to_thread(self._store.usage))
        # Requests do not depend on it, and the next sweep may succeed.
        except CarecaError as error:
            _log.warning("the store could not be swept", reason=error.reason, error=error.message)
        except OSError as error:
            _log.exception("the store could not be swept", exc_info=error)
