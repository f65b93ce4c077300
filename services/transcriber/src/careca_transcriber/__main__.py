"""Runs the transcriber: ``python -m careca_transcriber``."""

from __future__ import annotations

import argparse
import asyncio

from careca import logs
from careca.errors import CarecaError
from careca.models import ModelStore
from careca.server import serve
from careca.settings import load, variable_name
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.whisper_engine import WhisperEngine
from careca_transcriber.wiring import wire


async def _run(settings: TranscriberSettings, engine: WhisperEngine) -> None:
    wiring = wire(settings, engine)
    await serve(
        settings=settings,
        add_services=wiring.add_services,
        metrics=wiring.metrics,
        warm_up=wiring.warm_up,
        close=wiring.close,
    )


def _new_engine(settings: TranscriberSettings) -> WhisperEngine:
    """The engine; leaves the process with status 1 where its model is not known or not there."""
    try:
        return WhisperEngine(settings, ModelStore(settings.models_dir))
    except CarecaError as error:
        logs.get_logger(__name__).error("Service cannot start", reason=error.reason, error=error.message)
        raise SystemExit(1) from None


def _help() -> str:
    fields = TranscriberSettings.model_fields.items()
    return "\n\n".join(
        f"  {variable_name(name)} ({field.default})\n      {field.description}" for name, field in fields
    )


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    argparse.ArgumentParser(
        prog="python -m careca_transcriber",
        description="Runs the transcriber until SIGTERM. Its settings are environment variables.",
        epilog=f"variables, with their defaults:\n\n{_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    settings = load(TranscriberSettings)
    logs.configure(settings)
    asyncio.run(_run(settings, _new_engine(settings)))


if __name__ == "__main__":
    main()
