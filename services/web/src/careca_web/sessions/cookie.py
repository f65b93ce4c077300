"""The session cookie: a token of the gateway, encrypted, with the time of signing in."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from starlette.requests import HTTPConnection
from starlette.responses import Response

from careca.errors import PreconditionFailed

MIN_KEY_BYTES = 32
"""Minimum size of the secret in the key file."""


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that has signed in."""

    token: str
    expires_unix: float


class SessionCookies:
    """Writes and reads session cookies.

    Args:
        key: encrypts the cookies: see ``read_key``.
        seconds: how long a session lasts.
        secure: whether browsers use TLS. The cookie is then bound to this host and to TLS.
        clock: returns seconds since 1970.
    """

    def __init__(self, key: bytes, *, seconds: float, secure: bool, clock: Callable[[], float] = time.time) -> None:
        self._fernet = Fernet(key)
        self._seconds = seconds
        self._secure = secure
        self._clock = clock
        self._name = "__Host-careca-session" if secure else "careca-session"

    def write(self, response: Response, token: str) -> Session:
        """Adds a cookie with ``token`` to ``response``."""
        now = int(self._clock())
        value = self._fernet.encrypt_at_time(token.encode(), now).decode()
        response.set_cookie(
            self._name, value, max_age=int(self._seconds), httponly=True, samesite="strict", secure=self._secure
        )
        return Session(token, now + self._seconds)

    def read(self, request: HTTPConnection) -> Session | None:
        """Returns the session of ``request``; ``None`` without a cookie, or if it is not valid or has expired."""
        value = request.cookies.get(self._name, "")
        now = int(self._clock())
        try:
            token = self._fernet.decrypt_at_time(value, int(self._seconds), now).decode()
            return Session(token, self._fernet.extract_timestamp(value) + self._seconds)
        except (InvalidToken, ValueError):  # ValueError: not even ASCII
            return None

    def clear(self, response: Response) -> None:
        """Removes the cookie from the browser."""
        response.delete_cookie(self._name, httponly=True, samesite="strict", secure=self._secure)


def read_key(path: Path | None) -> bytes:
    """Returns the key made of the secret in the file; a random key without a file.

    Raises ``PreconditionFailed`` (SESSION_KEY) if the file cannot be read or the secret is too short.
    """
    if path is None:
        return Fernet.generate_key()
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise PreconditionFailed(f"{path} cannot be read: {error.strerror}", reason="SESSION_KEY") from error
    if len(secret) < MIN_KEY_BYTES:
        raise PreconditionFailed(
            f"{path} has {len(secret)} bytes: a session key needs at least {MIN_KEY_BYTES}", reason="SESSION_KEY"
        )
    return base64.urlsafe_b64encode(hashlib.sha256(b"careca session cookies\0" + secret).digest())
