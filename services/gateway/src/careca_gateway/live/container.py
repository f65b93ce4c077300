"""Live audio in a container, such as the WebM of a browser: decodes it as it grows, in a process of its own."""

from __future__ import annotations

import asyncio
import os
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from typing import cast

from careca.errors import CarecaError
from careca.types import SAMPLE_BYTES
from careca_gateway.ingest.decoder import Decoder, kill, last_report

_READ_BYTES = 64 * 1024


class ContainerDecoder:
    """Decodes one recording that is still being made.

    Args:
        decoder: starts the process.
        output: takes 16 kHz mono 16-bit PCM, in pieces of whole samples. Nothing is decoded while it waits.
        ended: is called when everything has been decoded.
        failed: is called if the recording cannot be decoded, with an error of ``Decoder.decode``.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        output: Callable[[bytes], Awaitable[None]],
        ended: Callable[[], None],
        failed: Callable[[CarecaError], None],
    ) -> None:
        self._decoder = decoder
        self._output = output
        self._ended = ended
        self._failed = failed
        self._input: StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pending_bytes(self) -> int:
        """The bytes that have not been passed to the process."""
        return self._input.transport.get_write_buffer_size() if self._input else 0

    async def start(self) -> None:
        """Starts the process."""
        receiver, sender = os.pipe()
        try:
            process = await self._decoder.start_stream(sender)
        except BaseException:
            os.close(receiver)
            raise
        finally:
            os.close(sender)
        self._input = cast("StreamWriter", process.stdin)
        self._reading = asyncio.create_task(self._read(process, receiver), name="decode live audio")

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the recording."""
        if self._input and not self._input.transport.is_closing():
            self._input.write(data)

    def finish(self) -> None:
        """Says that the recording has ended."""
        if self._input:
            self._input.close()

    async def close(self) -> None:
        """Ends the process."""
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, process: Process, receiver: int) -> None:
        try:
            await self._read_pcm(receiver)
            await last_report(process, lambda _: None)
        except CarecaError as error:
            self._failed(error)
        else:
            self._ended()
        finally:
            await kill(process)

    async def _read_pcm(self, receiver: int) -> None:
        reader = StreamReader(limit=_READ_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(receiver, "rb", buffering=0)
        )
        try:
            rest = b""
            while data := await reader.read(_READ_BYTES):
                data = rest + data
                whole = len(data) - len(data) % SAMPLE_BYTES
                rest = data[whole:]
                await self._output(data[:whole])
        finally:
            transport.close()
