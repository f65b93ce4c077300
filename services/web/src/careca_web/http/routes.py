"""The methods and routes of the application, as metrics and traces name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from re import Pattern
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount, Route, WebSocketRoute, compile_path

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def known_method(method: str) -> str:
    """Returns the method; ``other`` for one that a caller has invented."""
    return method if method in _METHODS else "other"


def paths_by_endpoint(app: FastAPI) -> Mapping[Any, str]:
    """Returns the path of each endpoint, with parameters as names."""
    return {route.app if isinstance(route, Mount) else route.endpoint: route.path for route in _routes(app)}


def successes(app: FastAPI) -> Iterator[tuple[str, str, int]]:
    """Returns the method, path and status of a successful request to each endpoint."""
    for route in _routes(app):
        if isinstance(route, Route):
            for method in route.methods or ():
                yield method, route.path, getattr(route, "status_code", None) or 200


def websocket_paths(app: FastAPI) -> Iterator[str]:
    """Returns the path of each WebSocket."""
    return (route.path for route in _routes(app) if isinstance(route, WebSocketRoute))


def paths_with_head(app: FastAPI) -> list[Pattern[str]]:
    """Returns what the paths look like whose endpoints answer HEAD themselves."""
    return [
        compile_path(route.path)[0]
        for route in _routes(app)
        if isinstance(route, Route) and "HEAD" in (route.methods or ())
    ]


def _routes(app: FastAPI) -> Iterator[Mount | Route | WebSocketRoute]:
    return (route for route in app.routes if isinstance(route, Mount | Route | WebSocketRoute))
