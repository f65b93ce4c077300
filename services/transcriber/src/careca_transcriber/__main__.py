"""Runs the transcriber: ``python -m careca_transcriber``."""

from __future__ import annotations

from careca.launch import Wiring, run_service
from careca_transcriber.process import TranscriberProcess
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.wiring import wire


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    run_service("transcriber", TranscriberSettings, _wire)


def _wire(settings: TranscriberSettings) -> Wiring:
    return wire(settings, TranscriberProcess(settings))


if __name__ == "__main__":
    main()
