"""A channel whose TLS files may be replaced while it is in use: gRPC's own read them once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc
import grpc.aio

from careca.pem import Pem, PemFiles

# What an old channel's calls get to finish in. No call is longer than its caller's patience.
_OLD_CALLS_SECONDS = 24 * 3600.0


class RotatingChannel(grpc.aio.Channel):
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

    def _current(self) -> grpc.aio.Channel:
        pem = self._files.current()
        if pem is not self._pem:
            task = asyncio.create_task(self._channel.close(_OLD_CALLS_SECONDS))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            self._pem, self._channel = pem, self._create(pem)
        return self._channel

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        """As of a channel."""
        return self._later("unary_unary", *method, **options)

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        """As of a channel."""
        return self._later("unary_stream", *method, **options)

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        """As of a channel."""
        return self._later("stream_unary", *method, **options)

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        """As of a channel."""
        return self._later("stream_stream", *method, **options)

    def _later(self, shape: str, *method: Any, **options: Any) -> Callable[..., Any]:
        """Makes a call of that shape on the channel that is the current one by then."""

        def call(*request: Any, **call_options: Any) -> Any:
            return getattr(self._current(), shape)(*method, **options)(*request, **call_options)

        return call

    async def close(self, grace: float | None = None) -> None:
        """Closes all connections; calls in flight get ``grace`` seconds."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As of a channel."""
        return self._current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As of a channel."""
        await self._current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As of a channel."""
        await self._current().channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
