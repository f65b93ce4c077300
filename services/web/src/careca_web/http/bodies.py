"""Reads files that are sent as the whole body of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from tempfile import SpooledTemporaryFile

from starlette.datastructures import UploadFile
from starlette.requests import Request

WRITE_BYTES = 1 << 20
"""Size of the pieces that are written to disk."""


async def read_file(request: Request, name: str) -> UploadFile:
    """Reads the request's body into a temporary file that has no name on disk. Close it to remove it."""
    spooled = SpooledTemporaryFile(max_size=WRITE_BYTES)  # noqa: SIM115 - the caller closes it
    file = UploadFile(spooled, size=0, filename=name)  # type: ignore[arg-type]
    try:
        async with aclosing(pieces(request)) as body:
            async for piece in body:
                await file.write(piece)
        await file.seek(0)
    except BaseException:
        await asyncio.shield(file.close())
        raise
    return file


async def pieces(request: Request) -> AsyncGenerator[bytes, None]:
    """Yields the body of the request in pieces of at least ``WRITE_BYTES``, and the rest.

    If the body breaks off or breaks a limit, yields what has arrived before it raises.
    """
    buffer = bytearray()
    try:
        async with aclosing(request.stream()) as stream:
            async for chunk in stream:
                buffer += chunk
                if len(buffer) >= WRITE_BYTES:
                    yield bytes(buffer)
                    buffer.clear()
    except Exception:
        if buffer:
            yield bytes(buffer)
        raise
    if buffer:
        yield bytes(buffer)
