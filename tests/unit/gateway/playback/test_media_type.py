"""Which type a recording has, and whether browsers play it. The recordings are made by FFmpeg."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca_gateway.playback.media_type import HEAD_BYTES, UNKNOWN, MediaType, sniff
from careca_gateway.playback.mp4 import MAX_BOXES
from support.media import recording, silent_film, tone, wav


def sniffed(data: bytes) -> MediaType:
    return sniff(lambda offset, length: data[offset : offset + length], len(data))


PLAYED = {
    "mp3": (("mp3", "libmp3lame"), "audio/mpeg"),
    "aac": (("adts", "aac"), "audio/aac"),
    "m4a": (("ipod", "aac"), "audio/mp4"),
    "aac in mp4": (("mp4", "aac"), "audio/mp4"),
    "opus in mp4": (("mp4", "libopus", 48_000), "audio/mp4"),
    "mp3 in mp4": (("mp4", "libmp3lame"), "audio/mp4"),
    "flac": (("flac", "flac"), "audio/flac"),
    "opus": (("ogg", "libopus", 48_000), "audio/ogg"),
    "webm": (("webm", "libopus", 48_000), "audio/webm"),
    "pcm, 8 bits": (("wav", "pcm_u8"), "audio/wav"),
    "pcm, 16 bits": (("wav", "pcm_s16le"), "audio/wav"),
    "pcm, 24 bits": (("wav", "pcm_s24le"), "audio/wav"),
    "floats": (("wav", "pcm_f32le"), "audio/wav"),
}

NOT_PLAYED = {
    "a-law": (("wav", "pcm_alaw", 8_000), "audio/wav"),
    "mu-law": (("wav", "pcm_mulaw", 8_000), "audio/wav"),
    "adpcm": (("wav", "adpcm_ima_wav"), "audio/wav"),
    "alac": (("ipod", "alac"), "audio/mp4"),
    "quicktime": (("mov", "aac"), "video/quicktime"),
    "3gp": (("3gp", "aac"), "audio/3gpp"),
    "matroska": (("matroska", "aac"), "audio/x-matroska"),
    "flac in ogg": (("ogg", "flac"), "audio/ogg"),
    "aiff": (("aiff", "pcm_s16be"), "audio/aiff"),
    "au": (("au", "pcm_s16be"), "audio/basic"),
    "caf": (("caf", "pcm_s16be"), "audio/x-caf"),
    "transport stream": (("mpegts", "aac"), "video/mp2t"),
    "ac-3": (("ac3", "ac3", 48_000), "audio/ac3"),
    "avi": (("avi", "pcm_s16le"), "video/x-msvideo"),
    "flash": (("flv", "aac", 44_100), "video/x-flv"),
}


def made(container: str, codec: str, rate: int = 16_000) -> bytes:
    return recording(container, codec, 1.0, rate=rate)


@pytest.mark.parametrize(("how", "name"), PLAYED.values(), ids=PLAYED)
def test_what_browsers_play_is_known(how: tuple[str, str], name: str) -> None:
    assert sniffed(made(*how)) == MediaType(name, browser_plays=True)


@pytest.mark.parametrize(("how", "name"), NOT_PLAYED.values(), ids=NOT_PLAYED)
def test_what_not_all_browsers_play_is_known(how: tuple[str, str], name: str) -> None:
    assert sniffed(made(*how)) == MediaType(name, browser_plays=False)


OGG_PAGE = b"OggS\0\2" + bytes(20) + b"\1\x1e"
"""The header of a page with one segment."""

FIRST_BYTES = {
    "vorbis": (OGG_PAGE + b"\x01vorbis" + bytes(23), MediaType("audio/ogg", browser_plays=True)),
    "speex": (OGG_PAGE + b"Speex   1.2" + bytes(69), MediaType("audio/ogg")),
    "theora": (OGG_PAGE + b"\x80theora" + bytes(35) + OGG_PAGE + b"\x01vorbis", MediaType("video/ogg")),
    "wma": (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), MediaType("video/x-ms-asf")),
    "amr": (b"#!AMR\n\x3c", MediaType("audio/amr")),
    "wide-band amr": (b"#!AMR-WB\n\x3c", MediaType("audio/amr-wb")),
    "rf64": (b"RF64" + wav(tone(0.1))[4:], MediaType("audio/wav")),
    "mpeg": (b"\0\0\1\xba\x44", MediaType("video/mpeg")),
}
"""Formats that the tests' FFmpeg does not write."""


