"""News of jobs, from all gateways: what was published wakes whoever waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from careca.telemetry.logs import get_logger
from careca_gateway.background import end

_QUIET_SECONDS = 10.0
_RECONNECT_SECONDS = 0.5

_log = get_logger(__name__)


class Wakeup:
    """Raised by news."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def lower(self) -> None:
        """To be done before looking for oneself: what happens between looking and waiting then ends the wait."""
        self._event.clear()

    def raise_(self) -> None:
        """Ends the wait, or the next one."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Returns when it is raised, at the latest after that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()


class Notifications:
    """One channel of a Redis, listened to over one connection.

    What is said while the connection is broken is not heard: who waits must look for themselves from time to time.
    """

    def __init__(self, client: Redis, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._flags: dict[str, set[Wakeup]] = {}
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to listen, and goes on until ``aclose``."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen_on())

    async def aclose(self) -> None:
        """Listens no more."""
        await end([self._listening])
        self._listening = None

    @contextmanager
    def flag(self, subject: str) -> Iterator[Wakeup]:
        """Is raised whenever there is news of the subject."""
        flag = Wakeup()
        self._flags.setdefault(subject, set()).add(flag)
        try:
            yield flag
        finally:
            self._flags[subject].discard(flag)
            if not self._flags[subject]:
                del self._flags[subject]

    async def _listen_on(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as connection:
                    await self._listen(connection)
            except (RedisError, OSError) as error:
                _log.warning("no news of jobs for now", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self, connection: PubSub) -> None:
        """Until the connection breaks, or does not answer in a quiet time: it may be gone without saying so."""
        await connection.subscribe(self._channel)
        asked = False
        while True:
            message = await connection.get_message(timeout=_QUIET_SECONDS)
            if message is None and asked:
                raise TimeoutError("Redis does not answer")
            if message is None:
                await connection.ping()
            asked = message is None
            if message and message["type"] == "subscribe":
                self._raise_all()  # nothing was heard until now
            if message and message["type"] == "message":
                for flag in self._flags.get(message["data"].decode(), ()):
                    flag.raise_()

    def _raise_all(self) -> None:
        for flags in self._flags.values():
            for flag in flags:
                flag.raise_()
