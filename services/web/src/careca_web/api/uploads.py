"""Uploads that can be resumed, by the tus protocol 1.0.0 (https://tus.io/protocols/resumable-upload).

Extensions: creation, creation-with-upload, termination, expiration. When an upload is complete, its bytes are handed to
the gateway, and the digest is the answer to GET.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from contextlib import aclosing
from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, Field

from careca.errors import InvalidRequest, PreconditionFailed
from careca_client import AsyncClient
from careca_web.api.models.recordings import Recording
from careca_web.api.router import api_router
from careca_web.http.bodies import pieces
from careca_web.http.file_names import received_name
from careca_web.http.limits import allow_body
from careca_web.metrics import WebMetrics
from careca_web.sessions.callers import CallerClient, CallerIdentity
from careca_web.uploads.store import Upload, UploadStore

TUS_VERSION = "1.0.0"
_EXTENSIONS = "creation,creation-with-upload,termination,expiration"
_CONTENT_TYPE = "application/offset+octet-stream"


class UploadState(BaseModel):
    """An upload, and the recording that it has become."""

    recording: Recording | None = Field(description="Missing until the gateway has the recording.")
    name: str
    offset: int = Field(description="Number of bytes received.")
    size_bytes: int


def routes(store: UploadStore, metrics: WebMetrics) -> APIRouter:
    """Returns the endpoints under /uploads."""
    router = api_router("/uploads", "uploads")
    protocol, receiver = [Depends(_speaks_tus)], _Receiver(store, metrics)
    known = [*protocol, Depends(_is_known)]

    @router.options("", status_code=204)
    async def describe(client: CallerClient, response: Response) -> None:
        """Returns what is supported, and the greatest size, in headers."""
        info = await client.info()
        response.headers["Tus-Resumable"] = response.headers["Tus-Version"] = TUS_VERSION
        response.headers["Tus-Extension"] = _EXTENSIONS
        response.headers["Tus-Max-Size"] = str(info.max_recording_bytes)

    @router.post("", status_code=201, dependencies=protocol)
    async def begin_upload(
        *,
        request: Request,
        response: Response,
        client: CallerClient,
        caller: CallerIdentity,
        upload_length: Annotated[
            int, Header(ge=1, le=2**62, description="Size of the recording.", examples=[2_345_678])
        ],
        upload_metadata: Annotated[str, Header(max_length=4096, description="filename and its base64.")] = "",
    ) -> None:
        """Begins an upload. The header Location says where it continues."""
        info = await client.info()
        if upload_length > info.max_recording_bytes:
            raise InvalidRequest(
                f"the recording has {upload_length:,} bytes; at most {info.max_recording_bytes:,} are accepted",
                reason="RECORDING_TOO_LARGE",
            )
        upload = await store.create(caller, received_name(_filename(upload_metadata)), upload_length)
        if request.headers.get("content-type") == _CONTENT_TYPE:
            await receiver.receive(request, upload, 0, client)
        response.headers["Location"] = f"/api/uploads/{upload.id}"
        receiver.add_headers(response, upload)

    @router.head("/{upload_id}", dependencies=known)
    async def show_offset(upload_id: str, caller: CallerIdentity) -> Response:
        """Returns in headers how much has been received."""
        upload = store.get(upload_id, caller)
        response = Response(headers={"Upload-Length": str(upload.record.size_bytes)})
        receiver.add_headers(response, upload)
        return response

    @router.patch("/{upload_id}", status_code=204, dependencies=known)
    async def continue_upload(
        *,
        upload_id: str,
        request: Request,
        response: Response,
        client: CallerClient,
        caller: CallerIdentity,
        upload_offset: Annotated[int, Header(ge=0, le=2**62, description="Number of bytes sent before.", examples=[0])],
    ) -> None:
        """Receives the next bytes. What arrives of a body that breaks off is kept."""
        if request.headers.get("content-type") != _CONTENT_TYPE:
            raise InvalidRequest(f"the Content-Type must be {_CONTENT_TYPE}", reason="UNSUPPORTED_MEDIA_TYPE")
        upload = store.get(upload_id, caller)
        await receiver.receive(request, upload, upload_offset, client)
        receiver.add_headers(response, upload)

    @router.delete("/{upload_id}", status_code=204, dependencies=known)
    async def delete_upload(upload_id: str, caller: CallerIdentity) -> None:
        """Removes the upload. The gateway keeps a recording that it has already."""
        await store.delete(store.get(upload_id, caller))
        receiver.measure()

    @router.get("/{upload_id}", dependencies=[Depends(_is_known)])
    async def show_upload(upload_id: str, client: CallerClient, caller: CallerIdentity) -> UploadState:
        """Returns the recording that the upload has become. Hands it to the gateway if that failed before."""
        upload = store.get(upload_id, caller)
        if upload.complete:
            async with store.holding(upload):
                await _hand_over(upload, client)
        record = upload.record
        recording = Recording(sha256=record.sha256, size_bytes=record.size_bytes) if record.sha256 else None
        return UploadState(recording=recording, name=record.name, offset=upload.offset, size_bytes=record.size_bytes)

    return router


class _Receiver:
    """Receives the bytes of uploads, and hands complete ones to the gateway."""

    def __init__(self, store: UploadStore, metrics: WebMetrics) -> None:
        self._store = store
        self._metrics = metrics

    async def receive(self, request: Request, upload: Upload, offset: int, client: AsyncClient) -> None:
        """Adds the body of ``request`` to the upload."""
        async with self._store.writing(upload, offset):
            allow_body(request, upload.record.size_bytes - offset)
            try:
                async with aclosing(pieces(request)) as body:
                    async for piece in body:
                        await asyncio.to_thread(upload.append, piece)
                        self._metrics.count_upload(len(piece))
                if upload.complete:
                    await _hand_over(upload, client)
            finally:
                self.measure()

    def measure(self) -> None:
        """Exports how much is unfinished."""
        self._metrics.set_unfinished_uploads(self._store.unfinished_bytes)

    def add_headers(self, response: Response, upload: Upload) -> None:
        """Adds what every answer about an upload says."""
        response.headers["Tus-Resumable"] = TUS_VERSION
        response.headers["Upload-Offset"] = str(upload.offset)
        response.headers["Upload-Expires"] = formatdate(self._store.expires_unix(upload), usegmt=True)


async def _hand_over(upload: Upload, client: AsyncClient) -> None:
    """Gives the bytes of a complete upload to the gateway, unless it has them."""
    if not upload.record.sha256:
        digest = await client.upload(upload.path)
        await asyncio.to_thread(upload.finish, digest.sha256)


def _speaks_tus(
    tus_resumable: Annotated[str, Header(description="The version of the protocol.", examples=[TUS_VERSION])] = "",
) -> None:
    if tus_resumable != TUS_VERSION:
        raise PreconditionFailed(f"the header Tus-Resumable must be {TUS_VERSION}", reason="TUS_VERSION")


async def _is_known(client: CallerClient) -> None:
    """Raises ``Unauthenticated`` for callers whose session has ended or whose token was revoked."""
    await client.info()


def _filename(metadata: str) -> str:
    """Returns the file name in the header Upload-Metadata: pairs of a key and a value in base64, with commas."""
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key in ("filename", "name"):
            try:
                return base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise InvalidRequest(
                    "Upload-Metadata: the value of filename must be base64 of UTF-8", field="header.upload-metadata"
                ) from None
    return ""
