"""A real web service in the test's event loop, and an HTTP client of it.

async with web_service(stack.target, folder) as web:
    response = await web.http.get("/api/info")
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from careca_web.server import WebServer
from careca_web.settings import WebSettings
from careca_web.wiring import WebService, wire
from support.waiting import HANG_SECONDS


@dataclass(frozen=True)
class Web:
    """A web service that serves."""

    server: WebServer
    service: WebService
    settings: WebSettings
    url: str
    http: httpx2.AsyncClient
    """A client without cookies of its own or a token."""

    def as_caller(self, token: str) -> httpx2.AsyncClient:
        """Returns a client with this token. The caller closes it."""
        return http_client(self.url, headers={"Authorization": f"Bearer {token}"})


@asynccontextmanager
async def web_service(gateway_target: str, folder: Path, **settings: Any) -> AsyncIterator[Web]:
    """Runs a web service in front of a gateway. ``folder`` holds its uploads; ``settings`` override the defaults."""
    defaults: dict[str, Any] = {
        "port": 0,
        "metrics_port": -1,
        "drain_seconds": 5.0,
        "gateway_target": gateway_target,
        "uploads_dir": folder / "uploads",
    }
    web_settings = WebSettings(**(defaults | settings))
    service = wire(web_settings)
    server = WebServer(web_settings, service)
    try:
        await server.start()
        scheme = "https" if web_settings.tls_cert_file else "http"
        url = f"{scheme}://127.0.0.1:{server.port}"
        async with http_client(url) as http:
            yield Web(server, service, web_settings, url, http)
    finally:
        await server.stop()


def http_client(url: str, **options: Any) -> httpx2.AsyncClient:
    """Returns a client for the service at ``url`` that gives up only if the service hangs."""
    return httpx2.AsyncClient(**({"base_url": url, "timeout": HANG_SECONDS, "trust_env": False} | options))
