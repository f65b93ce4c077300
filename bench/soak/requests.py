"""What callers do over HTTP: each kind of work knows what must come of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from bench.soak.callers import CONNECTION, Callers, Clip, WrongAnswerError
from careca.errors import CarecaError

_OPENAI = "/v1/audio/transcriptions"
_TUS = {"Tus-Resumable": "1.0.0"}
_PIECE = {**_TUS, "Content-Type": "application/offset+octet-stream"}

Headers = Mapping[str, str]


class Requests(Callers):
    """All kinds of work over HTTP."""

    async def openai(self) -> None:
        """A transcription with OpenAI's API, as one response or as a stream."""
        clip = await self.new_clip()
        fields = {"model": "whisper-1"}
        with self.web() as (web, token):
            if self.chance.random() < 0.5:
                answer = await _send(web, "POST", _OPENAI, headers=token, data=fields, files=_file(clip))
                clip.check(answer.json()["text"])
                return
            fields |= {"stream": "true"}
            options = {"headers": token, "data": fields, "files": _file(clip)}
            async with _events(web, "POST", _OPENAI, **options) as events:
                last = [event async for event in events][-1]
            if "error" in last:
                raise _openai_error(last)
            clip.check(last["text"])

    async def resumed_upload(self) -> None:
        """An upload in two pieces, a job for it, and its events up to the end."""
        clip = await self.new_clip()
        with self.web() as (web, token):
            location = await self._begin_upload(web, token, clip)
            half = len(clip.data) // 2
            await self._continue_upload(web, token, location, half, clip.data[half:])
            state = (await _send(web, "GET", location, headers={**_TUS, **token})).json()
            body = {"recording": state["recording"], "name": "upload"}
            job = (await _send(web, "POST", "/api/jobs", headers=token, json=body)).json()
            self.accepted(job["id"])
            path = f"/api/jobs/{job['id']}"
            while job["state"] in ("queued", "running"):
                async with _events(web, "GET", f"{path}/events", headers=token) as events:
                    async for event in events:
                        job = event if "state" in event else job
            if job["state"] != "succeeded":
                raise WrongAnswerError(f"job {job['id']} ended as {job['state']}: {job['error']}")
            clip.check(_text_of(await _send(web, "GET", f"{path}/result", headers=token)))
            self.verified(job["id"])

    async def abandoned_upload(self) -> None:
        """An upload that is never continued."""
        clip = await self.new_clip()
        with self.web() as (web, token):
            await self._begin_upload(web, token, clip)

    async def browser(self) -> None:
        """Somebody signs in, submits, looks at the history and listens, and signs out."""
        clip = await self.new_clip()
        async with self.new_web() as web:
            with self.web() as (_, token):
                secret = token["Authorization"].removeprefix("Bearer ")
                own = {"Sec-Fetch-Site": "same-origin"}
                await _send(web, "POST", "/api/session", json={"token": secret}, headers=own)
                job = (await _send(web, "POST", "/api/jobs", files=_file(clip), headers=own)).json()
                self.accepted(job["id"])
                path = f"/api/jobs/{job['id']}"
                job = await _ended(web, job)
                if job["state"] != "succeeded":
                    raise WrongAnswerError(f"job {job['id']} ended as {job['state']}: {job['error']}")
                listed = (await _send(web, "GET", "/api/jobs?page_size=200")).json()
                if job["id"] not in [each["id"] for each in listed["jobs"]]:
                    raise WrongAnswerError(f"job {job['id']} is not in the history")
                clip.check(_text_of(await _send(web, "GET", f"{path}/result")))
                part = await _send(web, "GET", f"{path}/recording", headers={"Range": "bytes=100-199"})
                if part.content != clip.data[100:200]:
                    raise WrongAnswerError(f"100 bytes of the recording of job {job['id']} are others")
                await _send(web, "GET", f"{path}/waveform")
                await _send(web, "DELETE", path, headers=own)
                self.verified(job["id"])
                await _send(web, "DELETE", "/api/session", headers=own)

    async def cancelled_http(self) -> None:
        """A request whose caller goes away."""
        clip = await self.new_clip()
        async with self.new_web() as web:
            with self.web() as (_, token):
                try:
                    async with asyncio.timeout(self.chance.uniform(0.0, 3.0)):
                        await _send(
                            web,
                            "POST",
                            "/v1/audio/transcriptions",
                            headers=token,
                            data={"model": "whisper-1"},
                            files=_file(clip),
                        )
                except TimeoutError:
                    return

    async def _begin_upload(self, web: httpx2.AsyncClient, token: Headers, clip: Clip) -> str:
        """Sends the first half. Returns where the rest is to be sent."""
        headers = {**_TUS, **token, "Upload-Length": str(len(clip.data))}
        location = (await _send(web, "POST", "/api/uploads", headers=headers)).headers["location"]
        await self._continue_upload(web, token, location, 0, clip.data[: len(clip.data) // 2])
        return str(location)

    async def _continue_upload(
        self, web: httpx2.AsyncClient, token: Headers, location: str, offset: int, data: bytes
    ) -> None:
        headers = {**_PIECE, **token, "Upload-Offset": str(offset)}
        await _send(web, "PATCH", location, headers=headers, content=data)


def _file(clip: Clip) -> dict[str, tuple[str, bytes]]:
    return {"file": ("clip", clip.data)}


async def _send(web: httpx2.AsyncClient, method: str, path: str, **options: Any) -> httpx2.Response:
    """Returns the response to a request. Raises ``CarecaError`` with the reason of the error."""
    try:
        response = await web.request(method, path, **options)
    except httpx2.TransportError as error:
        raise CarecaError(f"{type(error).__name__}: {error}", reason=CONNECTION) from error
    if response.is_error:
        raise _error_of(response)
    return response


@asynccontextmanager
async def _events(
    web: httpx2.AsyncClient, method: str, path: str, **options: Any
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Yields the events of a stream. Raises as ``_send``."""
    try:
        async with web.stream(method, path, **options) as response:
            if response.is_error:
                await response.aread()
                raise _error_of(response)
            yield _data_of(response)
    except httpx2.TransportError as error:
        raise CarecaError(f"{type(error).__name__}: {error}", reason=CONNECTION) from error


async def _ended(web: httpx2.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    """Follows a job as the console does, and returns it once it has ended. A service that stops ends the stream."""
    while job["state"] in ("queued", "running"):
        async with _events(web, "GET", f"/api/events?job={job['id']}") as events:
            async for job in events:
                if job["state"] not in ("queued", "running"):
                    break
    return job


async def _data_of(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def _text_of(result: httpx2.Response) -> str:
    return " ".join(utterance["text"] for utterance in result.json()["utterances"])


def _error_of(response: httpx2.Response) -> CarecaError:
    """The error in a response, in the shape of either API."""
    try:
        body = response.json()
    except ValueError:
        raise WrongAnswerError(f"{response.status_code} without JSON: {response.text[:200]}") from None
    return _openai_error(body) if "error" in body else CarecaError(body["detail"], reason=body["reason"])


def _openai_error(body: Mapping[str, Any]) -> CarecaError:
    return CarecaError(body["error"]["message"], reason=body["error"]["code"].upper())
