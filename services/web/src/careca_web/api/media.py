"""The recordings of jobs: their bytes, what a browser plays, and waveforms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from careca.types import RecordingForm, RecordingInfo
from careca_client import AsyncClient
from careca_web.api.models.media import Waveform
from careca_web.api.router import api_router
from careca_web.http.file_names import attachment, received_name
from careca_web.http.ranges import ByteRange, requested_range
from careca_web.sessions.callers import CallerClient

_UNKNOWN_TYPE = "application/octet-stream"
_MEDIA = ("audio/", "video/")
_BYTES: dict[int | str, dict[str, object]] = {
    200: {"description": "The bytes.", "content": {_UNKNOWN_TYPE: {}}},
    206: {"description": "The part in the header Range.", "content": {_UNKNOWN_TYPE: {}}},
    416: {"description": "There is no such part."},
}


class WaveformPart(BaseModel):
    """Which part of the audio to draw. Times are seconds."""

    model_config = ConfigDict(extra="forbid")

    start: float = Field(default=0.0, ge=0, le=1e6)
    end: float | None = Field(default=None, gt=0, le=1e6, description="Default: the end of the audio.")
    buckets: int = Field(default=4000, ge=1, le=20_000, description="Greatest number of buckets.")


def routes() -> APIRouter:
    """Returns the endpoints for the recordings of jobs."""
    router = api_router("/jobs/{job_id}", "recordings")

    @router.head("/recording", response_class=Response, include_in_schema=False)
    @router.get("/recording", response_class=Response, responses=_BYTES)
    async def download_recording(job_id: str, request: Request, client: CallerClient) -> Response:
        """Returns the recording as it was uploaded. A part of it with the header Range."""
        source = await _source(client, job_id, RecordingForm.ORIGINAL)
        name = received_name(source.info.display_name) or "recording"
        return source.respond(request, {"Content-Disposition": attachment(name)})

    @router.head("/audio", response_class=Response, include_in_schema=False)
    @router.get("/audio", response_class=Response, responses=_BYTES)
    async def play_recording(
        job_id: str,
        request: Request,
        client: CallerClient,
        form: Annotated[RecordingForm | None, Query(description="Default: original if browsers play it.")] = None,
    ) -> Response:
        """Returns what a browser plays: the recording itself, or else a WAV file of its audio."""
        source = await _source(client, job_id, form or RecordingForm.ORIGINAL)
        if form is None and not source.info.browser_plays:
            source = await _source(client, job_id, RecordingForm.PLAYABLE)
        return source.respond(request, {})

    @router.get("/waveform")
    async def show_waveform(job_id: str, client: CallerClient, part: Annotated[WaveformPart, Query()]) -> Waveform:
        """Returns the smallest and the greatest sample of each piece of the audio, for drawing."""
        return Waveform.from_value(
            await client.waveform(job_id, start=part.start, end=part.end, max_buckets=part.buckets)
        )

    return router


@dataclass(frozen=True, slots=True)
class _Source:
    """One form of the recording of a job."""

    client: AsyncClient
    job_id: str
    form: RecordingForm
    info: RecordingInfo

    def respond(self, request: Request, headers: dict[str, str]) -> Response:
        """Returns the whole, the part that is asked for, or that the caller has it already."""
        size, entity_tag = self.info.size_bytes, f'"{self.info.entity_tag}"'
        is_media = self.info.content_type.startswith(_MEDIA)
        headers |= {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "Content-Type": self.info.content_type if is_media else _UNKNOWN_TYPE,
            "ETag": entity_tag,
        }
        if request.headers.get("if-none-match") == entity_tag:
            return Response(status_code=304, headers=headers)
        part = requested_range(request.headers, size, entity_tag)
        if part:
            headers["Content-Range"] = part.content_range
        sent = part or ByteRange(0, size, size)
        headers["Content-Length"] = str(sent.length)
        status = 206 if part else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return StreamingResponse(self._bytes(sent), status, headers)

    async def _bytes(self, part: ByteRange) -> AsyncIterator[bytes]:
        async with self.client.read_recording(
            self.job_id, form=self.form, offset=part.offset, length=part.length
        ) as reader:
            async for chunk in reader.chunks:
                yield chunk


async def _source(client: AsyncClient, job_id: str, form: RecordingForm) -> _Source:
    async with client.read_recording(job_id, form=form, length=1) as reader:
        return _Source(client, job_id, form, reader.info)
