"""Runs a service as a process: its help, its settings, its logs, and what to say where it cannot start."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc.aio

from careca.auth.caller import Guard, let_anybody_in
from careca.errors import CarecaError
from careca.resources.memory import settle
from careca.resources.processors import wait_without_spinning
from careca.rpc.server import serve
from careca.settings import ServiceSettings, load, variable_name
from careca.telemetry import logs, tracing
from careca.telemetry.metrics import Metrics

S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class Wiring:
    """A service put together: what ``careca.rpc.server`` needs to run it."""

    add_services: Callable[[grpc.aio.Server], Sequence[str]]
    metrics: Metrics
    warm_up: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    drain: Callable[[], None] = lambda: None
    guard: Guard = let_anybody_in


def run_service(name: str, settings_class: type[S], wire: Callable[[S], Wiring]) -> None:
    """Serves until SIGTERM or SIGINT. Leaves the process with status 1 where the service cannot start.

    ``wire`` is called in the event loop that the service will run in, and imports model libraries only then.
    """
    _parse_arguments(name, settings_class)
    settings = load(settings_class)
    logs.configure(settings)
    wait_without_spinning()
    asyncio.run(_serve(name, settings, wire))


async def _serve(name: str, settings: S, wire: Callable[[S], Wiring]) -> None:
    try:
        tracing.start(name, settings.otlp_endpoint)
        wiring = wire(settings)
    except CarecaError as error:
        logs.get_logger(__name__).error("Service cannot start", reason=error.reason, error=error.message)
        raise SystemExit(1) from None

    async def warm_up() -> None:
        await wiring.warm_up()
        settle()

    try:
        await serve(
            settings=settings,
            add_services=wiring.add_services,
            metrics=wiring.metrics,
            warm_up=warm_up,
            close=wiring.close,
            drain=wiring.drain,
            guard=wiring.guard,
        )
    finally:
        await asyncio.to_thread(tracing.stop)


def _parse_arguments(name: str, settings_class: type[ServiceSettings]) -> None:
    """Answers ``--help``; there are no other arguments."""
    variables = "\n\n".join(
        f"  {variable_name(field)} ({about.default})\n      {about.description}"
        for field, about in settings_class.model_fields.items()
    )
    argparse.ArgumentParser(
        prog=f"python -m careca_{name}",
        description=f"Runs the {name} until SIGTERM. Its settings are environment variables.",
        epilog=f"variables, with their defaults:\n\n{variables}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
