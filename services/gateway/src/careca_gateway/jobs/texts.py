"""The texts of transcripts, normalized and compressed, so that jobs are found by what was said in them."""

from __future__ import annotations

import asyncio
import unicodedata
import zlib
from collections.abc import Iterable

from careca.errors import NotFound
from careca.types import Job, JobState
from careca_gateway.jobs.queue.port import JobQueue
from careca_gateway.jobs.results import JobResults, errors_logged, prefix_of
from careca_gateway.storage.object_storage import ObjectStorage

PREFIX = "texts/"
"""The key prefix of all texts."""


class JobTexts:
    """Writes texts when transcripts are stored, and reads them for searches.

    Args:
        queue: the jobs.
        results: their results. If a job has no text in the storage, the text is taken from its result.
        storage: has one text for each job, with the key of the transcript that it was made from.
    """

    def __init__(self, queue: JobQueue, results: JobResults, storage: ObjectStorage) -> None:
        self._queue = queue
        self._results = results
        self._storage = storage

    async def put(self, job_id: str, transcript_key: str, lines: Iterable[str]) -> None:
        """Stores the text of the job's transcript. Replaces an earlier one. Errors of the storage are only logged."""
        with errors_logged():
            await asyncio.to_thread(self._put, job_id, transcript_key, lines)

    async def of(self, job: Job) -> str:
        """Returns the normalized text of the newest revision; empty if there is no transcript, or it is not kept."""
        if job.state is not JobState.SUCCEEDED:
            return ""
        try:
            transcript = await self._queue.transcript(job.id)
            key = transcript.key_of(transcript.newest)
            text = await asyncio.to_thread(self._get, job.id, key)
            if text is None:
                result = await self._results.get(key, (), job.display_name)
                text = await asyncio.to_thread(_normalized_lines, (each.text for each in result.utterances))
        except NotFound:
            return ""
        return text

    def _put(self, job_id: str, transcript_key: str, lines: Iterable[str]) -> None:
        content = f"{transcript_key}\n{_normalized_lines(lines)}"
        self._storage.put(_key_of(job_id), zlib.compress(content.encode()))

    def _get(self, job_id: str, transcript_key: str) -> str | None:
        """Returns the stored text, ``None`` if there is none of this transcript."""
        try:
            content = zlib.decompress(self._storage.get(_key_of(job_id))).decode()
        except NotFound:
            return None
        key, _, text = content.partition("\n")
        return text if key == transcript_key else None


def normalize(text: str) -> str:
    """Returns what is equal for texts that differ only in case, accents and compatibility forms such as ligatures."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in folded if not unicodedata.combining(character))


def _normalized_lines(lines: Iterable[str]) -> str:
    return normalize("\n".join(lines))


def _key_of(job_id: str) -> str:
    return f"{prefix_of(job_id, PREFIX)}newest"
