"""What the transcriber needs of a speech recognition engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from careca.inference.audio import Audio
from careca.inference.engine import CancelToken, Engine
from careca.types import Progress, Segment, Transcript, TranscriptionOptions


class TranscriberEngine(Engine, Protocol):
    """Writes down what is said."""

    def transcribe(
        self,
        audio: Audio,
        options: TranscriptionOptions,
        cancel: CancelToken,
        emit: Callable[[Segment | Progress], None],
    ) -> Transcript:
        """Transcribes ``audio``, emitting each segment as it is finished and progress in between.

        Audio without speech, however short, gives a transcript without segments. Raises ``Cancelled`` within a batch
        of ``cancel``, ``InvalidRequest`` for a language that the model does not know, ``OutOfMemory`` where the device
        has too little.
        """
