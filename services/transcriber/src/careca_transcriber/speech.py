"""Where speech is in a recording, and how to cut it into the clips that Whisper reads.

Whisper reads 30 s at a time, so that speech has to be cut, and invents words where there is none, so that the rest has
to be left out. Missing speech costs words for good while a clip that is a little too long costs nothing: thresholds are
low, pauses stay inside a clip, and doubtful places are looked at twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from careca.audio import Audio
from careca.engine import CancelToken
from careca.types import SAMPLE_RATE

FRAME_SAMPLES = 512
"""Samples per frame of the voice activity detector: 32 ms."""

GRID_SAMPLES = 160
"""Clips start and end on the hops of Whisper's spectrogram, 10 ms, so that times within a clip are exact."""

CLIP_SAMPLES = 30 * SAMPLE_RATE
"""The longest clip: what Whisper's encoder takes in."""

VERSION = 1
"""Part of the engine's model id: raised whenever a change below changes transcripts."""

FloatArray = npt.NDArray[np.float32]

Detector = Callable[[FloatArray], FloatArray]
"""Samples in [-1, 1], shape (frames * FRAME_SAMPLES,), to probabilities of speech, shape (frames,)."""

_FRAMES_PER_SECOND = SAMPLE_RATE / FRAME_SAMPLES
_WINDOW_FRAMES = round(60 * _FRAMES_PER_SECOND)
_WARM_UP_FRAMES = round(2 * _FRAMES_PER_SECOND)
_QUIET_PEAK = 0.2
_GREATEST_GAIN = 30.0
_SILENT_PEAK = 1e-4
_SECOND_LOOK_FRAMES = round(2 * _FRAMES_PER_SECOND)
_JOIN_FRAMES = round(0.5 * _FRAMES_PER_SECOND)
_LEAST_FRAMES = 3
_PAD_SAMPLES = round(0.4 * SAMPLE_RATE)
_LONGEST_PAUSE_SAMPLES = 3 * SAMPLE_RATE
_CUT_SMOOTHING_FRAMES = 11
_CUT_SPEECH_DECIBELS = 30.0
_FLOOR_DECIBELS = -100.0


