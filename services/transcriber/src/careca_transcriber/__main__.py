"""Runs the transcriber: ``python -m careca_transcriber``."""

from __future__ import annotations

from careca.inference.engine_process import EngineProcess
from careca.launch import run_service
from careca.rpc.server import Service
from careca_transcriber.engine import build_engine
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.wiring import wire


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    run_service("transcriber", TranscriberSettings, _wire)


def _wire(settings: TranscriberSettings) -> Service:
    return wire(settings, EngineProcess(build_engine, settings))


if __name__ == "__main__":
    main()
