"""Converts the frames of one track to 16 kHz 16-bit PCM, each at its time."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import cast

import av.error
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.filter import Graph

from careca_gateway.decoding.crosstalk import Block
from careca_gateway.decoding.level import FINE_BITS, ClippingMeter, LevelMeter
from careca_gateway.decoding.outputs import SAMPLE_BYTES, SAMPLE_RATE, Output
from careca_gateway.decoding.source import RecordingError

GAP_SECONDS = 0.1
"""A longer jump of the timestamps is a hole. It is filled with silence so that later times stay correct."""

LONGEST_GAP_SECONDS = 600.0
"""A longer jump is a broken clock and not a hole. The same is true for a jump back by more than a second."""

LONGEST_OVERLAP_SECONDS = 1.0

_FINE = frozenset({"s32", "s32p", "s64", "s64p", "flt", "fltp", "dbl", "dblp"})
"""Sample formats with more precision than 16 bits."""

_EXACT = frozenset({"s32", "s32p", "flt", "dbl"})
"""Those of them without lossy encoding, which leaves only noise of sounds far below 16 bits."""

_SILENCE = bytes(1 << 20)


class PcmWriter:
    """Resamples frames, measures them, and writes them to an output.

    Args:
        output: where the channels go.
        max_samples: the maximum length of the audio, for each channel; ``None`` for no limit.
        gain_bits: by how many bits samples are amplified before they are rounded to 16 bits.
    """

    def __init__(self, output: Output, max_samples: int | None, *, gain_bits: int = 0) -> None:
        self.level = LevelMeter()
        self.clipping = ClippingMeter()
        self.fine = False
        """Whether there are frames with more precision than 16 bits."""
        self._output = output
        self._max_samples = max_samples
        self._gain_bits = gain_bits
        self._layout = AudioLayout("mono")
        self._samples = 0
        self._shape: tuple[object, ...] = ()
        self._resampler = self._new_resampler()
        self._clipping_counted = False
        self._fine_resampler: _AmplifyingResampler | None = None

    def begin(self, layout: AudioLayout) -> None:
        """Takes the ``layout`` of the first frame, before all else. Raises ``RecordingError`` if it is unusable."""
        self._layout = self._output.begin(layout)
        self._resampler = self._new_resampler()

    def write(self, frame: AudioFrame) -> None:
        """Appends ``frame``. The sample format may change between frames."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            self.flush()
            self._shape = shape
            self.fine = self.fine or frame.format.name in _FINE
            exact = frame.format.name in _EXACT and not self._gain_bits
            self._fine_resampler = _AmplifyingResampler(self._layout, FINE_BITS) if exact else None
        if self._fine_resampler and not self.level.known:
            for resampled in self._fine_resampler.resample(frame):
                self.level.measure(self._channels(resampled), FINE_BITS)
        self._clipping_counted = self.clipping.count_frame(frame)
        for resampled in self._resampler.resample(frame):
            self._append(resampled)

    def pad(self, seconds: float) -> None:
        """Appends silence up to ``seconds`` from the start."""
        self.flush()
        missing = (round(seconds * SAMPLE_RATE) - self._samples) * SAMPLE_BYTES
        while missing > 0:
            block = memoryview(_SILENCE)[:missing]
            self._append_pcm([block] * self._layout.nb_channels)
            missing -= len(block)

    def flush(self) -> None:
        """Appends what is left in the resampler."""
        for resampled in self._resampler.resample(None):
            self._append(resampled)
        self._resampler = self._new_resampler()

    def _new_resampler(self) -> AudioResampler | _AmplifyingResampler:
        layout = self._layout
        if self._gain_bits:
            return _AmplifyingResampler(layout, self._gain_bits)
        return AudioResampler(format="s16" if layout.nb_channels == 1 else "s16p", layout=layout, rate=SAMPLE_RATE)

    def _append(self, frame: AudioFrame) -> None:
        channels = self._channels(frame)
        if self._fine_resampler is None:
            self.level.measure(channels)
        if not self._clipping_counted and not self._gain_bits:
            self.clipping.count_pcm(channels)
        self._append_pcm(channels)

    def _channels(self, frame: AudioFrame) -> list[memoryview]:
        # PyAV counts the planes by their pointers, one too many if there are eight.
        planes = frame.planes[: self._layout.nb_channels]
        return [memoryview(plane)[: frame.samples * SAMPLE_BYTES] for plane in planes]

    def _append_pcm(self, channels: Sequence[Block]) -> None:
        self._samples += len(channels[0]) // SAMPLE_BYTES
        if self._max_samples is not None and self._samples > self._max_samples:
            limit = f"{self._max_samples / SAMPLE_RATE:g} seconds"
            raise RecordingError(
                "RECORDING_TOO_LONG", f"the recording is longer than the {limit} accepted; cut it into parts"
            )
        self._output.write(channels)


class _AmplifyingResampler:
    """Does the same as ``AudioResampler``, to 16 kHz and 16 bits, and amplifies in floating point before."""

    def __init__(self, layout: AudioLayout, bits: int) -> None:
        self._layout = layout
        self._factor = 1 << bits
        self._graph: Graph | None = None

    def resample(self, frame: AudioFrame | None) -> list[AudioFrame]:
        """Returns the frames that are ready after ``frame`` was added; all that are left if it is ``None``."""
        if self._graph is None:
            if frame is None:
                return []
            self._graph = self._new_graph(frame)
        self._graph.push(frame)
        ready = []
        while True:
            try:
                ready.append(cast("AudioFrame", self._graph.pull()))
            except EOFError:
                return ready
            except av.error.FFmpegError as error:
                if error.errno != errno.EAGAIN:
                    raise
                return ready

    def _new_graph(self, frame: AudioFrame) -> Graph:
        graph = Graph()
        kind = "s16" if self._layout.nb_channels == 1 else "s16p"
        graph.link_nodes(
            graph.add_abuffer(
                format=frame.format.name,
                sample_rate=frame.sample_rate,
                layout=frame.layout.name,
                time_base=frame.time_base,
            ),
            graph.add("volume", f"volume={self._factor}:precision=float"),
            graph.add("aformat", sample_rates=str(SAMPLE_RATE), sample_fmts=kind, channel_layouts=self._layout.name),
            graph.add("abuffersink"),
        ).configure()
        return graph


class Timeline:
    """Finds gaps between frames by their timestamps, in seconds. The recording starts at ``origin``."""

    def __init__(self, origin: float | None) -> None:
        self._origin = origin

    def missing(self, timestamp: float | None, position: float) -> float:
        """Returns the seconds of missing audio before a frame with ``timestamp`` at ``position`` seconds of audio.

        Values up to ``GAP_SECONDS`` are the inaccuracy of clocks.
        """
        if timestamp is None:
            return 0.0
        if self._origin is None:
            self._origin = timestamp - position
        gap = timestamp - self._origin - position
        if not -LONGEST_OVERLAP_SECONDS <= gap <= LONGEST_GAP_SECONDS:
            self._origin = timestamp - position
            return 0.0
        return gap
