"""Requests to the gateway as the benchmark times them."""

from __future__ import annotations

import time
from pathlib import Path

from bench.system.results import Request
from careca.types import Stage
from careca_client import Client, TranscriptionResult
from careca_client.events import Event, Hashing

MODEL_STAGES = frozenset({Stage.TRANSCRIBE, Stage.DIARIZE})


class PartialResultError(Exception):
    """A stage failed, so that neither times nor rates would mean what they say."""


class HashingWatch:
    """Takes the time of the client's hashing from its events: from the making of this watch to the last byte."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.seconds = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Hashing):
            self.seconds = time.perf_counter() - self.started


def ask(client: Client, recording: Path, *, skip_cache: bool = False) -> tuple[Request, TranscriptionResult]:
    """Sends ``recording`` and takes the time. Raises ``PartialResultError`` where a stage failed."""
    started = time.perf_counter()
    result = client.transcribe(recording, skip_cache=skip_cache)
    seconds = time.perf_counter() - started
    if result.partial:
        failures = "; ".join(f"{each.stage}: {each.error_message}" for each in result.stages if each.error_message)
        raise PartialResultError(f"{recording.name}: {failures}")
    request = Request(
        seconds=seconds,
        uploaded_bytes=result.uploaded_bytes,
        stage_seconds={each.stage.value: each.seconds for each in result.stages},
        cached_stages=tuple(each.stage.value for each in result.stages if each.cached),
    )
    return request, result
