"""What the gateway does between requests: gives memory back and keeps the store within its bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from careca.errors import CarecaError
from careca.resources.memory import MemoryCleaner
from careca.telemetry.logs import get_logger
from careca_gateway.background import end
from careca_gateway.storage.store import Store, StoreUsage

QUIET_SECONDS = 1.0
"""How long after a request its memory is given back, so that requests that follow each other closely do not wait."""

SWEEP_SECONDS = 300.0
"""How often the store is swept when there are no requests, for what gets too old."""

_log = get_logger(__name__)


class StoreRetention:
    """Cleans up in the background after requests; several that end at once are cleaned up after together.

    Args:
        store: is swept.
        memory: is asked to give memory back.
        report: is told what the store holds then.
        recordings_in_use: tells which recordings have to stay, by their SHA-256.
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
        """Has the cleanup done soon, without waiting for it."""
        self._request_ended.set()

    async def start(self) -> None:
        """Begins, with the store as it was left."""
        self._task = asyncio.create_task(self._keep_house())

    async def close(self) -> None:
        """Ends."""
        await end([self._task])

    async def _keep_house(self) -> None:
        swept_all = -SWEEP_SECONDS
        while True:
            everything = time.monotonic() >= swept_all + SWEEP_SECONDS
            await self._sweep(everything=everything)
            if everything:
                swept_all = time.monotonic()
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

    async def _sweep(self, *, everything: bool) -> None:
        """Sweeps; what gateways share only where ``everything`` is to be swept, as others do so too."""
        try:
            with self._store.sparing():
                in_use = await self._recordings_in_use() if self._recordings_in_use else frozenset()
                await asyncio.to_thread(self._store.sweep, in_use, shared=everything)
            if everything or not self._store.sharing:
                self._report(await asyncio.to_thread(self._store.usage))
        except (OSError, CarecaError) as error:
            # The next sweep may do better, and requests do not depend on it.
            _log.exception("the store could not be swept", exc_info=error)
