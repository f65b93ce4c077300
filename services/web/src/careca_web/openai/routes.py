"""The endpoints under /v1."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from careca_client import AsyncClient, TranscribeOptions
from careca_web.http.disconnects import while_connected
from careca_web.http.forms import MAX_TEXT_BYTES, read_form
from careca_web.http.limits import allow_recording
from careca_web.metrics import WebMetrics
from careca_web.openai.fields import form_schema
from careca_web.openai.models import check_model, model_names, model_object
from careca_web.openai.request import AudioRequest, ResponseFormat, read_request
from careca_web.openai.responses import TEXT_FORMATS, check_complete, full_text, json_body
from careca_web.openai.streaming import StreamedCall
from careca_web.sessions.callers import CallerClient


def routes(metrics: WebMetrics) -> APIRouter:
    """Returns the endpoints of OpenAI's audio API."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post("/audio/transcriptions", openapi_extra={"requestBody": form_schema(translations=False)})
    async def transcribe(request: Request, client: CallerClient) -> Response:
        """Returns what was said: OpenAI's audio API, with speakers.

        The recording is uploaded with the request. Without `stream`, the response comes when the work is done.
        """
        return await _respond(request, client, metrics, translate=False)

    @router.post("/audio/translations", openapi_extra={"requestBody": form_schema(translations=True)})
    async def translate(request: Request, client: CallerClient) -> Response:
        """Returns what was said, in English. The transcription model must be able to translate."""
        return await _respond(request, client, metrics, translate=True)

    @router.get("/models")
    async def list_models(client: CallerClient) -> dict[str, Any]:
        """Returns all names that the field `model` may have."""
        return {"object": "list", "data": [model_object(name) for name in model_names(await client.info())]}

    @router.get("/models/{name:path}")
    async def show_model(name: str, client: CallerClient) -> dict[str, Any]:
        """Returns one of the names. 404 if it is not served."""
        check_model(await client.info(), name)
        return model_object(name)

    return router


async def _respond(request: Request, client: AsyncClient, metrics: WebMetrics, *, translate: bool) -> Response:
    async with AsyncExitStack() as resources:
        info = await client.info()  # before the body: a caller without a valid token uploads nothing
        allow_recording(request, info.max_recording_bytes + MAX_TEXT_BYTES)
        form = await read_form(request)
        resources.push_async_callback(form.close)
        audio = read_request(form, info, translate=translate)
        metrics.count_upload(audio.file.size or 0)
        if not audio.stream:
            return await while_connected(request, _answer(client, audio))
        call = StreamedCall(
            audio, lambda on_event: client.transcribe(audio.file.file, on_event=on_event, **audio.options)
        )
        resources.push_async_callback(call.stop)
        await while_connected(request, call.begin())
        resources.enter_context(metrics.event_stream_open())
        return _EventStream(call, resources.pop_all())


async def _answer(client: AsyncClient, audio: AudioRequest) -> Response:
    formats = [TEXT_FORMATS[audio.response_format]] if audio.response_format in TEXT_FORMATS else []
    options: TranscribeOptions = {**audio.options, "formats": formats}
    result = await client.transcribe(audio.file.file, **options)
    check_complete(audio, result)
    if formats:
        media_type = "text/vtt" if audio.response_format is ResponseFormat.VTT else "text/plain"
        return PlainTextResponse(result.formats[formats[0]], media_type=media_type)
    if audio.response_format is ResponseFormat.TEXT:
        return PlainTextResponse(f"{full_text(result)}\n")
    return JSONResponse(json_body(audio, result))


class _EventStream(EventSourceResponse):
    """The events of a call. However the response ends, the call and the uploaded file end with it."""

    def __init__(self, call: StreamedCall, resources: AsyncExitStack) -> None:
        super().__init__(call.events(), headers={"X-Accel-Buffering": "no"})
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources:
            await super().__call__(scope, receive, send)
