"""Protects browsers: which host names and origins are accepted, and the security headers of every response."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from careca.errors import InvalidRequest, PermissionDenied
from careca_web.http.requests import QUIET_PATHS, RESPONSE_STARTS

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

_SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
}

_HSTS = "max-age=31536000"
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_SAME_SITE = {"same-origin", "none"}


class SecurityHeadersMiddleware:
    """Adds the security headers to every response, errors included: it wraps all other middleware.

    Args:
        app: the rest of the application.
        secure: whether browsers use TLS.
    """

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        self._headers = dict(_SECURITY_HEADERS)
        if secure:
            self._headers["Strict-Transport-Security"] = _HSTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] in RESPONSE_STARTS:
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/assets/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class RequestOriginMiddleware:
    """Refuses requests for other hosts and from other sites.

    A request without an Authorization header may be one that a browser sends on behalf of another web page: with the
    session's cookie or, if the gateway requires no token, with nothing at all. Such requests must come from our own
    pages unless they only read; a WebSocket does more than that. Browsers say where a request comes from, and pages
    cannot change that.

    Args:
        app: the rest of the application.
        allowed_hosts: host names in the Host header; empty accepts any. On a machine whose gateway requires no token,
            this stops pages that make their own host name point to this machine.
    """

    def __init__(self, app: ASGIApp, *, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._allowed_hosts = {host.lower() for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            if scope["path"] not in QUIET_PATHS:  # probes call pods by their addresses
                self._check_host(headers.get("host", ""))
            if scope.get("method") not in _SAFE_METHODS and "authorization" not in headers:
                _check_same_site(headers)
        await self._app(scope, receive, send)

    def _check_host(self, host: str) -> None:
        name = host_name(host)
        if self._allowed_hosts and name not in self._allowed_hosts:
            raise InvalidRequest(
                f"this service does not answer for the host {name[:100]!r}: use one of its names, or add the name to "
                "CARECA_ALLOWED_HOSTS",
                reason="HOST_NOT_ALLOWED",
            )


def _check_same_site(headers: Headers) -> None:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    host = headers.get("host", "").lower()
    own = {f"http://{host}", f"https://{host}"}
    if (site is not None and site not in _SAME_SITE) or (origin is not None and origin.lower() not in own):
        raise PermissionDenied(
            "another web page sent this request: call the API with a token in the Authorization header",
            reason="CROSS_SITE_REQUEST",
        )


def host_name(host: str) -> str:
    """Returns the name in a Host header, in lower case and without the port."""
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[").lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
