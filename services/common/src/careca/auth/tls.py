"""Certificates and keys in PEM files that may be replaced while the process runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from careca.auth.watched_files import WatchedFiles
from careca.errors import PreconditionFailed


@dataclass(frozen=True, slots=True)
class Pem:
    """What PEM files hold; ``None`` for a file that was not named."""

    certificate: bytes | None
    """The own certificate, then those between it and its authority."""
    key: bytes | None
    authority: bytes | None
    """Certificates that the other side's must lead to."""


class PemFiles:
    """A certificate with its key, and the authority of the other side's certificates; each may be left out.

    Raises ``PreconditionFailed`` (TLS_FILES) where they cannot be used. Later changes of the files are taken when they
    can be used and are logged when they cannot, as a key is often replaced a moment after its certificate.
    """

    def __init__(
        self, *, certificate: Path | None = None, key: Path | None = None, authority: Path | None = None
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._authority = authority
        self._paths = [path for path in (certificate, key, authority) if path]
        self._watched = WatchedFiles(self._paths, self._read, what="TLS files")

    @property
    def has_authority(self) -> bool:
        """Whether the other side must show a certificate."""
        return self._authority is not None

    @property
    def expiry_unix(self) -> float:
        """When the own certificate ends, in seconds of Unix time; of several the first. 0 without one."""
        return _expiry_unix(self.current().certificate)

    def current(self) -> Pem:
        """What the files hold now, or held last while they could be used."""
        return self._watched.current()

    def _read(self) -> Pem:
        pem = Pem(_read(self._certificate), _read(self._key), _read(self._authority))
        try:
            if pem.authority:
                x509.load_pem_x509_certificates(pem.authority)
            if pem.certificate:
                own = x509.load_pem_x509_certificates(pem.certificate)[0].public_key()
                if not pem.key or load_pem_private_key(pem.key, password=None).public_key() != own:
                    raise _unusable(f"{self._key} is not the key of {self._certificate}")
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            names = ", ".join(str(path) for path in self._paths)
            raise _unusable(f"not all of {names} hold what they should in PEM form: {error}") from error
        return pem


def _expiry_unix(certificate: bytes | None) -> float:
    if not certificate:
        return 0.0
    return min(each.not_valid_after_utc.timestamp() for each in x509.load_pem_x509_certificates(certificate))


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise _unusable(f"{path} cannot be read: {error.strerror}") from error


def _unusable(message: str) -> PreconditionFailed:
    return PreconditionFailed(message, reason="TLS_FILES")
