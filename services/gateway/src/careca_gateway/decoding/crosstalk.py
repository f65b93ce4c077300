"""Silences what a channel has picked up of another one: echo and crosstalk, by which one speaker would become two.

Models hear a voice however quiet it is. Where a channel is far below another one it holds that one's echo and not its
own speaker. Pure, and light to import: it runs in the process that decodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

RATIO = 10.0
"""A channel is silenced where another is louder by more than this, 20 dB: parties differ by less, echoes by more."""

FRAME_BYTES = 1280
"""Channels are compared in frames of this length, which is 40 ms."""

HOLD_FRAMES = 7
"""For how many frames a level counts: echoes come late, and a voice has gaps between its syllables."""

_STRIDE = 4  # every fourth sample says enough of a level, and takes a fourth of the time

Block = bytes | bytearray | memoryview


class CrosstalkGate:
    """Takes 16 kHz 16-bit PCM of several channels in blocks and gives as much back, in whole frames."""

    def __init__(self, channels: int) -> None:
        self._pending = [bytearray() for _ in range(channels)]
        self._levels: list[deque[float]] = [deque(maxlen=HOLD_FRAMES) for _ in range(channels)]

    def feed(self, channels: Sequence[Block]) -> list[bytearray]:
        """What is ready of each channel, after blocks of equal length were added."""
        for pending, block in zip(self._pending, channels, strict=True):
            pending.extend(block)
        return self._take(len(self._pending[0]) // FRAME_BYTES * FRAME_BYTES)

    def rest(self) -> list[bytearray]:
        """What is left of each channel after the last block."""
        return self._take(len(self._pending[0]))

    def _take(self, length: int) -> list[bytearray]:
        ready = [pending[:length] for pending in self._pending]
        for pending in self._pending:
            del pending[:length]
        for start in range(0, length, FRAME_BYTES):
            self._silence(ready, slice(start, min(start + FRAME_BYTES, length)))
        return ready

    def _silence(self, channels: Sequence[bytearray], frame: slice) -> None:
        """Silences the channels that hold echoes in ``frame``."""
        for channel, levels in zip(channels, self._levels, strict=True):
            levels.append(_level(channel[frame]))
        recent = [max(levels) for levels in self._levels]
        loudest = max(recent)
        for channel, level in zip(channels, recent, strict=True):
            if level * RATIO < loudest:
                channel[frame] = bytes(frame.stop - frame.start)


def _level(frame: bytearray) -> float:
    """The mean amplitude of 16-bit samples."""
    samples = memoryview(frame).cast("h")[::_STRIDE]
    return sum(map(abs, samples)) / len(samples)
