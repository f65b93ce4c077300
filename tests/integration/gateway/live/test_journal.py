"""What is kept of a session, in a real Redis and in object storage."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from careca.errors import CarecaError, NotFound, Overloaded, Unavailable
from careca.v1 import diarizer_pb2
from careca_gateway.live import journal as journal_module
from careca_gateway.live.journal import Journal, Journals
from careca_gateway.storage.files import StoreFiles
from careca_gateway.storage.object_storage import LocalObjectStorage, ObjectStorage
from careca_gateway.storage.upload import disk_space
from support.live import PCM, Config, Response
from support.redis_server import RedisServer
from support.waiting import HANG_SECONDS

CONFIG = Config(encoding=PCM, display_name="Monday", interim_results=True)


def event(number: int) -> Response:
    return Response(event_number=number, final=Response.Final(first_word=number))


def ended(number: int) -> Response:
    return Response(event_number=number, ended=Response.Ended(job_id="1"))


def piece(speaker: int) -> diarizer_pb2.VoicePiece:
    return diarizer_pb2.VoicePiece(speaker_label=str(speaker), embedding=[1.0, 0.5])


def audio_of(journal: Journal) -> bytes:
    return b"".join(journal.audio())


@pytest.fixture
def storage(tmp_path: Path) -> ObjectStorage:
    return LocalObjectStorage(tmp_path / "shared")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_PART_BYTES", 10)


Start = Callable[[str], Journals]


@pytest.fixture
async def start(redis_server: RedisServer, storage: ObjectStorage, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts gateways with their own disks."""
    started: list[Journals] = []
    opened: list[StoreFiles] = []

    def starting(name: str) -> Journals:
        files = StoreFiles(tmp_path / name)
        files.open()
        opened.append(files)
        journals = Journals(redis_server.url, timeout_seconds=HANG_SECONDS, storage=storage, files=files)
        started.append(journals)
        return journals

    yield starting
    for journals in started:
        await journals.close()
    for files in opened:
        files.close()


@pytest.fixture
def journals(start: Start) -> Journals:
    return start("one")


async def test_a_new_journal_is_empty(journals: Journals) -> None:
    journal = await journals.create(CONFIG, "ana")

    assert (journal.config, journal.submitter) == (CONFIG, "ana")
    assert (journal.audio_bytes, audio_of(journal), journal.events, journal.voices) == (0, b"", [], [])


@pytest.mark.usefixtures("small_parts")
async def test_another_gateway_gets_everything(start: Start, journals: Journals, storage: ObjectStorage) -> None:
    journal = await journals.create(CONFIG, "ana")
    data = b""
    for number in range(1, 9):
        data += bytes([number]) * 3
        await journal.append_audio(bytes([number]) * 3)
        await journal.append_event(event(number))
        await journal.append_voice(piece(number))
    await journal.append_audio(b"")
    await journals.release(journal)
    assert [each.size_bytes for each in storage.list(f"live/{journal.session_id}/")] == [12, 12]

    again = await start("two").open(journal.session_id, "ana")
    assert (again.config, again.submitter) == (CONFIG, "ana")
    assert (again.audio_bytes, audio_of(again)) == (24, data)
    assert again.events == [event(number) for number in range(1, 9)]
    assert again.voices == [piece(number) for number in range(1, 9)]

    await again.append_audio(b"more")
    assert audio_of(await journals.open(journal.session_id, "ana")) == data + b"more"


@pytest.mark.usefixtures("small_parts")
async def test_only_the_last_opener_writes(start: Start, journals: Journals) -> None:
    first = await journals.create(CONFIG, "ana")
    await first.append_audio(b"1234")
    second = await start("two").open(first.session_id, "ana")

    for write in (
        first.append_audio(b"x" * 20),
        first.append_event(event(1)),
        first.append_voice(piece(1)),
        first.beat(),
        first.seal(),
        first.done(),
    ):
        with pytest.raises(CarecaError) as refused:
            await write
        assert refused.value.reason == "SESSION_TAKEN_OVER"

    assert (first.audio_bytes, audio_of(first)) == (4, b"1234")
    await second.append_audio(b"5")
    await second.append_event(event(1))
    third = await journals.open(first.session_id, "ana")
    assert (audio_of(third), third.events, third.voices) == (b"12345", [event(1)], [])


