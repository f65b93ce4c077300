"""Runs the web service: ``python -m careca_web``."""

from __future__ import annotations

from careca.launch import run_server
from careca_web.server import serve
from careca_web.settings import WebSettings
from careca_web.wiring import wire


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    run_server("web", WebSettings, wire, serve)


if __name__ == "__main__":
    main()
