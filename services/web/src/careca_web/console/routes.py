"""Serves the console's files."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from careca.errors import NotFound

STATIC = Path(__file__).parent / "static"
"""The built console."""

_IMMUTABLE = "public, max-age=31536000, immutable"


class _HashedFiles(StaticFiles):
    """Files whose names change with their contents, so that browsers may keep them."""

    async def check_config(self) -> None:
        """Accepts that there is no folder: if the console is not built, none of its files is found."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _IMMUTABLE
        return response


def assets(static: Path) -> StaticFiles:
    """Returns the application for /assets."""
    return _HashedFiles(directory=static / "assets", check_dir=False)


def routes(static: Path) -> APIRouter:
    """Returns the endpoints for the page. It must be the last router, because it answers every path of a page."""
    router = APIRouter(include_in_schema=False)

    @router.get("/{path:path}")
    async def page(path: str, request: Request) -> Response:
        """The page for every path without a dot: the browser's part shows what belongs to the path."""
        if path and (file := _file(static, path)):
            return FileResponse(file)
        if "." in path.rpartition("/")[2] or path.partition("/")[0] in ("api", "v1"):
            raise HTTPException(404)
        index = static / "index.html"
        if not index.is_file():
            raise NotFound("the console is not built: run `make console`", reason="CONSOLE_NOT_BUILT")
        return FileResponse(index, headers={"Cache-Control": "no-cache"})

    return router


def _file(static: Path, path: str) -> Path | None:
    """Returns the file at the top of ``static`` with this name, such as favicon.svg; ``None`` if there is none."""
    return next((file for file in static.glob("*.*") if file.name == path and file.is_file()), None)
