"""What the HTTP requests are about, made anew when earlier requests may have removed it."""

from __future__ import annotations

from http import HTTPStatus

import httpx2

from bench.fuzz.http_calls import SECRET, HttpCall, Targets, http_calls, undescribed
from bench.fuzz.requests import TIMEOUT_SECONDS
from bench.fuzz.services import ModellessStack
from careca_client import AsyncClient


class HttpTargets:
    """Makes jobs, uploads and sessions in a stack.

    Args:
        stack: the services.
        recording: what the jobs are about.
    """

    def __init__(self, stack: ModellessStack, recording: bytes) -> None:
        self._stack = stack
        self._recording = recording
        self._upload = ""
        self.undescribed: list[str] = []
        """Endpoints that no request is about, and requests for which there is no endpoint."""

    async def renew(self) -> list[HttpCall]:
        """Returns valid requests about new jobs, a new session and, unless there are too many, a new upload."""
        async with AsyncClient(self._stack.gateway_target) as client:
            first, second = [(await client.submit(self._recording)).id for _ in range(2)]
        async with httpx2.AsyncClient(
            base_url=self._stack.web_url,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            headers={"Origin": self._stack.web_url},
        ) as http:
            # Before signing in: with the session, the upload would belong to another caller than the damaged requests'.
            headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "1000"}
            begun = await http.post("/api/uploads", headers=headers)
            signed_in = await http.post("/api/session", json={"token": SECRET})
            document = await http.get("/openapi.json")
        if begun.status_code == HTTPStatus.CREATED:
            self._upload = begun.headers["location"].rpartition("/")[2]
        # The damaged requests begin uploads too, until there are too many: the one before is used then.
        begun_or_too_many = (HTTPStatus.CREATED, HTTPStatus.TOO_MANY_REQUESTS)
        if signed_in.status_code != HTTPStatus.OK or begun.status_code not in begun_or_too_many or not self._upload:
            raise RuntimeError(f"valid requests fail: {signed_in.text}, {begun.text}")
        cookie = signed_in.headers["set-cookie"].partition(";")[0]
        calls = http_calls(Targets(self._recording, first, second, self._upload, cookie))
        self.undescribed = undescribed(document.json(), calls)
        return calls
