"""Cuts a recording into clips for Whisper: at most 30 s each, with their pauses.

Nothing is removed from a clip, so a time in the recording is the clip's start plus the time in the clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from careca.types import SAMPLE_RATE
from careca_transcriber.speech import FRAME_SAMPLES, Activity, Span

CLIP_SAMPLES = 30 * SAMPLE_RATE
"""The longest clip: the input length of Whisper's encoder."""

GRID_SAMPLES = 160
"""Clips start on frames of Whisper's spectrogram, every 10 ms, so that its times are exact."""

_PAD_SAMPLES = round(0.4 * SAMPLE_RATE)
_LONGEST_PAUSE_SAMPLES = 3 * SAMPLE_RATE
_EARLIEST_CUT_SAMPLES = 20 * SAMPLE_RATE
_SMOOTHING_FRAMES = 11
_SPEECH_DECIBELS = 30.0


def cut_clips(speech: Sequence[Span], activity: Activity, within: Span) -> list[Span]:
    """Returns clips of at most 30 s that cover the part of ``speech`` inside ``within``, by start and without overlap.

    Pauses of up to 3 s stay in a clip. A longer stretch is cut at the quietest place between its 20th and 30th second.
    """
    clips: list[Span] = []
    for stretch in _padded_stretches(speech, within):
        rest = stretch
        while len(rest) > CLIP_SAMPLES:
            cut = quietest(activity, Span(rest.start + _EARLIEST_CUT_SAMPLES, rest.start + CLIP_SAMPLES))
            clips.append(Span(rest.start, cut))
            rest = Span(cut, rest.end)
        clips.append(rest)
    return clips


def is_settled(clip: Span, samples: int) -> bool:
    """Returns whether ``clip`` stays as it is if more audio follows the ``samples`` of the recording.

    Speech that goes on, and after a pause that stays in a clip, would belong to it.
    """
    return clip.end + _LONGEST_PAUSE_SAMPLES <= samples


def spread(clips: Sequence[Span], activity: Activity, count: int) -> list[Span]:
    """Returns up to ``count`` clips: of each part of the recording the clip with the most speech."""
    count = min(count, len(clips))
    parts = (clips[len(clips) * part // count : len(clips) * (part + 1) // count] for part in range(count))
    return [max(part, key=lambda clip: activity.speech_seconds(*clip.seconds)) for part in parts]


def _padded_stretches(speech: Sequence[Span], within: Span) -> Iterator[Span]:
    """Yields speech with its pauses of up to 3 s, padded by 0.4 s to keep all words, but not beyond ``within``."""
    stretches: list[Span] = []
    for whole in speech:
        span = Span(max(whole.start, within.start), min(whole.end, within.end))
        if span.end <= span.start:
            continue
        near = bool(stretches) and span.start - stretches[-1].end <= _LONGEST_PAUSE_SAMPLES
        stretches.append(Span(stretches.pop().start if near else span.start, span.end))
    for stretch in stretches:
        start = on_grid(max(within.start, stretch.start - _PAD_SAMPLES))
        yield Span(start, min(stretch.end + _PAD_SAMPLES, within.end))


def on_grid(sample: int) -> int:
    """Returns the last position at or before ``sample`` where a clip may start."""
    return sample // GRID_SAMPLES * GRID_SAMPLES


def quietest(activity: Activity, within: Span) -> int:
    """Returns the position in ``within`` at which a third of a second has the least sound and speech."""
    first, last = within.start // FRAME_SAMPLES, within.end // FRAME_SAMPLES
    smooth = _loudness(activity, first, last, "valid")
    middle = first + int(np.argmin(smooth)) + _SMOOTHING_FRAMES // 2
    return on_grid(middle * FRAME_SAMPLES)


def loudness(activity: Activity, first: int, last: int) -> npt.NDArray[np.float64]:
    """Returns the loudness around each frame from ``first`` to before ``last``: shape (last - first,)."""
    half = _SMOOTHING_FRAMES // 2
    padded = _loudness(activity, max(0, first - half), last + half, "same")
    return padded[first - max(0, first - half) :][: last - first]


def _loudness(activity: Activity, first: int, last: int, mode: Literal["valid", "same"]) -> npt.NDArray[np.float64]:
    """Returns the level in decibels plus the weighted probability of speech, smoothed over a third of a second.

    The level counts too, because the detector sometimes misses a voice.
    """
    heard = activity.level[first:last] + _SPEECH_DECIBELS * activity.speech[first:last]
    smooth: npt.NDArray[np.float64] = np.convolve(heard, np.full(_SMOOTHING_FRAMES, 1 / _SMOOTHING_FRAMES), mode=mode)
    return smooth
