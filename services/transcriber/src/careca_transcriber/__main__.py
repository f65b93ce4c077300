"""Runs the transcriber: ``python -m careca_transcriber``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from careca.inference.engine_process import EngineProcess
from careca.launch import run_service
from careca_transcriber.engine import build_engine
from careca_transcriber.settings import TranscriberSettings

if TYPE_CHECKING:
    from careca.rpc.server import Service


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    run_service("transcriber", TranscriberSettings, _wire)


def _wire(settings: TranscriberSettings) -> Service:
    """Imports gRPC while the engine's process starts, which takes as long."""
    with ThreadPoolExecutor(1) as thread:
        engine = thread.submit(EngineProcess, build_engine, settings)
        from careca_transcriber.wiring import wire

        return wire(settings, engine.result())


if __name__ == "__main__":
    main()
