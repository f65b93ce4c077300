"""Draws the batches of a real transcriber, as it computes a long recording and short ones that come in between."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench import REPOSITORY
from bench.common import audio, dataset
from bench.common.report import Report
from bench.scheduling.real import longest, shorts
from careca.inference.audio import Audio
from careca.inference.engine_process import EngineProcess
from careca.inference.scheduler import Step
from careca.inference.shared_engine import CancelToken, Notice
from careca.types import SAMPLE_RATE, Scheduling, SchedulingClass, Transcript, TranscriptionOptions
from careca_transcriber.engine import build_engine
from careca_transcriber.settings import TranscriberSettings

PICTURE = REPOSITORY / "docs" / "scheduling.svg"
LONG_SECONDS = 180.0
PAUSE_SECONDS = 3.0
_COLOURS = {SchedulingClass.INTERACTIVE: "#0072b2", SchedulingClass.BATCH: "#e69f00"}
_WIDTH, _ROW, _LEFT = 900, 26, 170


@dataclass(frozen=True, slots=True)
class Lane:
    """One request: when it came and ended, and its batches from-to, in seconds from the start of the run."""

    name: str
    scheduling_class: SchedulingClass
    came: float
    ended: float
    batches: tuple[tuple[float, float], ...]


async def measure(_report: Report) -> None:
    """Runs the transcriber and writes the picture."""
    PICTURE.write_text(draw(await asyncio.to_thread(run)), encoding="utf-8")


def run() -> list[Lane]:
    """The first minutes of the longest conversation as batch work, and three short recordings of two submitters."""
    recordings = dataset.find()
    long = audio.decode(longest(recordings).path)[: round(LONG_SECONDS * SAMPLE_RATE)]
    settings = TranscriberSettings()
    engine: EngineProcess[TranscriptionOptions, Transcript] = EngineProcess(build_engine, settings)
    try:
        engine.load()
        with ThreadPoolExecutor() as threads:
            began, begun = time.monotonic(), threading.Event()
            batch = Scheduling(SchedulingClass.BATCH, "ana")
            lanes = [threads.submit(_infer, engine, "conversation, batch", Audio(long), batch, began, begun)]
            begun.wait()
            for number, recording in enumerate(shorts(recordings)[:3]):
                time.sleep(PAUSE_SECONDS)
                name, sound = f"voice note {number + 1}", Audio(audio.decode(recording.path))
                lanes.append(threads.submit(_infer, engine, name, sound, Scheduling(submitter="ben"), began, begun))
            return [lane.result() for lane in lanes]
    finally:
        engine.unload()


def _infer(
    engine: EngineProcess[TranscriptionOptions, Transcript],
    name: str,
    sound: Audio,
    scheduling: Scheduling,
    began: float,
    begun: threading.Event,
) -> Lane:
    batches: list[tuple[float, float]] = []

    def note(occurred: Notice) -> None:
        if isinstance(occurred, Step):
            now = time.monotonic() - began
            batches.append((now - occurred.seconds, now))
            begun.set()

    came = time.monotonic() - began
    engine.infer(sound, TranscriptionOptions(), scheduling, CancelToken(), note)
    return Lane(name, scheduling.scheduling_class, came, time.monotonic() - began, tuple(batches))


def draw(lanes: Sequence[Lane]) -> str:
    """Returns an SVG with a row for each request: a line while it is in hand, and a bar for each batch."""
    end = max(lane.ended for lane in lanes)
    height = _ROW * (len(lanes) + 2)

    def x(at: float) -> float:
        return _LEFT + at / end * (_WIDTH - _LEFT - 20)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for row, lane in enumerate(lanes):
        y, colour = _ROW * (row + 0.75), _COLOURS[lane.scheduling_class]
        parts.append(f'<text x="8" y="{y + 4:.1f}">{escape(lane.name)}</text>')
        parts.append(f'<path d="M{x(lane.came):.1f} {y:.1f}H{x(lane.ended):.1f}" stroke="#999999"/>')
        parts += [
            f'<rect x="{x(start):.1f}" y="{y - 8:.1f}" width="{max(1.0, x(stop) - x(start)):.1f}" height="16" '
            f'fill="{colour}" stroke="white" stroke-width="0.5"/>'
            for start, stop in lane.batches
        ]
    y = _ROW * (len(lanes) + 1)
    step = max(1, round(end / 10))
    for at in range(0, int(end) + 1, step):
        parts.append(f'<path d="M{x(at):.1f} {y - 10}v6" stroke="black"/>')
        parts.append(f'<text x="{x(at):.1f}" y="{y + 10}" text-anchor="middle">{at} s</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
