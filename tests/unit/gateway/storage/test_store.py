"""Recordings and audio on disk."""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from careca.errors import InvalidRecording, InvalidRequest, Overloaded, PreconditionFailed
from careca.types import AudioTracks, ChannelMode, Digest, Notice
from careca_gateway.request import AudioSelection
from careca_gateway.storage import store as store_module
from careca_gateway.storage.decoded_record import DecodedRecord
from careca_gateway.storage.store import Store, StoredAudio
from careca_gateway.storage.upload import Upload
from support.fakes import digest_of

DATA = b"a recording" * 100
AUDIO = b"\1\2" * 1600
OTHER_AUDIO = b"\3\4" * 1600
MIX, SEPARATE = AudioSelection(), AudioSelection(ChannelMode.SEPARATE)
SECOND, EACH = AudioSelection(audio_track=2), AudioSelection(audio_track=AudioTracks.EACH)
QUIET = Notice("VERY_QUIET", "the recording is very quiet")


def make(root: Path, **limits: float) -> Store:
    bounds = {"max_bytes": 10**9, "retention_seconds": 3600.0, "max_recording_bytes": 10**6} | limits
    store = Store(root / "store", **bounds)  # type: ignore[arg-type]
    store.open()
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = make(tmp_path)
    yield store
    store.close()


def put(store: Store, data: bytes, *, age: float = 0.0) -> Digest:
    """Stores ``data`` as if it had last been used ``age`` seconds ago."""
    digest = digest_of(data)
    with store.hold(digest) as recording:
        with recording.upload() as upload:
            upload.write(data)
            upload.finish()
        os.utime(recording.path, (time.time() - age,) * 2)
    return digest


def send(upload: Upload, data: bytes) -> None:
    upload.write(data)
    upload.finish()


def put_audio(
    store: Store,
    recording: Digest,
    *pcm: bytes,
    sound: AudioSelection = MIX,
    age: float = 0.0,
    notices: tuple[Notice, ...] = (),
) -> list[Path]:
    """Stores what ``recording`` decodes to as if it had last been used ``age`` seconds ago."""
    with store.hold(recording) as held, held.drafts(len(pcm) + 1) as drafts:
        for draft, data in zip(drafts, pcm, strict=False):
            draft.write_bytes(data)
        note = DecodedRecord(tuple(digest_of(data) for data in pcm), notices)
        audio = held.keep_audio(sound, drafts, note).audio
        for each in audio:
            os.utime(each.path, (time.time() - age,) * 2)
        return [each.path for each in audio]


def stored(store: Store, digest: Digest, sound: AudioSelection = MIX) -> tuple[StoredAudio, ...]:
    with store.hold(digest) as recording:
        decoded = recording.stored_audio(sound)
        return decoded.audio if decoded else ()


def known(store: Store, digest: Digest, sound: AudioSelection = MIX) -> bool:
    with store.hold(digest) as recording:
        return recording.known(sound)


def drafts(store: Store) -> list[Path]:
    return list(store.drafts.iterdir())


def test_what_was_sent_is_known_afterwards_and_reads_back(store: Store) -> None:
    digest = digest_of(DATA)

    with store.hold(digest) as recording:
        assert not recording.known(MIX)
        with recording.upload() as upload:
            for first in range(0, len(DATA), 100):
                upload.write(DATA[first : first + 100])
            assert not recording.known(MIX)
            upload.finish()
        assert recording.known(MIX)
        assert recording.path.read_bytes() == DATA
    assert drafts(store) == []
    assert (store.usage().recordings, store.usage().size_bytes) == (1, len(DATA))


def test_a_recording_survives_a_restart(tmp_path: Path) -> None:
    first = make(tmp_path)
    digest = put(first, DATA)
    (path,) = put_audio(first, digest, AUDIO)
    first.close()

    second = make(tmp_path)

    assert [(each.path, each.digest, each.duration) for each in stored(second, digest)] == [
        (path, digest_of(AUDIO), 0.1)
    ]


def test_only_this_user_can_read_what_is_stored(store: Store) -> None:
    put(store, DATA)

    assert [oct(folder.stat().st_mode & 0o077) for folder in store.root.iterdir() if folder.is_dir()] == ["0o0"] * 4


def test_bytes_that_are_not_what_was_announced_leave_nothing_behind(store: Store) -> None:
    announced = Digest(digest_of(DATA).sha256, len(DATA))

    for sent, field in ((DATA[:-1], "size_bytes"), (DATA + b"x", "size_bytes"), (DATA[:-1] + b"x", "sha256")):
        with store.hold(announced) as recording, recording.upload() as upload:
            with pytest.raises(InvalidRequest) as caught:
                send(upload, sent)
            assert caught.value.reason == "DIGEST_MISMATCH"
            assert caught.value.field == f"config.recording.{field}"
    assert not known(store, announced)
    assert drafts(store) == []


