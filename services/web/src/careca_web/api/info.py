"""What the system is and accepts."""

from __future__ import annotations

from fastapi import APIRouter

from careca_web.api.models.info import Info
from careca_web.api.router import api_router
from careca_web.sessions.callers import CallerClient


def routes() -> APIRouter:
    """Returns the endpoint /info."""
    router = api_router("", "info")

    @router.get("/info")
    async def show_info(client: CallerClient) -> Info:
        """Returns versions, models, limits, formats and languages."""
        return Info.from_value(await client.info())

    return router
