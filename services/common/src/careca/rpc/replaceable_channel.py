"""A channel that can be replaced by another one while it is in use."""

from __future__ import annotations

import asyncio

import grpc.aio

from careca.rpc.deferred_channel import DeferredChannel

# How long calls on an old channel may take to finish. No caller waits longer than this.
_OLD_CALLS_SECONDS = 24 * 3600.0


class ReplaceableChannel(DeferredChannel):
    """Makes each call on the present channel. Calls in flight finish on the channel they started on."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._closing: set[asyncio.Task[None]] = set()

    def replace(self, channel: grpc.aio.Channel) -> None:
        """Makes the next calls on another channel."""
        task = asyncio.create_task(self._channel.close(_OLD_CALLS_SECONDS))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        self._channel = channel

    async def close(self, grace: float | None = None) -> None:
        """Closes all connections; calls in flight get ``grace`` seconds."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._channel.close(grace)
