"""The engines under measurement, each in its process, as the services run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench.gpu.speech import Samples, repeated
from careca.errors import PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine_process import EngineProcess
from careca.inference.shared_engine import CancelToken
from careca.settings import ModelServiceSettings
from careca.types import DiarizationOptions, Scheduling, TranscriptionOptions
from careca_diarizer.engine import build_engine as build_diarizer
from careca_diarizer.settings import DiarizerSettings
from careca_transcriber.engine import build_engine as build_transcriber
from careca_transcriber.settings import TranscriberSettings

_WARM_UP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Task:
    """What is measured: its name, its engine, and the packages that the engine needs on a device."""

    name: str
    build: Callable[[Any], Any]
    settings: type[ModelServiceSettings]
    options: object
    packages: dict[str, tuple[str, ...]]


TRANSCRIPTION = Task(
    "transcription",
    build_transcriber,
    TranscriberSettings,
    TranscriptionOptions(),
    {"cuda": ("ctranslate2", "faster-whisper"), "cpu": ("ctranslate2", "faster-whisper")},
)
DIARIZATION = Task(
    "diarization",
    build_diarizer,
    DiarizerSettings,
    DiarizationOptions(),
    {"cuda": ("torch", "pyannote.audio"), "cpu": ("openvino",)},
)


@dataclass(frozen=True, slots=True)
class Running:
    """A loaded engine."""

    task: Task
    engine: EngineProcess[Any, Any]

    def infer(self, samples: Samples, submitter: str = "") -> Any:
        """Returns the result for ``samples``, shape (samples,)."""
        scheduling = Scheduling(submitter=submitter)
        return self.engine.infer(Audio(samples), self.task.options, scheduling, CancelToken(), lambda _: None).result


@contextmanager
def running(task: Task, speech: Samples, *, device: str, **settings: Any) -> Iterator[Running]:
    """Loads an engine and infers once; ends its process on leaving.

    Raises ``PreconditionFailed`` if packages are not installed, and what the engine raises.
    """
    if absent := [name for name in task.packages[device] if installed(name) is None]:
        raise PreconditionFailed(f"not installed: {', '.join(absent)}", reason="PACKAGES_NOT_INSTALLED")
    values: dict[str, Any] = {"log_level": "error", "device": device, **settings}
    engine: EngineProcess[Any, Any] = EngineProcess(task.build, task.settings(**values))
    try:
        engine.load()
        loaded = Running(task, engine)
        loaded.infer(repeated(speech, _WARM_UP_SECONDS))
        yield loaded
    finally:
        engine.unload()


def installed(package: str) -> str | None:
    """The version of an installed package; ``None`` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
