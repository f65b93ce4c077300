"""Creates and connects all parts of the web service."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

from careca_web import operations
from careca_web.api import live
from careca_web.api import routes as api
from careca_web.console import routes as console
from careca_web.docs_page import routes as docs_page
from careca_web.gateway import Gateway
from careca_web.http.errors import ErrorHandlers
from careca_web.http.heads import HeadMiddleware
from careca_web.http.limits import BodyLimitMiddleware
from careca_web.http.requests import Draining, RequestMiddleware
from careca_web.http.routes import paths_by_endpoint, paths_with_head, successes, websocket_paths
from careca_web.http.security import RequestOriginMiddleware, SecurityHeadersMiddleware
from careca_web.http.sockets import NORMAL
from careca_web.live.sessions import LiveSessions
from careca_web.metrics import WebMetrics
from careca_web.openai import realtime
from careca_web.openai import routes as openai
from careca_web.openai.errors import error_body
from careca_web.sessions import routes as sessions
from careca_web.sessions.callers import Callers
from careca_web.sessions.cookie import SessionCookies, read_key
from careca_web.settings import WebSettings, comma_separated
from careca_web.uploads.expiry import remove_expired_uploads
from careca_web.uploads.store import UploadStore

_COMPRESSED_FROM_BYTES = 10_000
"""Results and the console's files. Smaller responses are not worth the time."""

_COMPRESSION_LEVEL = 5
"""A result becomes nine times smaller, in 10 ms for each hour of audio."""

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

_EXPOSED_HEADERS = [
    "Content-Disposition",
    "ETag",
    "Location",
    "Retry-After",
    "Tus-Resumable",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Offset",
    "X-Request-Id",
]

_DESCRIPTION = "Transcribes recordings: who said what, and when."


@dataclass(frozen=True, slots=True)
class WebService:
    """The application and what the server needs to run it."""

    app: FastAPI
    gateway: Gateway
    metrics: WebMetrics
    draining: Draining
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]]
    """What runs as long as the server does."""


def wire(settings: WebSettings) -> WebService:
    """Creates the web service for ``settings``. Must be called in the event loop that the service runs in.

    Raises ``PreconditionFailed`` if a file of the settings cannot be used.
    """
    metrics, draining, gateway = WebMetrics(), Draining(), Gateway(settings)
    cookies = SessionCookies(
        read_key(settings.session_key_file), seconds=settings.session_seconds, secure=settings.is_https
    )
    uploads = UploadStore(
        settings.uploads_dir,
        max_bytes=settings.uploads_max_bytes,
        retention_seconds=settings.uploads_retention_seconds,
    )
    live_sessions = LiveSessions(draining)
    errors = ErrorHandlers({"/v1/": error_body})
    app = FastAPI(
        title="Careca",
        description=_DESCRIPTION,
        version=version("careca-web"),
        docs_url=None,  # its page loads scripts from another origin
        redoc_url=None,
        redirect_slashes=False,  # the redirect would be to the host that the request names
        middleware=[
            Middleware(RequestOriginMiddleware, allowed_hosts=_allowed_hosts(settings)),
            *_cors(settings),
            Middleware(
                GZipMiddleware,
                minimum_size=_COMPRESSED_FROM_BYTES,
                compresslevel=_COMPRESSION_LEVEL,
                exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream"),
            ),
            Middleware(
                BodyLimitMiddleware,
                idle_seconds=settings.body_idle_seconds,
                min_bytes_per_second=settings.body_min_bytes_per_second,
                max_receiving=settings.max_receiving,
            ),
        ],
    )
    errors.install(app)
    app.state.callers = Callers(gateway, cookies)
    routers = [
        operations.routes(gateway, draining),
        sessions.routes(gateway, cookies),
        openai.routes(metrics),
        realtime.routes(metrics, draining),
        *api.routers(metrics, draining, uploads),
        live.routes(metrics, live_sessions),
        docs_page.routes(),
        console.routes(console.STATIC),
    ]
    app.mount("/assets", console.assets(console.STATIC))
    for router in routers:  # whose routes are whole: include_router would analyse each endpoint two more times
        app.router.routes.extend(router.routes)
    metrics.expect_requests(successes(app))
    metrics.expect_websockets(websocket_paths(app), NORMAL)
    app.add_middleware(HeadMiddleware, own=paths_with_head(app))
    app.add_middleware(RequestMiddleware, metrics=metrics, errors=errors, paths=paths_by_endpoint(app))
    app.add_middleware(SecurityHeadersMiddleware, secure=settings.is_https)  # the last one is around all others
    background: list[Callable[[], Coroutine[Any, Any, None]]] = [
        partial(remove_expired_uploads, uploads, metrics),
        live_sessions.run,
    ]
    return WebService(app, gateway, metrics, draining, background)


def _allowed_hosts(settings: WebSettings) -> list[str]:
    if settings.allowed_hosts or settings.is_remote:
        return comma_separated(settings.allowed_hosts)
    return [*_LOOPBACK_NAMES, settings.host]


def _cors(settings: WebSettings) -> list[Middleware]:
    origins = comma_separated(settings.cors_origins)
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
    ]
