"""Live audio: from the caller's encoding to 16 kHz PCM, and the recording that it becomes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from careca.errors import InvalidRequest
from careca.types import SAMPLE_BYTES, SAMPLE_RATE
from careca.v1 import live_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEADER_BYTES = 46
"""Size of the header of a WAV file with the longer form of its format."""

MOST_ADDED_BYTES = _HEADER_BYTES + 1
"""How much larger a recording may be than its audio."""

_LEAST_RATE, _GREATEST_RATE = 8_000, 48_000
_TELEPHONE_RATE = 8_000

_PCM_TAG, _ALAW_TAG, _MULAW_TAG = 1, 6, 7


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding of live audio with one channel."""

    codec: str
    """FFmpeg's name."""
    tag: int
    """The format in a WAV file."""
    sample_bytes: int
    rate: int
    """Samples per second."""

    @property
    def bytes_per_second(self) -> int:
        """The size of a second of audio."""
        return self.sample_bytes * self.rate

    def wav_header(self, size: int) -> bytes:
        """Returns the header of a WAV file with ``size`` bytes of audio."""
        form = struct.pack("<HHIIHHH", self.tag, 1, self.rate, self.bytes_per_second, *self._sample, 0)
        odd = size % 2
        return b"".join(
            (
                b"RIFF" + struct.pack("<I", _HEADER_BYTES - 8 + size + odd) + b"WAVE",
                b"fmt " + struct.pack("<I", len(form)) + form,
                b"data" + struct.pack("<I", size),
            )
        )

    @property
    def _sample(self) -> tuple[int, int]:
        return self.sample_bytes, 8 * self.sample_bytes


_ENCODINGS = {
    live_pb2.LIVE_ENCODING_PCM_S16LE: ("pcm_s16le", _PCM_TAG, 2),
    live_pb2.LIVE_ENCODING_MULAW: ("pcm_mulaw", _MULAW_TAG, 1),
    live_pb2.LIVE_ENCODING_ALAW: ("pcm_alaw", _ALAW_TAG, 1),
}


def decode_encoding(config: live_pb2.LiveServiceTranscribeRequest.Config) -> Encoding | None:
    """Returns the encoding in ``config``; ``None`` for a container. Raises ``InvalidRequest`` if it is unsupported."""
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
    return Encoding(codec, tag, sample_bytes, rate)


class Converter:
    """Converts live audio to 16 kHz mono 16-bit PCM, in pieces of any size."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._rest = b""
        """The beginning of a sample that has not arrived as a whole."""
        self._decoder: Any = None
        self._resampler: Any = None
        if encoding.codec != "pcm_s16le" or encoding.rate != SAMPLE_RATE:
            # Imported late: most live audio needs no conversion, and FFmpeg takes 30 MB.
            import av
            from av.audio.codeccontext import AudioCodecContext

            decoder = av.CodecContext.create(encoding.codec, "r")
            assert isinstance(decoder, AudioCodecContext)  # noqa: S101 -- for the type checker
            decoder.sample_rate = encoding.rate
            decoder.layout = "mono"
            self._decoder = decoder
            self._resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)

    def convert(self, data: bytes) -> bytes:
        """Returns the PCM of the next bytes."""
        data = self._rest + data
        whole = len(data) - len(data) % self._encoding.sample_bytes
        data, self._rest = data[:whole], data[whole:]
        if not self._decoder or not data:
            return data
        from av import Packet

        return b"".join(self._pcm(self._decoder.decode(Packet(data))))

    def finish(self) -> bytes:
        """Returns the rest of the PCM, at the end of the audio. Half a sample is dropped."""
        return b"".join(self._pcm([None])) if self._decoder else b""

    def _pcm(self, frames: Iterable[Any]) -> Iterator[bytes]:
        for frame in frames:
            if frame is not None:
                frame.pts = None  # pieces follow one another
            yield from (piece.to_ndarray().tobytes() for piece in self._resampler.resample(frame))


class AudioBuffer:
    """The newest audio of a session, as 16 kHz PCM. Times are seconds from the start of the session."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._first = 0
        """The number of samples before ``_pcm``."""

    @property
    def start(self) -> float:
        """The audio before this time has been dropped."""
        return self._first / SAMPLE_RATE

    @property
    def end(self) -> float:
        """The end of the audio."""
        return (self._first + len(self._pcm) // SAMPLE_BYTES) / SAMPLE_RATE

    def append(self, pcm: bytes) -> None:
        """Adds audio at the end."""
        self._pcm += pcm

    def read(self, start: float, end: float) -> bytes:
        """Returns the audio from ``start`` to ``end``, as far as it is here."""
        first = max(0, round(start * SAMPLE_RATE) - self._first)
        last = max(0, round(end * SAMPLE_RATE) - self._first)
        return bytes(self._pcm[first * SAMPLE_BYTES : last * SAMPLE_BYTES])

    def drop_before(self, seconds: float) -> None:
        """Drops the audio before a time."""
        samples = min(max(0, int(seconds * SAMPLE_RATE) - self._first), len(self._pcm) // SAMPLE_BYTES)
        del self._pcm[: samples * SAMPLE_BYTES]
        self._first += samples
