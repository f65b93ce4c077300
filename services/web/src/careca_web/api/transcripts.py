"""Corrections of transcripts, as revisions."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import ValidationError

from careca.errors import InvalidRequest, PreconditionFailed
from careca_web.api.models.transcripts import Corrections, Restoration, Restored, Revision, Revisions, SavedTranscript
from careca_web.api.router import api_router
from careca_web.api.schemas import body_of, in_body, json_schema
from careca_web.http.limits import allow_body
from careca_web.sessions.callers import CallerClient

MAX_CORRECTIONS_BYTES = 4 * 1024 * 1024
"""Maximum size of the corrections that are saved together."""

_TAG = re.compile(r'(?:W/)?"(\d{1,9})"')
"""A proxy that compresses a result may have made its tag weak. The number names the revision all the same."""

_IfMatch = Annotated[
    str, Header(description='The revision that the edits were made for, as in ETag: `"3"`.', examples=['"0"'])
]


def routes() -> APIRouter:
    """Returns the endpoints for corrections."""
    router = api_router("/jobs/{job_id}", "corrections")

    @router.patch("/result", openapi_extra=body_of(json=json_schema(Corrections)))
    async def correct_result(
        job_id: str, request: Request, response: Response, client: CallerClient, if_match: _IfMatch = ""
    ) -> SavedTranscript:
        """Corrects the transcript, and saves the outcome as the next revision.

        412 if there is a newer revision (`newest_revision` in the metadata), 428 without If-Match.
        """
        base = revision_of(if_match)
        allow_body(request, MAX_CORRECTIONS_BYTES)
        try:
            corrections = Corrections.model_validate_json(await request.body())
        except ValidationError as error:
            raise in_body(error) from None
        saved = await client.save_transcript(job_id, [edit.value() for edit in corrections.edits], base_revision=base)
        response.headers["ETag"] = etag(saved.revision.number)
        return SavedTranscript.from_value(saved)

    @router.get("/revisions")
    async def list_revisions(job_id: str, client: CallerClient) -> Revisions:
        """Returns who saved what, and when."""
        return Revisions(revisions=[Revision.from_value(each) for each in await client.revisions(job_id)])

    @router.post("/revisions", status_code=201)
    async def restore_revision(
        job_id: str, wanted: Restoration, response: Response, client: CallerClient, if_match: _IfMatch = ""
    ) -> Restored:
        """Saves an older revision again, as the next revision."""
        revision = await client.restore_revision(job_id, wanted.restore, base_revision=revision_of(if_match))
        response.headers["ETag"] = etag(revision.number)
        return Restored(revision=Revision.from_value(revision))

    return router


def etag(revision: int) -> str:
    """Returns the header ETag of a revision."""
    return f'"{revision}"'


def revision_of(if_match: str) -> int:
    """Returns the revision in the header If-Match.

    Raises ``PreconditionFailed`` (REVISION_REQUIRED) without the header, ``InvalidRequest`` if it has another form.
    """
    if not if_match:
        raise PreconditionFailed(
            "the header If-Match must have the revision that the edits were made for: the ETag of the result",
            reason="REVISION_REQUIRED",
        )
    if match := _TAG.fullmatch(if_match):
        return int(match[1])
    raise InvalidRequest('If-Match must be a revision in quotation marks, such as "3"', field="header.if-match")
