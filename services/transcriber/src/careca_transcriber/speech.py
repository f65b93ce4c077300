"""Detects speech in a recording.

Missed speech loses words, while too much detected speech costs little. So thresholds are low, quiet audio is amplified,
and parts without speech are checked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from careca.inference.audio import Audio
from careca.inference.engine import Batch, Event, Work
from careca.inference.parallel import Threads
from careca.types import SAMPLE_RATE

FRAME_SAMPLES = 512
"""Samples per frame of the voice activity detector: 32 ms."""

FloatArray = npt.NDArray[np.float32]

Detector = Callable[[FloatArray], FloatArray]
"""Samples in [-1, 1], shape (frames * FRAME_SAMPLES,), to probabilities of speech, shape (frames,)."""

_FRAMES_PER_SECOND = SAMPLE_RATE / FRAME_SAMPLES
_WINDOW_FRAMES = round(60 * _FRAMES_PER_SECOND)
_RUN_UP_FRAMES = round(2 * _FRAMES_PER_SECOND)
_SECOND_LOOK_FRAMES = round(2 * _FRAMES_PER_SECOND)
_JOIN_FRAMES = round(0.5 * _FRAMES_PER_SECOND)
_LEAST_FRAMES = 3
_USUAL_PEAK = 0.2
_GREATEST_GAIN = 30.0
_SILENT_PEAK = 1e-4
_FLOOR_DECIBELS = -100.0


@dataclass(frozen=True, slots=True)
class Span:
    """Samples of a recording, from ``start`` up to, but not including, ``end``."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def seconds(self) -> tuple[float, float]:
        """Start and end in seconds."""
        return self.start / SAMPLE_RATE, self.end / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Activity:
    """Speech and level in each frame of a recording: arrays of shape (frames,)."""

    speech: FloatArray
    """Probability of speech, from 0 to 1."""
    level: FloatArray
    """Level in decibels, 0 at full scale and never below -100."""
    threshold: float
    """The lowest probability of a speech frame."""

    def speech_seconds(self, start: float, end: float) -> float:
        """Returns the seconds of speech between the times ``start`` and ``end``, with half the threshold."""
        first, last = int(max(0.0, start) * _FRAMES_PER_SECOND), int(np.ceil(max(0.0, end) * _FRAMES_PER_SECOND))
        return float(np.count_nonzero(self.speech[first:last] >= self.threshold / 2) / _FRAMES_PER_SECOND)


def detect_activity(
    audio: Audio, detect: Detector, *, threshold: float, threads: Threads, progress: Callable[[float], Event]
) -> Work[Activity]:
    """Runs ``detect`` on ``audio`` in batches of one minute for each of ``threads``.

    Yields ``progress`` of the fraction done after each batch.
    """
    frames = -(-len(audio.samples) // FRAME_SAMPLES)
    spans = [Span(start, min(start + _WINDOW_FRAMES, frames)) for start in range(0, frames, _WINDOW_FRAMES)]

    def detect_all(minutes: Sequence[tuple[Audio, Span]]) -> list[Activity]:
        return [_detect_in_window(*minute, detect, threshold) for minute in minutes]

    windows: list[Activity] = []
    for first in range(0, len(spans), threads.count):
        batch = [(audio, span) for span in spans[first : first + threads.count]]
        windows += yield Batch(
            "speech", batch, partial(threads.compute, detect_all), most=threads.count, identity=_identity
        )
        yield progress(len(windows) / len(spans))
    nothing = np.zeros(0, np.float32)
    return Activity(
        speech=np.concatenate([nothing, *(window.speech for window in windows)]),
        level=np.concatenate([nothing, *(window.level for window in windows)]),
        threshold=threshold,
    )


def _identity(minute: tuple[Audio, Span]) -> bytes:
    audio, frames = minute
    run_up = _run_up(frames)
    first, last = (frames.start - run_up) * FRAME_SAMPLES, frames.end * FRAME_SAMPLES
    return audio.identity(first, last) + bytes([run_up])


def _run_up(frames: Span) -> int:
    return min(frames.start, _RUN_UP_FRAMES)


def find_speech(activity: Activity) -> list[Span]:
    """Returns stretches of speech by start, of whole frames.

    A stretch reaches the threshold in at least one frame, and half the threshold everywhere except in pauses of up to
    half a second.
    """
    return [Span(start * FRAME_SAMPLES, end * FRAME_SAMPLES) for start, end in _stretches(activity)]


def _stretches(activity: Activity) -> Iterator[tuple[int, int]]:
    audible = activity.speech >= activity.threshold / 2
    edges = np.flatnonzero(np.diff(audible, prepend=False, append=False)).tolist()
    joined: list[tuple[int, int]] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        near = bool(joined) and start - joined[-1][1] <= _JOIN_FRAMES
        joined.append((joined.pop()[0] if near else start, end))
    for start, end in joined:
        if end - start >= _LEAST_FRAMES and activity.speech[start:end].max() >= activity.threshold:
            yield start, end


def _detect_in_window(audio: Audio, frames: Span, detect: Detector, threshold: float) -> Activity:
    """Returns the activity in ``frames``. The detector also gets the two seconds before, to warm up its state.

    Long stretches without speech are checked again separately: the detector is recurrent, and sometimes misses a voice
    for many seconds until its state is reset.
    """
    run_up = _run_up(frames)
    samples = audio.float32((frames.start - run_up) * FRAME_SAMPLES, frames.end * FRAME_SAMPLES)
    samples = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))  # shape (frames * FRAME_SAMPLES,)
    level = _decibels(samples)[run_up:]
    louder = _amplify(samples)
    speech = detect(louder)[run_up:].copy()
    louder = louder[run_up * FRAME_SAMPLES :]
    for start, end in _gaps(list(_stretches(Activity(speech, level, threshold))), len(speech)):
        inside = louder[start * FRAME_SAMPLES : end * FRAME_SAMPLES]
        if end - start >= _SECOND_LOOK_FRAMES and np.abs(inside).max() > _SILENT_PEAK:
            speech[start:end] = np.maximum(speech[start:end], detect(inside))
    return Activity(speech, level, threshold)


def _gaps(stretches: Sequence[tuple[int, int]], frames: int) -> Iterator[tuple[int, int]]:
    """Returns the gaps before, between and after ``stretches``."""
    edges = [0, *(edge for stretch in stretches for edge in stretch), frames]
    return zip(edges[::2], edges[1::2], strict=True)


def _amplify(samples: FloatArray) -> FloatArray:
    """Amplifies quiet samples to a usual peak, with one gain of at most 30; returns others unchanged."""
    peak = float(np.percentile(np.abs(samples), 99.9))
    if peak >= _USUAL_PEAK or peak <= _SILENT_PEAK:
        return samples
    louder: FloatArray = np.clip(samples * np.float32(min(_USUAL_PEAK / peak, _GREATEST_GAIN)), -1.0, 1.0)
    return louder


def _decibels(samples: FloatArray) -> FloatArray:
    power = np.mean(np.square(samples.reshape(-1, FRAME_SAMPLES)), axis=1)  # shape (frames,)
    level: FloatArray = 10 * np.log10(np.maximum(power, np.float32(10 ** (_FLOOR_DECIBELS / 10))))
    return level
