"""Runs a service as a process: help text, settings, logs, traces, and errors at the start."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from careca.errors import CarecaError, PreconditionFailed
from careca.resources.processors import disable_openmp_spinning
from careca.rpc import request_id
from careca.settings import ServerSettings, ServiceSettings, load, variable_name
from careca.telemetry import logs, tracing

if TYPE_CHECKING:
    from careca.rpc.server import Service

R = TypeVar("R", bound=ServiceSettings)
S = TypeVar("S", bound=ServerSettings)
V = TypeVar("V")


def run_service(name: str, settings_class: type[R], wire: Callable[[R], Service]) -> None:
    """Runs a gRPC service until SIGTERM or SIGINT. Exits with status 1 if the service cannot start.

    ``wire`` is called in the event loop of the service. It must not import model libraries before that.
    """
    run_server(name, settings_class, wire, _serve_grpc)


def run_server(
    name: str, settings_class: type[S], wire: Callable[[S], V], serve: Callable[[S, V], Awaitable[None]]
) -> None:
    """Does the same as ``run_service`` for a server of any kind.

    ``serve`` runs what ``wire`` returns, and returns after SIGTERM or SIGINT.
    """
    _parse_arguments(name, settings_class)
    settings = load(settings_class)
    logs.configure(settings.log_level, settings.log_format)
    disable_openmp_spinning()
    asyncio.run(_serve(name, settings, wire, serve))


async def _serve(name: str, settings: S, wire: Callable[[S], V], serve: Callable[[S, V], Awaitable[None]]) -> None:
    try:
        if settings.otlp_endpoint:
            start_tracing(name, settings.otlp_endpoint)
        service = wire(settings)
    except CarecaError as error:
        logs.get_logger(__name__).error("Service cannot start", reason=error.reason, error=error.message)
        raise SystemExit(1) from None
    try:
        await serve(settings, service)
    finally:
        await asyncio.to_thread(tracing.stop)


async def _serve_grpc(settings: ServiceSettings, service: Service) -> None:
    # Imported late: a model service starts the process of its engine before it imports gRPC.
    from careca.rpc import server

    await server.serve(settings, service)


def start_tracing(service: str, endpoint: str) -> None:
    """Sends traces to ``endpoint``. Raises ``PreconditionFailed`` if OpenTelemetry is not installed."""
    try:
        from careca.telemetry.otlp import OtlpTracer
    except ImportError as error:
        raise PreconditionFailed(
            "traces need OpenTelemetry: install careca-common[tracing], or leave CARECA_OTLP_ENDPOINT empty",
            reason="TRACING_NOT_INSTALLED",
        ) from error
    tracing.start(OtlpTracer(service, endpoint, request_id.current))


def _parse_arguments(name: str, settings_class: type[ServerSettings]) -> None:
    """Handles ``--help``, the only argument."""
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
