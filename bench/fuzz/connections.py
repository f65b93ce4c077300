"""Damaged connections: what is no HTTP/2, what almost is, and what was a valid call before it was damaged."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import grpc.aio

from bench.fuzz.mutations import mutated

AT_ONCE = 24
WAIT_SECONDS = 0.15
"""How long a connection stays open that the server does not close."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_OTHER_PROTOCOLS = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /careca.v1.AdminService/Stats HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"GET /../../../../etc/passwd HTTP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"*1\r\n$8\r\nFLUSHALL\r\n",
    b"EHLO x\r\n",
    b"",
)


async def recorded_call(target: str, method: str) -> bytes:
    """What a real client sends when it calls ``method`` with an empty message, on a connection of its own."""
    host, _, port = target.rpartition(":")
    sent = bytearray()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, back, sent), _copy(there, writer, bytearray()))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        between = server.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{between}", options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            calling: Any = channel.unary_unary(method)  # with bytes, of which the stubs know nothing
            await calling(b"", timeout=240.0)
    return bytes(sent)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    try:
        while data := await reader.read(65_536):
            kept += data
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the other side has hung up, as it may
    finally:
        writer.close()


async def disturb(target: str, recorded: bytes, seed: str, numbers: range) -> Counter[str]:
    """Opens the damaged connections of those numbers; how the server ended them."""
    outcomes: Counter[str] = Counter()
    waiting = iter(numbers)

    async def some() -> None:
        for number in waiting:
            outcomes[await _speak(target, noise(recorded, random.Random(f"{seed}/{number}")))] += 1

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return outcomes


def noise(recorded: bytes, chance: random.Random) -> bytes:
    """What to send on one connection."""
    kind = chance.randrange(5)
    if kind == 0:
        return chance.randbytes(chance.choice((1, 24, 500, 20_000)))
    if kind == 1:
        return mutated(chance.choice(_OTHER_PROTOCOLS), chance, _OTHER_PROTOCOLS)
    if kind == 2:
        return PREFACE + b"".join(_frame(chance) for _ in range(chance.choice((1, 3, 20))))
    if kind == 3:
        return recorded + b"".join(_frame(chance) for _ in range(chance.choice((1, 3, 20))))
    kept = len(PREFACE) if chance.random() < 0.8 else 0
    return recorded[:kept] + mutated(recorded[kept:], chance, [recorded])


def _frame(chance: random.Random) -> bytes:
    """A frame of any type, known or not, mostly as long as it says."""
    content = chance.randbytes(chance.choice((0, 4, 5, 6, 8, 40, 3_000)))
    said = len(content) if chance.random() < 0.8 else chance.randrange(1 << 24)
    stream = chance.choice((0, 1, 1, 2, 3, 0x7FFFFFFF, chance.randrange(1 << 32)))
    head = said.to_bytes(3, "big") + bytes([chance.randrange(16), chance.choice((0, 1, 4, 5, 8, 0x20, 0xFF))])
    return head + stream.to_bytes(4, "big") + content


async def _speak(target: str, data: bytes) -> str:
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(WAIT_SECONDS):
            while await reader.read(65_536):
                pass
    except TimeoutError:
        return "left open"
    except ConnectionError:
        return "reset by the server"
    finally:
        writer.close()
    return "closed by the server"
