"""Runs the gateway: ``python -m careca_gateway``."""

from __future__ import annotations

from careca.launch import run_service
from careca_gateway.settings import GatewaySettings
from careca_gateway.wiring import wire


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    run_service("gateway", GatewaySettings, wire)


if __name__ == "__main__":
    main()
