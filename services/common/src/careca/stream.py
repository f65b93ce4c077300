"""The caller's half of an upload stream: the config first and once, then chunks. The same for all three services."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Literal, Protocol, TypeVar

from careca.errors import InvalidRequest

MAX_CHUNK_BYTES = 3 * 1024 * 1024
"""Largest chunk of an upload."""

ChunkField = Literal["audio_chunk", "recording_chunk"]

C_co = TypeVar("C_co", covariant=True)


class UploadRequest(Protocol[C_co]):
    """A message of an upload stream: a ``oneof message`` of a ``config`` and a chunk of bytes."""

    @property
    def config(self) -> C_co:
        """What to do; in the first message."""

    def WhichOneof(self, oneof_group: Literal["message"]) -> Any:  # noqa: N802 - protobuf's name
        """The field that is set."""


async def open_upload(
    requests: AsyncIterable[UploadRequest[C_co]], chunk_field: ChunkField = "audio_chunk"
) -> tuple[C_co, AsyncIterator[bytes]]:
    """The config, once it has come, and the chunks, which are read as they are asked for.

    Raises ``InvalidRequest`` where the first message carries no config; the iterator raises it for a second config and
    for a chunk that is too large. Chunks without a byte are passed over. Whether the chunks are what the config
    announced is for their consumer to check.
    """
    messages = aiter(requests)
    first = await anext(messages, None)
    if first is None or first.WhichOneof("message") != "config":
        raise InvalidRequest("the first message of the stream must carry config", field="config")
    return first.config, _chunks(messages, chunk_field)


async def _chunks(messages: AsyncIterator[UploadRequest[C_co]], chunk_field: ChunkField) -> AsyncIterator[bytes]:
    async for message in messages:
        if message.WhichOneof("message") != chunk_field:
            raise InvalidRequest(f"after config every message must carry {chunk_field}", field=chunk_field)
        chunk: bytes = getattr(message, chunk_field)
        if len(chunk) > MAX_CHUNK_BYTES:
            raise InvalidRequest(
                f"a chunk has {len(chunk)} bytes; at most {MAX_CHUNK_BYTES} are accepted",
                reason="CHUNK_TOO_LARGE",
                field=chunk_field,
                metadata={"size_bytes": str(len(chunk)), "max_chunk_bytes": str(MAX_CHUNK_BYTES)},
            )
        if chunk:
            yield chunk
