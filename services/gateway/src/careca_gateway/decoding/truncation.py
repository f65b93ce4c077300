"""Whether a recording ends before its container says.

Only what a container says for certain counts. Durations that FFmpeg estimates by the bit rate are none of it, nor are
the lengths that programs write who do not know them, because they cannot go back to the beginning of a pipe.
"""

from __future__ import annotations

import io
import math
import os

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

TOLERANCE_SECONDS = 1.0
"""Less is not worth telling. Whole files end up to a third of it early, by the delays of encoders and their frames."""

_PLACEHOLDER_BYTES = 0x7F00_0000
"""From here on the length of a RIFF or AIFF file is what programs write that do not know it."""

_TRACK_SAYS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "flac", "au", "wv", "tta", "mp3"})
"""Formats with a length for each track."""

_CONTAINER_SAYS = frozenset({"matroska,webm", "flv"})
"""Formats with one length for everything, which may be that of the pictures."""

_OGG_PAGE_BYTES = 27 + 255 + 255 * 255
_MP3_FRAME_BYTES = 4096


class TruncationDetector:
    """Watches one recording to its end.

    Args:
        source: the recording; left where it was.
    """

    def __init__(self, source: io.RawIOBase) -> None:
        here = source.tell()
        self._source = source
        self._size = source.seek(0, os.SEEK_END)
        self._declared = _riff_bytes(self._read(0, 12)) or self._mp3_bytes()
        self._breaks_off = self._ends_in_an_ogg_page()
        self._last: dict[int, int] = {}
        self._next_byte = 0
        source.seek(here)

    def see(self, packet: Packet[Stream]) -> int:
        """Takes the next packet of any track; how many bytes of the file were passed over before it."""
        if packet.pts is not None:
            index, end = packet.stream.index, packet.pts + (packet.duration or 0)
            if end > self._last.get(index, 0):
                self._last[index] = end
        passed_over = 0
        if packet.pos is not None and packet.size:
            passed_over, self._next_byte = packet.pos - self._next_byte, packet.pos + packet.size
        return passed_over

    def missing(self, container: InputContainer, track: AudioStream, position: float) -> float:
        """Seconds that are missing after the ``position`` where the track ended; infinity if it is not known how many.

        ``position`` is in seconds after the beginning of the container.
        """
        if self._breaks_off:
            return math.inf
        missing = self._announced(container, track, position) - position
        return missing if missing > TOLERANCE_SECONDS else 0.0

    def _announced(self, container: InputContainer, track: AudioStream, position: float) -> float:
        """Where the track should end; ``position`` where nothing says so."""
        name = container.format.name
        origin = (container.start_time or 0) / av.time_base
        if name in ("wav", "aiff", "avi"):
            return position * max(self._declared / self._size, 1.0)
        if name == "mp3" and self._declared <= self._size:
            return position
        if name in _TRACK_SAYS and track.duration and track.time_base:
            return float((track.duration + (track.start_time or 0)) * track.time_base) - origin
        if name in _CONTAINER_SAYS and container.duration:
            # Not every packet says how long it is, so that the track itself may end later than they say.
            ends = [end * float(container.streams[index].time_base or 0) for index, end in self._last.items()]
            return position + container.duration / av.time_base - max([origin + position, *ends])
        return position

    def _read(self, offset: int, size: int) -> bytes:
        self._source.seek(offset)
        return self._source.read(size) or b""

    def _mp3_bytes(self) -> int:
        """Where an MP3 file should end, by the frame that encoders put before the first one; 0 without one."""
        head = self._read(0, 10)
        start = 0
        if head[:3] == b"ID3" and len(head) == 10:
            start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        frame = self._read(start, _MP3_FRAME_BYTES)
        for mark in (b"Xing", b"Info"):
            at = frame.find(mark)
            flags = frame[at + 7] if at >= 0 and len(frame) > at + 16 else 0
            if flags & 2:
                field = at + (12 if flags & 1 else 8)
                return start + int.from_bytes(frame[field : field + 4], "big")
        at = frame.find(b"VBRI")
        return start + int.from_bytes(frame[at + 10 : at + 14], "big") if at >= 0 else 0

    def _ends_in_an_ogg_page(self) -> bool:
        """Whether this is an Ogg file whose last page is not whole. Ogg says nowhere how long it is."""
        if self._read(0, 4) != b"OggS":
            return False
        rest = self._read(max(self._size - _OGG_PAGE_BYTES, 0), _OGG_PAGE_BYTES)
        at = rest.rfind(b"OggS\0")
        page = rest[at:] if at >= 0 else b""
        segments = page[27 : 27 + page[26]] if len(page) > 27 else b""
        return at >= 0 and (not segments or len(page) < 27 + page[26] + sum(segments))


def _riff_bytes(head: bytes) -> int:
    """The size that a RIFF or AIFF file says it has, 0 where it says none."""
    kind, size = head[:4], head[4:8]
    if kind not in (b"RIFF", b"FORM"):
        return 0
    declared = int.from_bytes(size, "little" if kind == b"RIFF" else "big") + 8
    return declared if declared < _PLACEHOLDER_BYTES else 0
