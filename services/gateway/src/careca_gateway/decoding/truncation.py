"""Finds recordings that end before their container says.

Only reliable information counts. Durations that FFmpeg estimates from the bit rate do not, nor do the placeholder
lengths that programs write when they cannot go back to the beginning of a pipe.
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
"""Less is not reported. Complete files end up to a third of this early, by encoder delays and frame lengths."""

_PLACEHOLDER_BYTES = 0x7F00_0000
"""Lengths of RIFF and AIFF files from here on are placeholders of programs that do not know the length."""

_FORMATS_WITH_TRACK_LENGTH = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "flac", "au", "wv", "tta", "mp3"})
"""Formats with a length for each track."""

_FORMATS_WITH_LENGTH = frozenset({"matroska,webm", "flv"})
"""Formats with one length for all tracks, which may be the length of the video."""

_OGG_PAGE_BYTES = 27 + 255 + 255 * 255
_MP3_FRAME_BYTES = 4096


class TruncationDetector:
    """Watches one recording to its end.

    Args:
        source: the recording. Its position is kept.
    """

    def __init__(self, source: io.RawIOBase) -> None:
        position = source.tell()
        self._source = source
        self._size = source.seek(0, os.SEEK_END)
        self._declared = _riff_bytes(self._read(0, 12)) or self._mp3_bytes()
        self._is_cut_off = self._ends_in_ogg_page()
        self._last: dict[int, int] = {}
        self._next_byte = 0
        source.seek(position)

    def observe(self, packet: Packet[Stream]) -> int:
        """Takes the next packet of any track. Returns the number of bytes that were skipped before it."""
        if packet.pts is not None:
            index, end = packet.stream.index, packet.pts + (packet.duration or 0)
            if end > self._last.get(index, 0):
                self._last[index] = end
        skipped = 0
        if packet.pos is not None and packet.size:
            skipped, self._next_byte = packet.pos - self._next_byte, packet.pos + packet.size
        return skipped

    def missing(self, container: InputContainer, track: AudioStream, position: float) -> float:
        """Returns the seconds that are missing after ``position``, where the track ended; infinity if unknown.

        ``position`` is in seconds from the beginning of the container.
        """
        if self._is_cut_off:
            return math.inf
        missing = self._announced(container, track, position) - position
        return missing if missing > TOLERANCE_SECONDS else 0.0

    def _announced(self, container: InputContainer, track: AudioStream, position: float) -> float:
        """Returns where the track should end; ``position`` if nothing says so."""
        name = container.format.name
        origin = (container.start_time or 0) / av.time_base
        if name in ("wav", "aiff", "avi"):
            return position * max(self._declared / self._size, 1.0)
        if name == "mp3" and self._declared <= self._size:
            return position
        if name in _FORMATS_WITH_TRACK_LENGTH and track.duration and track.time_base:
            return float((track.duration + (track.start_time or 0)) * track.time_base) - origin
        if name in _FORMATS_WITH_LENGTH and container.duration:
            # Packets may have no duration, so the track may end later than its packets say.
            ends = [end * float(container.streams[index].time_base or 0) for index, end in self._last.items()]
            return position + container.duration / av.time_base - max([origin + position, *ends])
        return position

    def _read(self, offset: int, size: int) -> bytes:
        self._source.seek(offset)
        return self._source.read(size) or b""

    def _mp3_bytes(self) -> int:
        """Returns where an MP3 file should end, by the Xing, Info or VBRI frame of its encoder; 0 without one."""
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

    def _ends_in_ogg_page(self) -> bool:
        """Returns whether this is an Ogg file whose last page is incomplete. Ogg does not store its length."""
        if self._read(0, 4) != b"OggS":
            return False
        rest = self._read(max(self._size - _OGG_PAGE_BYTES, 0), _OGG_PAGE_BYTES)
        at = rest.rfind(b"OggS\0")
        page = rest[at:] if at >= 0 else b""
        segments = page[27 : 27 + page[26]] if len(page) > 27 else b""
        return at >= 0 and (not segments or len(page) < 27 + page[26] + sum(segments))


def _riff_bytes(head: bytes) -> int:
    """Returns the size in the header of a RIFF or AIFF file, 0 if there is none."""
    kind, size = head[:4], head[4:8]
    if kind not in (b"RIFF", b"FORM"):
        return 0
    declared = int.from_bytes(size, "little" if kind == b"RIFF" else "big") + 8
    return declared if declared < _PLACEHOLDER_BYTES else 0
