"""Embedding: computes the voice of each piece of speech with CAM++."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from careca.inference.audio import Audio
from careca.inference.engine import Batch, Event, Work
from careca.types import SAMPLE_RATE
from careca_diarizer.clustering import Voices
from careca_diarizer.fbank import count_frames
from careca_diarizer.runtime import EMBEDDING_SIZE, Features, Floats, Network
from careca_diarizer.stitching import Piece
from careca_diarizer.windows import frame_sample

_LENGTH_STEP_FRAMES = 50
"""Pieces are adjusted to the nearest multiple of half a second. Pieces of the same length share a batch without
padding, which would change the embedding, and few lengths need little memory for prepared computations."""

_SHORTEST_EMBEDDING = 1e-12
"""Least divisor of an embedding, so that one of zeros stays zero."""


class Embedder:
    """The speaker embedding network on one device."""

    def __init__(self, features: Features, network: Network, *, batch_size: int) -> None:
        self._features = features
        self._network = network
        self._batch_size = batch_size

    def __call__(self, audio: Audio, pieces: Sequence[Piece], progress: Callable[[float], Event]) -> Work[Voices]:
        """Finds the voices of the pieces, in the same order. The network gets only the samples of a piece."""
        embeddings = np.zeros((len(pieces), EMBEDDING_SIZE), dtype=np.float32)
        done = 0
        for length, batch in _batches(pieces, self._batch_size):
            embeddings[batch] = yield Batch(
                key=("embedding", length),
                items=[(audio, pieces[index]) for index in batch],
                compute=partial(self._embed_pieces, length),
                most=self._batch_size,
                identity=_identity,
            )
            done += len(batch)
            yield progress(done / len(pieces))
        return Voices(
            embeddings=embeddings,
            seconds=np.array([piece.seconds for piece in pieces], dtype=np.float64),
            clean=np.array([piece.clean for piece in pieces], dtype=np.bool_),
            part=np.array([piece.part for piece in pieces], dtype=np.bool_),
        )

    def warm_up(self) -> None:
        """Runs the network once, because the first run on a GPU is slow; on a CPU it is not."""
        self._embed([np.zeros(SAMPLE_RATE, dtype=np.float32)], _LENGTH_STEP_FRAMES)

    def _embed_pieces(self, length: int, pieces: Sequence[tuple[Audio, Piece]]) -> list[Floats]:
        return list(self._embed([_samples(audio, piece) for audio, piece in pieces], length))

    def _embed(self, cuts: Sequence[Floats], length: int) -> Floats:
        """Returns unit-length embeddings of cuts of about ``length`` frames, each of shape (samples,): (cuts, 192)."""
        embeddings = self._network(self._features(cuts, length))
        embeddings /= np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), _SHORTEST_EMBEDDING)
        return embeddings


def _identity(item: tuple[Audio, Piece]) -> bytes:
    audio, piece = item
    return b"".join(audio.identity(start, end) for start, end in _sample_ranges(piece))


def _samples(audio: Audio, piece: Piece) -> Floats:
    return np.concatenate([audio.float32(start, end) for start, end in _sample_ranges(piece)])


def _sample_ranges(piece: Piece) -> Iterator[tuple[int, int]]:
    return ((frame_sample(start), frame_sample(end)) for start, end in piece.spans)


def _batches(pieces: Sequence[Piece], most: int) -> Iterator[tuple[int, list[int]]]:
    """Yields batches of at most ``most`` pieces: the length in frames and the indices of the pieces."""
    of_length: dict[int, list[int]] = defaultdict(list)
    for index, piece in enumerate(pieces):
        samples = sum(end - start for start, end in _sample_ranges(piece))
        steps = round(count_frames(samples) / _LENGTH_STEP_FRAMES)
        of_length[max(1, steps) * _LENGTH_STEP_FRAMES].append(index)
    for length, indices in sorted(of_length.items()):
        for first in range(0, len(indices), most):
            yield length, indices[first : first + most]
