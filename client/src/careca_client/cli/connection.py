"""The options before the command that say how to connect to the gateway, and clients that use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer

from careca_client.access import NO_ACCESS_NEEDED, Access
from careca_client.aio.client import AsyncClient
from careca_client.blocking.client import Client
from careca_client.cli.errors import ExitCode, reporting

# Hidden: other users of the machine can read a token on the command line. The variable is the safe way.
Token = Annotated[str, typer.Option("--token", envvar="CARECA_TOKEN", hidden=True)]


def _file_option(variable: str, text: str) -> Any:
    """An option for an existing file."""
    return typer.Option(envvar=variable, exists=True, dir_okay=False, metavar="FILE", help=text)


TokenFile = Annotated[
    Path | None,
    _file_option("CARECA_TOKEN_FILE", "File with your token. The variable CARECA_TOKEN may hold the token itself."),
]

Tls = Annotated[bool, typer.Option("--tls", envvar="CARECA_TLS", help="Use TLS: the gateway must prove its name.")]

CaFile = Annotated[
    Path | None,
    _file_option("CARECA_CA_FILE", "Authority of the gateway's certificate, in PEM format. Turns --tls on."),
]

CertFile = Annotated[Path | None, _file_option("CARECA_CERT_FILE", "Your certificate. Turns --tls on.")]

KeyFile = Annotated[Path | None, _file_option("CARECA_KEY_FILE", "The key of your certificate.")]

Insecure = Annotated[
    bool, typer.Option("--insecure", envvar="CARECA_INSECURE", help="Send the token even without TLS.")
]


_access: ContextVar[Access] = ContextVar("access", default=NO_ACCESS_NEEDED)


def set_access(access: Access) -> None:
    """Makes all clients of this command line use ``access``."""
    _access.set(access)


@contextmanager
def connected(gateway: str, submitter: str = "", *, debug: bool, failure: ExitCode | None = None) -> Iterator[Client]:
    """Yields a client of the gateway. Reports errors as ``reporting`` does."""
    with (
        reporting(gateway=gateway, debug=debug, failure=failure),
        Client(gateway, submitter=submitter, access=_access.get()) as client,
    ):
        yield client


def async_client(gateway: str, submitter: str = "") -> AsyncClient:
    """Returns a client of the gateway for asyncio."""
    return AsyncClient(gateway, submitter=submitter, access=_access.get())
