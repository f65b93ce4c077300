"""Options before the command that say how the gateway is reached, and clients that heed them."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from careca_client.access import NO_ACCESS_NEEDED, Access
from careca_client.aio.client import AsyncClient
from careca_client.blocking.client import Client

# Hidden, as others could read a token on the command line: it is for the variable.
Token = Annotated[str, typer.Option("--token", envvar="CARECA_TOKEN", hidden=True)]

TokenFile = Annotated[
    Path | None,
    typer.Option(
        envvar="CARECA_TOKEN_FILE",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="File with your token; the variable CARECA_TOKEN may hold the token itself.",
    ),
]

Tls = Annotated[bool, typer.Option("--tls", envvar="CARECA_TLS", help="The gateway must prove its name.")]

CaFile = Annotated[
    Path | None,
    typer.Option(
        envvar="CARECA_CA_FILE",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Authority of the gateway's certificate, in PEM form; turns --tls on.",
    ),
]

CertFile = Annotated[
    Path | None,
    typer.Option(envvar="CARECA_CERT_FILE", exists=True, dir_okay=False, metavar="FILE", help="Certificate to show."),
]

KeyFile = Annotated[
    Path | None,
    typer.Option(envvar="CARECA_KEY_FILE", exists=True, dir_okay=False, metavar="FILE", help="Its key."),
]

Insecure = Annotated[
    bool, typer.Option("--insecure", envvar="CARECA_INSECURE", help="Send the token without TLS, too.")
]


_access: ContextVar[Access] = ContextVar("access", default=NO_ACCESS_NEEDED)


def remember_access(access: Access) -> None:
    """Has all clients of this command line use ``access``."""
    _access.set(access)


def client_of(gateway: str, submitter: str = "") -> Client:
    """A client of the gateway."""
    return Client(gateway, submitter=submitter, access=_access.get())


def async_client_of(gateway: str, submitter: str = "") -> AsyncClient:
    """A client for asyncio of the gateway."""
    return AsyncClient(gateway, submitter=submitter, access=_access.get())
