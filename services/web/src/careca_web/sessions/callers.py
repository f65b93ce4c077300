"""The caller of a request: a token in the Authorization header or in the session's cookie, passed to the gateway."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from careca.auth.submitter import KEY
from careca.auth.tokens import SCHEME
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

    def client(self, request: Request) -> AsyncClient:
        """Returns a client that calls as the caller of ``request``.

        Raises ``InvalidRequest`` for an Authorization header or a submitter's name that is not valid. Whether a token
        is known, only the gateway decides.
        """
        header = request.headers.get("authorization")
        if header is None:
            session = self._cookies.read(request)
            token = session.token if session else ""
        elif header.lower().startswith(SCHEME.lower()) and header[len(SCHEME) :].strip():
            token = header[len(SCHEME) :].strip()
        else:
            raise InvalidRequest(
                "the Authorization header has another form than 'Bearer TOKEN'", reason="AUTHORIZATION_HEADER"
            )
        return self._gateway.as_caller(token, request.headers.get(KEY, ""))


def client_of(request: Request) -> AsyncClient:
    """Returns the client of the gateway for the caller of ``request``."""
    callers: Callers = request.app.state.callers
    return callers.client(request)


CallerClient = Annotated[AsyncClient, Depends(client_of)]
"""Parameter of an endpoint: the client of the gateway for the request's caller."""
