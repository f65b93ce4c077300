"""Runs the diarizer: ``python -m careca_diarizer``."""

from __future__ import annotations

from careca.launch import Wiring, run_service
from careca_diarizer.process import DiarizerProcess
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.wiring import wire


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    run_service("diarizer", DiarizerSettings, _wire)


def _wire(settings: DiarizerSettings) -> Wiring:
    return wire(settings, DiarizerProcess(settings))


if __name__ == "__main__":
    main()
