"""The caller of a request: a token in the Authorization header or in the session's cookie, passed to the gateway."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from careca.auth.submitter import KEY
from careca.auth.tokens import SCHEME, hash_token
from careca.errors import InvalidRequest
from careca_client import AsyncClient
from careca_web.gateway import Gateway
from careca_web.sessions.cookie import SessionCookies

BEARER = HTTPBearer(auto_error=False, description="A token that `careca tokens new` made.")
"""Describes the Authorization header in the OpenAPI document."""


class Callers:
    """Makes a client of the gateway for each request.

    Args:
        gateway: the gateway.
        cookies: the sessions of browsers.
    """

    def __init__(self, gateway: Gateway, cookies: SessionCookies) -> None:
        self._gateway = gateway
        self._cookies = cookies

    def client(self, request: HTTPConnection) -> AsyncClient:
        """Returns a client that calls as the caller of ``request``.

        Raises ``InvalidRequest`` for an Authorization header or a submitter's name that is not valid. Whether a token
        is known, only the gateway decides.
        """
        return self._gateway.as_caller(self._token(request), request.headers.get(KEY, ""))

    def identity(self, request: HTTPConnection) -> str:
        """Returns a text that is the same for all requests of this caller, and that reveals no token."""
        token = self._token(request)
        return f"token:{hash_token(token)}" if token else f"submitter:{request.headers.get(KEY, '')}"

    def _token(self, request: HTTPConnection) -> str:
        header = request.headers.get("authorization")
        if header is None:
            session = self._cookies.read(request)
            return session.token if session else ""
        if header.lower().startswith(SCHEME.lower()) and header[len(SCHEME) :].strip():
            return header[len(SCHEME) :].strip()
        raise InvalidRequest(
            "the Authorization header must be 'Bearer TOKEN': leave it out if the gateway requires no token",
            reason="AUTHORIZATION_HEADER",
        )


def client_of(request: HTTPConnection) -> AsyncClient:
    """Returns the client of the gateway for the caller of ``request``."""
    callers: Callers = request.app.state.callers
    return callers.client(request)


def identity_of(request: HTTPConnection) -> str:
    """Returns who calls: see ``Callers.identity``."""
    callers: Callers = request.app.state.callers
    return callers.identity(request)


CallerClient = Annotated[AsyncClient, Depends(client_of)]
"""Parameter of an endpoint: the client of the gateway for the request's caller."""

CallerIdentity = Annotated[str, Depends(identity_of)]
"""Parameter of an endpoint: who calls, for what this service keeps for each caller."""
