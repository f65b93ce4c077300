"""How much results differ from those of the CPU. Without a GPU, two runs of the CPU are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gpu.differences import speaker_difference, word_difference
from bench.gpu.engines import DIARIZATION, TRANSCRIPTION, Task, running
from bench.gpu.speech import Samples
from careca.types import Diarization, Transcript

TOLERANCES = {TRANSCRIPTION.name: 0.02, DIARIZATION.name: 0.01}
"""The largest rates of words and of speaker time that may differ."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two ways to do the same task: the settings of the CPU's run and of the other one."""

    what: str
    task: Task
    cpu: dict[str, Any]
    other: dict[str, Any]

    def measure(self, speech: Samples, models: Path) -> float:
        """Returns the rate that differs. Raises what the engines raise."""
        reference, other = (self._result(speech, models, each) for each in (self.cpu, self.other))
        if isinstance(reference, Transcript):
            return word_difference(_text(reference), _text(other))
        return speaker_difference(reference.turns, other.turns, reference.duration)

    def _result(self, speech: Samples, models: Path, settings: dict[str, Any]) -> Any:
        with running(self.task, speech, models_dir=models, **settings) as engine:
            result: Transcript | Diarization = engine.infer(speech)
            return result


def comparisons(device: str) -> list[Comparison]:
    """What is compared on ``device``."""
    cpu, exact = {"device": "cpu"}, {"device": "cpu", "whisper_compute_type": "float32"}
    if device == "cpu":
        one_clip = exact | {"threads": 1, "whisper_batch_size": 1}
        small = cpu | {"threads": 1, "segmentation_batch_size": 4, "embedding_batch_size": 4}
        return [
            Comparison("words, one thread and clip at a time", TRANSCRIPTION, exact, one_clip),
            Comparison("speaker time, one thread and small batches", DIARIZATION, cpu, small),
        ]
    return [
        *(
            Comparison(f"words, {kind} against float32 on the CPU", TRANSCRIPTION, exact, _on_gpu(kind))
            for kind in ("float16", "float32")
        ),
        Comparison("speaker time, against the CPU", DIARIZATION, cpu, {"device": "cuda"}),
    ]


def _on_gpu(compute_type: str) -> dict[str, Any]:
    return {"device": "cuda", "whisper_compute_type": compute_type}


def _text(transcript: Transcript) -> str:
    return " ".join(segment.text for segment in transcript.segments)
