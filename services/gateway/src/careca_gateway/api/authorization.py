"""Checks callers: their token, their role, and the rate of their requests."""

from __future__ import annotations

import time
from collections.abc import Callable

from careca.auth.caller import Caller
from careca.auth.tokens import TokenFile
from careca.errors import Overloaded
from careca.v1 import admin_pb2

_ADMIN = f"/{admin_pb2.DESCRIPTOR.services_by_name['AdminService'].full_name}/"


class Authorizer:
    """A guard that requires a token. The rate limit of a token's name holds for this process.

    Args:
        tokens: the tokens.
        clock: returns seconds, as ``time.monotonic`` does.
    """

    def __init__(self, tokens: TokenFile, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._clock = clock
        self._buckets: dict[str, _TokenBucket] = {}

    def __call__(self, method: str, metadata: list[tuple[str, str | bytes]]) -> Caller:
        """Returns the caller.

        Raises ``Unauthenticated``, ``PermissionDenied`` (NEEDS_ADMIN), ``Overloaded`` (TOO_MANY_REQUESTS).
        """
        caller = self._tokens.caller(dict(metadata))
        if method.startswith(_ADMIN):
            caller.require_admin(method.removeprefix(_ADMIN))
        self._limit_rate(caller)
        return caller

    def _limit_rate(self, caller: Caller) -> None:
        rate = caller.limits.requests_per_second
        if rate is None:
            return
        now = self._clock()
        wait = self._buckets.setdefault(caller.name, _TokenBucket(now)).take(rate, now)
        if wait > 0:
            raise Overloaded(
                f"{caller.name} may send {rate:g} requests a second",
                retry_after_seconds=wait,
                reason="TOO_MANY_REQUESTS",
            )


class _TokenBucket:
    """A token bucket with room for the requests of one second, at least for one request."""

    def __init__(self, now: float) -> None:
        self._filled_at = now
        self._level: float | None = None

    def take(self, rate: float, now: float) -> float:
        """Takes one request and returns 0 or, if there is none, the seconds until there is one."""
        size = max(1.0, rate)
        level = size if self._level is None else min(size, self._level + (now - self._filled_at) * rate)
        self._filled_at = now
        self._level = level - 1 if level >= 1 else level
        return 0.0 if level >= 1 else (1 - level) / rate
