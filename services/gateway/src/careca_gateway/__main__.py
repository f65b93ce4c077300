"""Runs the gateway: ``python -m careca_gateway``."""

from __future__ import annotations

import asyncio

from careca import logs
from careca.server import serve
from careca.settings import load
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


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = load(GatewaySettings)
    logs.configure(settings)
    asyncio.run(_run(settings))


if __name__ == "__main__":
    main()
