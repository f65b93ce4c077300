"""The results of jobs, in the store: compressed, one for each time that a job ended with one."""

from __future__ import annotations

import asyncio
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

FOLDER = "results/"
"""What the keys of results begin with."""

_LEVEL = 6

_log = get_logger(__name__)


class JobResults:
    """Writes and reads results.

    Args:
        blobs: where they are.
    """

    def __init__(self, blobs: ObjectStorage) -> None:
        self._blobs = blobs

    async def put(self, job_id: str, fence: int, result: gateway_pb2.TranscribeResult) -> str:
        """Stores a result under a key that no other attempt has, and gives the key. Its textual forms are left out."""
        key = f"{folder_of(job_id)}{fence}"
        await asyncio.to_thread(self._put, key, result)
        return key

    async def get(self, key: str, formats: Iterable[OutputFormat], name: str) -> gateway_pb2.TranscribeResult:
        """The result with its textual forms. Raises ``NotFound`` (RESULT_MISSING) where it is not there any more."""
        return await asyncio.to_thread(self._get, key, tuple(formats), name)

    async def delete(self, key: str) -> None:
        """Removes a result. What a store that is away does not remove goes with the job."""
        with dispensable():
            await asyncio.to_thread(self._blobs.delete, [key])

    async def keep_only(self, job_id: str, key: str) -> None:
        """Removes all results of the job but one. What a store that is away does not remove goes with the job."""
        with dispensable():
            await asyncio.to_thread(self._blobs.clear, folder_of(job_id), keep=key)

    def _put(self, key: str, result: gateway_pb2.TranscribeResult) -> None:
        if result.formats:
            whole, result = result, gateway_pb2.TranscribeResult()
            result.CopyFrom(whole)
            result.ClearField("formats")
        self._blobs.put(key, zlib.compress(result.SerializeToString(), _LEVEL))

    def _get(self, key: str, formats: Iterable[OutputFormat], name: str) -> gateway_pb2.TranscribeResult:
        try:
            message = gateway_pb2.TranscribeResult.FromString(zlib.decompress(self._blobs.get(key)))
        except NotFound:
            raise NotFound("the job's result is not kept any more", reason="RESULT_MISSING") from None
        if formats:
            result = codec.decode_result(message)
            texts = {form: render(result, form, name) for form in formats}
            forms = codec.encode_result(replace(result, utterances=(), turns=(), exclusive_turns=(), formats=texts))
            message.formats.extend(forms.formats)
        return message


@contextmanager
def dispensable() -> Iterator[None]:
    """For what may fail because the store is away: it is logged."""
    try:
        yield
    except CarecaError as error:
        _log.warning("the store could not do what can be done without", reason=error.reason, error=error.message)


def folder_of(job_id: str) -> str:
    """What the keys of a job's results begin with."""
    return f"{FOLDER}{job_id}/"


def job_of(key: str) -> str:
    """The id of the job to which a key belongs that holds a job's result or what its stages found."""
    return key.split("/")[1]
