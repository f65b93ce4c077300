"""Embedding: computes the voice of each piece of speech with CAM++."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from careca.inference.audio import Audio
from careca.inference.engine import CancelToken
from careca.types import SAMPLE_RATE
from careca_diarizer.campplus import EMBEDDING_SIZE, MEL_BINS
from careca_diarizer.clustering import Voices
from careca_diarizer.fbank import FilterBank, count_frames
from careca_diarizer.partitions import Floats
from careca_diarizer.runtime import Network
from careca_diarizer.stitching import Piece
from careca_diarizer.windows import frame_sample

_LENGTH_STEP_FRAMES = 50
"""Pieces are adjusted to the nearest multiple of half a second. Pieces of the same length share a batch without
padding, which would change the embedding, and few lengths need little memory for prepared computations."""


class Embedder:
    """The speaker embedding network on one device."""

    def __init__(self, network: Network, device: torch.device, *, batch_size: int) -> None:
        self._network = network
        self._filter_bank = FilterBank(MEL_BINS, device)
        self._device = device
        self._batch_size = batch_size

    def __call__(
        self, audio: Audio, pieces: Sequence[Piece], cancel: CancelToken, progress: Callable[[float], None]
    ) -> Voices:
        """Returns the voices of the pieces, in the same order. The network gets only the samples of a piece."""
        embeddings = np.zeros((len(pieces), EMBEDDING_SIZE), dtype=np.float32)
        done = 0
        for length, batch in _batches(pieces, self._batch_size):
            cancel.raise_if_cancelled()
            embeddings[batch] = self._embed([self._samples(audio, pieces[index]) for index in batch], length)
            done += len(batch)
            progress(done / len(pieces))
        return Voices(
            embeddings=embeddings,
            seconds=np.array([piece.seconds for piece in pieces], dtype=np.float64),
            clean=np.array([piece.clean for piece in pieces], dtype=np.bool_),
            part=np.array([piece.part for piece in pieces], dtype=np.bool_),
        )

    def warm_up(self) -> None:
        """Runs the network once, because the first run on a device is slow."""
        self._embed([torch.zeros(SAMPLE_RATE, device=self._device)], _LENGTH_STEP_FRAMES)

    @torch.inference_mode()
    def _embed(self, cuts: Sequence[Tensor], length: int) -> Floats:
        """Returns unit-length embeddings of cuts of about ``length`` frames, each of shape (samples,): (cuts, 192)."""
        features = torch.stack([_fit(self._features(cut), length) for cut in cuts])  # (cuts, length, 80)
        embeddings: Floats = functional.normalize(self._network(features), dim=1).cpu().numpy()
        return embeddings

    def _features(self, samples: Tensor) -> Tensor:
        """Returns filter banks whose mean over the cut is zero: (samples,) -> (frames, 80)."""
        features = self._filter_bank(samples)
        return features - features.mean(dim=0)

    def _samples(self, audio: Audio, piece: Piece) -> Tensor:
        spans = [audio.float32(start, end) for start, end in _sample_ranges(piece)]
        return torch.from_numpy(np.concatenate(spans)).to(self._device)


def _sample_ranges(piece: Piece) -> Iterator[tuple[int, int]]:
    return ((frame_sample(start), frame_sample(end)) for start, end in piece.spans)


def _batches(pieces: Sequence[Piece], most: int) -> Iterator[tuple[int, list[int]]]:
    """Yields batches: the length in frames and the indices of the pieces.

    A batch has ``most`` pieces, or a half, a quarter ... of that, so that there are few sizes.
    """
    of_length: dict[int, list[int]] = defaultdict(list)
    for index, piece in enumerate(pieces):
        samples = sum(end - start for start, end in _sample_ranges(piece))
        steps = round(count_frames(samples) / _LENGTH_STEP_FRAMES)
        of_length[max(1, steps) * _LENGTH_STEP_FRAMES].append(index)
    for length in sorted(of_length):
        rest = of_length[length]
        while rest:
            size = most
            while size > len(rest):
                size //= 2
            yield length, rest[:size]
            rest = rest[size:]


def _fit(features: Tensor, length: int) -> Tensor:
    """Returns the first ``length`` frames; if there are fewer, they are repeated from the start."""
    return features[torch.arange(length, device=features.device) % len(features)]
