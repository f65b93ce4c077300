"""Outputs for decoded PCM, with digests.

An output takes blocks of 16 kHz 16-bit PCM, one for each of its channels, all of the same length. At the end it returns
the SHA-256 and the size in bytes of each file that it wrote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import BinaryIO, Protocol

from av.audio.layout import AudioLayout

from careca_gateway.decoding.crosstalk import Block, CrosstalkGate
from careca_gateway.decoding.source import RecordingError

SAMPLE_RATE = 16_000
SAMPLE_BYTES = 2
"""The same as in careca.types, which is not imported because it would make each process start slower."""

Written = list[tuple[str, int]]
"""The SHA-256 and the size of each file."""

_MIX = "ask for the channels to be mixed (channel_mode CHANNEL_MODE_MIX, the default)"


class Output(Protocol):
    """Takes PCM."""

    def begin(self, layout: AudioLayout) -> AudioLayout:
        """Returns the channels to take from a track whose first frame has ``layout``. Raises ``RecordingError``."""

    def write(self, channels: Sequence[Block]) -> None:
        """Appends a block to each channel."""


class MonoOutput:
    """An output with one channel."""

    def begin(self, layout: AudioLayout) -> AudioLayout:
        """Returns mono."""
        return AudioLayout("mono")


class NullOutput(MonoOutput):
    """Drops the PCM, for tracks that are only measured. Mixes all channels."""

    def write(self, channels: Sequence[Block]) -> None:
        """Does nothing."""


class MixedFile(MonoOutput):
    """Writes all channels, mixed, to one file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, channels: Sequence[Block]) -> None:
        """Appends the one channel."""
        (pcm,) = channels
        self._hash.update(pcm)
        self._size += len(pcm)
        self._file.write(pcm)

    def finish(self) -> Written:
        """Returns what was written."""
        self._file.flush()
        return [(self._hash.hexdigest(), self._size)]


class ChannelFiles:
    """Writes each channel to its own file, and silences crosstalk of the other channels."""

    def __init__(self, files: Sequence[BinaryIO]) -> None:
        self._files = files
        self._outputs: list[MixedFile] = []
        self._gate = CrosstalkGate(0)

    def begin(self, layout: AudioLayout) -> AudioLayout:
        """Returns all channels."""
        count = layout.nb_channels
        if count == 1:
            raise RecordingError("SINGLE_CHANNEL", f"the recording has a single channel, nothing to separate; {_MIX}")
        if count > len(self._files):
            raise RecordingError(
                "TOO_MANY_CHANNELS",
                f"the recording has {count} channels; at most {len(self._files)} can be separated; {_MIX}",
            )
        self._outputs = [MixedFile(file) for file in self._files[:count]]
        self._gate = CrosstalkGate(count)
        return layout

    def write(self, channels: Sequence[Block]) -> None:
        """Appends a block to each file."""
        self._store(self._gate.feed(channels))

    def finish(self) -> Written:
        """Returns what was written. Raises ``RecordingError`` if all channels are the same."""
        self._store(self._gate.rest())
        written = [each for output in self._outputs for each in output.finish()]
        if len(set(written)) == 1:
            raise RecordingError("IDENTICAL_CHANNELS", f"all channels of the recording carry the same audio; {_MIX}")
        return written

    def _store(self, channels: Sequence[Block]) -> None:
        for output, pcm in zip(self._outputs, channels, strict=True):
            output.write([pcm])