@pytest.mark.parametrize(("data", "expected"), FIRST_BYTES.values(), ids=FIRST_BYTES)
def test_first_bytes_are_known(data: bytes, expected: MediaType) -> None:
    assert sniffed(data) == expected


def test_a_video_with_sound_is_a_video_that_browsers_play() -> None:
    assert sniffed(recording("mp4", "aac", 1.0, video=True)) == MediaType("video/mp4", browser_plays=True)


def test_a_video_without_sound_is_not_played() -> None:
    assert sniffed(silent_film()) == MediaType("video/mp4", browser_plays=False)


def test_the_description_of_an_mp4_is_found_at_its_end() -> None:
    data = made("mp4", "aac")

    assert data.index(b"mdat") < data.index(b"moov")
    large = data[: data.index(b"mdat") - 4] + struct.pack(">I4s", 8 + 2 * HEAD_BYTES, b"free") + bytes(2 * HEAD_BYTES)
    assert sniffed(large + data[data.index(b"mdat") - 4 :]).browser_plays


def test_mp3_after_a_tag_longer_than_the_head_is_known() -> None:
    frames = made("mp3", "libmp3lame")
    frames = frames[frames.index(b"\xff\xf3") :]
    tag = b"ID3\4\0\0" + bytes(((HEAD_BYTES + 5) >> shift) & 0x7F for shift in (21, 14, 7, 0)) + bytes(HEAD_BYTES + 5)

    assert sniffed(frames) == MediaType("audio/mpeg", browser_plays=True)
    assert sniffed(tag + frames) == MediaType("audio/mpeg", browser_plays=True)
    assert sniffed(tag + made("flac", "flac")) == MediaType("audio/flac", browser_plays=True)
    assert sniffed(tag + made("adts", "aac")) == MediaType("audio/aac", browser_plays=True)


def test_the_format_of_a_wav_file_may_follow_other_chunks() -> None:
    data = wav(tone(0.1))
    chunk = struct.pack("<4sI", b"bext", 7) + bytes(8)  # with the byte that makes the size even

    assert sniffed(data[:12] + chunk + data[12:]) == MediaType("audio/wav", browser_plays=True)
    assert sniffed(data[:12] + struct.pack("<4sI", b"bext", HEAD_BYTES) + bytes(HEAD_BYTES) + data[12:]) == MediaType(
        "audio/wav", browser_plays=False
    )


@pytest.mark.parametrize("data", [b"", b"x", b"hello " * 1000, b"<html><script>", b"RIFFxxxxACON", b"\xff\xfb\x90"])
def test_other_bytes_have_no_type(data: bytes) -> None:
    assert sniffed(data) == UNKNOWN


def test_an_mp4_with_endless_boxes_is_read_in_part() -> None:
    data = struct.pack(">I4s4s", 12, b"ftyp", b"isom") + struct.pack(">I4s", 8, b"free") * 100_000
    reads = []

    def read(offset: int, length: int) -> bytes:
        reads.append(length)
        return data[offset : offset + length]

    assert sniff(read, len(data)) == MediaType("video/mp4")
    assert len(reads) <= MAX_BOXES + 3


BEGINNINGS = [b"", b"RIFF....WAVE", b"ID3\4\0\0", b"OggS", b"\x1a\x45\xdf\xa3", b"\xff\xfb", b"\xff\xf1", b"....ftyp"]


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=200))
def test_no_bytes_raise_an_error(beginning: bytes, rest: bytes) -> None:
    assert sniffed(beginning + rest).name


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_no_damage_of_an_mp4_raises_an_error(at: int, damage: bytes) -> None:
    at = at % len(MP4)

    assert sniffed(MP4[:at] + damage + MP4[at + len(damage) :]).name


MP4 = made("mp4", "aac")
MP4 = MP4[: MP4.index(b"mdat") - 4] + MP4[MP4.index(b"moov") - 4 :]
