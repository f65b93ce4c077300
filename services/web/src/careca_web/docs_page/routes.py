"""Serves the page /docs and its files."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

_FILES = Path(__file__).parent / "files"


def routes() -> APIRouter:
    """Returns the endpoints under /docs."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def page() -> FileResponse:
        """The page."""
        return FileResponse(_FILES / "docs.html")

    @router.get("/docs/docs.js")
    async def script() -> FileResponse:
        """The script that shows the document."""
        return FileResponse(_FILES / "docs.js", media_type="text/javascript")

    @router.get("/docs/docs.css")
    async def style() -> FileResponse:
        """The style."""
        return FileResponse(_FILES / "docs.css", media_type="text/css")

    return router
