"""What the diarizer needs of a diarization engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from careca.inference.audio import Audio
from careca.inference.engine import CancelToken, Engine
from careca.types import Diarization, DiarizationOptions, Progress


class DiarizerEngine(Engine, Protocol):
    """Finds who spoke when."""

    def diarize(
        self,
        audio: Audio,
        options: DiarizationOptions,
        cancel: CancelToken,
        emit: Callable[[Progress], None],
    ) -> Diarization:
        """Diarizes ``audio``, emitting progress.

        Audio without speech, however short, gives a diarization without turns. The same audio and options give the same
        answer. Raises ``Cancelled`` within a batch of ``cancel``, ``OutOfMemory`` where the device has too little.
        """
