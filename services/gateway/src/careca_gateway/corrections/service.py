"""Saves corrections as revisions of a job's result.

The content of a revision is stored first. Then the revision is added in the queue, which knows the newest one. So each
revision has its content, and of two saves with the same base one succeeds. Content that was not added, because the
process ended in between, is removed with the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from careca import codec
from careca.errors import InvalidRequest, PreconditionFailed
from careca.types import Edit, Revision, SavedTranscript
from careca.v1 import gateway_pb2
from careca_gateway.corrections.edits import Correction, apply_edits
from careca_gateway.corrections.limits import MAX_REVISIONS, MAX_TRANSCRIPT_BYTES
from careca_gateway.jobs.queue.port import JobQueue, NewRevision, StoredRevision, StoredTranscript
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.service import JobService
from careca_gateway.jobs.texts import JobTexts


class TranscriptService:
    """Saves, lists and restores revisions.

    Args:
        jobs: checks who may see a job.
        queue: has the revisions of each job.
        results: stores their contents.
        texts: stores what was said, for searches.
    """

    def __init__(self, jobs: JobService, queue: JobQueue, results: JobResults, texts: JobTexts) -> None:
        self._jobs = jobs
        self._queue = queue
        self._results = results
        self._texts = texts

    async def save(self, submitter: str, job_id: str, base: int, edits: Sequence[Edit]) -> SavedTranscript:
        """Applies ``edits`` to revision ``base``, which must be the newest one, and saves the next revision.

        If the submitter has saved the same edits already, as the newest revision, that one is returned: the answer to
        the first call may have been lost on its way.

        Raises ``InvalidRequest`` if an edit cannot be applied, ``PreconditionFailed`` (REVISION_CONFLICT, NO_RESULT),
        ``NotFound`` (RESULT_MISSING).
        """
        _, transcript = await self._jobs.transcript(submitter, job_id)
        saved = _saved_after(transcript, submitter, base)
        if saved is None:
            _check_base(base, transcript)
        message = await self._results.get(transcript.key_of(base))
        correction, content = await asyncio.to_thread(_corrected, message, edits)
        if saved is not None:
            if content != await self._results.get(saved.key):
                raise _conflict(base, transcript.newest)
            return SavedTranscript(saved.revision, correction.splices)
        new = NewRevision(submitter, correction.summary)
        revision = await self._add(job_id, transcript, content, new)
        return SavedTranscript(revision, correction.splices)

    async def list(self, submitter: str, job_id: str) -> Sequence[Revision]:
        """Returns the revisions that are kept, oldest first."""
        _, transcript = await self._jobs.transcript(submitter, job_id)
        return [stored.revision for stored in transcript.revisions]

    async def restore(self, submitter: str, job_id: str, base: int, number: int) -> Revision:
        """Saves revision ``number`` again, as the next revision after ``base``, which must be the newest one.

        If the submitter has done so already, and that is the newest revision, it is returned.

        Raises ``PreconditionFailed`` (REVISION_CONFLICT, NO_RESULT), ``NotFound`` (REVISION_NOT_FOUND, RESULT_MISSING).
        """
        _, transcript = await self._jobs.transcript(submitter, job_id)
        saved = _saved_after(transcript, submitter, base)
        if saved is not None and saved.revision.restored_from == number:
            return saved.revision
        _check_base(base, transcript)
        message = await self._results.get(transcript.key_of(number), revision=number)
        summary = f"restored revision {number}" if number else "restored what was recognised"
        return await self._add(job_id, transcript, message, NewRevision(submitter, summary, restored_from=number))

    async def _add(
        self,
        job_id: str,
        transcript: StoredTranscript,
        content: gateway_pb2.TranscribeResult,
        new: NewRevision,
    ) -> Revision:
        """Stores the content, and adds it as the revision after the newest one of ``transcript``."""
        key = await self._results.put_revision(job_id, content)
        new = replace(new, key=key)
        newest = transcript.newest
        added = await self._queue.add_revision(job_id, transcript.result_key, newest, new, most=MAX_REVISIONS)
        if added is None:
            await self._results.delete(key)
            raise _conflict(newest, (await self._queue.transcript(job_id)).newest)
        stored, removed = added
        await self._texts.put(job_id, key, [utterance.text for utterance in content.utterances])
        await self._results.delete(*(each.key for each in removed))
        return stored.revision


def _corrected(
    message: gateway_pb2.TranscribeResult, edits: Sequence[Edit]
) -> tuple[Correction, gateway_pb2.TranscribeResult]:
    """Returns the corrected result, also as a message. Raises ``InvalidRequest``. Runs in a thread."""
    correction = apply_edits(codec.decode_result(message), edits)
    corrected = codec.encode_result(correction.result)
    if (size := corrected.ByteSize()) > MAX_TRANSCRIPT_BYTES:
        raise InvalidRequest(
            f"the transcript would have {size} bytes; at most {MAX_TRANSCRIPT_BYTES} are accepted",
            reason="TRANSCRIPT_TOO_LARGE",
            metadata={"size_bytes": str(size), "max_bytes": str(MAX_TRANSCRIPT_BYTES)},
        )
    return correction, corrected


def _saved_after(transcript: StoredTranscript, submitter: str, base: int) -> StoredRevision | None:
    """Returns the newest revision if ``submitter`` saved it as the one after ``base``."""
    newest = transcript.revisions[-1] if transcript.revisions else None
    if newest and newest.revision.number == base + 1 and newest.revision.author == submitter:
        return newest
    return None


def _check_base(base: int, transcript: StoredTranscript) -> None:
    if base != transcript.newest:
        raise _conflict(base, transcript.newest)


def _conflict(base: int, newest: int) -> PreconditionFailed:
    return PreconditionFailed(
        f"the transcript was changed meanwhile: the newest revision is {newest}, and this change was made for {base}; "
        "get the newest one and try again",
        reason="REVISION_CONFLICT",
        metadata={"newest_revision": str(newest)},
    )
