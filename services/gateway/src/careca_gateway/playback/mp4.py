"""The media type of MP4 and QuickTime files: the codec is in the description of the first audio track."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from careca_gateway.storage.stored_bytes import Read

MAX_BOXES = 64
"""How many boxes of one box, or of the file, are looked at."""

_ENTRY_BYTES = 1024
"""How much of the description of a track is looked at."""

_PLAYED = (b"Opus", b"fLaC", b".mp3")
"""Codecs besides AAC that browsers play in MP4."""

_PLAYED_OBJECT_TYPES = (0x40, 0x66, 0x67, 0x68, 0x69, 0x6B)
"""Codecs that the entry ``mp4a`` stands for and that browsers play: AAC of MPEG 4 and 2, and MP3."""

Span = tuple[int, int]


def sniff_mp4(read: Read, size_bytes: int) -> tuple[str, bool]:
    """Returns the media type, and whether browsers play the file."""
    brand = read(0, min(size_bytes, 12))[4:12]
    movie = _find(read, (0, size_bytes), b"moov")
    tracks = [span for kind, span in _boxes(read, movie) if kind == b"trak"] if movie else []
    entries = [(_handler(read, track), _entry(read, track)) for track in tracks]
    has_video = any(handler == b"vide" for handler, _ in entries)
    sound = next((entry for handler, entry in entries if handler == b"soun"), b"")
    if brand[:4] != b"ftyp" or brand[4:] == b"qt  ":
        return "video/quicktime", False
    if brand[4:6] == b"3g":
        return ("video/3gpp" if has_video else "audio/3gpp"), False
    return ("video/mp4" if has_video or not sound else "audio/mp4"), _is_played(sound)


def _is_played(entry: bytes) -> bool:
    codec = entry[4:8]
    return codec in _PLAYED or (codec == b"mp4a" and _object_type(entry) in _PLAYED_OBJECT_TYPES)


def _object_type(entry: bytes) -> int:
    """Returns the object type in the box ``esds``, 0 if there is none.

    The box has 4 bytes, then the descriptor 3 with an id and flags, and in it the descriptor 4, which begins with it.
    """
    at = entry.find(b"esds")
    if at < 0 or entry[at + 8 : at + 9] != b"\3":
        return 0
    at = _skip_header(entry, at + 8) + 3
    if entry[at : at + 1] != b"\4":
        return 0
    at = _skip_header(entry, at)
    return int.from_bytes(entry[at : at + 1], "big")


def _skip_header(data: bytes, at: int) -> int:
    """Returns where the content of the descriptor begins. The bytes of its size have bit 7 except for the last."""
    at += 1
    while data[at : at + 1] >= b"\x80":
        at += 1
    return at + 1


def _handler(read: Read, track: Span) -> bytes:
    """Returns ``soun`` for audio and ``vide`` for video."""
    span = _find(read, track, b"mdia", b"hdlr")
    return read(span[0], min(12, span[1] - span[0]))[8:] if span else b""


def _entry(read: Read, track: Span) -> bytes:
    """Returns the beginning of the track's first description: its size, its codec, and so on."""
    span = _find(read, track, b"mdia", b"minf", b"stbl", b"stsd")
    return read(span[0], min(_ENTRY_BYTES, span[1] - span[0]))[8:] if span else b""


def _find(read: Read, span: Span, *path: bytes) -> Span | None:
    """Returns the content of the box at the end of ``path``, ``None`` if there is none."""
    found: Span | None = span
    for kind in path:
        found = next((inner for name, inner in _boxes(read, found) if name == kind), None) if found else None
    return found


def _boxes(read: Read, span: Span) -> Iterator[tuple[bytes, Span]]:
    """Yields the kind and the content of the first boxes in ``span``."""
    return islice(_all_boxes(read, span), MAX_BOXES)


def _all_boxes(read: Read, span: Span) -> Iterator[tuple[bytes, Span]]:
    at, end = span
    while at + 8 <= end:
        header = read(at, min(16, end - at))
        size, start = int.from_bytes(header[:4], "big"), at + 8
        if size == 1:  # the real size follows
            size, start = int.from_bytes(header[8:16], "big"), at + 16
        stop = at + size if size else end
        if not start <= stop <= end:
            return
        yield header[4:8], (start, stop)
        at = stop
