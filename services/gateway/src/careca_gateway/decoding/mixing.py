"""Mixes or separates several audio tracks, after each was decoded to its own file.

The packets of tracks need not be interleaved in a recording, so mixing while reading could have to buffer hours.
Instead the tracks are decoded to files first, which are then rewritten in place, block by block.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO, cast

from av.audio.frame import AudioFrame
from av.filter import Graph
from av.filter.context import FilterContext

from careca_gateway.decoding.crosstalk import Block, CrosstalkGate
from careca_gateway.decoding.outputs import SAMPLE_BYTES, SAMPLE_RATE, MixedFile, MonoOutput, Written
from careca_gateway.decoding.source import RecordingError
from careca_gateway.decoding.tracks import SINGLE_TRACK_HINT

_BLOCK_BYTES = SAMPLE_RATE * SAMPLE_BYTES  # a second


class TrackFile(MonoOutput):
    """An output for one track, with all its channels mixed. It can be read again."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0

    def write(self, channels: Sequence[Block]) -> None:
        """Appends the one channel."""
        (pcm,) = channels
        self.size += len(pcm)
        self.file.write(pcm)


def separate(tracks: Sequence[TrackFile]) -> Written:
    """Rewrites the file of each track: all get the same length, and crosstalk of the other tracks is silenced.

    Raises ``RecordingError`` if all tracks are the same.
    """
    gate = CrosstalkGate(len(tracks))
    outputs = [MixedFile(track.file) for track in tracks]
    for block in _blocks(tracks):
        _append(outputs, gate.feed(block))
    _append(outputs, gate.rest())
    written = [each for output in outputs for each in output.finish()]
    if len(set(written)) == 1:
        raise RecordingError(
            "IDENTICAL_AUDIO_TRACKS", f"all audio tracks of the recording carry the same audio; {SINGLE_TRACK_HINT}"
        )
    return written


def mix(tracks: Sequence[TrackFile], mixed: Sequence[TrackFile]) -> Written:
    """Mixes the tracks ``mixed``, which are some of ``tracks``, to the first file.

    The file gets as long as the longest of ``tracks``. The mix is the mean, as for channels, so that it never clips.
    """
    output = MixedFile(tracks[0].file)
    mixer = _Mixer(len(mixed))
    for block in _blocks(tracks):
        output.write([mixer.mixed([pcm for track, pcm in zip(tracks, block, strict=True) if track in mixed])])
    return output.finish()


def _append(outputs: Sequence[MixedFile], channels: Sequence[Block]) -> None:
    for output, pcm in zip(outputs, channels, strict=True):
        output.write([pcm])


def _blocks(tracks: Sequence[TrackFile]) -> Iterator[list[bytearray]]:
    """Yields the tracks from their beginning, block by block. Shorter tracks are padded with silence.

    All files are at their beginning then, and what is written never reaches a position that is not read yet.
    """
    for track in tracks:
        track.file.flush()
        track.file.seek(0)
    longest = max(track.size for track in tracks)
    for offset in range(0, longest, _BLOCK_BYTES):
        length = min(_BLOCK_BYTES, longest - offset)
        yield [_read(track, offset, length) for track in tracks]


def _read(track: TrackFile, offset: int, length: int) -> bytearray:
    present = min(length, max(track.size - offset, 0))
    pcm = bytearray()
    while len(pcm) < present:
        pcm += os.pread(track.file.fileno(), present - len(pcm), offset + len(pcm))
    return pcm + bytes(length - present)


class _Mixer:
    """FFmpeg's mixer for this number of tracks. It adds in floating point."""

    def __init__(self, count: int) -> None:
        self._graph = Graph()
        weights = " ".join([repr(1 / count)] * count)
        mixer = self._graph.add("amix", f"inputs={count}:normalize=0:weights={weights}")
        self._sources = [self._source(mixer, number) for number in range(count)]
        to_16_bits = self._graph.add("aformat", "sample_fmts=s16")
        self._sink = self._graph.add("abuffersink")
        mixer.link_to(to_16_bits)
        to_16_bits.link_to(self._sink)
        self._graph.configure()
        self._samples = 0

    def mixed(self, blocks: Sequence[bytearray]) -> bytes:
        """Returns the mean of ``blocks``, which have the same length."""
        for source, block in zip(self._sources, blocks, strict=True):
            frame = AudioFrame(format="s16", layout="mono", samples=len(block) // SAMPLE_BYTES)
            frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), self._samples
            memoryview(frame.planes[0]).cast("B")[: len(block)] = block
            source.push(frame)
        self._samples += len(blocks[0]) // SAMPLE_BYTES
        mixed = cast("AudioFrame", self._sink.pull())
        return bytes(memoryview(mixed.planes[0])[: mixed.samples * SAMPLE_BYTES])

    def _source(self, mixer: FilterContext, number: int) -> FilterContext:
        source = self._graph.add_abuffer(
            format="s16", sample_rate=SAMPLE_RATE, layout="mono", time_base=Fraction(1, SAMPLE_RATE)
        )
        source.link_to(mixer, 0, number)
        return source
