"""The way to a Redis that may be slow or away: calls with a time limit, and a circuit breaker in front of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from careca.telemetry.logs import get_logger

T = TypeVar("T")

_MAX_CONNECTIONS = 32

_log = get_logger(__name__)


class RedisAwayError(Exception):
    """Redis did not answer in time, answered with an error, or is not asked because it did so a moment ago."""


class RedisGate:
    """One Redis, asked only while it answers.

    The first failure opens the circuit: from then on calls fail at once, and only a background task goes on asking. The
    first answer that it gets closes the circuit again. Each change is logged once.
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
            redis_url: where Redis is, as redis-py reads it.
            timeout_seconds: most that a call may take, connecting included.
            probe_seconds: pause between two probes while the circuit is open.
            probe: what the background task asks: a write, because a Redis that only answers reads is of no use here.
            on_change: told whether Redis answers, at the first call and whenever that changes.
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

    async def call(self, command: Callable[[], Awaitable[T]]) -> T:
        """What the command answers.

        Raises ``RedisAwayError`` within the time limit, or at once where the circuit is open.
        """
        if self._probing:
            raise RedisAwayError("Redis did not answer a moment ago")
        return await self.insist(command)

    async def insist(self, command: Callable[[], Awaitable[T]]) -> T:
        """What the command answers, asked even where the circuit is open. Raises ``RedisAwayError`` in time."""
        answer = await self._ask(command)
        if not self._probing:
            self._note(answers=True)
        return answer

    async def aclose(self) -> None:
        """Stops probing and closes all connections."""
        if self._probing:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        await self.client.aclose()

    async def _ask(self, command: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await command()
        except (RedisError, OSError) as error:
            self._open(error)
            raise RedisAwayError(str(error)) from error

    def _open(self, error: Exception) -> None:
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe_until_it_answers())
        self._note(answers=False, error=f"{type(error).__name__}: {error}")

    async def _probe_until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(self._probe_seconds)
            with contextlib.suppress(RedisAwayError):
                await self._ask(self._probe)
                self._probing = None
                self._note(answers=True)
                return

    def _note(self, *, answers: bool, error: str = "") -> None:
        """Says once that Redis is away, that it is back, and at the first call which of the two."""
        if answers is self._answers:
            return
        if not answers:
            _log.warning("Redis does not answer", error=error)
        elif self._answers is False:
            _log.info("Redis answers again")
        self._answers = answers
        self._on_change(answers)
