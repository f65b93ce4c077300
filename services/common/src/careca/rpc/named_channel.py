"""A channel to all replicas behind a name, also to those that come later.

gRPC resolves a name again when a connection ends. A replica that drains keeps its connections until its last call has
ended. If all replicas that a channel knows drain, its calls would fail until then, whatever replicas came meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import grpc.aio

from careca.rpc.replaceable_channel import ReplaceableChannel

RENEW_SECONDS = 0.5
"""How long a channel is kept that reaches no replica: others would be made for each call while all are away."""


class NamedChannel(ReplaceableChannel):
    """Makes each call on a channel that reaches a replica, or on a new one, which resolves the name again.

    Args:
        create: creates a channel.
    """

    def __init__(self, create: Callable[[], grpc.aio.Channel]) -> None:
        self._create = create
        self._renewed = time.monotonic()
        super().__init__(create())

    def chosen(self) -> grpc.aio.Channel:
        """Returns the channel for the next call. On a new one it waits until the first replica is connected."""
        lost = self._channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
        if lost and time.monotonic() - self._renewed > RENEW_SECONDS:
            self._renewed = time.monotonic()
            self.replace(self._create())
        return self._channel
