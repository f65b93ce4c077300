"""Certificates that have expired."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key


def expired(secret: Mapping[str, bytes], people: Path) -> bytes:
    """Returns the certificate of a Secret as the same authority would have signed it for a time that is over."""
    certificate = x509.load_pem_x509_certificate(secret["tls.crt"])
    key = load_pem_private_key((people / "ca.key").read_bytes(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey), "secrets.sh makes such keys"
    end = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=30))
        .not_valid_after(end)
    )
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
