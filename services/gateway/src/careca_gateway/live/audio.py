"""Live audio: from the caller's encoding to 16 kHz PCM, and the recording that it becomes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from careca.errors import InvalidRequest
from careca.types import SAMPLE_BYTES, SAMPLE_RATE
from careca.v1 import live_pb2
from careca_gateway.decoding.crosstalk import CrosstalkGate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEADER_BYTES = 46
"""Size of the header of a WAV file with the longer form of its format."""

MOST_ADDED_BYTES = _HEADER_BYTES + 1
"""How much larger a recording may be than its audio."""

_LEAST_RATE, _GREATEST_RATE = 8_000, 48_000
_TELEPHONE_RATE = 8_000

_PCM_TAG, _ALAW_TAG, _MULAW_TAG = 1, 6, 7


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding of live audio. The samples of its channels are interleaved."""

    codec: str
    """FFmpeg's name."""
    tag: int
    """The format in a WAV file."""
    sample_bytes: int
    rate: int
    """Samples per second of each channel."""
    channels: int = 1

    @property
    def frame_bytes(self) -> int:
        """The size of one sample of each channel."""
        return self.sample_bytes * self.channels

    @property
    def bytes_per_second(self) -> int:
        """The size of a second of audio."""
        return self.frame_bytes * self.rate

    def wav_header(self, size: int) -> bytes:
        """Returns the header of a WAV file with ``size`` bytes of audio."""
        bits = 8 * self.sample_bytes
        form = struct.pack(
            "<HHIIHHH", self.tag, self.channels, self.rate, self.bytes_per_second, self.frame_bytes, bits, 0
        )
        odd = size % 2
        return b"".join(
            (
                b"RIFF" + struct.pack("<I", _HEADER_BYTES - 8 + size + odd) + b"WAVE",
                b"fmt " + struct.pack("<I", len(form)) + form,
                b"data" + struct.pack("<I", size),
            )
        )


_ENCODINGS = {
    live_pb2.LIVE_ENCODING_PCM_S16LE: ("pcm_s16le", _PCM_TAG, 2),
    live_pb2.LIVE_ENCODING_MULAW: ("pcm_mulaw", _MULAW_TAG, 1),
    live_pb2.LIVE_ENCODING_ALAW: ("pcm_alaw", _ALAW_TAG, 1),
}


def decode_encoding(config: live_pb2.LiveServiceTranscribeRequest.Config) -> Encoding | None:
    """Returns the encoding in ``config``; ``None`` for a container. Raises ``InvalidRequest`` if it is unsupported.

    The channels are checked by ``codec.decode_live_channels``.
    """
    if config.encoding == live_pb2.LIVE_ENCODING_CONTAINER:
        if config.sample_rate_hertz:
            raise InvalidRequest(
                "config.sample_rate_hertz must be 0 for a container, which says it itself",
                field="config.sample_rate_hertz",
                metadata={"value": str(config.sample_rate_hertz)},
            )
        return None
    if config.encoding not in _ENCODINGS:
        raise InvalidRequest(
            "config.encoding must be LIVE_ENCODING_PCM_S16LE, LIVE_ENCODING_MULAW, LIVE_ENCODING_ALAW or "
            "LIVE_ENCODING_CONTAINER",
            field="config.encoding",
            metadata={"value": str(config.encoding)},
        )
    codec, tag, sample_bytes = _ENCODINGS[config.encoding]
    is_pcm = tag == _PCM_TAG
    rate = config.sample_rate_hertz or (SAMPLE_RATE if is_pcm else _TELEPHONE_RATE)
    allowed = range(_LEAST_RATE, _GREATEST_RATE + 1) if is_pcm else range(_TELEPHONE_RATE, _TELEPHONE_RATE + 1)
    if rate not in allowed:
        rates = "from 8000 to 48000" if is_pcm else "8000"
        raise InvalidRequest(
            f"config.sample_rate_hertz must be {rates} for this encoding, but is {rate}",
            field="config.sample_rate_hertz",
            metadata={"value": str(rate)},
        )
    return Encoding(codec, tag, sample_bytes, rate, config.channel_count or 1)


