"""Runs a Lua script in the jobs' Redis, and converts Redis errors to ``CarecaError``."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from careca.cancellation import interruptible
from careca.errors import Overloaded, Unavailable
from careca.telemetry.logs import get_logger

PREFIX = "careca:{jobs}"
"""The prefix of all keys. The braces keep all keys on one cluster node."""

_MAX_CALLS = 32
_RETRY_AFTER_SECONDS = 2.0
_RETRY_AFTER_FULL_SECONDS = 30.0

# If Redis refuses all writes: from Redis 7 on these errors, before that these words in the script's error.
_REFUSALS = (ReadOnlyError, ClusterDownError, MasterDownError)
_REFUSALS_IN_WORDS = ("READONLY", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "MASTERDOWN")

_log = get_logger(__name__)


class JobScript:
    """A Lua script in the jobs' Redis, which may be unavailable. Its first argument is the name of an operation.

    Each operation is tried once. There is no circuit breaker: nothing could be done instead, a Redis that is gone
    refuses connections at once, and callers have time to wait for one that hangs.
    """

    def __init__(self, redis_url: str, *, timeout_seconds: float, package: str, name: str) -> None:
        """Does not connect yet. The script is the file ``name`` in ``package``."""
        self.client = Redis.from_url(
            redis_url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        # redis-py's own bounded pool was seen to block callers forever.
        self._slots = asyncio.Semaphore(_MAX_CALLS)
        self.failures = 0
        """How often Redis could not be reached."""
        self._timeout_seconds = timeout_seconds
        self._available = True
        source = resources.files(package).joinpath(name).read_text(encoding="utf-8")
        self._script = self.client.register_script(source)

    async def run(self, operation: str, *arguments: bytes | str | int) -> Any:
        """Returns the operation's reply. Raises ``Unavailable``, or ``Overloaded`` (JOBS_FULL) if memory is full."""
        try:
            async with self._slots, asyncio.timeout(self._timeout_seconds):
                reply = await interruptible(self._script(keys=[PREFIX], args=[operation, *arguments]))
        except ResponseError as error:
            if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in str(error):
                raise Overloaded(
                    "The Redis that holds the jobs has no memory left: remove jobs, or give it more.",
                    reason="JOBS_FULL",
                    retry_after_seconds=_RETRY_AFTER_FULL_SECONDS,
                ) from error
            if isinstance(error, _REFUSALS) or any(refusal in str(error) for refusal in _REFUSALS_IN_WORDS):
                raise self._unavailable(error) from error
            raise
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        if not self._available:
            _log.info("the jobs' Redis answers again")
            self._available = True
        return reply

    async def aclose(self) -> None:
        """Closes all connections."""
        await self.client.aclose()

    def _unavailable(self, error: Exception) -> Unavailable:
        self.failures += 1
        if self._available:
            _log.warning("the jobs' Redis does not answer", error=f"{type(error).__name__}: {error}")
            self._available = False
        return Unavailable(
            "The Redis that holds the jobs does not answer.",
            reason="JOBS_UNAVAILABLE",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )
