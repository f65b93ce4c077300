"""The methods and routes of the application, as metrics and traces name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from re import Pattern
from typing import Any

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import Mount, WebSocketRoute, compile_path

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def known_method(method: str) -> str:
    """Returns the method; ``other`` for one that a caller has invented."""
    return method if method in _METHODS else "other"


def paths_by_endpoint(app: FastAPI) -> Mapping[Any, str]:
    """Returns the whole path of each endpoint, with parameters as names.

    The matched route of a request has only the part of the path that belongs to its own router.
    """
    return {_endpoint(context): context.path for context in iter_route_contexts(app.routes) if context.path}


def successes(app: FastAPI) -> Iterator[tuple[str, str, int]]:
    """Returns the method, path and status of a successful request to each endpoint."""
    for context in iter_route_contexts(app.routes):
        for method in context.methods or ():
            if context.path:
                yield method, context.path, getattr(context, "status_code", None) or 200


def websocket_paths(app: FastAPI) -> Iterator[str]:
    """Returns the path of each WebSocket."""
    for context in iter_route_contexts(app.routes):
        if context.path and isinstance(context.original_route, WebSocketRoute):
            yield context.path


def paths_with_head(app: FastAPI) -> list[Pattern[str]]:
    """Returns what the paths look like whose endpoints answer HEAD themselves."""
    return [
        compile_path(context.path)[0]
        for context in iter_route_contexts(app.routes)
        if context.path and "HEAD" in (context.methods or ())
    ]


def _endpoint(context: RouteContext) -> Any:
    route = context.original_route
    return route.app if isinstance(route, Mount) else context.endpoint
