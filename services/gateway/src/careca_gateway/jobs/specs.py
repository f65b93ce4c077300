"""The spec of a job: its configuration as the queue keeps it. Long specs are in the object storage."""

from __future__ import annotations

import asyncio
import hashlib

from careca.errors import NotFound, PreconditionFailed
from careca.v1 import gateway_pb2
from careca_gateway.request import Request
from careca_gateway.request_codec import decode_request
from careca_gateway.storage.object_storage import ObjectStorage

PREFIX = "specs/"
"""The key prefix of long specs."""

INLINE_BYTES = 16 * 1024
"""The maximum size of a spec in the queue. Longer ones contain recordings of known speakers."""

_INLINE, _STORED = b"\0", b"\1"


class JobSpecs:
    """Packs and unpacks specs.

    Args:
        storage: has long specs. Their keys are digests, so that jobs can share them. They are removed after some time.
    """

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage

    async def pack(self, config: gateway_pb2.TranscribeRequest.Config) -> bytes:
        """Returns the spec of a job with this ``config``, which the caller has checked."""
        content = config.SerializeToString(deterministic=True)
        if len(content) <= INLINE_BYTES:
            return _INLINE + content
        name = hashlib.sha256(content).hexdigest()
        await asyncio.to_thread(self._storage.put, PREFIX + name, content)
        return _STORED + name.encode()

    async def unpack(self, spec: bytes) -> Request:
        """Returns the request. Raises ``PreconditionFailed`` (SPEC_MISSING) if the storage no longer has the spec."""
        content = spec[1:]
        if spec[:1] == _STORED:
            content = await self._read(content.decode())
        return decode_request(gateway_pb2.TranscribeRequest.Config.FromString(content))

    async def _read(self, name: str) -> bytes:
        try:
            return await asyncio.to_thread(self._storage.get, PREFIX + name)
        except NotFound:
            raise PreconditionFailed(
                "the job's configuration is no longer stored: submit the job again", reason="SPEC_MISSING"
            ) from None
