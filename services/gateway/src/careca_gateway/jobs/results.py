"""Stores the results of jobs, compressed: one for each attempt that ended with a result, and the revisions of it."""

from __future__ import annotations

import asyncio
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from careca import codec
from careca.errors import CarecaError, NotFound
from careca.telemetry.logs import get_logger
from careca.types import OutputFormat
from careca.v1 import gateway_pb2
from careca_gateway.formats import render
from careca_gateway.storage.object_storage import ObjectStorage

PREFIX = "results/"
"""The key prefix of all results."""

REVISIONS_PREFIX = "revisions/"
"""The key prefix of the revisions of results."""

_COMPRESSION_LEVEL = 6

_log = get_logger(__name__)


class JobResults:
    """Writes and reads results in ``storage``."""

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage

    async def put(self, job_id: str, fence: int, result: gateway_pb2.TranscribeResult) -> str:
        """Stores a result without its formats. Returns its key, which is different for each attempt."""
        key = f"{prefix_of(job_id)}{fence}"
        await asyncio.to_thread(self._put, key, result)
        return key

    async def put_revision(self, job_id: str, result: gateway_pb2.TranscribeResult) -> str:
        """Stores a revision of a result. Returns its key, which is new: the queue decides which revision it becomes."""
        key = f"{prefix_of(job_id, REVISIONS_PREFIX)}{uuid.uuid4().hex}"
        await asyncio.to_thread(self._put, key, result)
        return key

    async def get(
        self, key: str, formats: Iterable[OutputFormat] = (), name: str = "", *, revision: int = 0
    ) -> gateway_pb2.TranscribeResult:
        """Returns the result with these formats, marked as this revision.

        Raises ``NotFound`` (RESULT_MISSING) if it was removed.
        """
        return await asyncio.to_thread(self._get, key, tuple(formats), name, revision)

    async def delete(self, *keys: str) -> None:
        """Removes results. If the storage is unavailable, they are removed later, together with their job."""
        if keys:
            with errors_logged():
                await asyncio.to_thread(self._storage.delete, keys)

    async def keep_only(self, job_id: str, key: str) -> None:
        """Removes all results of the job except one. If the storage is unavailable, they are removed with the job."""
        with errors_logged():
            await asyncio.to_thread(self._storage.delete_prefix, prefix_of(job_id), keep=key)

    def _put(self, key: str, result: gateway_pb2.TranscribeResult) -> None:
        if result.formats:
            whole, result = result, gateway_pb2.TranscribeResult()
            result.CopyFrom(whole)
            result.ClearField("formats")
        self._storage.put(key, zlib.compress(result.SerializeToString(), _COMPRESSION_LEVEL))

    def _get(self, key: str, formats: Iterable[OutputFormat], name: str, revision: int) -> gateway_pb2.TranscribeResult:
        try:
            message = gateway_pb2.TranscribeResult.FromString(zlib.decompress(self._storage.get(key)))
        except NotFound:
            raise NotFound(
                f"revision {revision} of the job's result was lost" if revision else "the job's result was removed",
                reason="RESULT_MISSING",
            ) from None
        message.revision = revision
        if formats:
            result = codec.decode_result(message)
            texts = {form: render(result, form, name) for form in formats}
            forms = codec.encode_result(replace(result, utterances=(), turns=(), exclusive_turns=(), formats=texts))
            message.formats.extend(forms.formats)
        return message


@contextmanager
def errors_logged() -> Iterator[None]:
    """Logs every ``CarecaError`` and continues after the context. For work on the storage that may fail."""
    try:
        yield
    except CarecaError as error:
        _log.warning("optional work on the store failed", reason=error.reason, error=error.message)


def prefix_of(job_id: str, prefix: str = PREFIX) -> str:
    """Returns the key prefix of a job's results, or of its other objects."""
    return f"{prefix}{job_id}/"


def job_of(key: str) -> str:
    """Returns the id of the job to which the key of a result, a revision or a stage result belongs."""
    return key.split("/")[1]
