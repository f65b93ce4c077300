"""Silences what a channel has picked up from another one: echo and crosstalk, which would look like a second speaker.

Models hear a voice even if it is very quiet. If a channel is much quieter than another one, it contains that channel's
echo and not its own speaker. Pure functions without heavy imports: they run in the decoder's process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

RATIO = 10.0
"""A channel is silenced if another one is louder by this factor, 20 dB. Speakers differ by less, echoes by more."""

FRAME_BYTES = 1280
"""The length of the frames in which channels are compared: 40 ms."""

HOLD_FRAMES = 7
"""For how many frames a level counts, because echoes come late and a voice has gaps between syllables."""

_STRIDE = 4  # every fourth sample is enough to measure the level, and takes a fourth of the time

Block = bytes | bytearray | memoryview


class CrosstalkGate:
    """Takes 16 kHz 16-bit PCM of several channels in blocks, and returns as much, in whole frames."""

    def __init__(self, channels: int) -> None:
        self._pending = [bytearray() for _ in range(channels)]
        self._levels: list[deque[float]] = [deque(maxlen=HOLD_FRAMES) for _ in range(channels)]

    def feed(self, channels: Sequence[Block]) -> list[bytearray]:
        """Adds blocks of equal length, and returns what is ready of each channel."""
        for pending, block in zip(self._pending, channels, strict=True):
            pending.extend(block)
        return self._take(len(self._pending[0]) // FRAME_BYTES * FRAME_BYTES)

    def rest(self) -> list[bytearray]:
        """Returns the rest of each channel after the last block."""
        return self._take(len(self._pending[0]))

    def _take(self, length: int) -> list[bytearray]:
        ready = [pending[:length] for pending in self._pending]
        for pending in self._pending:
            del pending[:length]
        for start in range(0, length, FRAME_BYTES):
            self._silence(ready, slice(start, min(start + FRAME_BYTES, length)))
        return ready

    def _silence(self, channels: Sequence[bytearray], frame: slice) -> None:
        """Silences the channels that contain echoes in ``frame``."""
        for channel, levels in zip(channels, self._levels, strict=True):
            levels.append(_level(channel[frame]))
        recent = [max(levels) for levels in self._levels]
        loudest = max(recent)
        for channel, level in zip(channels, recent, strict=True):
            if level * RATIO < loudest:
                channel[frame] = bytes(frame.stop - frame.start)


def _level(frame: bytearray) -> float:
    """Returns the mean amplitude of 16-bit samples."""
    samples = memoryview(frame).cast("h")[::_STRIDE]
    return sum(map(abs, samples)) / len(samples)
