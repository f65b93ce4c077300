"""Notifications about jobs, published by all gateways through Redis. They wake the tasks that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from careca.cancellation import cancel_and_wait
from careca.telemetry.logs import get_logger

_QUIET_SECONDS = 10.0
_RECONNECT_SECONDS = 0.5

_log = get_logger(__name__)


class Wakeup(asyncio.Event):
    """An event with a timeout.

    Clear it before checking the condition you wait for: a notification between the check and the wait then ends the
    wait.
    """

    async def wait_for(self, seconds: float) -> None:
        """Returns when the event is set, at the latest after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()


class Notifications:
    """One channel of a Redis, received over one connection.

    Notifications are lost while the connection is broken, so tasks that wait must also check from time to time.
    """

    def __init__(self, client: Redis, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._subscribers: dict[str, set[Wakeup]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts to receive notifications until ``aclose``."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stops."""
        await cancel_and_wait([self._task])
        self._task = None

    @contextmanager
    def subscribe(self, subject: str) -> Iterator[Wakeup]:
        """Yields an event that is set by every notification about ``subject``."""
        wakeup = Wakeup()
        self._subscribers.setdefault(subject, set()).add(wakeup)
        try:
            yield wakeup
        finally:
            self._subscribers[subject].discard(wakeup)
            if not self._subscribers[subject]:
                del self._subscribers[subject]

    async def _run(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as connection:
                    await self._receive(connection)
            except (RedisError, OSError) as error:
                _log.warning("notifications about jobs are interrupted", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _receive(self, connection: PubSub) -> None:
        """Receives until the connection breaks, or does not answer a ping: it may be gone without an error."""
        await connection.subscribe(self._channel)
        pinged = False
        while True:
            message = await connection.get_message(timeout=_QUIET_SECONDS)
            if message is None and pinged:
                raise TimeoutError("Redis does not answer")
            if message is None:
                await connection.ping()
            pinged = message is None
            if message and message["type"] == "subscribe":
                self._wake_all()  # earlier notifications may have been lost
            if message and message["type"] == "message":
                for wakeup in self._subscribers.get(message["data"].decode(), ()):
                    wakeup.set()

    def _wake_all(self) -> None:
        for wakeups in self._subscribers.values():
            for wakeup in wakeups:
                wakeup.set()
