"""Runs the transcriber: ``python -m careca_transcriber``."""

from __future__ import annotations

from careca.launch import Wiring, run_service
from careca.models import ModelStore
from careca_transcriber.settings import TranscriberSettings


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    run_service("transcriber", TranscriberSettings, _wire)


def _wire(settings: TranscriberSettings) -> Wiring:
    # Late, so that the model library starts in an environment that is ready for it, and --help needs none of it.
    from careca_transcriber.whisper_engine import WhisperEngine
    from careca_transcriber.wiring import wire

    return wire(settings, WhisperEngine(settings, ModelStore(settings.models_dir)))


if __name__ == "__main__":
    main()
