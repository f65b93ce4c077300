"""Decodes a recording that is still being made: live audio in a container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from careca_gateway.decoding.crosstalk import Block
from careca_gateway.decoding.outputs import MonoOutput
from careca_gateway.decoding.pcm import PcmWriter
from careca_gateway.decoding.source import RecordingError, StreamedBytes, open_stream, packets
from careca_gateway.decoding.track_reader import TrackReader
from careca_gateway.decoding.tracks import list_tracks, readable_tracks


class _MixedStream(MonoOutput):
    """Passes on all channels, mixed."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def write(self, channels: Sequence[Block]) -> None:
        """Passes on the one channel."""
        (pcm,) = channels
        rest = memoryview(pcm)
        while rest:
            rest = rest[self._output.write(rest) :]


def decode_stream(source: StreamedBytes, output: BinaryIO, max_samples: int) -> None:
    """Decodes the preferred audio track of ``source`` to unbuffered ``output``, as its bytes arrive.

    Raises ``RecordingError``.
    """
    with open_stream(source) as container:
        track = readable_tracks(list_tracks(container))[0]
        reader = TrackReader(track, PcmWriter(_MixedStream(output), max_samples), container)
        for packet in packets(container):
            if packet.stream.index == track.stream.index:
                reader.read(packet)
        reader.check()
        reader.writer.flush()
        if reader.empty:
            raise RecordingError("EMPTY_AUDIO", "the recording's audio track is empty: it has no samples")
