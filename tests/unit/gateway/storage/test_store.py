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
from careca_gateway.storage.held_recording import StoredAudio
from careca_gateway.storage.store import Store
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
    selection: AudioSelection = MIX,
    age: float = 0.0,
    notices: tuple[Notice, ...] = (),
) -> list[Path]:
    """Stores what ``recording`` decodes to as if it had last been used ``age`` seconds ago."""
    with store.hold(recording) as held, held.drafts(len(pcm) + 1) as drafts:
        for draft, data in zip(drafts, pcm, strict=False):
            draft.write_bytes(data)
        record = DecodedRecord(tuple(digest_of(data) for data in pcm), notices)
        audio = held.store_audio(selection, drafts, record).audio
        for each in audio:
            os.utime(each.path, (time.time() - age,) * 2)
        return [each.path for each in audio]


def stored(store: Store, digest: Digest, selection: AudioSelection = MIX) -> tuple[StoredAudio, ...]:
    with store.hold(digest) as recording:
        decoded = recording.stored_audio(selection)
        return decoded.audio if decoded else ()


def known(store: Store, digest: Digest, selection: AudioSelection = MIX) -> bool:
    with store.hold(digest) as recording:
        return recording.known(selection)


def drafts(store: Store) -> list[Path]:
    return list(store.files.drafts.iterdir())


def test_an_uploaded_recording_is_known_and_can_be_read(store: Store) -> None:
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


def test_a_waveform_is_removed_with_its_audio(store: Store) -> None:
    digest = put(store, DATA)
    (path,) = put_audio(store, digest, AUDIO)
    audio = digest_of(AUDIO)

    assert store.waveform(audio, 0, 2) is None
    store.put_waveform(audio, b"\1\2\3\4")
    store.sweep()
    assert store.waveform(audio, 1, 2) == b"\2\3"

    path.unlink()
    store.sweep()
    assert store.waveform(audio, 1, 2) is None
    assert list(store.files.waveforms.iterdir()) == []


def test_only_this_user_can_read_what_is_stored(store: Store) -> None:
    put(store, DATA)

    assert [oct(folder.stat().st_mode & 0o077) for folder in store.files.root.iterdir() if folder.is_dir()] == [
        "0o0"
    ] * 5


def test_bytes_that_differ_from_the_announced_digest_are_not_kept(store: Store) -> None:
    announced = Digest(digest_of(DATA).sha256, len(DATA))

    for sent, field in ((DATA[:-1], "size_bytes"), (DATA + b"x", "size_bytes"), (DATA[:-1] + b"x", "sha256")):
        with store.hold(announced) as recording, recording.upload() as upload:
            with pytest.raises(InvalidRequest) as caught:
                send(upload, sent)
            assert caught.value.reason == "DIGEST_MISMATCH"
            assert caught.value.field == f"config.recording.{field}"
    assert not known(store, announced)
    assert drafts(store) == []


def test_too_many_bytes_are_refused_before_the_last_one(store: Store) -> None:
    with store.hold(Digest("a" * 64, 10)) as recording, recording.upload() as upload:
        upload.write(b"x" * 8)
        with pytest.raises(InvalidRequest):
            upload.write(b"x" * 8)


@pytest.mark.parametrize(("size", "reason"), [(10**6 + 1, "RECORDING_TOO_LARGE"), (0, "EMPTY_AUDIO")])
def test_an_impossible_size_is_refused_before_the_first_byte(store: Store, size: int, reason: str) -> None:
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


def test_an_upload_is_not_closed_while_a_thread_writes(tmp_path: Path) -> None:
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
    (store.files.recordings / digest.sha256).unlink()

    with store.hold(digest) as recording:
        assert recording.known(MIX)

    assert [each.path.read_bytes() for each in stored(store, digest)] == [AUDIO]


def test_two_recordings_of_the_same_sound_share_their_audio(store: Store) -> None:
    first, second = put(store, DATA), put(store, DATA + b"in another container")

    assert put_audio(store, first, AUDIO) == put_audio(store, second, AUDIO)
    assert store.usage().size_bytes == 2 * len(DATA) + len(b"in another container") + len(AUDIO)


