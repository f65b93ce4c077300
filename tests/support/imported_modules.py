"""Diarizes a recording in the child process of an engine, and prints the modules of both processes as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from careca.inference.audio import Audio
from careca.inference.engine import Work
from careca.inference.engine_process import EngineProcess
from careca.inference.shared_engine import CancelToken
from careca.types import DiarizationOptions, Scheduling
from careca_diarizer.engine import build_engine
from careca_diarizer.settings import DiarizerSettings
from support.calls import phone_call


class ModulesAfterwards:
    """The diarizer's engine; its result is the names of the imported modules, and the number of turns."""

    def __init__(self, settings: DiarizerSettings) -> None:
        self._engine = build_engine(settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def infer(self, audio: Audio, options: DiarizationOptions) -> Work[tuple[list[str], int]]:
        turns = (yield from self._engine.infer(audio, options)).turns
        return sorted(sys.modules), len(turns)


def main() -> None:
    import careca_diarizer.__main__  # noqa: F401 - all that the service imports

    engine: EngineProcess[DiarizationOptions, Any] = EngineProcess(ModulesAfterwards, DiarizerSettings())
    engine.load()
    computed = engine.infer(phone_call(), DiarizationOptions(), Scheduling(), CancelToken(), lambda _: None)
    child, turns = computed.result
    engine.unload()
    json.dump({"parent": sorted(sys.modules), "child": child, "turns": turns}, sys.stdout)


if __name__ == "__main__":
    main()
