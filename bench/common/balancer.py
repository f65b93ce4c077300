"""One address for several servers, as a Kubernetes Service is: each new connection goes to the next of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress

from careca.cancellation import cancel_and_wait


@asynccontextmanager
async def balanced(targets: Callable[[], Sequence[str]]) -> AsyncIterator[str]:
    """Yields an address of this machine, whose connections go to one of ``targets`` after the other.

    Addresses are host and port. A connection stays where it is: a caller learns from the server that it is going.
    """
    turns = itertools.count()
    connections: set[asyncio.Task[None]] = set()

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        those = targets()
        connections.add(task := asyncio.create_task(_connect(reader, writer, those[next(turns) % len(those)])))
        task.add_done_callback(connections.discard)

    async with await asyncio.start_server(connect, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await cancel_and_wait(connections)


async def _connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> None:
    host, _, port = target.rpartition(":")
    with closing(writer), suppress(OSError):  # the caller sees a connection that ends, and decides what to do
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
        with closing(other_writer):
            await asyncio.gather(_pass_on(reader, other_writer), _pass_on(other_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
