"""What all groups of the client's calls share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from careca.rpc.statuses import translated_errors
from careca_client.access import Metadata

T = TypeVar("T")


class AsyncCalls:
    """Calls of one gateway."""

    _metadata: Metadata

    async def _call(self, method: Callable[..., Awaitable[T]], request: Message, timeout: float | None) -> T:
        with translated_errors():
            return await method(request, timeout=timeout, metadata=self._metadata)
