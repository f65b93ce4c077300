"""The gRPC service for corrections of transcripts."""

from __future__ import annotations

from typing import Any

import grpc.aio

from careca import codec
from careca.v1 import transcripts_pb2, transcripts_pb2_grpc
from careca_gateway.api.jobs import require_jobs
from careca_gateway.api.submitter import submitter_of
from careca_gateway.corrections.service import TranscriptService

Context = grpc.aio.ServicerContext[Any, Any]


class TranscriptServicer(transcripts_pb2_grpc.TranscriptServiceServicer):
    """Corrections of the results of jobs: see transcripts.proto.

    Args:
        transcripts: saves them; ``None`` if this gateway takes no jobs.
    """

    def __init__(self, transcripts: TranscriptService | None) -> None:
        self._transcript_service = transcripts

    @property
    def _transcripts(self) -> TranscriptService:
        return require_jobs(self._transcript_service)

    async def SaveTranscript(
        self, request: transcripts_pb2.SaveTranscriptRequest, context: Context
    ) -> transcripts_pb2.SaveTranscriptResponse:
        """Applies edits and saves a revision."""
        edits = [codec.decode_edit(edit, f"edits[{index}]") for index, edit in enumerate(request.edits)]
        submitter = submitter_of(context.invocation_metadata())
        saved = await self._transcripts.save(submitter, request.job_id, request.base_revision, edits)
        return codec.encode_saved(saved)

    async def ListRevisions(
        self, request: transcripts_pb2.ListRevisionsRequest, context: Context
    ) -> transcripts_pb2.ListRevisionsResponse:
        """Lists the revisions of a job."""
        revisions = await self._transcripts.list(submitter_of(context.invocation_metadata()), request.job_id)
        return transcripts_pb2.ListRevisionsResponse(revisions=map(codec.encode_revision, revisions))

    async def RestoreRevision(
        self, request: transcripts_pb2.RestoreRevisionRequest, context: Context
    ) -> transcripts_pb2.RestoreRevisionResponse:
        """Saves an older revision again."""
        submitter = submitter_of(context.invocation_metadata())
        revision = await self._transcripts.restore(submitter, request.job_id, request.base_revision, request.revision)
        return transcripts_pb2.RestoreRevisionResponse(revision=codec.encode_revision(revision))
