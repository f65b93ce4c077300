"""The request messages of an upload: first the config, then chunks. All services use the same form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Literal, Protocol, TypeVar

from careca.errors import DeadlineExceeded, InvalidRequest

MAX_CHUNK_BYTES = 3 * 1024 * 1024
"""Largest chunk of an upload."""

STALL_SECONDS = 60.0
"""Longest time without a message from the caller, who occupies a place in the meantime."""

ChunkField = Literal["audio_chunk", "recording_chunk"]

C_co = TypeVar("C_co", covariant=True)


class UploadRequest(Protocol[C_co]):
    """A message of an upload stream: a ``oneof message`` of a ``config`` and a chunk of bytes."""

    @property
    def config(self) -> C_co:
        """The config, in the first message."""

    def WhichOneof(self, oneof_group: Literal["message"]) -> Any:  # noqa: N802 - protobuf's name
        """Returns the name of the field that is set."""


async def open_upload(
    requests: AsyncIterable[UploadRequest[C_co]],
    chunk_field: ChunkField = "audio_chunk",
    *,
    stall_seconds: float = STALL_SECONDS,
) -> tuple[C_co, AsyncIterator[bytes]]:
    """Waits for the config. Returns it and an iterator that reads the chunks.

    Raises ``InvalidRequest`` if the first message has no config. The iterator raises it for a second config and for a
    chunk that is too large. Both raise ``DeadlineExceeded`` if the caller sends nothing for ``stall_seconds``. Empty
    chunks are skipped. The consumer must check that the chunks match the config.
    """
    messages = aiter(requests)
    first = await _next(messages, stall_seconds)
    if first is None or first.WhichOneof("message") != "config":
        raise InvalidRequest("the first message of the stream must carry config", field="config")
    return first.config, _chunks(messages, chunk_field, stall_seconds)


async def _chunks(
    messages: AsyncIterator[UploadRequest[C_co]], chunk_field: ChunkField, stall_seconds: float
) -> AsyncIterator[bytes]:
    while (message := await _next(messages, stall_seconds)) is not None:
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


async def _next(messages: AsyncIterator[UploadRequest[C_co]], stall_seconds: float) -> UploadRequest[C_co] | None:
    """Returns the next message, ``None`` at the end."""
    try:
        async with asyncio.timeout(stall_seconds):
            return await anext(messages, None)
    except TimeoutError:
        raise DeadlineExceeded(
            f"nothing was sent for {stall_seconds:g} seconds",
            reason="UPLOAD_STALLED",
            metadata={"stall_seconds": str(stall_seconds)},
        ) from None
