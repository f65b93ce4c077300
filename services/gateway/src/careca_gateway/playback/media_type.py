"""The media type of a recording, and whether browsers play it: from its first bytes, never from its name.

The bytes come from strangers. What is read of them is bounded, and nothing here raises an error because of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from careca_gateway.playback.mp4 import sniff_mp4
from careca_gateway.storage.stored_bytes import Read

HEAD_BYTES = 64 * 1024
"""How much of the beginning is looked at."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type."""

    name: str
    """Such as ``audio/mpeg``."""
    browser_plays: bool = False
    """Whether the present versions of Chrome, Firefox and Safari play it."""


UNKNOWN = MediaType("application/octet-stream")

_SIGNATURES = {
    b"FORM": MediaType("audio/aiff"),
    b".snd": MediaType("audio/basic"),
    b"#!AMR-WB\n": MediaType("audio/amr-wb"),
    b"#!AMR\n": MediaType("audio/amr"),
    b"caff": MediaType("audio/x-caf"),
    b"fLaC": MediaType("audio/flac", browser_plays=True),
    b"RF64": MediaType("audio/wav"),
    b"FLV\1": MediaType("video/x-flv"),
    b"\x0b\x77": MediaType("audio/ac3"),
    b"\0\0\1\xba": MediaType("video/mpeg"),
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": MediaType("video/x-ms-asf"),
}
"""Formats that their first bytes identify."""

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""The first box of an MP4 or QuickTime file."""

_WAV_PCM, _WAV_FLOAT, _WAV_EXTENSIBLE = 1, 3, 0xFFFE
_WAV_BITS = {_WAV_PCM: (8, 16, 24, 32), _WAV_FLOAT: (32, 64)}

_MPEG_KBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""Bit rates of layer III by their index: of MPEG 1, and of MPEG 2 and 2.5."""

_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sample rates by the version of MPEG."""


def sniff(read: Read, size_bytes: int) -> MediaType:
    """Returns the media type of a recording of this size, which ``read`` reads. ``UNKNOWN`` if no format is known."""
    head = read(0, min(size_bytes, HEAD_BYTES))
    if head[4:8] in _MP4_BOXES:
        return MediaType(*sniff_mp4(read, size_bytes))
    if head.startswith(b"ID3"):
        return _sniff_after_id3(read, size_bytes, head)
    if head.startswith(b"RIFF"):
        return _sniff_riff(head)
    if head.startswith(b"OggS"):
        return _sniff_ogg(head)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _sniff_matroska(head)
    if len(head) > 188 * 2 and head[0] == head[188] == head[376] == 0x47:
        return MediaType("video/mp2t")
    known = next((found for signature, found in _SIGNATURES.items() if head.startswith(signature)), None)
    return known or _sniff_frames(head) or UNKNOWN


def _sniff_riff(head: bytes) -> MediaType:
    if head[8:12] == b"AVI ":
        return MediaType("video/x-msvideo")
    if head[8:12] != b"WAVE":
        return UNKNOWN
    at = 12
    while at + 8 <= len(head) and head[at : at + 4] != b"fmt ":
        at += 8 + _little(head[at + 4 : at + 8]) + _little(head[at + 4 : at + 8]) % 2  # chunks begin at even offsets
    tag, bits = _little(head[at + 8 : at + 10]), _little(head[at + 22 : at + 24])
    if tag == _WAV_EXTENSIBLE:
        tag = _little(head[at + 32 : at + 34])
    return MediaType("audio/wav", browser_plays=bits in _WAV_BITS.get(tag, ()))


def _sniff_ogg(head: bytes) -> MediaType:
    """Browsers no longer show Theora, and never played Speex. Not all play FLAC in Ogg."""
    first_pages = head[:4096]
    if b"\x80theora" in first_pages:
        return MediaType("video/ogg")
    return MediaType("audio/ogg", browser_plays=b"OpusHead" in first_pages or b"\x01vorbis" in first_pages)


def _sniff_matroska(head: bytes) -> MediaType:
    has_video = b"V_VP" in head or b"V_AV1" in head or b"V_MPEG" in head
    if b"webm" not in head[:64]:
        return MediaType("video/x-matroska" if has_video else "audio/x-matroska")
    return MediaType(
        "video/webm" if has_video else "audio/webm", browser_plays=b"A_OPUS" in head or b"A_VORBIS" in head
    )


def _sniff_after_id3(read: Read, size_bytes: int, head: bytes) -> MediaType:
    """What follows a tag is MP3, unless it says something else. The size of a tag has 7 bits in each byte."""
    sizes = head[6:10]
    start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(sizes, (21, 14, 7, 0), strict=False))
    rest = read(start, min(size_bytes - start, HEAD_BYTES)) if start < size_bytes else b""
    if rest.startswith(b"fLaC"):
        return _SIGNATURES[b"fLaC"]
    return _sniff_frames(rest) or MediaType("audio/mpeg", browser_plays=True)


def _sniff_frames(head: bytes) -> MediaType | None:
    """Returns the type of MP3 and AAC without a container: at least two frames, or one and the end."""
    for name, frame_bytes in (("audio/mpeg", _mp3_frame_bytes), ("audio/aac", _adts_frame_bytes)):
        length = frame_bytes(head)
        if length and (len(head) <= length or frame_bytes(head[length:])):
            return MediaType(name, browser_plays=True)
    return None


def _mp3_frame_bytes(head: bytes) -> int:
    """Returns the size of the MP3 frame at the beginning, 0 if there is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version not in _MPEG_RATES or bitrate == 15 or rate == 3:
        return 0
    kbits = _MPEG_KBITS[version != 3][bitrate]
    return (144 if version == 3 else 72) * kbits * 1000 // _MPEG_RATES[version][rate] + (head[2] >> 1 & 1)


def _adts_frame_bytes(head: bytes) -> int:
    """Returns the size of the AAC frame at the beginning, 0 if there is none."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def _little(number: bytes) -> int:
    return int.from_bytes(number, "little")
