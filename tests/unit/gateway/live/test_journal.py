"""What a session keeps on disk."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from careca.errors import Overloaded
from careca.v1 import diarizer_pb2
from careca_gateway.live import journal as journal_module
from careca_gateway.live.journal import Journal, open_journals
from support.live import PCM, Config, Response

CONFIG = Config(encoding=PCM, display_name="Monday", interim_results=True)


def event(number: int) -> Response:
    return Response(event_number=number, final=Response.Final(first_word=number))


def piece(speaker: int) -> diarizer_pb2.VoicePiece:
    return diarizer_pb2.VoicePiece(speaker_label=str(speaker), embedding=[1.0, 0.5])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "live" / "abc"


@pytest.fixture
def journal(folder: Path) -> Journal:
    return Journal.create(folder, CONFIG, "ana")


def test_everything_comes_back(folder: Path, journal: Journal) -> None:
    for number in range(1, 4):
        journal.append_audio(bytes([number]) * 3)
        journal.append_event(event(number))
        journal.append_voice(piece(number))
    journal.append_audio(b"")
    journal.close()

    again = Journal(folder)
    assert (again.config, again.submitter) == (CONFIG, "ana")
    assert (again.audio_bytes, b"".join(again.audio())) == (9, b"\1\1\1\2\2\2\3\3\3")
    assert again.events() == [event(1), event(2), event(3)]
    assert again.voices() == [piece(1), piece(2), piece(3)]


def test_a_new_journal_is_empty(journal: Journal) -> None:
    assert (journal.audio_bytes, list(journal.audio()), journal.events(), journal.voices()) == (0, [], [], [])


def test_only_its_owner_can_read_it(folder: Path, journal: Journal) -> None:
    assert folder.parent.stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["events", "voices"])
@pytest.mark.parametrize("torn", [1, 2, 3, 4, 5, 8])
def test_a_torn_last_entry_is_left_out_and_others_follow(folder: Path, journal: Journal, name: str, torn: int) -> None:
    for number in (1, 2):
        journal.append_event(event(number))
        journal.append_voice(piece(number))
    journal.close()
    file = folder / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-torn])

    again = Journal(folder)
    kept = {"events": again.events, "voices": again.voices}[name]()
    assert len(kept) == 1
    again.append_event(event(7))
    again.append_voice(piece(7))
    assert again.events()[-1] == event(7)
    assert again.voices()[-1] == piece(7)
    assert len(again.events()) == (2 if name == "events" else 3)


def test_zeros_after_the_last_entry_are_none(folder: Path, journal: Journal) -> None:
    journal.append_event(event(1))
    journal.close()
    with (folder / "events").open("ab") as file:
        file.write(bytes(4096))

    again = Journal(folder)
    again.append_event(event(2))
    assert again.events() == [event(1), event(2)]


def test_audio_that_cannot_be_written_leaves_what_was_there(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append_audio(b"12")
    write = journal_module._write

    def fails(file: Any, data: bytes) -> None:
        write(file, data[:1])
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(journal_module, "_write", fails)
    with pytest.raises(Overloaded) as refused:
        journal.append_audio(b"345")
    assert refused.value.reason == "STORE_FULL"
    monkeypatch.setattr(journal_module, "_write", write)

    journal.append_audio(b"67")
    assert b"".join(journal.audio()) == b"1267"


def test_all_journals_are_found_and_drafts_are_removed(tmp_path: Path) -> None:
    root = tmp_path / "live"
    assert open_journals(root) == []
    for name in ("b", "a"):
        Journal.create(root / name, CONFIG, name).close()
    (root / ".draft").mkdir()
    (root / "damaged").mkdir()
    (root / "damaged" / "config").write_bytes(b"\xff\xff")

    with capture_logs() as logs:
        journals = open_journals(root)

    assert [each.submitter for each in journals] == ["a", "b"]
    assert not (root / ".draft").exists()
    assert (root / "damaged").exists()
    assert [each["session_id"] for each in logs if each["log_level"] == "error"] == ["damaged"]


def test_a_removed_journal_leaves_nothing(folder: Path, journal: Journal) -> None:
    journal.append_audio(b"1")
    journal.remove()
    journal.remove()

    assert list(folder.parent.iterdir()) == []
