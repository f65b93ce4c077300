"""A channel whose TLS files may be replaced while it is in use: gRPC itself reads them only once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc.aio

from careca.auth.tls import PemContents, TlsFiles
from careca.rpc.deferred_channel import DeferredChannel

# How long calls on an old channel may take to finish. No caller waits longer than this.
_OLD_CALLS_SECONDS = 24 * 3600.0


class RotatingChannel(DeferredChannel):
    """Makes each call on a channel with the current files. Calls in flight finish on the channel they started on.

    Args:
        files: the source of the credentials.
        create: creates a channel from the contents of the files.
    """

    def __init__(self, files: TlsFiles, create: Callable[[PemContents], grpc.aio.Channel]) -> None:
        self._files = files
        self._create = create
        self._pem = files.current()
        self._channel = create(self._pem)
        self._closing: set[asyncio.Task[None]] = set()

    def chosen(self) -> grpc.aio.Channel:
        """Returns the channel with the current files."""
        pem = self._files.current()
        if pem is not self._pem:
            task = asyncio.create_task(self._channel.close(_OLD_CALLS_SECONDS))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._pem, self._channel = pem, self._create(pem)
        return self._channel

    async def close(self, grace: float | None = None) -> None:
        """Closes all connections; calls in flight get ``grace`` seconds."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._channel.close(grace)
