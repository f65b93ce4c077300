"""The windows that the segmentation looks through, and the frames that all stages share. Numpy only.

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
"""Distance of frames: the product of the strides in the model (10 * 3 * 3 * 3)."""

FIRST_FRAME_CENTRE_SAMPLES = 495
"""Centre of the first frame's receptive field of 991 samples."""

LOCAL_SPEAKERS = 3
"""Speakers that the model tells apart within a window."""

FRAMES_PER_SECOND = SAMPLE_RATE / FRAME_SAMPLES


@dataclass(frozen=True, slots=True)
class LocalSpeakers:
    """Who speaks when in each window. Speakers are numbered anew in every window."""

    starts: npt.NDArray[np.int64]
    """First frame of each window, ascending: shape (windows,)."""
    active: npt.NDArray[np.bool_]
    """Whether a speaker speaks: shape (windows, frames, speakers)."""

    @property
    def frames(self) -> int:
        """Frames of the recording that windows cover."""
        return int(self.starts[-1]) + self.active.shape[1] if len(self.starts) else 0


def window_starts(samples: int, step_seconds: float) -> npt.NDArray[np.int64]:
    """First frames of the windows that cover ``samples``, about ``step_seconds`` apart: shape (windows,).

    The last window ends with the recording, so that it is as full as the others; only a recording shorter than a window
    makes one that reaches beyond its end.
    """
    if samples <= 0:
        return np.zeros(0, dtype=np.int64)
    step = max(1, round(step_seconds * FRAMES_PER_SECOND))
    last = max(0, -(-(samples - WINDOW_SAMPLES) // FRAME_SAMPLES))
    return np.append(np.arange(0, last, step, dtype=np.int64), np.int64(last))


def frame_start_seconds(frame: int) -> float:
    """Time at which ``frame`` begins, halfway between its centre and that of the frame before; 0 for the first."""
    if frame <= 0:
        return 0.0
    return (frame * FRAME_SAMPLES + FIRST_FRAME_CENTRE_SAMPLES - FRAME_SAMPLES / 2) / SAMPLE_RATE
