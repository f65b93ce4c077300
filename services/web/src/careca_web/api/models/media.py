"""The JSON of waveforms."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from careca import types


class Peaks(BaseModel):
    """The peaks of one audio: for each bucket a number from -128 to 127."""

    minima: list[int]
    maxima: list[int]

    @classmethod
    def from_value(cls, peaks: types.Peaks) -> Self:
        """Returns the peaks as JSON."""
        minima, maxima = (memoryview(each).cast("b").tolist() for each in (peaks.minima, peaks.maxima))
        return cls(minima=minima, maxima=maxima)


class Waveform(BaseModel):
    """How loud the audio is over time, in buckets of the same duration."""

    duration: float = Field(description="Duration of the whole audio.")
    start: float = Field(description="Start of the first bucket.")
    bucket_seconds: float = Field(description="Duration of one bucket. The last one may be shorter.")
    channels: list[Peaks] = Field(description="Several if channels or tracks were decoded separately.")

    @classmethod
    def from_value(cls, waveform: types.Waveform) -> Self:
        """Returns the waveform as JSON."""
        return cls(
            duration=waveform.audio_seconds,
            start=waveform.start,
            bucket_seconds=waveform.bucket_seconds,
            channels=[Peaks.from_value(peaks) for peaks in waveform.channels],
        )
