"""A Redis client with a time limit per call and a circuit breaker, for a Redis that may be slow or unavailable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from careca.cancellation import cancel_and_wait, interruptible
from careca.telemetry.logs import get_logger

T = TypeVar("T")

_MAX_CONNECTIONS = 32

_log = get_logger(__name__)


class RedisUnavailableError(Exception):
    """Redis did not answer in time or answered with an error, or the circuit is open after such a failure."""


class CircuitBreaker:
    """Calls one Redis only while it answers.

    The first failure opens the circuit: then calls fail at once, and only a background task probes Redis. The first
    successful probe closes the circuit again. Each change is logged once.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        timeout_seconds: float,
        probe_seconds: float,
        probe: Callable[[], Awaitable[object]],
        on_change: Callable[[bool], None],
    ) -> None:
        """Connects to nothing yet.

        Args:
            redis_url: the URL of Redis, in redis-py's format.
            timeout_seconds: longest time of a call, including the connection.
            probe_seconds: pause between two probes while the circuit is open.
            probe: the command of the background task. It must write, because a read-only Redis is of no use here.
            on_change: called with whether Redis answers, after the first call and after each change.
        """
        self.client = Redis.from_pool(
            BlockingConnectionPool.from_url(
                redis_url,
                max_connections=_MAX_CONNECTIONS,
                timeout=timeout_seconds,
                socket_timeout=timeout_seconds,
                socket_connect_timeout=timeout_seconds,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        )
        self._probe_seconds = probe_seconds
        self._timeout_seconds = timeout_seconds
        self._probe = probe
        self._on_change = on_change
        self._probing: asyncio.Task[None] | None = None
        self._answers: bool | None = None

    async def call(self, command: Callable[[], Awaitable[T]], *, force: bool = False) -> T:
        """Returns the answer to the command; ``force`` sends it even if the circuit is open.

        Raises ``RedisUnavailableError`` within the time limit, or at once if the circuit is open.
        """
        if self._probing and not force:
            raise RedisUnavailableError("Redis did not answer a moment ago")
        answer = await self._send(command)
        if not self._probing:
            self._report(answers=True)
        return answer

    async def aclose(self) -> None:
        """Stops probing and closes all connections."""
        await cancel_and_wait((self._probing,))
        await self.client.aclose()

    async def _send(self, command: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await interruptible(command())
        except (RedisError, OSError) as error:
            self._open(error)
            raise RedisUnavailableError(str(error)) from error

    def _open(self, error: Exception) -> None:
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe_until_it_answers())
        self._report(answers=False, error=f"{type(error).__name__}: {error}")

    async def _probe_until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(self._probe_seconds)
            with contextlib.suppress(RedisUnavailableError):
                await self._send(self._probe)
                self._probing = None
                self._report(answers=True)
                return

    def _report(self, *, answers: bool, error: str = "") -> None:
        """Logs and reports the first state and each change of it."""
        if answers is self._answers:
            return
        if not answers:
            _log.warning("Redis does not answer", error=error)
        elif self._answers is False:
            _log.info("Redis answers again")
        self._answers = answers
        self._on_change(answers)
