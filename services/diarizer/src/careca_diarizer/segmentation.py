"""Segmentation: finds who speaks when in windows of 10 s, with pyannote's segmentation-3.0.

Source: Plaquet and Bredin, "Powerset multi-class cross entropy loss for neural speaker diarization", Interspeech 2023.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from careca.inference.audio import Audio
from careca.inference.engine import CancelToken
from careca_diarizer.pyannote_setup import import_pyannote
from careca_diarizer.runtime import Network
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

    def __init__(self, network: Network, device: torch.device, *, step_seconds: float, batch_size: int) -> None:
        self._network = network
        self._device = device
        self._step_seconds = step_seconds
        self._batch_size = batch_size

    def __call__(self, audio: Audio, cancel: CancelToken, progress: Callable[[float], None]) -> LocalSpeakers:
        """Returns the local speakers of each window of ``audio``; none for audio without samples."""
        starts = window_starts(len(audio.samples), self._step_seconds)
        active = np.zeros((len(starts), WINDOW_FRAMES, LOCAL_SPEAKERS), dtype=np.bool_)
        for first in range(0, len(starts), self._batch_size):
            cancel.raise_if_cancelled()
            batch = slice(first, first + self._batch_size)
            active[batch] = POWERSET[self._classes(_cut(audio, starts[batch]))]
            progress(min(1.0, batch.stop / len(starts)))
        if len(starts):
            active[-1, frames_within(len(audio.samples)) - starts[-1] :] = False  # no speech after the end of the audio
        return LocalSpeakers(starts, active)

    def warm_up(self) -> None:
        """Runs the network once, because the first run on a device is slow."""
        self._classes(np.zeros((1, WINDOW_SAMPLES), dtype=np.float32))

    @torch.inference_mode()
    def _classes(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Returns the most probable class of each frame: (windows, samples) -> (windows, frames)."""
        scores = self._network(torch.from_numpy(samples).unsqueeze(1).to(self._device))  # (windows, frames, 7)
        classes: npt.NDArray[np.int64] = scores.argmax(dim=-1).cpu().numpy()
        return classes


def load_segmentation(checkpoint: Path) -> SegmentationNetwork:
    """Returns the network on the CPU, ready to infer.

    pyannote.audio unpickles the checkpoint, which can run code in it, so ``checkpoint`` must be verified.
    """
    network = SegmentationNetwork(import_pyannote().Model.from_pretrained(checkpoint))
    return network.eval().requires_grad_(requires_grad=False)


class SegmentationNetwork(nn.Module):
    """The layers of pyannote's ``PyanNet`` without the training framework, so that they can be traced.

    ``PyanNet`` computes the filters of the first layer at each call; here they are computed once.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.sincnet, self.lstm, self.linear = model.sincnet, model.lstm, model.linear
        self.classifier, self.activation = model.classifier, model.activation
        sinc = self.sincnet.conv1d[0]
        with torch.no_grad():
            filters = sinc.filterbank.filters()
        fixed = nn.Conv1d(1, len(filters), filters.shape[-1], stride=sinc.filterbank.stride, bias=False)
        fixed.weight.data = filters
        self.sincnet.conv1d[0] = fixed

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the log probability of each class: (B, 1, samples) -> (B, frames, 7)."""
        features, _ = self.lstm(self.sincnet(waveforms).transpose(1, 2))
        for layer in self.linear:
            features = functional.leaky_relu(layer(features))
        scores: Tensor = self.activation(self.classifier(features))
        return scores


def _powerset() -> npt.NDArray[np.bool_]:
    """Returns the active speakers of each class, from none to two of three: shape (7, 3)."""
    sizes = range(_SPEAKERS_AT_ONCE + 1)
    subsets = itertools.chain.from_iterable(itertools.combinations(range(LOCAL_SPEAKERS), size) for size in sizes)
    return np.array([[speaker in subset for speaker in range(LOCAL_SPEAKERS)] for subset in subsets])


POWERSET = _powerset()
"""The active speakers of each class of the model: shape (7, 3)."""


def _cut(audio: Audio, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Returns the windows that start at frames ``starts``, padded with silence: (windows, samples)."""
    windows = np.zeros((len(starts), WINDOW_SAMPLES), dtype=np.float32)
    for window, start in zip(windows, starts * FRAME_SAMPLES, strict=True):
        samples = audio.float32(int(start), int(start) + WINDOW_SAMPLES)
        window[: len(samples)] = samples
    return windows
