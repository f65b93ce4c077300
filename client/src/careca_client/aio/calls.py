"""What all groups of the client's calls share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from careca.errors import Unavailable
from careca.rpc.statuses import is_unanswered, translated_errors
from careca_client.access import Metadata
from careca_client.aio.concurrency import sleep
from careca_client.protocol.attempts import Attempts

T = TypeVar("T")


class AsyncCalls:
    """Calls of one gateway."""

    _metadata: Metadata
    _retries: int

    async def _call(self, method: Callable[..., Awaitable[T]], request: Message, timeout: float | None) -> T:
        with translated_errors():
            return await method(request, timeout=timeout, metadata=self._metadata)

    async def _query(self, method: Callable[..., Awaitable[T]], request: Message, timeout: float | None) -> T:
        """Makes a call that changes nothing. It is repeated if it does not reach the gateway."""
        attempts = Attempts(retries=self._retries, timeout=timeout)
        while True:
            try:
                return await self._call(method, request, attempts.remaining())
            except Unavailable as error:
                if not is_unanswered(error):
                    raise
                await sleep(attempts.after(error).delay_seconds)
