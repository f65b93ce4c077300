"""Runs the diarizer: ``python -m careca_diarizer``."""

from __future__ import annotations

from careca.launch import Wiring, run_service
from careca.models import ModelStore
from careca_diarizer.settings import DiarizerSettings


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    run_service("diarizer", DiarizerSettings, _wire)


def _wire(settings: DiarizerSettings) -> Wiring:
    # Late, so that the model library starts in an environment that is ready for it, and --help needs none of it.
    from careca_diarizer.pyannote_engine import PyannoteEngine
    from careca_diarizer.wiring import wire

    return wire(settings, PyannoteEngine(settings, ModelStore(settings.models_dir)))


if __name__ == "__main__":
    main()
