"""Runs the diarizer: ``python -m careca_diarizer``."""

from __future__ import annotations

from careca.inference.engine_process import EngineProcess
from careca.launch import run_service
from careca.rpc.server import Service
from careca_diarizer.engine import build_engine
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.wiring import wire


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    run_service("diarizer", DiarizerSettings, _wire)


def _wire(settings: DiarizerSettings) -> Service:
    return wire(settings, EngineProcess(build_engine, settings))


if __name__ == "__main__":
    main()
