"""Decoded audio as a WAV file that exists only while it is read: a header, and then the audio's own bytes.

If there are several audios, from separate channels or tracks, they are mixed while they are read.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np

from careca.errors import InvalidRequest
from careca.types import SAMPLE_BYTES, SAMPLE_RATE
from careca_gateway.storage.stored_bytes import StoredBytes

HEADER_BYTES = 44
"""Size of the header."""

MAX_WAV_BYTES = 2**32 - 1
"""The size of a file is a 32-bit number in its header, which does not count the first 8 bytes."""

_PCM = 1


class PlayableAudio:
    """A WAV file of ``audio``: at least one, all of the same length.

    Raises ``InvalidRequest`` (PLAYABLE_TOO_LARGE) if the file would be too large for the format.
    """

    def __init__(self, audio: Sequence[StoredBytes]) -> None:
        self._audio = audio
        audio_bytes = audio[0].digest.size_bytes
        self.size_bytes = HEADER_BYTES + audio_bytes
        if self.size_bytes > MAX_WAV_BYTES:
            raise InvalidRequest(
                f"the audio has {audio_bytes} bytes; a WAV file has at most {MAX_WAV_BYTES}: read the original form",
                reason="PLAYABLE_TOO_LARGE",
                field="form",
                metadata={"size_bytes": str(self.size_bytes), "max_bytes": str(MAX_WAV_BYTES)},
            )
        self._header = _wav_header(audio_bytes)

    @property
    def entity_tag(self) -> str:
        """Identifies the bytes of the file."""
        parts = [self._header, *(each.digest.sha256.encode() for each in self._audio)]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def read(self, offset: int, length: int) -> bytes:
        """Returns ``length`` bytes of the file from ``offset``. All must exist."""
        header = self._header[offset : offset + length]
        rest = length - len(header)
        return header + self._read_audio(max(offset - HEADER_BYTES, 0), rest) if rest else header

    def _read_audio(self, offset: int, length: int) -> bytes:
        if len(self._audio) == 1:
            return self._audio[0].read(offset, length)
        before = offset % SAMPLE_BYTES
        whole = before + length + (before + length) % SAMPLE_BYTES
        mixed = np.zeros(whole // SAMPLE_BYTES, np.int32)
        for each in self._audio:
            mixed += np.frombuffer(each.read(offset - before, whole), "<i2")
        return np.clip(mixed, -(2**15), 2**15 - 1).astype("<i2").tobytes()[before : before + length]


def _wav_header(audio_bytes: int) -> bytes:
    channels, bytes_per_second, bits = 1, SAMPLE_RATE * SAMPLE_BYTES, 8 * SAMPLE_BYTES
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", HEADER_BYTES - 8 + audio_bytes, b"WAVE"),
        *(b"fmt ", 16, _PCM, channels, SAMPLE_RATE, bytes_per_second, SAMPLE_BYTES, bits),
        *(b"data", audio_bytes),
    )
