"""A real web service in the test's event loop, and an HTTP client of it.

async with web_service(stack.target, folder) as web:
    response = await web.http.get("/api/info")
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from careca_web.server import WebServer
from careca_web.settings import WebSettings
from careca_web.wiring import WebService, wire
from support.submitters import RECORDING
from support.waiting import HANG_SECONDS, eventually

ENDED = ("succeeded", "failed", "cancelled")

PROBLEM_FIELDS = {
    "type",
    "title",
    "status",
    "detail",
    "reason",
    "field",
    "retry_after_seconds",
    "request_id",
    "metadata",
}


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
async def web_service(
    gateway_target: str, folder: Path, *, verify: ssl.SSLContext | bool = True, **settings: Any
) -> AsyncIterator[Web]:
    """Runs a web service in front of a gateway.

    ``folder`` holds its uploads, ``settings`` override the defaults, and ``verify`` is what the client trusts.
    """
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
        async with http_client(url, verify=verify) as http:
            yield Web(server, service, web_settings, url, http)
    finally:
        await server.stop()


def http_client(
    url: str, *, headers: Mapping[str, str] | None = None, verify: ssl.SSLContext | bool = True
) -> httpx2.AsyncClient:
    """Returns a client for the service at ``url`` that gives up only if the service hangs."""
    if not url.startswith("https:"):
        verify = False  # to read all certificates of the system takes time
    return httpx2.AsyncClient(base_url=url, headers=headers, verify=verify, timeout=HANG_SECONDS, trust_env=False)


async def submit(web: Web, data: bytes = RECORDING, *, name: str = "call.wav", **fields: str) -> dict[str, Any]:
    """Submits a job for ``data`` as a form, and returns it."""
    response = await web.http.post("/api/jobs", files={"file": (name, data)}, data=fields)
    assert response.status_code == 201, response.text
    job: dict[str, Any] = response.json()
    return job


async def ended(web: Web, job: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the job after it has ended."""

    async def now() -> dict[str, Any]:
        found: dict[str, Any] = (await web.http.get(f"/api/jobs/{job['id']}")).json()
        return found

    async def has_ended() -> bool:
        return (await now())["state"] in ENDED

    await eventually(has_ended)
    return await now()


def problem(response: httpx2.Response) -> tuple[int, str, str]:
    """Returns status, reason and field of an error, whose shape is checked."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert set(body) == PROBLEM_FIELDS
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["detail"]
    return body["status"], body["reason"], body["field"]
