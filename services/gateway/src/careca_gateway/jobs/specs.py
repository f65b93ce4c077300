"""What a job is asked to do, as the queue keeps it: short ones whole, long ones by their key in the store."""

from __future__ import annotations

import asyncio
import hashlib

from careca.errors import NotFound, PreconditionFailed
from careca.v1 import gateway_pb2
from careca_gateway.api.messages import decode_request
from careca_gateway.request import Request
from careca_gateway.storage.object_storage import ObjectStorage

FOLDER = "specs/"
"""What the keys of long specs begin with."""

INLINE_BYTES = 16 * 1024
"""Longest spec that the queue keeps itself; longer ones carry recordings of known speakers."""

_INLINE, _STORED = b"\0", b"\1"


class JobSpecs:
    """Packs and unpacks specs.

    Args:
        blobs: where long ones are. They are named by their content, which several jobs may share, and go with time.
    """

    def __init__(self, blobs: ObjectStorage) -> None:
        self._blobs = blobs

    async def pack(self, config: gateway_pb2.TranscribeRequest.Config) -> bytes:
        """The spec of a job that is asked for by ``config``, which was checked."""
        content = config.SerializeToString(deterministic=True)
        if len(content) <= INLINE_BYTES:
            return _INLINE + content
        name = hashlib.sha256(content).hexdigest()
        await asyncio.to_thread(self._blobs.put, FOLDER + name, content)
        return _STORED + name.encode()

    async def unpack(self, spec: bytes) -> Request:
        """What is asked for. Raises ``PreconditionFailed`` (SPEC_MISSING) where the store does not have it any more."""
        content = spec[1:]
        if spec[:1] == _STORED:
            content = await self._stored(content.decode())
        return decode_request(gateway_pb2.TranscribeRequest.Config.FromString(content))

    async def _stored(self, name: str) -> bytes:
        try:
            return await asyncio.to_thread(self._blobs.get, FOLDER + name)
        except NotFound:
            raise PreconditionFailed(
                "what the job was asked to do is not kept any more: submit it again", reason="SPEC_MISSING"
            ) from None
