"""Measures how loud a recording is, and whether it is clipped.

Levels are in bits of 16-bit PCM, which has 15 bits for the size of a sample. One bit is 6.02 dB. Sounds that are too
quiet for 16 bits have negative levels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from av.audio.frame import AudioFrame

from careca_gateway.decoding.crosstalk import Block
from careca_gateway.decoding.outputs import SAMPLE_BYTES, SAMPLE_RATE

FULL_BITS = 15

SILENT_SWING = 4
"""The maximum difference between the highest and lowest sample of a silent slice. Dither turns silence into samples of
up to two, lossy encoders leave no more of it, and a constant offset is no sound."""

QUIET_BITS = 7
"""A recording that needs no more bits is very quiet: its loud parts are 48 dB or more below full scale. Rounded to 16
bits, speech begins to lose words and whole passages somewhere between 50 and 56 dB below."""

TARGET_BITS = 14
"""The level to which the loud parts of a very quiet recording are amplified. The bit above is for ignored peaks."""

IGNORED_SECONDS = 0.1
"""This much of a recording, in total, may be louder without counting. Clicks are this short; words are longer."""

FINE_BITS = 8
"""The number of bits below 16-bit PCM that are measured if the format has them."""

FAINT_BITS = -3
"""The minimum level of a sound below 16 bits: five bits of 24."""

FAINT_RANGE_BITS = 3
"""How far the loud parts of a sound below 16 bits must be above its quietest tenth. Speech has pauses, so it is; noise,
which is in every recording, stays within two bits."""

DB_PER_BIT = 6.0206

_SLICE_BYTES = SAMPLE_RATE // 100 * SAMPLE_BYTES
_IGNORED_BYTES = int(IGNORED_SECONDS * SAMPLE_RATE) * SAMPLE_BYTES
_ZERO_BITS = -FINE_BITS
_LIMIT = 0x7FFF


class LevelMeter:
    """Measures decoded PCM until it is known to be neither silent nor very quiet."""

    def __init__(self) -> None:
        self._bytes_by_bits = dict.fromkeys(range(_ZERO_BITS, FULL_BITS + 2), 0)
        self._loud_bytes = 0
        self._sounding_bytes = 0
        self._fine = False

    @property
    def known(self) -> bool:
        """Whether further PCM cannot change the answer."""
        return self.has_sound and not self.quiet

    @property
    def has_sound(self) -> bool:
        """Whether there has been a sound that 16 bits can represent."""
        return self._sounding_bytes > _IGNORED_BYTES

    @property
    def silent(self) -> bool:
        """Whether the complete recording contains no sound."""
        return not self.has_sound and not self._faint

    @property
    def quiet(self) -> bool:
        """Whether everything has been very quiet so far."""
        return self._loud_bytes <= _IGNORED_BYTES

    @property
    def bits(self) -> int:
        """How many of 16 bits a very quiet recording needs, without the ignored part; negative below 16 bits."""
        return self._bits_without(_IGNORED_BYTES)

    @property
    def gain_bits(self) -> int:
        """By how many bits the recording can be amplified; 0 if it is loud enough or silent."""
        return TARGET_BITS - self.bits if self.quiet and not self.silent else 0

    @property
    def _faint(self) -> bool:
        """Whether there is a sound below what 16 bits can represent."""
        quietest = self._bits_without(sum(self._bytes_by_bits.values()) * 9 // 10)
        return self._fine and self.bits >= max(FAINT_BITS, quietest + FAINT_RANGE_BITS)

    def measure(self, channels: Sequence[Block], fine_bits: int = 0) -> None:
        """Takes the next PCM of all channels, already amplified by ``fine_bits``. The loudest channel counts."""
        if self.known:
            return
        self._fine = fine_bits > 0
        if not any(bytes(channel).strip(b"\0") for channel in channels):
            self._bytes_by_bits[_ZERO_BITS] += len(channels[0])
            return
        for start in range(0, len(channels[0]), _SLICE_BYTES):
            self._measure(
                [memoryview(channel)[start : start + _SLICE_BYTES].cast("h") for channel in channels], fine_bits
            )

    def _measure(self, channels: Sequence[memoryview], fine_bits: int) -> None:
        size = channels[0].nbytes
        highest, lowest = [max(samples) for samples in channels], [min(samples) for samples in channels]
        peak = max(*highest, -min(lowest))
        bits = FULL_BITS if peak >= _LIMIT else peak.bit_length() - fine_bits
        self._bytes_by_bits[bits] += size
        if bits > QUIET_BITS:
            self._loud_bytes += size
        if max(high - low for high, low in zip(highest, lowest, strict=True)) > SILENT_SWING << fine_bits:
            self._sounding_bytes += size

    def _bits_without(self, ignored_bytes: int) -> int:
        """Returns how many bits are needed if this number of the loudest bytes is ignored."""
        louder = 0
        for bits in range(FULL_BITS + 1, _ZERO_BITS, -1):
            louder += self._bytes_by_bits[bits]
            if louder > ignored_bytes:
                return bits
        return _ZERO_BITS


RUN = 3
"""This many consecutive samples at the limit are clipped. A peak that only reaches the limit has fewer."""

CLIPPED_SHARE = 0.001
"""The share of clipped samples from which on a recording counts as clipped. Speech reaches it when it is about 7 dB too
loud, long before it is hard to understand. Normalized or limited audio stays below a tenth of it. Audio that was
clipped before lossy encoding, which blurs the limit, reaches it when it is about 18 to 25 dB too loud, if at all."""

CLIPPED_RUNS = 20
"""With fewer clipped places than this, the recording has thumps and is not clipped."""

# Full scale in both directions, and one less downwards, because some programs use a symmetric range.
_RUNS = [re.compile(b"(?:%b){%d,}" % (re.escape(rail), RUN)) for rail in (b"\xff\x7f", b"\0\x80", b"\1\x80")]
_HIGH_BYTES = (b"\x7f" * RUN, b"\x80" * RUN)
"""The upper bytes of clipped samples. They are searched first, which takes almost no time."""

_SAMPLE_BYTES = {"s16": 2, "s16p": 2, "s32": 4, "s32p": 4}
"""The sample formats in which a limit can be seen, and their size. Of 32 bits, the upper half is enough."""

_COARSE = ("u8", "u8p")
"""Sample formats with such large steps that loud audio looks the same as clipped audio."""


class ClippingMeter:
    """Counts the clipped samples of a track: in its frames, or in the PCM if the frames are floating point."""

    def __init__(self) -> None:
        self._samples = 0
        self._clipped: list[int] = []
        self._runs: list[int] = []

    @property
    def share(self) -> float:
        """The share of clipped samples in the worst channel; 0 if it is too small to count."""
        clipped, runs = max(zip(self._clipped, self._runs, strict=True), default=(0, 0))
        share = clipped / self._samples if runs >= CLIPPED_RUNS else 0.0
        return share if share >= CLIPPED_SHARE else 0.0

    def count_frame(self, frame: AudioFrame) -> bool:
        """Counts in a decoded frame. Returns false if that is impossible with its sample format."""
        kind = frame.format.name
        if kind not in _SAMPLE_BYTES:
            return kind in _COARSE
        interleaved = 1 if frame.format.is_planar else frame.layout.nb_channels
        width = _SAMPLE_BYTES[kind]
        self._samples += frame.samples
        for number, plane in enumerate(frame.planes[: frame.layout.nb_channels // interleaved]):
            data = bytes(plane)[: frame.samples * interleaved * width]
            for channel in range(interleaved):
                self._count(number + channel, data, (channel + 1) * width - SAMPLE_BYTES, interleaved * width)
        return True

    def count_pcm(self, channels: Sequence[Block]) -> None:
        """Counts in PCM of all channels."""
        self._samples += len(channels[0]) // SAMPLE_BYTES
        for number, channel in enumerate(channels):
            self._count(number, bytes(channel), 0, SAMPLE_BYTES)

    def _count(self, number: int, data: bytes, start: int, step: int) -> None:
        """Counts in one channel. The last 16 bits of its samples are at ``start`` and then every ``step`` bytes."""
        while len(self._clipped) <= number:
            self._clipped.append(0)
            self._runs.append(0)
        high = data[start + 1 :: step]
        if not any(run in high for run in _HIGH_BYTES):
            return
        samples = bytearray(len(high) * SAMPLE_BYTES)
        samples[0::SAMPLE_BYTES], samples[1::SAMPLE_BYTES] = data[start::step], high
        for runs in _RUNS:
            for run in runs.finditer(samples):
                if run.start() % SAMPLE_BYTES == 0:
                    self._runs[number] += 1
                    self._clipped[number] += (run.end() - run.start()) // SAMPLE_BYTES
