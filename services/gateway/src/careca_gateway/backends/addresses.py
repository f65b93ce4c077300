"""Parses the target of a service and resolves its name to addresses.

name:50052, dns:///name:50052        all addresses of the name, which is resolved repeatedly
ipv4:10.0.0.1:50052,10.0.0.2:50052   exactly these addresses
127.0.0.1:50052, any other target    one address, which gRPC resolves
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

Resolve = Callable[[str, int], Awaitable[set[str]]]
"""Returns all addresses of a name with a port, in gRPC's notation.

Raises ``OSError`` if there is no answer, ``UnicodeError`` if the name is invalid.
"""

# A lookup may take half a minute if packets are lost. It must not keep a thread that other work needs.
_lookups = ThreadPoolExecutor(max_workers=4, thread_name_prefix="careca-lookup")

_DNS = "dns:///"
_LISTS = ("ipv4:", "ipv6:")


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a target."""

    fixed: frozenset[str]
    """The addresses that need no resolving. For a name: the target itself, until the name is resolved."""
    name: str = ""
    """The name to resolve; empty if there is none."""
    port: int = 0

    @property
    def authority(self) -> str:
        """The name and port that certificates are checked against for all addresses. Empty without a name."""
        return f"{self.name}:{self.port}" if self.name else ""


def parse_target(target: str) -> Target:
    """Splits a target into its parts."""
    for scheme in _LISTS:
        if target.startswith(scheme):
            return Target(frozenset(scheme + address for address in target.removeprefix(scheme).split(",")))
    name, _, port = target.removeprefix(_DNS).rpartition(":")
    if not name or not port.isdecimal() or ":" in name or "/" in name or _is_ip_address(name):
        return Target(frozenset([target]))
    return Target(frozenset([target]), name, int(port))


async def resolve(name: str, port: int) -> set[str]:
    """Resolves the name with this machine's resolver."""
    look_up = partial(socket.getaddrinfo, name, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_lookups, look_up)
    return {
        f"ipv4:{host[0]}:{port}" if family == socket.AF_INET else f"ipv6:[{host[0]}]:{port}"
        for family, _, _, _, host in found
        if family in (socket.AF_INET, socket.AF_INET6)
    }


def display_address(address: str) -> str:
    """Returns the address without gRPC's scheme."""
    return address.removeprefix(_DNS).removeprefix(_LISTS[0]).removeprefix(_LISTS[1])


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
