"""The blocking and the asyncio client behind one interface, so that one suite runs on both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from careca_client import AsyncClient, Client

NOWHERE = "127.0.0.1:1"
"""An address where no server listens."""


class EitherClient:
    """A client of either kind, called from asyncio. The blocking one runs in threads."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.client, name)
        return partial(asyncio.to_thread, method) if isinstance(self.client, Client) else method

    async def iterate(self, name: str, *arguments: Any, **settings: Any) -> AsyncIterator[Any]:
        """Yields each item of the generator method ``name``."""
        items = getattr(self.client, name)(*arguments, **settings)
        if isinstance(self.client, AsyncClient):
            async for item in items:
                yield item
            return
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            yield item

    async def all(self, name: str, *arguments: Any, **settings: Any) -> list[Any]:
        """Returns all items of the generator method ``name``."""
        return [item async for item in self.iterate(name, *arguments, **settings)]


Connect = Callable[..., EitherClient]
"""Creates a client of a gateway."""