class Converter:
    """Converts live audio to 16 kHz 16-bit PCM, in pieces of any size.

    Methods return one block with all channels mixed. With ``separate``, they return a block for each channel: all have
    the same length, and crosstalk is silenced as in recordings.
    """

    def __init__(self, encoding: Encoding, *, separate: bool = False) -> None:
        self._encoding = encoding
        self._gate = CrosstalkGate(encoding.channels) if separate else None
        self._rest = b""
        """The beginning of a frame that has not arrived as a whole."""
        self._decoder: Any = None
        self._resampler: Any = None
        if (encoding.codec, encoding.rate, encoding.channels) != ("pcm_s16le", SAMPLE_RATE, 1):
            # Imported late: most live audio needs no conversion, and FFmpeg takes 30 MB.
            import av
            from av.audio.codeccontext import AudioCodecContext

            decoder = av.CodecContext.create(encoding.codec, "r")
            assert isinstance(decoder, AudioCodecContext)  # noqa: S101 -- for the type checker
            decoder.sample_rate = encoding.rate
            decoder.layout = "mono" if encoding.channels == 1 else "stereo"
            self._decoder = decoder
            self._resampler = av.AudioResampler(*(("s16p", "stereo") if separate else ("s16", "mono")), SAMPLE_RATE)

    def convert(self, data: bytes) -> Sequence[bytes | bytearray]:
        """Returns the PCM of the next bytes."""
        data = self._rest + data
        whole = len(data) - len(data) % self._encoding.frame_bytes
        data, self._rest = data[:whole], data[whole:]
        if not self._decoder:
            return [data]
        from av import Packet

        return self._pcm(self._decoder.decode(Packet(data)) if data else ())

    def finish(self) -> Sequence[bytes | bytearray]:
        """Returns the rest of the PCM, at the end of the audio. A part of a frame is dropped."""
        if not self._decoder:
            return [b""]
        blocks = self._pcm([None])
        if not self._gate:
            return blocks
        return [block + rest for block, rest in zip(blocks, self._gate.rest(), strict=True)]

    def _pcm(self, frames: Iterable[Any]) -> list[bytearray]:
        blocks = [bytearray() for _ in range(self._encoding.channels if self._gate else 1)]
        for frame in frames:
            if frame is not None:
                frame.pts = None  # pieces follow one another
            for piece in self._resampler.resample(frame):
                for block, samples in zip(blocks, piece.to_ndarray(), strict=True):
                    block.extend(samples.tobytes())
        return self._gate.feed(blocks) if self._gate else blocks


class AudioBuffer:
    """The newest audio of a session, as 16 kHz PCM. Times are seconds from the start of the session.

    Args:
        channels: the numbers of its channels.
    """

    def __init__(self, channels: Sequence[int] = (0,)) -> None:
        self._pcm = {number: bytearray() for number in channels}
        self._samples = 0
        """The number of samples of each channel in ``_pcm``."""
        self._first = 0
        """The number of samples before ``_pcm``."""

    @property
    def start(self) -> float:
        """The audio before this time has been dropped."""
        return self._first / SAMPLE_RATE

    @property
    def end(self) -> float:
        """The end of the audio."""
        return (self._first + self._samples) / SAMPLE_RATE

    def append(self, blocks: Sequence[bytes | bytearray]) -> None:
        """Adds audio at the end: a block for each channel, all of the same length."""
        for pcm, block in zip(self._pcm.values(), blocks, strict=True):
            pcm.extend(block)
        self._samples += len(blocks[0]) // SAMPLE_BYTES

    def read(self, start: float, end: float, channel: int = 0) -> bytes:
        """Returns the audio of a channel from ``start`` to ``end``, as far as it is here."""
        first = max(0, round(start * SAMPLE_RATE) - self._first)
        last = max(0, round(end * SAMPLE_RATE) - self._first)
        return bytes(self._pcm[channel][first * SAMPLE_BYTES : last * SAMPLE_BYTES])

    def drop_before(self, seconds: float) -> None:
        """Drops the audio before a time."""
        samples = min(max(0, int(seconds * SAMPLE_RATE) - self._first), self._samples)
        for pcm in self._pcm.values():
            del pcm[: samples * SAMPLE_BYTES]
        self._first += samples
        self._samples -= samples
