"""Receives recordings and passes them to the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.datastructures import FormData, UploadFile

from careca.errors import InvalidRequest
from careca.types import Digest
from careca_client import AsyncClient
from careca_web.api.models.recordings import SHA256, Recording, RecordingPresence, StoredRecording
from careca_web.api.router import api_router
from careca_web.api.schemas import body_of, form_schema
from careca_web.http.bodies import read_file
from careca_web.http.file_names import received_name
from careca_web.http.forms import MAX_TEXT_BYTES, read_form
from careca_web.http.limits import allow_recording
from careca_web.metrics import WebMetrics
from careca_web.sessions.callers import CallerClient

FILE_FIELD = "file"
"""The field of a form that has the recording."""

_BODY = body_of(form=form_schema(), binary={"type": "string", "format": "binary"})


@dataclass(frozen=True, slots=True)
class ReceivedRecording:
    """A recording in a temporary file, and the other fields of its form."""

    file: UploadFile
    name: str
    fields: Mapping[str, Any]
    """The text of each field, or the texts of a field that the form has several times. Empty fields are left out."""


def routes(metrics: WebMetrics) -> APIRouter:
    """Returns the endpoint /recordings."""
    router = api_router("", "recordings")

    @router.post("/recordings", status_code=201, openapi_extra=_BODY)
    async def upload_recording(
        request: Request,
        client: CallerClient,
        name: Annotated[str, Query(max_length=255, description="Name of the file, if it is the whole body.")] = "",
    ) -> StoredRecording:
        """Uploads a recording for jobs: as the field `file` of a form, or as the whole body.

        The gateway keeps it for some time after its last use. A job is submitted with its digest.
        """
        async with received_recording(request, client, metrics, name=name) as received:
            digest = await client.upload(received.file.file)
        return StoredRecording(recording=Recording.from_value(digest), name=received.name)

    @router.get("/recordings/{sha256}")
    async def find_recording(
        client: CallerClient,
        sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 in lower case.", examples=[SHA256])],
        size_bytes: Annotated[int, Query(ge=1, le=2**63 - 1, description="Number of bytes.", examples=[2_345_678])],
    ) -> RecordingPresence:
        """Returns whether the gateway has the recording. Then a job needs only its digest."""
        return RecordingPresence(stored=await client.has_recording(Digest(sha256, size_bytes)))

    return router


def is_form(request: Request) -> bool:
    """Whether the body is a form."""
    return _media_type(request) == "multipart/form-data"


def is_json(request: Request) -> bool:
    """Whether the body is JSON."""
    return _media_type(request) == "application/json"


@asynccontextmanager
async def received_recording(
    request: Request, client: AsyncClient, metrics: WebMetrics, *, name: str = ""
) -> AsyncIterator[ReceivedRecording]:
    """Reads the recording in the body of ``request``, and removes its file at the end of the ``with`` block.

    The gateway is asked first who calls and how much the caller may send: nothing is read from strangers. Raises
    ``InvalidRequest`` if there is no recording or the body is too large, ``Overloaded`` if too many are being received.
    """
    info = await client.info()
    if is_form(request):
        allow_recording(request, info.max_recording_bytes + MAX_TEXT_BYTES)
        form = await read_form(request)
        try:
            file = _file_of(form)
            metrics.count_upload(file.size or 0)
            yield ReceivedRecording(file, received_name(file.filename), _fields_of(form))
        finally:
            await form.close()
    else:
        allow_recording(request, info.max_recording_bytes)
        file = await read_file(request, name)
        try:
            metrics.count_upload(file.size or 0)
            yield ReceivedRecording(file, received_name(name), {})
        finally:
            await file.close()


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _file_of(form: FormData) -> UploadFile:
    file = form.get(FILE_FIELD)
    if not isinstance(file, UploadFile):
        raise InvalidRequest(
            f"the form has no file in the field {FILE_FIELD}: with curl, use -F {FILE_FIELD}=@call.wav",
            reason="FILE_MISSING",
            field=FILE_FIELD,
        )
    return file


def _fields_of(form: FormData) -> dict[str, Any]:
    texts = {name: [each for each in form.getlist(name) if each != ""] for name in form if name != FILE_FIELD}
    return {name: values[0] if len(values) == 1 else values for name, values in texts.items() if values}
