"""How loud a recording is, and whether it is clipped.

Levels are told in bits of 16-bit PCM, of which there are 15 for the size of a sample; each bit is 6.02 dB. What a file
holds below is told in bits fewer than 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from av.audio.frame import AudioFrame

from careca_gateway.decoding.crosstalk import Block
from careca_gateway.decoding.outputs import SAMPLE_BYTES, SAMPLE_RATE

FULL_BITS = 15

SILENT_SWING = 4
"""Between the lowest and the highest sample of a slice that is silent: dither turns silence into samples of up to two,
encoders that lose something leave no more of it, and a constant is no sound however great it is."""

QUIET_BITS = 7
"""A recording that needs no more bits is very quiet: its loud parts are 48 dB or more below full scale. Rounded to 16
bits, speech begins to lose words and whole passages somewhere between 50 and 56 dB below."""

RAISED_BITS = 14
"""What the loud parts of a very quiet recording are raised to; the bit above is for what was not counted."""

UNHEARD_SECONDS = 0.1
"""So much of a recording, all together, may be louder without counting: clicks and plugs are; a word takes longer."""

FINE_BITS = 8
"""What is measured beyond 16 bits, where there is more."""

FAINT_BITS = -3
"""What of a sound below 16 bits must be left at least: five bits of 24."""

FAINT_RANGE_BITS = 3
"""By how much the loud parts of a sound below 16 bits must stand out from its quietest tenth. Speech does, by pauses;
noise, of which there is some in every recording, stays within two bits."""

DB_PER_BIT = 6.0206

_SLICE_BYTES = SAMPLE_RATE // 100 * SAMPLE_BYTES
_UNHEARD_BYTES = int(UNHEARD_SECONDS * SAMPLE_RATE) * SAMPLE_BYTES
_ZERO_BITS = -FINE_BITS
_LIMIT = 0x7FFF


class Level:
    """Measures decoded PCM as it comes, until it is known to be neither silent nor very quiet."""

    def __init__(self) -> None:
        self._bytes_by_bits = dict.fromkeys(range(_ZERO_BITS, FULL_BITS + 2), 0)
        self._loud_bytes = 0
        self._sounding_bytes = 0
        self._fine = False

    @property
    def known(self) -> bool:
        """Whether nothing that comes can change anything any more."""
        return self.sounding and not self.quiet

    @property
    def sounding(self) -> bool:
        """Whether there has been a sound that 16 bits can show."""
        return self._sounding_bytes > _UNHEARD_BYTES

    @property
    def silent(self) -> bool:
        """Whether all of it, now that it has ended, holds no sound."""
        return not self.sounding and not self._faint

    @property
    def quiet(self) -> bool:
        """Whether all has been very quiet so far."""
        return self._loud_bytes <= _UNHEARD_BYTES

    @property
    def bits(self) -> int:
        """How many of 16 bits all but the unheard part needs, where it is very quiet; fewer than 0 below 16 bits."""
        return self._bits_at(_UNHEARD_BYTES)

    @property
    def raise_by(self) -> int:
        """By how many bits it can be raised; 0 for what is loud enough, or silent."""
        return RAISED_BITS - self.bits if self.quiet and not self.silent else 0

    @property
    def _faint(self) -> bool:
        """Whether there is a sound below what 16 bits can show."""
        quietest = self._bits_at(sum(self._bytes_by_bits.values()) * 9 // 10)
        return self._fine and self.bits >= max(FAINT_BITS, quietest + FAINT_RANGE_BITS)

    def measure(self, channels: Sequence[Block], fine_bits: int = 0) -> None:
        """Takes the next PCM of all channels, of which the loudest counts. It has been raised by ``fine_bits``."""
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

    def _bits_at(self, unheard: int) -> int:
        """How many bits all but so many bytes of it need."""
        louder = 0
        for bits in range(FULL_BITS + 1, _ZERO_BITS, -1):
            louder += self._bytes_by_bits[bits]
            if louder > unheard:
                return bits
        return _ZERO_BITS


RUN = 3
"""So many samples in a row at the limit are clipped; a peak that only reaches it has fewer."""

CLIPPED_SHARE = 0.001
"""From this share of clipped samples on a recording is called clipped. Speech reaches it when it is about 7 dB too
loud, far before it is hard to understand; what was normalised, or limited, stays below a tenth of it. What was clipped
before it was encoded with loss, which blurs the limit, reaches it when it is about 18 to 25 dB too loud, if at all."""

CLIPPED_RUNS = 20
"""Fewer places than this are thumps and no clipped recording."""

# Full scale upwards and downwards, and one less downwards, where programs make both of the same size.
_RUNS = [re.compile(b"(?:%b){%d,}" % (re.escape(rail), RUN)) for rail in (b"\xff\x7f", b"\0\x80", b"\1\x80")]
_HIGH_BYTES = (b"\x7f" * RUN, b"\x80" * RUN)
"""What the upper bytes of clipped samples are: looked for first, as that takes next to no time."""

_SAMPLE_BYTES = {"s16": 2, "s16p": 2, "s32": 4, "s32p": 4}
"""Kinds of samples in which a limit can be seen, and their size. Of 32 bits the upper half says enough."""

_COARSE = ("u8", "u8p")
"""Kinds whose steps are so large that loud is not to be told from clipped."""


class Clipping:
    """Counts the samples of a track that are clipped: in its frames, or in the PCM where they are floating point."""

    def __init__(self) -> None:
        self._samples = 0
        self._clipped: list[int] = []
        self._runs: list[int] = []

    @property
    def share(self) -> float:
        """Which share of the samples of the worst channel is clipped; 0 where it is too little to speak of."""
        clipped, runs = max(zip(self._clipped, self._runs, strict=True), default=(0, 0))
        share = clipped / self._samples if runs >= CLIPPED_RUNS else 0.0
        return share if share >= CLIPPED_SHARE else 0.0

    def look_at_frame(self, frame: AudioFrame) -> bool:
        """Counts in a frame as it was decoded. Gives false where it is of a kind in which that is not possible."""
        kind = frame.format.name
        if kind not in _SAMPLE_BYTES:
            return kind in _COARSE
        together = 1 if frame.format.is_planar else frame.layout.nb_channels
        width = _SAMPLE_BYTES[kind]
        self._samples += frame.samples
        for number, plane in enumerate(frame.planes[: frame.layout.nb_channels // together]):
            data = bytes(plane)[: frame.samples * together * width]
            for channel in range(together):
                self._count(number + channel, data, (channel + 1) * width - SAMPLE_BYTES, together * width)
        return True

    def look_at_pcm(self, channels: Sequence[Block]) -> None:
        """Counts in PCM of all channels."""
        self._samples += len(channels[0]) // SAMPLE_BYTES
        for number, channel in enumerate(channels):
            self._count(number, bytes(channel), 0, SAMPLE_BYTES)

    def _count(self, number: int, data: bytes, start: int, step: int) -> None:
        """Counts in the channel of that number, whose samples' last 16 bits are at ``start`` and every ``step`` on."""
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