def test_the_channels_and_the_mix_of_a_recording_are_both_kept(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    put_audio(store, digest, OTHER_AUDIO, b"\0" * 3200, OTHER_AUDIO, selection=SEPARATE)

    assert [each.path.read_bytes() for each in stored(store, digest)] == [AUDIO]
    separate = [each.path.read_bytes() for each in stored(store, digest, SEPARATE)]

    assert separate == [OTHER_AUDIO, b"\0" * 3200, OTHER_AUDIO]
    assert drafts(store) == []


def test_audio_of_one_channel_mode_is_not_used_for_the_other(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO, OTHER_AUDIO, selection=SEPARATE)
    (store.files.recordings / digest.sha256).unlink()

    assert known(store, digest, SEPARATE)
    assert not known(store, digest, MIX)


def test_every_audio_selection_has_its_own_audio(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    put_audio(store, digest, OTHER_AUDIO, selection=SECOND)
    put_audio(store, digest, AUDIO, OTHER_AUDIO, selection=EACH)

    assert [
        [each.path.read_bytes() for each in stored(store, digest, selection)] for selection in (MIX, SECOND, EACH)
    ] == [
        [AUDIO],
        [OTHER_AUDIO],
        [AUDIO, OTHER_AUDIO],
    ]
    (store.files.recordings / digest.sha256).unlink()
    assert not known(store, digest, AudioSelection(audio_track=1))
    assert not known(store, digest, AudioSelection(ChannelMode.SEPARATE, 2))


def test_notices_are_kept_with_the_audio(tmp_path: Path) -> None:
    notices = (QUIET, Notice("TRUNCATED", "the recording breaks off", 1.5, 3.0))
    first = make(tmp_path)
    digest = put(first, DATA)
    put_audio(first, digest, AUDIO, notices=notices)
    first.close()

    with make(tmp_path).hold(digest) as recording:
        decoded = recording.stored_audio(MIX)

    assert decoded is not None
    assert decoded.notices == notices


def test_a_record_of_an_earlier_version_is_ignored_and_replaced(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    record = store.files.decoded / f"{digest.sha256}.mix.json"
    record.write_text(json.dumps([asdict(digest_of(AUDIO))]))

    assert stored(store, digest) == ()
    assert known(store, digest)

    put_audio(store, digest, OTHER_AUDIO)
    assert [each.path.read_bytes() for each in stored(store, digest)] == [OTHER_AUDIO]


def test_audio_of_a_job_without_its_recording_stays(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0, retention_seconds=10.0)
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO, OTHER_AUDIO, selection=EACH)
    (store.files.recordings / digest.sha256).unlink()

    store.sweep(frozenset({digest.sha256}))

    with store.hold(digest) as recording:
        recording.require(EACH)
    store.sweep()
    assert list(store.files.audio.iterdir()) == list(store.files.decoded.iterdir()) == []


def test_separate_channels_are_not_used_if_one_is_missing(store: Store) -> None:
    digest = put(store, DATA)
    _, second = put_audio(store, digest, AUDIO, OTHER_AUDIO, selection=SEPARATE)
    second.unlink()

    with store.hold(digest) as recording:
        assert recording.stored_audio(SEPARATE) is None
    store.sweep()

    assert list(store.files.decoded.iterdir()) == []


def test_all_channels_that_a_request_holds_stay(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0)
    digest = put(store, DATA, age=10_000)
    paths = put_audio(store, digest, AUDIO, OTHER_AUDIO, selection=SEPARATE, age=10_000)

    with store.hold(digest) as recording:
        assert recording.stored_audio(SEPARATE)
        store.sweep()
        assert [path.exists() for path in paths] == [True, True]
    store.sweep()

    assert [path.exists() for path in paths] == [False, False]


def test_truncated_audio_is_not_used(store: Store) -> None:
    digest = put(store, DATA)
    (path,) = put_audio(store, digest, AUDIO)
    path.write_bytes(AUDIO[:-2])

    with store.hold(digest) as recording:
        assert recording.stored_audio(MIX) is None
        assert recording.known(MIX)


@pytest.mark.parametrize(
    "record",
    [
        *('[{"sha2', '{"sha256": "a"}', "[1]", "7", '{"audio": [], "notices": []}', '{"audio": [{}], "notices": []}'),
        '{"audio": [{"sha256": "a", "size_bytes": 2}]}',
        '{"audio": [{"sha256": "a", "size_bytes": 2}], "notices": ["quiet"]}',
    ],
)
def test_a_damaged_record_is_ignored(store: Store, record: str) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    (store.files.decoded / f"{digest.sha256}.mix.json").write_text(record)

    with store.hold(digest) as recording:
        assert recording.stored_audio(MIX) is None


def test_the_least_recently_used_file_is_removed_first(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=3 * len(DATA))
    digests = [put(store, DATA[:-1] + bytes([number]), age=100 - number) for number in range(5)]
    assert known(store, digests[0])  # used now, so that it is the youngest

    store.sweep()

    assert [known(store, digest) for digest in digests] == [True, False, False, True, True]


def test_files_are_removed_after_the_retention_time(tmp_path: Path) -> None:
    store = make(tmp_path, retention_seconds=60.0)
    old, young = put(store, DATA, age=61), put(store, DATA + b"x", age=59)
    put_audio(store, old, AUDIO, age=61)

    store.sweep()

    assert not known(store, old)
    assert known(store, young)
    assert store.usage().size_bytes == len(DATA) + 1
    assert list(store.files.decoded.iterdir()) == []


def test_a_held_file_is_not_removed(tmp_path: Path) -> None:
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


def test_a_file_held_by_two_requests_stays_until_both_release_it(tmp_path: Path) -> None:
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


def test_an_unusable_recording_is_removed(store: Store) -> None:
    digest = put(store, DATA)

    with store.hold(digest) as recording:
        recording.discard()

    assert not known(store, digest)


def test_a_recording_that_another_request_holds_is_not_discarded(store: Store) -> None:
    digest = put(store, DATA)

    with store.hold(digest) as other:
        with store.hold(digest) as recording:
            recording.discard()
        assert other.path.exists()


def test_temporary_files_of_a_crash_are_removed_at_the_next_start(tmp_path: Path) -> None:
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


def test_a_full_disk_refuses_before_the_first_byte(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "FREE_BYTES", 10**18)

    with store.hold(digest_of(DATA)) as recording, pytest.raises(Overloaded) as caught, recording.upload():
        pytest.fail("the upload began")
    assert caught.value.reason == "STORE_FULL"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_becomes_full_is_reported_with_a_retry_time(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with Upload(full, digest_of(DATA), tmp_path / "recording") as upload, pytest.raises(Overloaded) as caught:
        upload.write(DATA)

    assert caught.value.reason == "STORE_FULL"
    assert caught.value.retry_after_seconds


def test_an_existing_recording_passes_require(store: Store) -> None:
    digest = put(store, DATA)

    with store.hold(digest) as recording:
        recording.require(MIX)


def test_existing_audio_passes_require(store: Store) -> None:
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    (store.files.recordings / digest.sha256).unlink()

    with store.hold(digest) as recording:
        recording.require(MIX)
        with pytest.raises(PreconditionFailed):
            recording.require(SEPARATE)


def test_a_missing_recording_is_reported(store: Store) -> None:
    with store.hold(digest_of(DATA)) as recording, pytest.raises(PreconditionFailed) as caught:
        recording.require(MIX)

    assert caught.value.reason == "RECORDING_MISSING"
    assert digest_of(DATA).sha256 in caught.value.message


@pytest.mark.parametrize("bytes_now", [DATA[:-1], DATA + b"x", b"A" + DATA[1:]])
def test_a_corrupt_recording_is_reported_and_removed(store: Store, bytes_now: bytes) -> None:
    digest = put(store, DATA)
    (store.files.recordings / digest.sha256).write_bytes(bytes_now)

    with store.hold(digest) as recording, pytest.raises(PreconditionFailed) as caught:
        recording.require(MIX)

    assert caught.value.reason == "RECORDING_CORRUPT"
    assert not known(store, digest)


def test_the_audio_of_a_job_stays_if_its_recording_is_missing(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0, retention_seconds=10.0)
    digest = put(store, DATA)
    put_audio(store, digest, AUDIO)
    (store.files.recordings / digest.sha256).unlink()

    store.sweep(frozenset({digest.sha256}))

    with store.hold(digest) as recording:
        recording.require(MIX)
    store.sweep()
    assert not known(store, digest)


def test_recordings_of_jobs_are_never_swept(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0, retention_seconds=10.0)
    needed, other = put(store, DATA, age=100.0), put(store, b"another", age=100.0)

    store.sweep(frozenset({needed.sha256}))

    assert known(store, needed)
    assert not known(store, other)


def test_a_recording_unpinned_during_a_sweep_is_removed_only_by_the_next_one(tmp_path: Path) -> None:
    store = make(tmp_path, max_bytes=0)
    digest = put(store, DATA)

    with store.files.protect_unpinned():
        assert known(store, digest)  # held and let go of, as a job about it is submitted
        store.sweep()
        assert known(store, digest)

    store.sweep()
    assert not known(store, digest)
    store.close()
