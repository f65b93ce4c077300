"""The client's calls that correct the transcripts of jobs."""

from __future__ import annotations

from collections.abc import Iterable

from careca import codec
from careca.types import Edit, Revision, SavedTranscript
from careca.v1 import transcripts_pb2, transcripts_pb2_grpc
from careca_client.admin import ADMIN_TIMEOUT_SECONDS
from careca_client.aio.calls import AsyncCalls


class AsyncTranscriptCalls(AsyncCalls):
    """Corrections of the results of jobs. Each save is a revision. What was recognised is revision 0 and is kept.

    All calls raise ``NotFound`` if the job does not exist, and ``PreconditionFailed`` (``NO_RESULT``) if it has no
    result.
    """

    _transcripts: transcripts_pb2_grpc.TranscriptServiceAsyncStub

    async def save_transcript(
        self, job_id: str, edits: Iterable[Edit], *, base_revision: int, timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> SavedTranscript:
        """Corrects the transcript of a job: applies the edits, in order, and saves the next revision.

        Args:
            job_id: The job.
            edits: ``ReplaceUtterances`` and ``RenameSpeaker``. Each one applies to the outcome of the one before.
            base_revision: ``revision`` of the result that the edits were made for.
            timeout: Limit in seconds.

        Raises ``PreconditionFailed`` (``REVISION_CONFLICT``) if there is a newer revision: its metadata has the
        ``newest_revision``. Raises ``InvalidRequest`` if an edit cannot be applied; then none is saved.
        """
        request = transcripts_pb2.SaveTranscriptRequest(
            job_id=job_id, base_revision=base_revision, edits=map(codec.encode_edit, edits)
        )
        response = await self._call(self._transcripts.SaveTranscript, request, timeout)
        return codec.decode_saved(response)

    async def revisions(self, job_id: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> tuple[Revision, ...]:
        """Returns the revisions of the transcript of a job, oldest first; none if it was not corrected."""
        request = transcripts_pb2.ListRevisionsRequest(job_id=job_id)
        response = await self._query(self._transcripts.ListRevisions, request, timeout)
        return tuple(map(codec.decode_revision, response.revisions))

    async def restore_revision(
        self, job_id: str, revision: int, *, base_revision: int, timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> Revision:
        """Saves an older revision again, as the next revision. 0 restores what was recognised.

        Raises ``PreconditionFailed`` (``REVISION_CONFLICT``) if ``base_revision`` is not the newest revision,
        ``NotFound`` (``REVISION_NOT_FOUND``) if the revision is not kept.
        """
        request = transcripts_pb2.RestoreRevisionRequest(job_id=job_id, base_revision=base_revision, revision=revision)
        response = await self._call(self._transcripts.RestoreRevision, request, timeout)
        return codec.decode_revision(response.revision)
