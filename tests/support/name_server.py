"""A name server on this machine, whose one name leads to whatever addresses a test says."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

NAME = "replicas.test"
_IPV4 = 1


class NameServer(asyncio.DatagramProtocol):
    """Answers all questions for IPv4 addresses with ``addresses``. Start it with ``start``."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def start(self) -> str:
        """Listens, and returns the target of the name in gRPC's notation, without a port."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self._transport: Any = transport
        return f"dns://127.0.0.1:{transport.get_extra_info('sockname')[1]}/{NAME}"

    def stop(self) -> None:
        """Stops listening."""
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answers a question."""
        end = data.index(b"\0", 12) + 5  # after the name: its type and its class
        (kind,) = struct.unpack_from(">H", data, end - 4)
        found = self.addresses if kind == _IPV4 else []
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0)
        answers = [struct.pack(">HHHIH", 0xC00C, _IPV4, 1, 0, 4) + socket.inet_aton(each) for each in found]
        self._transport.sendto(head + data[12:end] + b"".join(answers), addr)
