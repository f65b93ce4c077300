"""The endpoints to sign in and out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from careca.errors import Unauthenticated
from careca_client import AsyncClient
from careca_web.gateway import Gateway
from careca_web.sessions.callers import CallerClient
from careca_web.sessions.cookie import SessionCookies


class SessionState(BaseModel):
    """Whether the browser has signed in, and as whom."""

    signed_in: bool
    needs_token: bool = Field(description="Whether the gateway requires a token.")
    name: str = Field(default="", description="The name in the token.")
    role: str = Field(default="", description="user or admin; empty if nobody has signed in.")
    expires: float | None = Field(default=None, description="When the session ends, in seconds since 1970.")


class SignIn(BaseModel):
    """The token to sign in with."""

    token: str = Field(min_length=1, max_length=1024, examples=["careca_..."])


def routes(gateway: Gateway, cookies: SessionCookies) -> APIRouter:
    """Returns the endpoints under /api/session."""
    router = APIRouter(prefix="/api/session", tags=["session"])

    @router.get("")
    async def get_session(request: Request, client: CallerClient) -> SessionState:
        """Returns whether the browser has signed in."""
        session = cookies.read(request)
        return await _state(client, session.expires_unix if session else None)

    @router.post("")
    async def sign_in(sign_in: SignIn, response: Response) -> SessionState:
        """Signs in with a token, which the browser then keeps in an encrypted cookie. 401 if it is not valid."""
        client = gateway.as_caller(sign_in.token)
        await client.info()
        session = cookies.write(response, sign_in.token)
        return await _state(client, session.expires_unix)

    @router.delete("", status_code=204)
    async def sign_out(response: Response) -> None:
        """Signs out."""
        cookies.clear(response)

    return router


async def _state(client: AsyncClient, expires_unix: float | None) -> SessionState:
    try:
        info = await client.info()
    except Unauthenticated:
        return SessionState(signed_in=False, needs_token=True)
    return SessionState(
        signed_in=True,
        needs_token=info.requires_token,
        name=info.caller_name,
        role=info.caller_role,
        expires=expires_unix if info.requires_token else None,
    )
