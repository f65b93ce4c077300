"""How a client reaches a gateway: address, TLS, token, and the submitter's name."""

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
"""The metadata of a call."""

DEFAULT_TARGET = "localhost:50051"
"""Address of a gateway on this machine."""


@dataclass(frozen=True, slots=True)
class Access:
    """TLS and a token. The default fits a gateway on this machine that needs neither.

    Raises ``InvalidRequest`` if the token or the pair of certificate and key is invalid.
    """

    token: str = field(default="", repr=False)
    """The secret that tells the gateway who calls: one line of text."""
    tls: bool = False
    """Whether to use TLS: the gateway must prove its name. A ``ca_file`` or ``cert_file`` also turns TLS on."""
    ca_file: Path | None = None
    """PEM file with the authority of the gateway's certificate. Default: the authorities that this machine trusts."""
    cert_file: Path | None = None
    """PEM file with the client's certificate, if the gateway requires one."""
    key_file: Path | None = None
    """PEM file with the key of that certificate."""
    insecure: bool = False
    """Whether the token may be sent over a network without TLS."""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidRequest("a certificate needs its key, and a key needs its certificate")
        if not (self.token.isascii() and self.token.isprintable()) or " " in self.token:
            raise InvalidRequest("a token is one line of printable ASCII characters without spaces")

    @property
    def encrypted(self) -> bool:
        """Whether calls use TLS."""
        return self.tls or self.ca_file is not None or self.cert_file is not None

    @property
    def files(self) -> TlsFiles | None:
        """The files for TLS, ``None`` without TLS. Raises ``PreconditionFailed`` if a file cannot be used."""
        if not self.encrypted:
            return None
        return TlsFiles(certificate=self.cert_file, key=self.key_file, authority=self.ca_file)

    def metadata(self, target: str, submitter: str) -> Metadata:
        """Returns the metadata with the token and the name of ``submitter``, for calls to ``target``.

        Raises ``InvalidRequest`` if the name is invalid, or if the token would be sent over a network without TLS.
        """
        token: Metadata = ()
        if self.token:
            if not (self.encrypted or self.insecure or _is_this_machine(target)):
                raise InvalidRequest(
                    f"the token would be sent to {target} without encryption: use TLS",
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
    """Whether all addresses of ``target`` belong to this machine."""
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        return True
    addresses = rest if scheme in ("dns", "ipv4", "ipv6") else target
    return all(is_loopback(_host(address)) for address in addresses.rpartition("/")[2].split(","))


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] if address.count(":") == 1 else address
