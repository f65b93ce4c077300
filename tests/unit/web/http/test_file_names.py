"""Names of files: what is kept of a caller's name, and how a download is named."""

from __future__ import annotations

import pytest

from careca_web.http.file_names import attachment, download_name, received_name


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("call.wav", "call.wav"),
        ("  call.wav ", "call.wav"),
        ("C:\\calls\\monday.wav", "monday.wav"),
        ("../../etc/passwd", "passwd"),
        ("folder/", ""),
        (None, ""),
        ("reunião.wav", "reunião.wav"),
    ],
)
def test_only_the_last_part_of_a_path_is_kept(sent: str | None, kept: str) -> None:
    assert received_name(sent) == kept


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("call.wav", "call.srt"),
        ("a.b.wav", "a.b.srt"),
        ("call", "call.srt"),
        (".hidden", ".hidden.srt"),
        ("", "recording.srt"),
        ("x/y/call.wav", "call.srt"),
        ("n" * 200 + ".wav", "n" * 150 + ".srt"),
    ],
)
def test_a_download_is_named_after_its_recording(name: str, expected: str) -> None:
    assert download_name(name, "srt") == expected


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("call.srt", "attachment; filename=\"call.srt\"; filename*=UTF-8''call.srt"),
        ('a"b;c.srt', "attachment; filename=\"a_b_c.srt\"; filename*=UTF-8''a%22b%3Bc.srt"),
        ("a\r\nX: y", "attachment; filename=\"a__X_ y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
        ("..env", "attachment; filename=\"_env\"; filename*=UTF-8''..env"),
        ("ção.srt", "attachment; filename=\"__o.srt\"; filename*=UTF-8''%C3%A7%C3%A3o.srt"),
    ],
)
def test_no_name_breaks_out_of_its_header(name: str, header: str) -> None:
    assert attachment(name) == header
