"""Where the replicas of a service are: from a target as the settings have it to the addresses behind it, now.

name:50052, dns:///name:50052        all addresses of the name, looked up again and again
ipv4:10.0.0.1:50052,10.0.0.2:50052   these
127.0.0.1:50052, all that gRPC knows one, left to gRPC
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Resolve = Callable[[str, int], Awaitable[set[str]]]
"""All addresses of a name at a port, as gRPC writes them.

Raises ``OSError`` where there is no answer, ``UnicodeError`` where it cannot be a name.
"""

_DNS = "dns:///"
_LISTS = ("ipv4:", "ipv6:")


@dataclass(frozen=True, slots=True)
class Target:
    """A target, taken apart."""

    fixed: frozenset[str]
    """Addresses that are known at once: all there are, or where there is a name, that until it was looked up."""
    name: str = ""
    """What is to be looked up, empty where nothing is."""
    port: int = 0

    @property
    def authority(self) -> str:
        """Who is called, whichever address answers: what a certificate is checked against. Empty without a name."""
        return f"{self.name}:{self.port}" if self.name else ""


def parse_target(target: str) -> Target:
    """Takes a target apart."""
    for scheme in _LISTS:
        if target.startswith(scheme):
            return Target(frozenset(scheme + address for address in target.removeprefix(scheme).split(",")))
    name, _, port = target.removeprefix(_DNS).rpartition(":")
    if not name or not port.isdecimal() or ":" in name or "/" in name or _is_address(name):
        return Target(frozenset([target]))
    return Target(frozenset([target]), name, int(port))


async def look_up(name: str, port: int) -> set[str]:
    """Asks this machine's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return {
        f"ipv4:{host[0]}:{port}" if family == socket.AF_INET else f"ipv6:[{host[0]}]:{port}"
        for family, _, _, _, host in found
        if family in (socket.AF_INET, socket.AF_INET6)
    }


def shown(address: str) -> str:
    """The address as people write it."""
    return address.removeprefix(_DNS).removeprefix(_LISTS[0]).removeprefix(_LISTS[1])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
