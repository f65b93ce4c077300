"""A scripted gateway, and what calls it: clients of both kinds, and the command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from careca_client import AsyncClient, Client
from careca_client.cli.app import build_app
from integration.client.live_gateway import LiveFixture
from support.clients import Connect, EitherClient
from support.command_line import Careca, recording
from support.scripted_gateway import GatewayFixture, run_gateway


@pytest.fixture
def gateway() -> Iterator[GatewayFixture]:
    yield from run_gateway()


@pytest.fixture
def live_gateway() -> Iterator[LiveFixture]:
    """A gateway for live sessions."""
    fixture = LiveFixture()
    yield fixture
    fixture.stop()


@pytest.fixture(params=[Client, AsyncClient], ids=["blocking", "asyncio"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Creates clients of either kind, and closes them after the test."""
    clients: list[EitherClient] = []

    def create(target: str, **settings: Any) -> EitherClient:
        clients.append(EitherClient(request.param(target, **settings)))
        return clients[-1]

    yield create
    for client in clients:
        await client.close()


@pytest.fixture
def client(connect: Connect, gateway: GatewayFixture) -> EitherClient:
    return connect(gateway.target)


@pytest.fixture
def careca(gateway: GatewayFixture) -> Careca:
    """Runs the command in this process, against the scripted gateway."""

    def run(*arguments: str | Path, stdin: bytes | None = None, submitter: str = "") -> Result:
        environment = {"CARECA_GATEWAY": gateway.target, "CARECA_SUBMITTER": submitter}
        return CliRunner().invoke(build_app(), [str(part) for part in arguments], input=stdin, env=environment)

    return run


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """A recording."""
    return recording(tmp_path / "call.wav")
