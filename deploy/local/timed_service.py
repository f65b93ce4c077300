"""Runs one service without any model, for development and to measure everything around the models.

    CARECA_TIMED_SECONDS=0.5 CARECA_TIMED_LOG=tasks.txt python deploy/local/timed_service.py transcriber

The model services have an engine that takes a set time for each task, and finds the same in every recording: one word
of one speaker or, with CARECA_TIMED_TALK=1, four people who talk all the time, in segments that come as time passes.
Each window of live audio takes CARECA_TIMED_WINDOW_SECONDS. With CARECA_TIMED_WINDOW_ITEM_SECONDS, windows share
batches, as on a GPU: a batch takes the first time, and the second one for each of its windows.
The gateway and the web service have no engine and are the real ones. The file that CARECA_TIMED_LOG names gets a line
for each task: when it began and ended, on the clock that all processes of a machine share. `make dev` runs this script
in the foreground.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from careca.inference.audio import Audio
from careca.inference.engine import Batch, Work
from careca.inference.engine_thread import EngineThread
from careca.launch import run_server, run_service
from careca.rpc.server import Service
from careca.types import (
    ClusteredVoices,
    Diarization,
    DiarizedWindow,
    GpuMemory,
    Progress,
    ReadWindow,
    Segment,
    Stage,
    Transcript,
    Turn,
    VoicePiece,
    VoicesToCluster,
    WindowToDiarize,
    WindowToRead,
    Word,
)
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.wiring import wire as wire_diarizer
from careca_gateway.settings import GatewaySettings
from careca_gateway.wiring import wire as wire_gateway
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.wiring import wire as wire_transcriber
from careca_web.server import serve as serve_web
from careca_web.settings import WebSettings
from careca_web.wiring import wire as wire_web

SECONDS = "CARECA_TIMED_SECONDS"
LOG = "CARECA_TIMED_LOG"
TALK = "CARECA_TIMED_TALK"
WINDOW = "CARECA_TIMED_WINDOW_SECONDS"
WINDOW_ITEM = "CARECA_TIMED_WINDOW_ITEM_SECONDS"

WORD_SECONDS = 0.36
"""What each word takes: 100,000 words in ten hours."""

SEGMENT_WORDS = 10
TURN_SECONDS = 9.0

_STEP_SECONDS = 0.02

_MOST_WINDOWS = 16
"""Most windows in a batch, if they share batches: the transcriber's default on a GPU."""

_UNCERTAIN_SECONDS = 1.0
"""Words at the end of a window of live audio that are not final yet, as if three readings had to agree."""


