"""Windows of live audio: converts between the speech in a window and what a caller gets and sends. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from careca.types import VoicePiece
from careca_diarizer.clustering import Voices
from careca_diarizer.stitching import Piece
from careca_diarizer.windows import frame_seconds


def voice_pieces(pieces: Sequence[Piece], voices: Voices, duration: float) -> Iterator[VoicePiece]:
    """Yields each piece with its voice. Times are in seconds and within ``duration``; the label is the track's number.

    A piece of several spans lasts from the start of the first one to the end of the last one.
    """
    for piece, embedding in zip(pieces, voices.embeddings, strict=True):
        yield VoicePiece(
            embedding=tuple(embedding.tolist()),
            speech=piece.seconds,
            start=frame_seconds(piece.spans[0][0]),
            end=min(frame_seconds(piece.spans[-1][1]), duration),
            speaker=str(piece.track),
            alone=piece.clean,
            part=piece.part,
        )


def voices_of(pieces: Sequence[VoicePiece]) -> Voices:
    """Returns the voices of pieces, at least one, whose embeddings have the same length.

    A caller may leave out a piece and keep its parts. If only parts are left, none of them counts as one.
    """
    part = np.array([piece.part for piece in pieces], dtype=np.bool_)
    return Voices(
        embeddings=np.array([piece.embedding for piece in pieces], dtype=np.float32),
        seconds=np.array([piece.speech for piece in pieces], dtype=np.float64),
        clean=np.array([piece.alone for piece in pieces], dtype=np.bool_),
        part=part & ~part.all(),
    )
