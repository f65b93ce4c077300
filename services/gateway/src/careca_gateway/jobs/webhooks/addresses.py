"""Checks the addresses of webhooks: they must be public, and not in the network of the gateway."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from careca.errors import InvalidRequest

MAX_CHARACTERS = 2000
"""The maximum length of an address."""

LOOKUPS = 8
"""How many names are resolved at the same time. They have their own threads, so a slow name server blocks nothing
else."""

Lookup = Callable[..., Sequence[tuple[Any, ...]]]
"""Resolves a name to addresses, as ``socket.getaddrinfo`` does."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_NAT64 = IPv6Network("64:ff9b::/96")


def check_url(url: str, *, allow_private: bool) -> None:
    """Checks whether a webhook may have this address. ``CheckedResolver`` checks the addresses of names later.

    Raises ``InvalidRequest`` for the field ``webhook_url``. The reason is WEBHOOK_REFUSED if the address is not public
    and ``allow_private`` is false, or if it is a number in an unusual notation.
    """
    host = _host(url).rstrip(".")
    address = _literal(host)
    if address is not None:
        check_address(address, allow_private=allow_private)
    elif not _NAME.fullmatch(host):
        raise _invalid("the webhook's host has characters that are not allowed in names")
    elif _is_number(host):
        raise _refused(f"the webhook's host {host} is a number: write it as a name or as four decimal numbers")


def check_address(address: IPv4Address | IPv6Address, *, allow_private: bool) -> None:
    """Raises ``InvalidRequest`` (WEBHOOK_REFUSED) if the address is not public, unless ``allow_private``."""
    if not allow_private and not _public(address):
        raise _refused(f"the webhook leads to {address}, which is not a public address")


class CheckedResolver(AbstractResolver):
    """Resolves names. Refuses a name if any of its addresses is not allowed.

    The HTTP client connects only to the addresses returned here, so a name cannot change between check and connection.

    Args:
        allow_private: whether all addresses are allowed.
        lookup: resolves names.
    """

    def __init__(self, *, allow_private: bool, lookup: Lookup = socket.getaddrinfo) -> None:
        self._allow_private = allow_private
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Returns all addresses. Raises ``InvalidRequest`` if one is not allowed, ``OSError`` if there is none."""
        find = partial(self._lookup, host, port, family=family, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, find)
        for *_, address in found:
            check_address(ip_address(address[0]), allow_private=self._allow_private)
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Ends the threads. Does not wait for names that are being resolved."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _host(url: str) -> str:
    """Returns the host to connect to. Uses the same URL parser as the HTTP client."""
    if len(url) > MAX_CHARACTERS:
        raise _invalid(f"the webhook's address has {len(url)} characters, at most {MAX_CHARACTERS} are accepted")
    if any(character <= " " or character == "\x7f" for character in url):
        raise _invalid("the webhook's address contains spaces or control characters")
    try:
        parsed = URL(url)
        host = (parsed.raw_host or "").encode("idna").decode()
    except ValueError as error:
        raise _invalid("the webhook's address is not a URL") from error
    if parsed.scheme not in ("http", "https") or not host:
        raise _invalid("the webhook's address must begin with http:// or https:// and a host")
    if parsed.raw_user is not None or parsed.raw_password is not None:
        raise _invalid("the webhook's address contains a user or a password, which are not sent")
    if not parsed.port:
        raise _invalid("the webhook's port must be from 1 to 65535")
    return host


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError as error:
        if ":" in host:
            raise _invalid("the webhook's host is neither a name nor an address") from error
        return None


def _is_number(host: str) -> bool:
    """Returns whether the system reads ``host`` as an address: 2130706433, 0x7f.1 and 0177.0.0.1 all mean 127.0.0.1."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def _public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return _public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.ipv4_mapped or address.teredo or address.is_site_local or address.is_reserved:
            return False
        if address.sixtofour and not _public(address.sixtofour):
            return False
    return address.is_global and not address.is_multicast


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, field="webhook_url")


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason="WEBHOOK_REFUSED", field="webhook_url")