def test_too_many_bytes_are_noticed_before_the_last_has_come(store: Store) -> None:
    with store.hold(Digest("a" * 64, 10)) as recording, recording.upload() as upload:
        upload.write(b"x" * 8)
        with pytest.raises(InvalidRequest):
            upload.write(b"x" * 8)


@pytest.mark.parametrize(("size", "reason"), [(10**6 + 1, "RECORDING_TOO_LARGE"), (0, "EMPTY_AUDIO")])
def test_a_size_that_cannot_be_is_refused_before_the_first_byte(store: Store, size: int, reason: str) -> None:
    with (
        store.hold(Digest("a" * 64, size)) as recording,
        pytest.raises(InvalidRecording) as caught,
        recording.upload(),
    ):
        pytest.fail("the upload began")
    assert caught.value.reason == reason
    assert caught.value.field == "config.recording.size_bytes"


def test_a_recording_of_the_same_name_and_another_size_is_not_known(store: Store) -> None:
    digest = put(store, DATA)

    assert not known(store, Digest(digest.sha256, digest.size_bytes + 1))


def test_identical_uploads_at_once_are_both_accepted(store: Store) -> None:
    digest = digest_of(DATA)

    with store.hold(digest) as first, store.hold(digest) as second:
        with first.upload() as one, second.upload() as other:
            one.write(DATA)
            other.write(DATA)
            one.finish()
            other.finish()
        assert first.known(MIX)
        assert second.known(MIX)
    assert store.usage().recordings == 1


def test_an_upload_is_not_closed_under_a_thread_that_writes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # a write to a full pipe waits until somebody reads
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    data = b"x" * 1_000_000
    upload = Upload(tmp_path / "pipe", Digest("a" * 64, len(data) + 1), tmp_path / "recording")
    writing = threading.Thread(target=upload.write, args=(data,))
    writing.start()
    while not select.select([reader], [], [], 0)[0]:
        time.sleep(0.001)
    closing = threading.Thread(target=upload.__exit__, args=(None, None, None))
    closing.start()

    received = 0
    while received < len(data):
        select.select([reader], [], [])
        received += len(os.read(reader, 65_536))
    writing.join()
    closing.join()

    assert received == len(data)
    with pytest.raises(ValueError, match="closed"):
        upload.write(b"x")
    os.close(reader)


