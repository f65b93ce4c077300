"""Results: as JSON for programs, and as files in all formats."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from careca.types import OutputFormat
from careca_web.api.router import api_router
from careca_web.api.transcripts import etag
from careca_web.http.file_names import attachment, download_name
from careca_web.sessions.callers import CallerClient

WantedRevision = Annotated[
    Annotated[int, Field(ge=0, le=2**31 - 1)] | Literal["original"] | None,
    Query(description="The number of a revision, or original: what was recognised. Default: the newest."),
]

_EMBEDDING = re.compile(r',\s*"embedding":\s*\[[^\[\]]*\]')
"""The voice of a speaker in the JSON format. Within texts, quotation marks are escaped, so they cannot look so."""

_MEDIA_TYPES = {
    OutputFormat.JSON: "application/json",
    OutputFormat.VTT: "text/vtt; charset=utf-8",
    OutputFormat.TSV: "text/tab-separated-values; charset=utf-8",
}
_TEXT = "text/plain; charset=utf-8"

_RESULT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The result in Careca's JSON format.", "content": {"application/json": {}}}
}


def routes() -> APIRouter:
    """Returns the endpoints for the results of jobs."""
    router = api_router("/jobs/{job_id}", "results")

    @router.get("/result", responses=_RESULT, response_class=Response)
    async def show_result(
        job_id: str,
        client: CallerClient,
        revision: WantedRevision = None,
        embeddings: Annotated[bool, Query(description="Whether to include the voices of the speakers.")] = False,
    ) -> Response:
        """Returns who said what, and when: the newest revision of the transcript, or another one."""
        result = await client.job_result(job_id, formats=[OutputFormat.JSON], revision=_number(revision))
        text = result.formats[OutputFormat.JSON]
        return Response(
            text if embeddings else without_embeddings(text),
            media_type="application/json",
            headers={"ETag": etag(result.revision)},
        )

    @router.get("/result.{extension}", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def download_result(
        job_id: str,
        client: CallerClient,
        extension: Annotated[OutputFormat, Path(description="The format.")],
        revision: WantedRevision = None,
    ) -> Response:
        """Returns the result as a file with the name of the recording."""
        job = await client.job(job_id)
        result = await client.job_result(job_id, formats=[extension], revision=_number(revision))
        return Response(
            result.formats[extension],
            media_type=_MEDIA_TYPES.get(extension, _TEXT),
            headers={"Content-Disposition": attachment(download_name(job.display_name, extension))},
        )

    return router


def _number(revision: int | Literal["original"] | None) -> int | None:
    return 0 if revision == "original" else revision


def without_embeddings(text: str) -> str:
    """Returns the JSON format without the voices of speakers, without reading the rest of it."""
    return _EMBEDDING.sub("", text)
