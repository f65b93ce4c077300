"""Removes expired uploads while the service runs."""

from __future__ import annotations

import asyncio

from careca.telemetry.logs import get_logger
from careca_web.metrics import WebMetrics
from careca_web.uploads.store import UploadStore

CHECK_SECONDS = 60.0
"""Time between two rounds, unless uploads are kept for less."""

_log = get_logger(__name__)


async def remove_expired_uploads(store: UploadStore, metrics: WebMetrics) -> None:
    """Removes expired uploads now and regularly, until the service stops."""
    while True:
        try:
            await store.remove_expired()
        except OSError as error:  # the next round tries again
            _log.warning("expired uploads cannot be removed", error=str(error))
        metrics.set_unfinished_uploads(store.unfinished_bytes)
        await asyncio.sleep(min(CHECK_SECONDS, store.retention_seconds))