def test_the_audio_of_a_recording_is_found_again_even_without_the_recording(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    (store.recordings / digest.sha256).unlink()

    with store.hold(digest) as recording:
        assert recording.known(MIX)

    assert [each.path.read_bytes() for each in stored(store, digest)] == [AUDIO]


def test_two_recordings_of_the_same_sound_share_their_audio(store: Store) -> None:
    first, second = put(store, DATA), put(store, DATA + b"in another container")

    assert put_audio(store, first, AUDIO) == put_audio(store, second, AUDIO)
    assert store.usage().size_bytes == 2 * len(DATA) + len(b"in another container") + len(AUDIO)


def test_the_channels_of_a_recording_are_kept_in_order_beside_its_mix(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    put_audio(store, digest, OTHER_AUDIO, b"\0" * 3200, OTHER_AUDIO, sound=SEPARATE)

    assert [each.path.read_bytes() for each in stored(store, digest)] == [AUDIO]
    separate = [each.path.read_bytes() for each in stored(store, digest, SEPARATE)]

    assert separate == [OTHER_AUDIO, b"\0" * 3200, OTHER_AUDIO]
    assert drafts(store) == []


def test_what_was_decoded_in_one_mode_is_not_known_in_the_other_without_the_recording(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO, OTHER_AUDIO, sound=SEPARATE)
    (store.recordings / digest.sha256).unlink()

    assert known(store, digest, SEPARATE)
    assert not known(store, digest, MIX)


def test_every_choice_of_tracks_has_its_own_audio(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    put_audio(store, digest, OTHER_AUDIO, sound=SECOND)
    put_audio(store, digest, AUDIO, OTHER_AUDIO, sound=EACH)

    assert [[each.path.read_bytes() for each in stored(store, digest, sound)] for sound in (MIX, SECOND, EACH)] == [
        [AUDIO],
        [OTHER_AUDIO],
        [AUDIO, OTHER_AUDIO],
    ]
    (store.recordings / digest.sha256).unlink()
    assert not known(store, digest, AudioSelection(audio_track=1))
    assert not known(store, digest, AudioSelection(ChannelMode.SEPARATE, 2))


def test_what_the_decoder_noticed_is_kept_with_the_audio(tmp_path: Path) -> None:
    notices = (QUIET, Notice("TRUNCATED", "the recording breaks off", 1.5, 3.0))
    first = make(tmp_path)
    digest = put(first, DATA)
    put_audio(first, digest, AUDIO, notices=notices)
    first.close()

    with make(tmp_path).hold(digest) as recording:
        decoded = recording.stored_audio(MIX)

    assert decoded is not None
    assert decoded.notices == notices


def test_a_note_of_an_earlier_version_counts_as_none_and_is_replaced(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    note = store.decoded / f"{digest.sha256}.mix.json"
    note.write_text(json.dumps([asdict(digest_of(AUDIO))]))

    assert stored(store, digest) == ()
    assert known(store, digest)

    put_audio(store, digest, OTHER_AUDIO)
    assert [each.path.read_bytes() for each in stored(store, digest)] == [OTHER_AUDIO]


def test_a_job_keeps_the_audio_of_the_tracks_that_it_is_about(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0, retention_seconds=10.0)
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO, OTHER_AUDIO, sound=EACH)
    (store.recordings / digest.sha256).unlink()

    store.sweep(frozenset({digest.sha256}))

    with store.hold(digest) as recording:
        recording.require(EACH)
    store.sweep()
    assert list(store.audio.iterdir()) == list(store.decoded.iterdir()) == []


def test_channels_of_which_one_is_gone_are_not_used_and_forgotten(store: Store) -> None:
    digest = put(store, DATA)
    _, second = put_audio(store, digest, AUDIO, OTHER_AUDIO, sound=SEPARATE)
    second.unlink()

    with store.hold(digest) as recording:
        assert recording.stored_audio(SEPARATE) is None
    store.sweep()

    assert list(store.decoded.iterdir()) == []


def test_all_channels_that_a_request_holds_stay(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0)
    digest = put(store, DATA, age=10_000)
    paths = put_audio(store, digest, AUDIO, OTHER_AUDIO, sound=SEPARATE, age=10_000)

    with store.hold(digest) as recording:
        assert recording.stored_audio(SEPARATE)
        store.sweep()
        assert [path.exists() for path in paths] == [True, True]
    store.sweep()

    assert [path.exists() for path in paths] == [False, False]


def test_audio_that_was_cut_short_on_disk_is_not_used(store: Store) -> None:
    digest = put(store, DATA)
    (path,) = put_audio(store, digest, AUDIO)
    path.write_bytes(AUDIO[:-2])

    with store.hold(digest) as recording:
        assert recording.stored_audio(MIX) is None
        assert recording.known(MIX)


@pytest.mark.parametrize(
    "note",
    [
        *('[{"sha2', '{"sha256": "a"}', "[1]", "7", '{"audio": [], "notices": []}', '{"audio": [{}], "notices": []}'),
        '{"audio": [{"sha256": "a", "size_bytes": 2}]}',
        '{"audio": [{"sha256": "a", "size_bytes": 2}], "notices": ["quiet"]}',
    ],
)
def test_a_damaged_note_counts_as_none(store: Store, note: str) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    (store.decoded / f"{digest.sha256}.mix.json").write_text(note)

    with store.hold(digest) as recording:
        assert recording.stored_audio(MIX) is None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=3 * len(DATA))
    digests = [put(store, DATA[:-1] + bytes([number]), age=100 - number) for number in range(5)]
    assert known(store, digests[0])  # used now, so that it is the youngest

    store.sweep()

    assert [known(store, digest) for digest in digests] == [True, False, False, True, True]


def test_what_nobody_used_for_long_goes(tmp_path: Path) -> None:
    store = make(tmp_path, retention_seconds=60.0)
    old, young = put(store, DATA, age=61), put(store, DATA + b"x", age=59)
    put_audio(store, old, AUDIO, age=61)

    store.sweep()

    assert not known(store, old)
    assert known(store, young)
    assert store.usage().size_bytes == len(DATA) + 1
    assert list(store.decoded.iterdir()) == []


def test_what_a_request_holds_stays(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0)
    digest = put(store, DATA, age=10_000)
    (path,) = put_audio(store, digest, AUDIO, age=10_000)

    with store.hold(digest) as recording:
        assert recording.stored_audio(MIX)
        store.sweep()
        assert recording.path.exists()
        assert path.exists()
    store.sweep()

    assert not known(store, digest)
    assert not path.exists()


def test_what_two_requests_hold_stays_until_both_have_gone(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0)
    digest = put(store, DATA)

    with store.hold(digest):
        with store.hold(digest):
            pass
        store.sweep()
        assert known(store, digest)


def test_a_thread_that_outlives_its_request_holds_nothing(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0)
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    with store.hold(digest) as recording:
        pass

    assert recording.stored_audio(MIX)
    store.sweep()

    assert store.usage().size_bytes == 0


def test_a_recording_that_proved_unusable_is_removed(store: Store) -> None:
    digest = put(store, DATA)

    with store.hold(digest) as recording:
        recording.discard()

    assert not known(store, digest)


def test_a_recording_that_another_request_works_on_is_not_removed_under_it(store: Store) -> None:
    digest = put(store, DATA)

    with store.hold(digest) as other:
        with store.hold(digest) as recording:
            recording.discard()
        assert other.path.exists()


def test_what_a_crash_left_half_written_is_removed_at_the_next_start(tmp_path: Path) -> None:
    crashed = make(tmp_path)
    with crashed.hold(digest_of(DATA)) as recording:
        upload = recording.upload()
        upload.__enter__().write(b"half")
        crashed.close()
        assert len(drafts(crashed)) == 1

        again = make(tmp_path)

        assert drafts(again) == []
        assert again.usage().size_bytes == 0


def test_a_store_belongs_to_one_gateway(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        make(tmp_path)
    assert caught.value.reason == "STORE_IN_USE"


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file is in the way")

    with pytest.raises(PreconditionFailed) as caught:
        make(tmp_path)
    assert caught.value.reason == "STORE_UNUSABLE"


def test_a_disk_without_space_refuses_before_the_first_byte(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "FREE_BYTES", 10**18)

    with store.hold(digest_of(DATA)) as recording, pytest.raises(Overloaded) as caught, recording.upload():
        pytest.fail("the upload began")
    assert caught.value.reason == "STORE_FULL"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_asks_to_come_back_later(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with Upload(full, digest_of(DATA), tmp_path / "recording") as upload, pytest.raises(Overloaded) as caught:
        upload.write(DATA)

    assert caught.value.reason == "STORE_FULL"
    assert caught.value.retry_after_seconds


def test_a_recording_that_is_there_may_be_worked_on(store: Store) -> None:
    digest = put(store, DATA)

    with store.hold(digest) as recording:
        recording.require(MIX)


def test_audio_is_enough_to_work_on(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    (store.recordings / digest.sha256).unlink()

    with store.hold(digest) as recording:
        recording.require(MIX)
        with pytest.raises(PreconditionFailed):
            recording.require(SEPARATE)


def test_a_recording_that_is_gone_is_missed_by_name(store: Store) -> None:
    with store.hold(digest_of(DATA)) as recording, pytest.raises(PreconditionFailed) as caught:
        recording.require(MIX)

    assert caught.value.reason == "RECORDING_MISSING"
    assert digest_of(DATA).sha256 in caught.value.message


@pytest.mark.parametrize("bytes_now", [DATA[:-1], DATA + b"x", b"A" + DATA[1:]])
def test_a_recording_that_changed_on_disk_is_not_worked_on_and_asked_for_again(store: Store, bytes_now: bytes) -> None:
    digest = put(store, DATA)
    (store.recordings / digest.sha256).write_bytes(bytes_now)

    with store.hold(digest) as recording, pytest.raises(PreconditionFailed) as caught:
        recording.require(MIX)

    assert caught.value.reason == "RECORDING_CORRUPT"
    assert not known(store, digest)


def test_a_job_of_whose_recording_only_the_audio_is_left_keeps_it(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0, retention_seconds=10.0)
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    (store.recordings / digest.sha256).unlink()

    store.sweep(frozenset({digest.sha256}))

    with store.hold(digest) as recording:
        recording.require(MIX)
    store.sweep()
    assert not known(store, digest)


def test_what_a_job_needs_stays_however_old_and_full_the_store_is(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0, retention_seconds=10.0)
    needed, other = put(store, DATA, age=100.0), put(store, b"another", age=100.0)

    store.sweep(frozenset({needed.sha256}))

    assert known(store, needed)
    assert not known(store, other)


def test_what_is_let_go_of_while_it_is_asked_what_has_to_stay_is_swept_only_later(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0)
    digest = put(store, DATA)

    with store.sparing():
        assert known(store, digest)  # held and let go of, as a job about it is submitted
        store.sweep()
        assert known(store, digest)

    store.sweep()
    assert not known(store, digest)
    store.close()