@dataclass(frozen=True, slots=True)
class Span:
    """Samples ``start`` up to and without ``end``."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Activity:
    """What is heard in each frame of a recording: arrays of shape (frames,)."""

    speech: FloatArray
    """Probability of speech, from 0 to 1."""
    level: FloatArray
    """Level in decibels, 0 at full scale and never below -100."""

    def speech_seconds(self, span: Span, threshold: float) -> float:
        """Seconds within ``span`` whose probability of speech reaches ``threshold``."""
        frames = self.speech[span.start // FRAME_SAMPLES : -(-span.end // FRAME_SAMPLES)]
        return float(np.count_nonzero(frames >= threshold) / _FRAMES_PER_SECOND)


def listen(
    audio: Audio,
    detect: Detector,
    *,
    threshold: float,
    threads: int,
    cancel: CancelToken,
    progress: Callable[[float], None],
) -> Activity:
    """Runs ``detect`` over ``audio`` a minute at a time, in ``threads`` threads, telling ``progress`` the fraction done.

    Raises ``Cancelled`` within a minute of audio of ``cancel``.
    """
    frames = -(-len(audio.samples) // FRAME_SAMPLES)
    starts = range(0, frames, _WINDOW_FRAMES)

    def window(start: int) -> Activity:
        cancel.raise_if_cancelled()
        return _listen_to_window(audio, start, min(start + _WINDOW_FRAMES, frames), detect, threshold)

    heard: list[Activity] = []
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="careca-vad") as pool:
        for activity in pool.map(window, starts):
            heard.append(activity)
            progress(len(heard) / len(starts))
    empty = [np.zeros(0, np.float32)]
    return Activity(
        speech=np.concatenate([activity.speech for activity in heard] or empty),
        level=np.concatenate([activity.level for activity in heard] or empty),
    )


def find_speech(activity: Activity, threshold: float) -> list[Span]:
    """Stretches of speech by start, in samples on whole frames.

    A stretch reaches ``threshold`` somewhere and half of it all along, but for pauses of up to half a second.
    """
    loud = activity.speech >= threshold / 2
    edges = np.flatnonzero(np.diff(loud, prepend=False, append=False))
    joined: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if joined and start - joined[-1][1] <= _JOIN_FRAMES:
            start = joined.pop()[0]  # noqa: PLW2901
        joined.append((start, end))
    return [
        Span(start * FRAME_SAMPLES, end * FRAME_SAMPLES)
        for start, end in joined
        if end - start >= _LEAST_FRAMES and activity.speech[start:end].max() >= threshold
    ]


def cut_clips(speech: list[Span], activity: Activity, total_samples: int) -> list[Span]:
    """Clips of at most 30 s that cover ``speech``, by start and without overlap, within ``total_samples``.

    Pauses of up to 3 s stay inside a clip, so that a time in the recording is the clip's start plus the time in the
    clip. What is longer than 30 s is cut where it is quietest, between its 15th and its 30th second.
    """
    clips: list[Span] = []
    for stretch in _padded_stretches(speech, total_samples):
        rest = stretch
        while len(rest) > CLIP_SAMPLES:
            cut = _quietest(activity, Span(rest.start + CLIP_SAMPLES // 2, rest.start + CLIP_SAMPLES))
            clips.append(Span(rest.start, cut))
            rest = Span(cut, rest.end)
        clips.append(rest)
    return clips


def _padded_stretches(speech: list[Span], total_samples: int) -> Iterator[Span]:
    """Speech with pauses of up to 3 s, padded so that no first or last word is cut, on the grid."""
    stretches: list[Span] = []
    for span in speech:
        if stretches and span.start - stretches[-1].end <= _LONGEST_PAUSE_SAMPLES:
            span = Span(stretches.pop().start, span.end)  # noqa: PLW2901
        stretches.append(span)
    for span in stretches:
        start = max(0, span.start - _PAD_SAMPLES) // GRID_SAMPLES * GRID_SAMPLES
        end = -(-(span.end + _PAD_SAMPLES) // GRID_SAMPLES) * GRID_SAMPLES
        yield Span(start, min(end, total_samples))


def _quietest(activity: Activity, within: Span) -> int:
    """The sample on the grid, in ``within``, around which the least is heard for a third of a second.

    The level counts beside the probability of speech, since the detector is sometimes deaf to a voice.
    """
    first, last = within.start // FRAME_SAMPLES, within.end // FRAME_SAMPLES
    loudness = activity.level[first:last] + _CUT_SPEECH_DECIBELS * activity.speech[first:last]
    smooth = np.convolve(loudness, np.ones(_CUT_SMOOTHING_FRAMES) / _CUT_SMOOTHING_FRAMES, mode="valid")
    frame = first + int(np.argmin(smooth)) + _CUT_SMOOTHING_FRAMES // 2
    return frame * FRAME_SAMPLES // GRID_SAMPLES * GRID_SAMPLES


def _listen_to_window(audio: Audio, start: int, end: int, detect: Detector, threshold: float) -> Activity:
    """What is heard from frame ``start`` to ``end``, with the two seconds before as a run-up for the detector.

    Quiet audio is made louder first, and long stretches without speech are looked at a second time on their own: the
    detector is recurrent, and at times stays deaf to a voice for many seconds until it starts afresh.
    """
    run_up = min(start, _WARM_UP_FRAMES)
    samples = audio.float32((start - run_up) * FRAME_SAMPLES, end * FRAME_SAMPLES)
    samples = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))  # shape (frames * FRAME_SAMPLES,)
    level = _decibels(samples)[run_up:]
    louder = _make_louder(samples)
    speech = detect(louder)[run_up:].copy()
    louder = louder[run_up * FRAME_SAMPLES :]
    for gap in _gaps(find_speech(Activity(speech, level), threshold), len(louder)):
        inside = louder[gap.start : gap.end]
        if len(inside) >= _SECOND_LOOK_FRAMES * FRAME_SAMPLES and np.abs(inside).max() > _SILENT_PEAK:
            frames = slice(gap.start // FRAME_SAMPLES, gap.end // FRAME_SAMPLES)
            speech[frames] = np.maximum(speech[frames], detect(inside))
    return Activity(speech, level)


def _gaps(spans: list[Span], total_samples: int) -> Iterator[Span]:
    """What lies before, between and after ``spans``."""
    position = 0
    for span in spans:
        yield Span(position, span.start)
        position = span.end
    yield Span(position, total_samples)


def _make_louder(samples: FloatArray) -> FloatArray:
    """Quiet samples brought to a usual level by one gain of at most 30 dB; all others unchanged."""
    peak = float(np.percentile(np.abs(samples), 99.9))
    if peak >= _QUIET_PEAK or peak < _SILENT_PEAK:
        return samples
    return np.clip(samples * np.float32(min(_QUIET_PEAK / peak, _GREATEST_GAIN)), -1.0, 1.0)


def _decibels(samples: FloatArray) -> FloatArray:
    power = np.mean(np.square(samples.reshape(-1, FRAME_SAMPLES)), axis=1)  # shape (frames,)
    return (10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DECIBELS / 10)))).astype(np.float32)
