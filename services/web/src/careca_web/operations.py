"""The endpoints for operators' machines: health and readiness."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from careca_web.gateway import Gateway
from careca_web.http.requests import Draining


def routes(gateway: Gateway, draining: Draining) -> APIRouter:
    """Returns the endpoints /healthz and /readyz."""
    router = APIRouter(include_in_schema=False, default_response_class=PlainTextResponse)

    @router.get("/healthz")
    async def healthz() -> Response:
        """Answers as long as the process lives."""
        return PlainTextResponse("ok\n")

    @router.get("/readyz")
    async def readyz() -> Response:
        """Answers 200 if requests can be served: this service does not stop, and the gateway accepts calls."""
        if draining.has_begun:
            return PlainTextResponse("stopping\n", 503)
        if not await gateway.is_ready():
            return PlainTextResponse("the gateway does not accept calls\n", 503)
        return PlainTextResponse("ready\n")

    return router
