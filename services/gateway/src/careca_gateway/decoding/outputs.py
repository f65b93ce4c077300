"""Where decoded PCM goes, and the digests of what went there.

An output takes blocks of 16 kHz 16-bit PCM, one for each of its channels, all of the same length. In the end it tells
for each file that it wrote the SHA-256 and the size in bytes of what is in it.
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
"""As careca.types has them, which is not imported: it would make the start of each process a quarter longer."""

Written = list[tuple[str, int]]
"""SHA-256 and size of each file."""

_MONO = AudioLayout("mono")
_MIX = "ask for the channels to be mixed (channel_mode CHANNEL_MODE_MIX, the default)"


class Output(Protocol):
    """Takes PCM."""

    def begin(self, layout: AudioLayout) -> AudioLayout:
        """The channels that it takes of a track whose first frame has ``layout``. Raises ``RecordingError``."""

    def write(self, channels: Sequence[Block]) -> None:
        """Appends to each channel what is its own."""


class NullOutput:
    """Takes what is only listened to, all channels mixed."""

    def begin(self, layout: AudioLayout) -> AudioLayout:
        """One channel."""
        return _MONO

    def write(self, channels: Sequence[Block]) -> None:
        """Does nothing."""


class MixedFile:
    """Writes all channels, mixed, into one file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def begin(self, layout: AudioLayout) -> AudioLayout:
        """One channel."""
        return _MONO

    def write(self, channels: Sequence[Block]) -> None:
        """Appends the one channel."""
        (pcm,) = channels
        self._hash.update(pcm)
        self._size += len(pcm)
        self._file.write(pcm)

    def finish(self) -> Written:
        """What was written."""
        self._file.flush()
        return [(self._hash.hexdigest(), self._size)]


class ChannelFiles:
    """Writes each channel into a file of its own, freed of what it has picked up of the others."""

    def __init__(self, files: Sequence[BinaryIO]) -> None:
        self._files = files
        self._outputs: list[MixedFile] = []
        self._gate = CrosstalkGate(0)

    def begin(self, layout: AudioLayout) -> AudioLayout:
        """All channels as they are."""
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
        """Appends to each file what is its channel's."""
        self._store(self._gate.feed(channels))

    def finish(self) -> Written:
        """What was written. Raises ``RecordingError`` where all channels are the same."""
        self._store(self._gate.rest())
        written = [each for output in self._outputs for each in output.finish()]
        if len(set(written)) == 1:
            raise RecordingError("IDENTICAL_CHANNELS", f"all channels of the recording carry the same audio; {_MIX}")
        return written

    def _store(self, channels: Sequence[Block]) -> None:
        for output, pcm in zip(self._outputs, channels, strict=True):
            output.write([pcm])