@pytest.mark.usefixtures("small_parts")
async def test_a_write_whose_reply_was_lost_is_not_repeated(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_RETRY_SECONDS", 0.0)
    journal = await journals.create(CONFIG, "ana")
    run = journals._script.run
    failing: list[int] = []

    async def loses_replies(operation: str, *arguments: Any) -> Any:
        reply = await run(operation, *arguments)
        failing.append(1)
        if len(failing) % 3:
            raise Unavailable("the reply was lost")
        return reply

    monkeypatch.setattr(journals._script, "run", loses_replies)
    data = b""
    for number in range(1, 15):
        data += bytes([number]) * 3
        await journal.append_audio(bytes([number]) * 3)
        await journal.append_event(event(number))
        await journal.append_voice(piece(number))
    monkeypatch.setattr(journals._script, "run", run)

    again = await journals.open(journal.session_id, "ana")
    assert (again.audio_bytes, audio_of(again)) == (len(data), data)
    assert again.events == [event(number) for number in range(1, 15)]
    assert len(again.voices) == 14


async def test_what_could_not_be_written_is_replaced(journals: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis has it, but the gateway does not know: the caller is told that nothing was received."""
    monkeypatch.setattr(journal_module, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(journal_module, "_RETRY_SECONDS", 0.0)
    journal = await journals.create(CONFIG, "ana")
    await journal.append_audio(b"12")
    run = journals._script.run

    async def loses_replies(operation: str, *arguments: Any) -> Any:
        await run(operation, *arguments)
        raise Unavailable("the reply was lost")

    monkeypatch.setattr(journals._script, "run", loses_replies)
    for write in (journal.append_audio(b"345"), journal.append_event(event(1))):
        with pytest.raises(Unavailable):
            await write
    monkeypatch.setattr(journals._script, "run", run)
    assert (journal.audio_bytes, audio_of(journal)) == (2, b"12")

    await journal.append_audio(b"678")
    await journal.append_event(event(2))
    again = await journals.open(journal.session_id, "ana")
    assert (audio_of(again), again.events) == (b"12678", [event(2)])


async def test_audio_that_the_disk_cannot_take_leaves_what_was_there(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await journals.create(CONFIG, "ana")
    await journal.append_audio(b"12")
    write = Journal._write

    def fails(self: Journal, data: bytes) -> None:
        write(self, data[:1])
        with disk_space():
            raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Journal, "_write", fails)
    with pytest.raises(Overloaded) as refused:
        await journal.append_audio(b"345")
    assert refused.value.reason == "STORE_FULL"
    monkeypatch.setattr(Journal, "_write", write)

    await journal.append_audio(b"67")
    assert audio_of(journal) == b"1267"
    assert audio_of(await journals.open(journal.session_id, "ana")) == b"1267"


@pytest.mark.usefixtures("small_parts")
async def test_audio_stays_in_redis_while_the_storage_is_away(
    journals: Journals, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await journals.create(CONFIG, "ana")
    put = storage.put

    def fails(key: str, data: bytes) -> None:
        raise Unavailable("the storage is away")

    monkeypatch.setattr(storage, "put", fails)
    with capture_logs() as logs:
        for _ in range(4):
            await journal.append_audio(b"123456")
    assert [each["log_level"] for each in logs] == ["warning", "warning"]
    assert audio_of(await journals.open(journal.session_id, "ana")) == b"123456" * 4

    again = await journals.open(journal.session_id, "ana")
    monkeypatch.setattr(storage, "put", put)
    await again.append_audio(b"789")
    assert [each.size_bytes for each in storage.list(f"live/{journal.session_id}/")] == [27]
    assert audio_of(await journals.open(journal.session_id, "ana")) == b"123456" * 4 + b"789"


async def test_sessions_of_others_do_not_exist(journals: Journals) -> None:
    journal = await journals.create(CONFIG, "ana")
    await journal.append_audio(b"1")

    for session_id, submitter in (
        (journal.session_id, "eve"),
        ("0" * 24, "ana"),
        (journal.session_id + ":events", "ana"),
        ("", "ana"),
        ("x" * 100_000, "ana"),
    ):
        with pytest.raises(NotFound) as refused:
            await journals.open(session_id, submitter)
        assert refused.value.reason == "SESSION_NOT_FOUND"
        assert len(refused.value.message) < 200
    await journal.append_audio(b"2")  # it is still the one that writes


async def test_a_session_that_is_worked_on_changes_its_state(journals: Journals) -> None:
    first, second = await journals.create(CONFIG, "ana"), await journals.create(CONFIG, "ben")
    before = await journals.states()
    assert before.keys() == {first.session_id, second.session_id}

    await first.beat()
    await first.append_audio(b"1")
    between = await journals.states()
    assert {key for key in before if before[key] != between[key]} == {first.session_id}
    await journals.open(second.session_id, "ben")
    after = await journals.states()
    assert {key for key in between if between[key] != after[key]} == {second.session_id}


@pytest.mark.usefixtures("small_parts")
async def test_of_a_session_that_is_done_only_the_events_stay(
    journals: Journals, storage: ObjectStorage, tmp_path: Path, redis_server: RedisServer
) -> None:
    journal = await journals.create(CONFIG, "ana")
    await journal.append_audio(b"1" * 25)
    await journal.append_voice(piece(1))
    await journal.append_event(event(1))
    await journal.append_event(ended(2))
    await journal.done()
    await journals.release(journal)

    assert await journals.states() == {}
    assert list(storage.list("live/")) == []
    again = await journals.open(journal.session_id, "ana")
    assert (again.events, again.voices, again.audio_bytes) == ([event(1), ended(2)], [], 25)
    await journals.release(again)
    assert list((tmp_path / "one" / "drafts").iterdir()) == []
    keys = [key async for key in journals._script.client.scan_iter("*:live:*") if not key.endswith(b":sweeps")]
    assert len(keys) == 2
    for key in keys:
        assert 0 < await journals._script.client.ttl(key) <= 3600


async def test_a_session_that_ended_but_is_not_done_can_be_opened_without_its_audio(
    journals: Journals, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway was killed after it had removed the audio."""
    monkeypatch.setattr(journal_module, "_PART_BYTES", 1)
    journal = await journals.create(CONFIG, "ana")
    await journal.append_audio(b"123")
    await journal.append_event(ended(1))
    await asyncio.to_thread(storage.delete_prefix, f"live/{journal.session_id}/")

    again = await journals.open(journal.session_id, "ana")
    await again.done()
    assert await journals.states() == {}


async def test_a_session_is_adopted_only_while_nobody_has_touched_it(start: Start, journals: Journals) -> None:
    first = await journals.create(CONFIG, "ana")
    other = start("two")
    state = (await other.states())[first.session_id]
    await first.beat()
    with pytest.raises(NotFound):
        await other.adopt(first.session_id, state)
    await first.append_audio(b"1")  # it still has the session

    adopted = await other.adopt(first.session_id, (await other.states())[first.session_id])
    assert (adopted.submitter, audio_of(adopted)) == ("ana", b"1")
    with pytest.raises(Unavailable):  # the caller must try again: there is no newer call
        await first.append_audio(b"2")


async def test_beats_say_what_is_settled_and_find_what_is_lost(start: Start, journals: Journals) -> None:
    first, second = await journals.create(CONFIG, "ana"), await journals.create(CONFIG, "ana")
    lost: list[CarecaError] = []
    first.on_lost = second.on_lost = lost.append
    first.settled_until = second.settled_until = 12.345
    await journals.beat()
    assert lost == []

    again = await start("two").open(first.session_id, "ana")
    assert again.settled_until == 12.345
    await journals.beat()
    assert [error.reason for error in lost] == ["SESSION_TAKEN_OVER"]
    await journals.release(first)
    await journals.beat()
    assert len(lost) == 1


async def test_a_late_write_changes_nothing(journals: Journals) -> None:
    """It was tried again on another connection, and arrives when others have followed it."""
    journal = await journals.create(CONFIG, "ana")
    await journal.append_audio(b"12")
    await journal.append_event(event(1))
    await journal.append_audio(b"34")
    await journal.append_event(event(2))
    script, fence = journals._script, journal._fence

    assert await script.run("append_audio", journal.session_id, fence, 1, 0, b"12") == 1
    assert await script.run("audio_stored", journal.session_id, fence, 1, "late", 2) == 1
    assert await script.run("append", journal.session_id, fence, 1, "events", 1, b"") == 1

    again = await journals.open(journal.session_id, "ana")
    assert (audio_of(again), again.events) == (b"1234", [event(1), event(2)])


@pytest.mark.usefixtures("small_parts")
async def test_parts_of_a_gateway_that_lost_the_session_are_not_read(
    start: Start, journals: Journals, storage: ObjectStorage
) -> None:
    first = await journals.create(CONFIG, "ana")
    await first.append_audio(b"123456")
    second = await start("two").open(first.session_id, "ana")
    await second.append_audio(b"7890123")
    await asyncio.to_thread(storage.put, f"live/{first.session_id}/000000-{first._fence}", b"123456")

    again = await journals.open(first.session_id, "ana")
    assert (again.audio_bytes, audio_of(again)) == (13, b"1234567890123")


@pytest.mark.usefixtures("small_parts")
async def test_a_session_that_misses_audio_goes_on_with_what_is_there(
    journals: Journals, storage: ObjectStorage
) -> None:
    journal = await journals.create(CONFIG, "ana")
    await journal.append_audio(b"1" * 12)
    (part,) = storage.list(f"live/{journal.session_id}/")
    await asyncio.to_thread(storage.put, part.key, b"1" * 8)

    with capture_logs() as logs:
        again = await journals.open(journal.session_id, "ana")
    assert [each["event"] for each in logs] == ["audio is missing"]
    await again.append_audio(b"2")
    assert audio_of(again) == b"1" * 8 + b"2"


async def test_a_sealed_session_stays_sealed(journals: Journals) -> None:
    journal = await journals.create(CONFIG, "ana")
    assert not journal.sealed
    await journal.seal()
    assert journal.sealed
    assert (await journals.open(journal.session_id, "ana")).sealed
