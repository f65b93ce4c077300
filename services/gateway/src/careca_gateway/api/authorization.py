"""The gateway's door: who calls, whether they may, and how often."""

from __future__ import annotations

import time
from collections.abc import Callable

from careca.auth.caller import Caller
from careca.auth.tokens import TokenFile
from careca.errors import Overloaded
from careca.v1 import admin_pb2

_ADMIN = f"/{admin_pb2.DESCRIPTOR.services_by_name['AdminService'].full_name}/"


class Authorizer:
    """A guard that asks for a token. Names have the requests per second of their token in this process.

    Args:
        tokens: the tokens.
        clock: seconds, as ``time.monotonic`` gives them.
    """

    def __init__(self, tokens: TokenFile, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._clock = clock
        self._paces: dict[str, _TokenBucket] = {}

    def __call__(self, method: str, metadata: list[tuple[str, str | bytes]]) -> Caller:
        """Who makes the call.

        Raises ``Unauthenticated``, ``PermissionDenied`` (NEEDS_ADMIN), ``Overloaded`` (TOO_MANY_REQUESTS).
        """
        caller = self._tokens.caller(dict(metadata))
        if method.startswith(_ADMIN):
            caller.require_admin(method.removeprefix(_ADMIN))
        self._slow_down(caller)
        return caller

    def _slow_down(self, caller: Caller) -> None:
        rate = caller.limits.requests_per_second
        if rate is None:
            return
        now = self._clock()
        pace = self._paces.setdefault(caller.name, _TokenBucket(now))
        wait = pace.wait(rate, now)
        if wait > 0:
            raise Overloaded(
                f"{caller.name} may send {rate:g} requests a second",
                retry_after_seconds=wait,
                reason="TOO_MANY_REQUESTS",
            )


class _TokenBucket:
    """A bucket that holds a second's worth of requests, at least one, and fills at the rate."""

    def __init__(self, now: float) -> None:
        self._filled_at = now
        self._held: float | None = None

    def wait(self, rate: float, now: float) -> float:
        """Takes a request, if there is one; otherwise the seconds until there is."""
        size = max(1.0, rate)
        held = size if self._held is None else min(size, self._held + (now - self._filled_at) * rate)
        self._filled_at = now
        self._held = held - 1 if held >= 1 else held
        return 0.0 if held >= 1 else (1 - held) / rate
