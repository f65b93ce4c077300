"""Certificates that tests make: an authority, and what it signs for names and addresses of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class CertificateFiles:
    """A certificate, its key, and the authority that signed it."""

    certificate: Path
    key: Path
    authority: Path


def issue(
    folder: Path, authority: trustme.CA, name: str = "server", *, ends_in: timedelta = HOUR, host: str = "127.0.0.1"
) -> CertificateFiles:
    """Writes a certificate for ``host`` into ``folder``, over what has that name."""
    folder.mkdir(parents=True, exist_ok=True)
    issued = authority.issue_cert(host, not_after=datetime.now(UTC) + ends_in)
    files = CertificateFiles(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}-ca.pem")
    issued.private_key_pem.write_to_path(str(files.key))
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(str(files.authority))
    return files