class TimedEngine:
    """Takes a set time for each task."""

    model = "timed@000000000000"
    device = "cpu"
    parallel_live = False
    loaded = True

    def __init__(self) -> None:
        self._seconds = float(os.environ.get(SECONDS, "1.0"))
        self._window_seconds = float(os.environ.get(WINDOW, "0"))
        self._window_item_seconds = float(os.environ.get(WINDOW_ITEM, "0"))
        self._talk = os.environ.get(TALK, "") == "1"
        self._log = Path(os.environ[LOG]) if LOG in os.environ else None

    def load(self) -> None:
        """There is nothing to load."""

    def unload(self) -> None:
        """There is nothing to unload."""

    def gpu_memory(self) -> GpuMemory:
        """Returns no memory."""
        return GpuMemory()

    def release_gpu_cache(self) -> None:
        """There is none."""

    def _take_window(self) -> Work[None]:
        """Takes the time of a window of live audio."""
        yield Batch("window", [None], self._compute_windows, most=_MOST_WINDOWS)

    def _compute_windows(self, windows: Sequence[None]) -> Sequence[None]:
        time.sleep(self._window_seconds + len(windows) * self._window_item_seconds)
        return windows

    def _take_time(self, stage: Stage) -> Work[None]:
        """Takes the time without interruption by other tasks."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self._seconds:
            yield Progress(stage, passed / self._seconds)
            yield Batch.alone(partial(time.sleep, min(_STEP_SECONDS, self._seconds - passed)), exclusive=True)
        if self._log:
            with self._log.open("a") as file:
                file.write(f"{began:.6f} {time.monotonic():.6f}\n")


class TimedTranscriber(TimedEngine):
    """Finds the same words in every recording."""

    def infer(self, audio: Audio, options: Any) -> Work[Any]:
        """Finds one word, or as many as the audio has time for."""
        if isinstance(options, WindowToRead):
            return self._read(audio, options)
        return self._transcribe(audio)

    def _read(self, audio: Audio, window: WindowToRead) -> Work[ReadWindow]:
        yield from self._take_window()
        if self._talk:
            words = tuple(replace(word, text="word") for word in _words(audio.duration)[len(window.final_words) :])
            certain = audio.duration if window.last else audio.duration - _UNCERTAIN_SECONDS
            agreed = sum((word.end or 0.0) <= certain for word in words)
        else:
            words = () if window.final_words else _one_word(audio.duration).words
            agreed = int(bool(words) and (window.last or bool(window.previous_words)))
        found = (word if number < agreed else Word(word.text) for number, word in enumerate(words))
        return ReadWindow(tuple(found), agreed, "en", 0.0, audio.duration)

    def _transcribe(self, audio: Audio) -> Work[Transcript]:
        segments = _talk(audio.duration) if self._talk else (_one_word(audio.duration),)
        waiting = deque(segments)

        for asked in self._take_time(Stage.TRANSCRIBE):
            yield asked
            while isinstance(asked, Progress) and len(waiting) > (1 - asked.fraction) * len(segments):
                yield waiting.popleft()
        yield from waiting
        return Transcript(segments, "en", 1.0, audio.duration, self.model)


class TimedDiarizer(TimedEngine):
    """Finds the same speakers in every recording."""

    def infer(self, audio: Audio, options: Any) -> Work[Any]:
        """Finds one speaker, who speaks from start to end, or four in turn; in a window of live audio always one."""
        match options:
            case WindowToDiarize():
                return self._diarize_window(audio)
            case VoicesToCluster(pieces):
                return self._cluster(len(pieces))
        return self._diarize(audio)

    def _diarize_window(self, audio: Audio) -> Work[DiarizedWindow]:
        yield from self._take_window()
        piece = VoicePiece((1.0, 0.0), audio.duration, 0.0, audio.duration, "0", alone=True)
        return DiarizedWindow((Turn(0.0, audio.duration, "0"),), (piece,), self.model)

    def _cluster(self, pieces: int) -> Work[ClusteredVoices]:
        yield Batch.alone(partial(time.sleep, 0))
        return ClusteredVoices((0,) * pieces)

    def _diarize(self, audio: Audio) -> Work[Diarization]:
        yield from self._take_time(Stage.DIARIZE)
        length = TURN_SECONDS if self._talk else max(audio.duration, TURN_SECONDS)
        count = max(1, math.ceil(audio.duration / length))
        turns = tuple(
            Turn(number * length, min((number + 1) * length, audio.duration), f"SPEAKER_{number % 4:02}")
            for number in range(count)
        )
        return Diarization(turns, turns, audio.duration, self.model)


def _one_word(seconds: float) -> Segment:
    word = Word("word", 0.0, min(1.0, seconds), 1.0)
    return Segment(0.0, min(1.0, seconds), "word", (word,))


def _words(seconds: float) -> tuple[Word, ...]:
    return tuple(
        Word(f"word{number}", number * WORD_SECONDS, (number + 1) * WORD_SECONDS, 0.9)
        for number in range(int(seconds / WORD_SECONDS + 1e-6))
    )


def _talk(seconds: float) -> tuple[Segment, ...]:
    words = _words(seconds)
    parts = [words[at : at + SEGMENT_WORDS] for at in range(0, len(words), SEGMENT_WORDS)]
    return tuple(
        Segment(part[0].start or 0.0, part[-1].end or 0.0, " ".join(word.text for word in part), part) for part in parts
    )


def _running(engine: Any) -> EngineThread[Any, Any]:
    return EngineThread(engine, share=WINDOW_ITEM in os.environ)


def _transcriber(settings: TranscriberSettings) -> Service:
    return wire_transcriber(settings, _running(TimedTranscriber()))


def _diarizer(settings: DiarizerSettings) -> Service:
    return wire_diarizer(settings, _running(TimedDiarizer()))


def main() -> int:
    """Serves until SIGTERM or SIGINT. Returns 2 if the first argument does not name a service."""
    service = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    match service:
        case "gateway":
            run_service(service, GatewaySettings, wire_gateway)
        case "web":
            run_server(service, WebSettings, wire_web, serve_web)
        case "transcriber":
            run_service(service, TranscriberSettings, _transcriber)
        case "diarizer":
            run_service(service, DiarizerSettings, _diarizer)
        case _:
            print("name one service: gateway, web, transcriber or diarizer", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
