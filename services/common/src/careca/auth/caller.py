"""Who calls: what a guard at the door found out, for all that serves the call."""

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
    """Its own recordings and jobs."""
    ADMIN = "admin"
    """Everything."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What one caller may ask for at most; ``None`` where only the service's own limits count."""

    requests_per_second: float | None = None
    recording_bytes: int | None = None
    """Size of a recording."""
    recording_seconds: float | None = None
    """Length of a recording's audio."""
    jobs: int | None = None
    """Jobs that wait."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls. Without a name where nobody is asked for one."""

    name: str = ""
    role: Role = Role.ADMIN
    limits: CallerLimits = CallerLimits()

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything."""
        return self.role is Role.ADMIN

    @property
    def sees_all_jobs(self) -> bool:
        """Whether others' jobs are open to it: where nobody proves who he is, to nobody."""
        return self.is_admin and bool(self.name)

    def require_admin(self, what: str) -> None:
        """Raises ``PermissionDenied`` (NEEDS_ADMIN) unless the caller may do everything, ``what`` among it."""
        if not self.is_admin:
            raise PermissionDenied(f"{what} needs a token of the role admin", reason="NEEDS_ADMIN")


ANYBODY = Caller()
"""Who calls a service that asks nobody for a name: it keeps strangers out by other means."""

Guard: TypeAlias = Callable[[str, list[tuple[str, str | bytes]]], Caller]
"""Who makes a call to this method with this metadata. Raises ``CarecaError`` where it may not be made."""

_current: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def let_anybody_in(_method: str, _metadata: list[tuple[str, str | bytes]]) -> Caller:
    """The guard of a service that asks nobody for a name."""
    return ANYBODY


def current_caller() -> Caller:
    """Who makes the call that is being served; ``ANYBODY`` outside calls."""
    return _current.get()


@contextmanager
def serving(caller: Caller) -> Iterator[None]:
    """Makes ``caller`` the current one."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
