"""The windows of the segmentation, and the frames in which all stages count time. Numpy only.

Frames cover the whole recording at the output rate of the segmentation model. Every window starts at a frame, so frame
``f`` of a window that starts at frame ``s`` is frame ``s + f`` of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from careca.types import SAMPLE_RATE

WINDOW_SAMPLES = 10 * SAMPLE_RATE
"""Length of a window, with which the segmentation model was trained."""

WINDOW_FRAMES = 589
"""Output frames of the model for a window."""

FRAME_SAMPLES = 270
"""Distance between frames: the product of the strides in the model, 10 * 3 * 3 * 3."""

LOCAL_SPEAKERS = 3
"""Number of speakers that the model distinguishes in a window."""

FRAMES_PER_SECOND = SAMPLE_RATE / FRAME_SAMPLES

_FIRST_FRAME_SAMPLE = 360
"""Start of frame 0: the centre of its receptive field of 991 samples, minus half a frame."""


@dataclass(frozen=True, slots=True)
class LocalSpeakers:
    """Who speaks when in each window. The speaker numbers are local to the window."""

    starts: npt.NDArray[np.int64]
    """First frame of each window, ascending: shape (windows,)."""
    active: npt.NDArray[np.bool_]
    """Whether a speaker is active: shape (windows, frames, speakers)."""

    @property
    def frames(self) -> int:
        """Number of frames that the windows cover."""
        return int(self.starts[-1]) + self.active.shape[1] if len(self.starts) else 0


def window_starts(samples: int, step_seconds: float) -> npt.NDArray[np.int64]:
    """Returns the first frames of windows that cover ``samples``, about ``step_seconds`` apart: shape (windows,).

    The last window ends with the recording, so it is full like the others. Only if the recording is shorter than a
    window does the window extend beyond the end.
    """
    if samples <= 0:
        return np.zeros(0, dtype=np.int64)
    step = max(1, round(step_seconds * FRAMES_PER_SECOND))
    last = max(0, -((WINDOW_SAMPLES - samples) // FRAME_SAMPLES))
    return np.append(np.arange(0, last, step, dtype=np.int64), np.int64(last))


def frame_sample(frame: int) -> int:
    """Returns the first sample of ``frame``; the first frame starts with the recording."""
    return frame * FRAME_SAMPLES + _FIRST_FRAME_SAMPLE if frame > 0 else 0


def frame_seconds(frame: int) -> float:
    """Returns the start time of ``frame``."""
    return frame_sample(frame) / SAMPLE_RATE


def frames_within(samples: int) -> int:
    """Returns how many frames start within the first ``samples`` of the recording."""
    return max(1, -((_FIRST_FRAME_SAMPLE - samples) // FRAME_SAMPLES)) if samples > 0 else 0
