"""A channel that selects another channel for each call. Stubs keep the channel that they were created with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import grpc
import grpc.aio

Make = Callable[[grpc.aio.Channel], Any]
"""Starts the call on a channel."""


class DeferredChannel(grpc.aio.Channel):
    """Makes each call on the channel that ``chosen`` returns at that time."""

    @abstractmethod
    def chosen(self) -> grpc.aio.Channel:
        """Returns the channel for the next call."""

    def begin(self, make: Make) -> Any:
        """Starts a call."""
        return make(self.chosen())

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        """See ``grpc.aio.Channel``."""
        return self._deferred("unary_unary", *method, **options)

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        """See ``grpc.aio.Channel``."""
        return self._deferred("unary_stream", *method, **options)

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        """See ``grpc.aio.Channel``."""
        return self._deferred("stream_unary", *method, **options)

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        """See ``grpc.aio.Channel``."""
        return self._deferred("stream_stream", *method, **options)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Returns the state of the chosen channel."""
        return self.chosen().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See ``grpc.aio.Channel``, for the chosen channel."""
        await self.chosen().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See ``grpc.aio.Channel``, for the chosen channel."""
        await self.chosen().channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _deferred(self, shape: str, *method: Any, **options: Any) -> Callable[..., Any]:
        def call(*request: Any, **call_options: Any) -> Any:
            return self.begin(lambda channel: getattr(channel, shape)(*method, **options)(*request, **call_options))

        return call
