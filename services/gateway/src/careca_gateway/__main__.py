"""Runs the gateway: ``python -m careca_gateway``."""

from __future__ import annotations

import argparse
import asyncio

from careca import logs
from careca.server import serve
from careca.settings import load, variable_name
from careca_gateway.settings import GatewaySettings
from careca_gateway.wiring import wire


async def _run(settings: GatewaySettings) -> None:
    wiring = wire(settings)
    await serve(
        settings=settings,
        add_services=wiring.add_services,
        metrics=wiring.metrics,
        warm_up=wiring.warm_up,
        close=wiring.close,
    )


def _help() -> str:
    fields = GatewaySettings.model_fields.items()
    return "\n\n".join(
        f"  {variable_name(name)} ({field.default})\n      {field.description}" for name, field in fields
    )


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    argparse.ArgumentParser(
        prog="python -m careca_gateway",
        description="Runs the gateway until SIGTERM. Its settings are environment variables.",
        epilog=f"variables, with their defaults:\n\n{_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    settings = load(GatewaySettings)
    logs.configure(settings)
    asyncio.run(_run(settings))


if __name__ == "__main__":
    main()
