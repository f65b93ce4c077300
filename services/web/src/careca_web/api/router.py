"""Makes the routers of the modules here."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from careca_web.sessions.callers import BEARER


def api_router(path: str, tag: str) -> APIRouter:
    """Returns a router for ``path`` under /api, whose endpoints have ``tag`` in the OpenAPI document."""
    return APIRouter(prefix=f"/api{path}", tags=[tag], dependencies=[Depends(BEARER)])
