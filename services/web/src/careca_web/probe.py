"""Asks the web service of this machine whether it is ready: ``python -m careca_web.probe``, for containers.

Exits with status 0 if it is, and with 1 if it is not.
"""

from __future__ import annotations

import ssl
import sys
import urllib.request
from http import HTTPStatus

from careca.settings import load
from careca_web.settings import WebSettings

_SECONDS = 5.0


def main() -> int:
    """Returns the exit status."""
    settings = load(WebSettings)
    scheme = "https" if settings.tls_cert_file else "http"
    context = ssl.create_default_context()
    context.check_hostname = False  # the certificate is for the name by which others call
    context.verify_mode = ssl.CERT_NONE
    try:
        url = f"{scheme}://127.0.0.1:{settings.port}/readyz"
        with urllib.request.urlopen(url, timeout=_SECONDS, context=context) as response:  # noqa: S310
            return int(response.status != HTTPStatus.OK)
    except OSError as error:
        sys.stderr.write(f"not ready: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
