"""How to cut a recording into the clips that Whisper reads: at most 30 s each, with the pauses left in.

Since nothing is taken out of a clip, a time in the recording is the clip's start plus the time in the clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from careca.types import SAMPLE_RATE
from careca_transcriber.speech import FRAME_SAMPLES, Activity, Span

CLIP_SAMPLES = 30 * SAMPLE_RATE
"""The longest clip: what Whisper's encoder takes in at once."""

GRID_SAMPLES = 160
"""Clips start on hops of Whisper's spectrogram, 10 ms, so that its times are exact."""

_PAD_SAMPLES = round(0.4 * SAMPLE_RATE)
_LONGEST_PAUSE_SAMPLES = 3 * SAMPLE_RATE
_EARLIEST_CUT_SAMPLES = 20 * SAMPLE_RATE
_SMOOTHING_FRAMES = 11
_SPEECH_DECIBELS = 30.0


def cut_clips(speech: Sequence[Span], activity: Activity, total_samples: int) -> list[Span]:
    """Clips of at most 30 s that cover ``speech``, by start and without overlap, within ``total_samples``.

    Pauses of up to 3 s stay inside a clip. What is longer than 30 s is cut where it is quietest, from its 20th second
    on.
    """
    clips: list[Span] = []
    for stretch in _padded_stretches(speech, total_samples):
        rest = stretch
        while len(rest) > CLIP_SAMPLES:
            cut = _quietest(activity, Span(rest.start + _EARLIEST_CUT_SAMPLES, rest.start + CLIP_SAMPLES))
            clips.append(Span(rest.start, cut))
            rest = Span(cut, rest.end)
        clips.append(rest)
    return clips


def spread(clips: Sequence[Span], activity: Activity, count: int) -> list[Span]:
    """Up to ``count`` clips from all over the recording, of each part of it the one with the most speech."""
    count = min(count, len(clips))
    parts = (clips[len(clips) * part // count : len(clips) * (part + 1) // count] for part in range(count))
    return [max(part, key=lambda clip: activity.speech_seconds(*clip.seconds)) for part in parts]


def _padded_stretches(speech: Sequence[Span], total_samples: int) -> Iterator[Span]:
    """Speech with its pauses of up to 3 s, padded so that no first or last word is cut."""
    stretches: list[Span] = []
    for span in speech:
        near = bool(stretches) and span.start - stretches[-1].end <= _LONGEST_PAUSE_SAMPLES
        stretches.append(Span(stretches.pop().start if near else span.start, span.end))
    for stretch in stretches:
        yield Span(on_grid(max(0, stretch.start - _PAD_SAMPLES)), min(stretch.end + _PAD_SAMPLES, total_samples))


def on_grid(sample: int) -> int:
    """The last place at or before ``sample`` where a clip may start."""
    return sample // GRID_SAMPLES * GRID_SAMPLES


def _quietest(activity: Activity, within: Span) -> int:
    """Where in ``within`` the least is heard for a third of a second.

    The level counts beside the probability of speech, since the detector is at times deaf to a voice.
    """
    first, last = within.start // FRAME_SAMPLES, within.end // FRAME_SAMPLES
    heard = activity.level[first:last] + _SPEECH_DECIBELS * activity.speech[first:last]
    smooth = np.convolve(heard, np.full(_SMOOTHING_FRAMES, 1 / _SMOOTHING_FRAMES), mode="valid")
    middle = first + int(np.argmin(smooth)) + _SMOOTHING_FRAMES // 2
    return on_grid(middle * FRAME_SAMPLES)
