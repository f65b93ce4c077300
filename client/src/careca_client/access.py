"""How a gateway is reached that lets in only those it knows: TLS, a token, a name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from careca.auth.loopback import is_loopback
from careca.auth.submitter import KEY, RULE, is_name
from careca.auth.tls import TlsFiles
from careca.auth.tokens import METADATA_KEY, SCHEME
from careca.errors import InvalidRequest

Metadata: TypeAlias = tuple[tuple[str, str], ...]
"""What a call carries beside its message."""


@dataclass(frozen=True, slots=True)
class Access:
    """What to show a gateway, and what it must show. The default is for one on this machine that asks for nothing.

    Raises ``InvalidRequest`` where it is not whole.
    """

    token: str = field(default="", repr=False)
    """Who calls, as one line of secret text."""
    tls: bool = False
    """Whether the gateway must prove its name; so it must where there is a ``ca_file``."""
    ca_file: Path | None = None
    """PEM file with the authority of the gateway's certificate; this machine's own list by default."""
    cert_file: Path | None = None
    """PEM file with a certificate to show, where the gateway asks for one."""
    key_file: Path | None = None
    """PEM file with that certificate's key."""
    insecure: bool = False
    """Whether the token may cross a network without TLS."""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidRequest("a certificate to show needs its key, and the key its certificate")
        if not (self.token.isascii() and self.token.isprintable()) or " " in self.token:
            raise InvalidRequest("a token is one line of printable ASCII characters without spaces")

    @property
    def encrypted(self) -> bool:
        """Whether calls are made with TLS."""
        return self.tls or self.ca_file is not None or self.cert_file is not None

    @property
    def files(self) -> TlsFiles | None:
        """The files for TLS, ``None`` without it. Raises ``PreconditionFailed`` where they cannot be used."""
        if not self.encrypted:
            return None
        return TlsFiles(certificate=self.cert_file, key=self.key_file, authority=self.ca_file)

    def metadata(self, target: str, submitter: str) -> Metadata:
        """What says at ``target`` that ``submitter`` calls; empty for nobody in particular.

        Raises ``InvalidRequest`` where that is no name, and where anybody on the way could read the token.
        """
        token: Metadata = ()
        if self.token:
            if not (self.encrypted or self.insecure or _is_this_machine(target)):
                raise InvalidRequest(
                    f"the token would cross the network to {target} for everybody to read: use TLS",
                    reason="TOKEN_IN_CLEAR",
                )
            token = ((METADATA_KEY, SCHEME + self.token),)
        if not submitter:
            return token
        if not is_name(submitter):
            raise InvalidRequest(f"a submitter's name must have {RULE}", field=KEY, metadata={"submitter": submitter})
        return (*token, (KEY, submitter))


NO_ACCESS_NEEDED = Access()


def _is_this_machine(target: str) -> bool:
    """Whether all addresses of ``target`` are this machine's own."""
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        return True
    addresses = rest if scheme in ("dns", "ipv4", "ipv6") else target
    return all(is_loopback(_host(address)) for address in addresses.rpartition("/")[2].split(","))


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] if address.count(":") == 1 else address
