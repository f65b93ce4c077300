"""Certificates and keys in PEM files that may be replaced while the process runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from careca.auth.watched_files import WatchedFiles
from careca.errors import PreconditionFailed
from careca.telemetry.logs import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PemContents:
    """The contents of the PEM files; ``None`` for a file that is not configured."""

    certificate: bytes | None
    """The own certificate, followed by the intermediate ones."""
    key: bytes | None
    authority: bytes | None
    """Certificates of the authorities that the peer's certificate must be signed by."""


class TlsFiles:
    """A certificate with its key, and the certificate authorities for the peer. Each may be left out.

    Raises ``PreconditionFailed`` (TLS_FILES) if they cannot be used. Changed files are loaded again. If the new files
    cannot be used, that is logged and the old ones stay in use, because a key is often replaced shortly after its
    certificate. A certificate that has expired is used, and logged as an error.
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
        """Whether the peer must present a certificate."""
        return self._authority is not None

    def expiry_unix(self) -> float:
        """When the first of the own certificates expires, in seconds since 1970; 0 without a certificate."""
        certificate = self.current().certificate
        if not certificate:
            return 0.0
        return min(each.not_valid_after_utc.timestamp() for each in x509.load_pem_x509_certificates(certificate))

    def current(self) -> PemContents:
        """The contents of the files now, or the last contents that could be used."""
        return self._watched.current()

    def _read(self) -> PemContents:
        pem = PemContents(_read(self._certificate), _read(self._key), _read(self._authority))
        try:
            if pem.authority:
                x509.load_pem_x509_certificates(pem.authority)
            if pem.certificate:
                own = x509.load_pem_x509_certificates(pem.certificate)[0]
                if not pem.key or load_pem_private_key(pem.key, password=None).public_key() != own.public_key():
                    raise _unusable(f"{self._key} is not the key of {self._certificate}")
                if own.not_valid_after_utc < datetime.now(UTC):  # callers that do not verify it can still call
                    _log.error(
                        "the certificate has expired",
                        file=str(self._certificate),
                        at=own.not_valid_after_utc.isoformat(),
                    )
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            names = ", ".join(str(path) for path in self._paths)
            raise _unusable(f"one of the files {names} is not valid PEM: {error}") from error
        return pem


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise _unusable(f"{path} cannot be read: {error.strerror}") from error


def _unusable(message: str) -> PreconditionFailed:
    return PreconditionFailed(message, reason="TLS_FILES")
