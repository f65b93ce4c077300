"""Runs the diarizer: ``python -m careca_diarizer``."""

from __future__ import annotations

import argparse
import asyncio

from careca import logs
from careca.errors import CarecaError
from careca.models import ModelStore
from careca.server import serve
from careca.settings import load, variable_name
from careca_diarizer.pyannote_engine import PyannoteEngine
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.wiring import wire


async def _run(settings: DiarizerSettings, engine: PyannoteEngine) -> None:
    wiring = wire(settings, engine)
    await serve(
        settings=settings,
        add_services=wiring.add_services,
        metrics=wiring.metrics,
        warm_up=wiring.warm_up,
        close=wiring.close,
    )


def _new_engine(settings: DiarizerSettings) -> PyannoteEngine:
    """The engine; leaves the process with status 1 where its model is not known or not there."""
    try:
        return PyannoteEngine(settings, ModelStore(settings.models_dir))
    except CarecaError as error:
        logs.get_logger(__name__).error("Service cannot start", reason=error.reason, error=error.message)
        raise SystemExit(1) from None


def _help() -> str:
    fields = DiarizerSettings.model_fields.items()
    return "\n\n".join(
        f"  {variable_name(name)} ({field.default})\n      {field.description}" for name, field in fields
    )


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    argparse.ArgumentParser(
        prog="python -m careca_diarizer",
        description="Runs the diarizer until SIGTERM. Its settings are environment variables.",
        epilog=f"variables, with their defaults:\n\n{_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    settings = load(DiarizerSettings)
    logs.configure(settings)
    asyncio.run(_run(settings, _new_engine(settings)))


if __name__ == "__main__":
    main()
