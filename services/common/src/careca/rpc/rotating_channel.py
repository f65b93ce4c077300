"""A channel whose TLS files may be replaced while it is in use: gRPC's own read them once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc.aio

from careca.auth.tls import Pem, PemFiles
from careca.rpc.deferred_channel import DeferredChannel

# What an old channel's calls get to finish in. No call is longer than its caller's patience.
_OLD_CALLS_SECONDS = 24 * 3600.0


class RotatingChannel(DeferredChannel):
    """Makes each call on a channel with the files as they are now; calls under way end on the one they began on.

    Args:
        files: what the credentials are made of.
        create: makes a channel of what they hold.
    """

    def __init__(self, files: PemFiles, create: Callable[[Pem], grpc.aio.Channel]) -> None:
        self._files = files
        self._create = create
        self._pem = files.current()
        self._channel = create(self._pem)
        self._ending: set[asyncio.Task[None]] = set()

    def chosen(self) -> grpc.aio.Channel:
        """The channel with the files as they are now."""
        pem = self._files.current()
        if pem is not self._pem:
            task = asyncio.create_task(self._channel.close(_OLD_CALLS_SECONDS))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            self._pem, self._channel = pem, self._create(pem)
        return self._channel

    async def close(self, grace: float | None = None) -> None:
        """Closes all connections; calls in flight get ``grace`` seconds."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._channel.close(grace)
