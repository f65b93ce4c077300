"""Which part of a recording is wanted: of its bytes, or of its sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from careca.errors import InvalidRequest
from careca.types import SAMPLE_RATE
from careca_gateway.playback.waveform import BUCKET_SAMPLES

CHUNK_BYTES = 1 << 20
"""How much is read and sent at a time."""

DEFAULT_BUCKETS = 4_000
"""The maximum number of buckets that are drawn if the request has none."""

MAX_BUCKETS = 20_000
"""The maximum number of buckets that are ever drawn."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a recording, in bytes. Raises ``InvalidRequest`` if a number is negative."""

    offset: int = 0
    length: int = 0
    """0: up to the end."""

    def __post_init__(self) -> None:
        for field, number in (("offset", self.offset), ("length", self.length)):
            if number < 0:
                raise InvalidRequest(f"{field} must not be negative, but is {number}", field=field)

    def chunks(self, size_bytes: int) -> Sequence[tuple[int, int]]:
        """Returns the offset and the length of each chunk of the range, in a recording of this size.

        Raises ``InvalidRequest`` (RANGE_NOT_SATISFIABLE) if the range begins at its end or later.
        """
        if self.offset >= size_bytes:
            raise InvalidRequest(
                f"offset is {self.offset}, but must be less than the size, which is {size_bytes}",
                reason="RANGE_NOT_SATISFIABLE",
                field="offset",
                metadata={"size_bytes": str(size_bytes)},
            )
        end = min(self.offset + self.length, size_bytes) if self.length else size_bytes
        return [(at, min(CHUNK_BYTES, end - at)) for at in range(self.offset, end, CHUNK_BYTES)]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the audio to draw, in seconds. Raises ``InvalidRequest`` if a number is negative or it has no end."""

    start: float = 0.0
    end: float | None = None
    """``None``: the end of the audio."""
    max_buckets: int = 0
    """0: ``DEFAULT_BUCKETS``."""

    def __post_init__(self) -> None:
        if self.start < 0:
            raise InvalidRequest(f"start_offset must not be negative, but is {self.start:g} s", field="start_offset")
        if self.end is not None and self.end <= self.start:
            raise InvalidRequest(
                f"end_offset must be later than start_offset, but is {self.end:g} s", field="end_offset"
            )
        if self.max_buckets < 0:
            raise InvalidRequest(f"max_buckets must not be negative, but is {self.max_buckets}", field="max_buckets")

    def buckets(self, audio_samples: int) -> range:
        """Returns the waveform's buckets to draw, of audio of this length.

        Raises ``InvalidRequest`` (RANGE_NOT_SATISFIABLE) if the window begins at the end of the audio or later.
        """
        start = round(self.start * SAMPLE_RATE)
        end = audio_samples if self.end is None else min(round(self.end * SAMPLE_RATE), audio_samples)
        if start >= audio_samples:
            seconds = audio_samples / SAMPLE_RATE
            raise InvalidRequest(
                f"start_offset is {self.start:g} s, but must be within the audio, which has {seconds:g} s",
                reason="RANGE_NOT_SATISFIABLE",
                field="start_offset",
                metadata={"audio_seconds": f"{seconds:g}"},
            )
        first = start // BUCKET_SAMPLES
        return range(first, max(-(-end // BUCKET_SAMPLES), first + 1))

    def width(self, buckets: range) -> int:
        """Returns how many of these buckets are drawn as one, so that there are not too many."""
        return -(-len(buckets) // min(self.max_buckets or DEFAULT_BUCKETS, MAX_BUCKETS))
