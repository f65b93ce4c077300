"""The caller of the request that is being served: name, role and limits."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

from careca.errors import PermissionDenied


class Role(enum.StrEnum):
    """What a caller may do."""

    USER = "user"
    """Use its own recordings and jobs."""
    ADMIN = "admin"
    """Do everything."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """The limits of one caller. ``None`` means that only the limits of the service apply."""

    requests_per_second: float | None = None
    recording_bytes: int | None = None
    """Size of a recording."""
    recording_seconds: float | None = None
    """Length of a recording's audio."""
    jobs: int | None = None
    """Number of waiting jobs."""
    live_sessions: int | None = None
    """Number of live sessions at the same time."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request. The name is empty if the service does not authenticate callers."""

    name: str = ""
    role: Role = Role.ADMIN
    limits: CallerLimits = CallerLimits()

    @property
    def is_admin(self) -> bool:
        """Whether the caller may do everything."""
        return self.role is Role.ADMIN

    @property
    def sees_all_jobs(self) -> bool:
        """Whether the caller may see the jobs of others. Callers without a name may not."""
        return self.is_admin and bool(self.name)

    def require_admin(self, what: str) -> None:
        """Raises ``PermissionDenied`` (NEEDS_ADMIN), naming the action ``what``, if the caller is not an admin."""
        if not self.is_admin:
            raise PermissionDenied(f"{what} needs a token of the role admin", reason="NEEDS_ADMIN")


ANONYMOUS = Caller()
"""The caller of a service that does not authenticate callers: such a service must be protected in another way."""

Authorize: TypeAlias = Callable[[str, list[tuple[str, str | bytes]]], Caller]
"""Returns the caller for a method and the metadata of the call. Raises ``CarecaError`` if the call is not allowed."""

_current: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def allow_anyone(_method: str, _metadata: list[tuple[str, str | bytes]]) -> Caller:
    """The ``Authorize`` of a service that does not authenticate callers."""
    return ANONYMOUS


def current_caller() -> Caller:
    """Returns the caller of the request that is being served; ``ANONYMOUS`` outside of a request."""
    return _current.get()


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Makes ``caller`` the current caller."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
