"""The windows that segmentation looks through, and the frames that all stages count time in. Numpy only.

Frames follow each other through the whole recording at the rate of the segmentation model's output. Every window starts
on a frame, so that frame ``f`` of a window that starts at frame ``s`` is frame ``s + f`` of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from careca.types import SAMPLE_RATE

WINDOW_SAMPLES = 10 * SAMPLE_RATE
"""Length of a window: what the segmentation model was trained on."""

WINDOW_FRAMES = 589
"""Frames that the model gives for a window."""

FRAME_SAMPLES = 270
"""Distance of frames: the product of the strides in the model, 10 * 3 * 3 * 3."""

LOCAL_SPEAKERS = 3
"""Speakers that the model tells apart within a window."""

FRAMES_PER_SECOND = SAMPLE_RATE / FRAME_SAMPLES

_FIRST_FRAME_SAMPLE = 360
"""Where frame 0 begins: the centre of its receptive field of 991 samples, less half a frame."""


@dataclass(frozen=True, slots=True)
class LocalSpeakers:
    """Who speaks when in each window. Speakers are numbered anew in every window."""

    starts: npt.NDArray[np.int64]
    """First frame of each window, ascending: shape (windows,)."""
    active: npt.NDArray[np.bool_]
    """Whether a speaker speaks: shape (windows, frames, speakers)."""

    @property
    def frames(self) -> int:
        """Frames of the recording that the windows cover."""
        return int(self.starts[-1]) + self.active.shape[1] if len(self.starts) else 0


def window_starts(samples: int, step_seconds: float) -> npt.NDArray[np.int64]:
    """First frames of the windows that cover ``samples``, about ``step_seconds`` apart: shape (windows,).

    The last window ends with the recording, so that it is as full as the others. Only a recording shorter than a window
    makes one that reaches beyond its end.
    """
    if samples <= 0:
        return np.zeros(0, dtype=np.int64)
    step = max(1, round(step_seconds * FRAMES_PER_SECOND))
    last = max(0, -((WINDOW_SAMPLES - samples) // FRAME_SAMPLES))
    return np.append(np.arange(0, last, step, dtype=np.int64), np.int64(last))


def frame_sample(frame: int) -> int:
    """The sample at which ``frame`` begins; the first frame begins with the recording."""
    return frame * FRAME_SAMPLES + _FIRST_FRAME_SAMPLE if frame > 0 else 0


def frame_seconds(frame: int) -> float:
    """The time at which ``frame`` begins."""
    return frame_sample(frame) / SAMPLE_RATE


def frames_within(samples: int) -> int:
    """Frames that begin within the first ``samples`` of the recording."""
    return max(1, -((_FIRST_FRAME_SAMPLE - samples) // FRAME_SAMPLES)) if samples > 0 else 0
