"""Segmentation: finds who speaks when in windows of 10 s, with pyannote's segmentation-3.0.

Source: Plaquet and Bredin, "Powerset multi-class cross entropy loss for neural speaker diarization", Interspeech 2023.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from careca.inference.audio import Audio
from careca.inference.engine import Batch, Event, Work
from careca_diarizer.runtime import Floats, Network
from careca_diarizer.windows import (
    FRAME_SAMPLES,
    LOCAL_SPEAKERS,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    LocalSpeakers,
    frames_within,
    window_starts,
)

_SPEAKERS_AT_ONCE = 2
"""Largest number of simultaneous speakers in the model."""


class Segmenter:
    """The segmentation model on one device."""

    def __init__(self, network: Network, *, step_seconds: float, batch_size: int) -> None:
        self._network = network
        self._step_seconds = step_seconds
        self._batch_size = batch_size

    def __call__(self, audio: Audio, progress: Callable[[float], Event]) -> Work[LocalSpeakers]:
        """Finds the local speakers of each window of ``audio``; none for audio without samples."""
        starts = window_starts(len(audio.samples), self._step_seconds)
        active = np.zeros((len(starts), WINDOW_FRAMES, LOCAL_SPEAKERS), dtype=np.bool_)
        for first in range(0, len(starts), self._batch_size):
            batch = slice(first, first + self._batch_size)
            windows = [(audio, int(start)) for start in starts[batch]]
            classes = yield Batch("segmentation", windows, self._segment, most=self._batch_size, identity=_identity)
            active[batch] = POWERSET[np.stack(classes)]
            yield progress(min(1.0, batch.stop / len(starts)))
        if len(starts):
            active[-1, frames_within(len(audio.samples)) - starts[-1] :] = False  # no speech after the end of the audio
        return LocalSpeakers(starts, active)

    def _segment(self, windows: Sequence[tuple[Audio, int]]) -> list[npt.NDArray[np.int64]]:
        return list(self._classes(_cut(windows)))

    def warm_up(self) -> None:
        """Runs the network once, because the first run on a GPU is slow; on a CPU it is not."""
        self._classes(np.zeros((1, WINDOW_SAMPLES), dtype=np.float32))

    def _classes(self, samples: Floats) -> npt.NDArray[np.int64]:
        """Returns the most probable class of each frame: (windows, samples) -> (windows, frames)."""
        classes: npt.NDArray[np.int64] = self._network(samples[:, np.newaxis]).argmax(axis=-1)
        return classes


def _powerset() -> npt.NDArray[np.bool_]:
    """Returns the active speakers of each class, from none to two of three: shape (7, 3)."""
    sizes = range(_SPEAKERS_AT_ONCE + 1)
    subsets = itertools.chain.from_iterable(itertools.combinations(range(LOCAL_SPEAKERS), size) for size in sizes)
    return np.array([[speaker in subset for speaker in range(LOCAL_SPEAKERS)] for subset in subsets])


POWERSET = _powerset()
"""The active speakers of each class of the model: shape (7, 3)."""


def _identity(window: tuple[Audio, int]) -> bytes:
    audio, frame = window
    return audio.identity(frame * FRAME_SAMPLES, frame * FRAME_SAMPLES + WINDOW_SAMPLES)


def _cut(windows: Sequence[tuple[Audio, int]]) -> Floats:
    """Returns the windows, given by their audio and first frame, padded with silence: (windows, samples)."""
    cuts = np.zeros((len(windows), WINDOW_SAMPLES), dtype=np.float32)
    for cut, (audio, frame) in zip(cuts, windows, strict=True):
        samples = audio.float32(frame * FRAME_SAMPLES, frame * FRAME_SAMPLES + WINDOW_SAMPLES)
        cut[: len(samples)] = samples
    return cuts
