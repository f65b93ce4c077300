"""Two gateways that share recordings, audio, results and jobs: real servers, on a disk and in S3."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from careca.errors import PreconditionFailed, Unavailable
from careca.types import Digest, JobState, Notice, OutputFormat
from careca_gateway.request import AudioSelection
from careca_gateway.storage import object_storage as blobs_module
from careca_gateway.storage.decoded_record import DecodedRecord
from careca_gateway.storage.object_storage import StoredObject, open_object_storage
from careca_gateway.storage.shared_store import RECORDINGS, SharedStore
from careca_gateway.storage.store import Store
from support.fakes import digest_of
from support.media import tone, wav
from support.redis_server import RedisServer
from support.s3_server import BUCKET, S3Server
from support.stack import Stack
from support.submitters import RECORDING, both_compute, engines, pause_models, resume_models, submitting, until_running
from support.waiting import until

DIGEST = digest_of(RECORDING)


@dataclass
class Shared:
    """The shared storage, and its settings."""

    url: str
    s3: S3Server | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return {"store_url": self.url, "store_allow_http": True}

    def open(self) -> Any:
        return open_object_storage(self.url, allow_http=True)


@pytest.fixture(params=["file", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    if request.param == "file":
        return Shared((tmp_path / "shared").as_uri())
    server: S3Server = request.getfixturevalue("s3_server")
    return Shared(f"s3://{BUCKET}/careca", server)


@pytest.fixture
async def stacks(tmp_path: Path, shared: Shared, redis_server: RedisServer) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two stacks, each with its own model services without a cache."""
    common: dict[str, Any] = {"redis_url": "", "jobs": True, "jobs_redis_url": redis_server.url}
    async with (
        Stack(tmp_path / "one", gateway_settings=dict(shared.settings), **common) as one,
        Stack(tmp_path / "two", gateway_settings=dict(shared.settings), **common) as two,
    ):
        yield one, two


@pytest.fixture
def received_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every recording look two hours old: the time of an S3 object cannot be set."""
    read = blobs_module._stored_object

    def older(found: Any) -> StoredObject:
        blob = read(found)
        return replace(blob, modified_unix=blob.modified_unix - 7200.0 * blob.key.startswith(RECORDINGS))

    monkeypatch.setattr(blobs_module, "_stored_object", older)


def make_store(folder: Path, shared: Shared, **limits: Any) -> Store:
    """Creates an open store that shares."""
    bounds = {"max_bytes": 10**9, "retention_seconds": 3600.0} | limits
    sharing = SharedStore(shared.open(), **bounds)
    store = Store(folder, max_recording_bytes=10**6, shared=sharing, max_bytes=10**9, retention_seconds=3600.0)
    store.open()
    return store


def receive(store: Store, data: bytes = RECORDING) -> Digest:
    digest = digest_of(data)
    with store.hold(digest) as held, held.upload() as upload:
        upload.write(data)
        upload.finish()
    return digest


async def test_a_recording_of_one_gateway_is_known_to_the_other(stacks: tuple[Stack, Stack]) -> None:
    one, two = stacks
    async with one.caller() as first, two.caller() as second:
        sent = await first.transcribe(RECORDING)
        known = await second.transcribe(RECORDING)

    assert (sent.kinds[0], known.kinds[0]) == ("recording_needed", "recording_known")
    assert known.result.utterances == sent.result.utterances
    assert [engine.inferences for engine in engines(two)] == [1, 1]
    assert known.result.stages[0].cached, "the audio was decoded by the other gateway"


async def test_a_recording_of_one_gateway_can_be_decoded_by_the_other(stacks: tuple[Stack, Stack]) -> None:
    one, two = stacks
    async with submitting(one) as submitter:
        assert await submitter.upload(RECORDING) == "recording_needed"

    async with two.caller() as caller:
        answer = await caller.transcribe(RECORDING)

    assert answer.kinds[0] == "recording_known"
    assert answer.result.utterances
    assert not answer.result.stages[0].cached


async def test_a_job_continues_in_the_other_gateway_when_one_stops(stacks: tuple[Stack, Stack]) -> None:
    one, two = stacks
    for stack in stacks:
        pause_models(stack)
    async with submitting(one) as submitter:
        job = await submitter.submit(RECORDING)
        await until_running(submitter, job)
        await until(lambda: any(engine.running for stack in stacks for engine in engines(stack)))
    worked, other = (one, two) if any(engine.inferences for engine in engines(one)) else (two, one)
    await both_compute(worked)

    await worked.stop_gateway()
    for stack in stacks:
        resume_models(stack)

    async with submitting(other) as submitter:
        ended = await submitter.ended(job)
        assert ended.state is JobState.SUCCEEDED
        assert [attempt.outcome for attempt in ended.attempts] == ["HANDED_BACK", "SUCCEEDED"]
        result = await submitter.result(job, OutputFormat.TXT)
        assert "good morning" in result.formats[OutputFormat.TXT]


async def test_any_gateway_returns_a_result(stacks: tuple[Stack, Stack]) -> None:
    one, two = stacks
    async with submitting(one) as first, submitting(two) as second:
        job = await first.submit(RECORDING)
        await first.ended(job)

        assert await second.result(job) == await first.result(job)


async def test_a_corrupt_recording_fails_its_job(tmp_path: Path, shared: Shared, redis_server: RedisServer) -> None:
    common: dict[str, Any] = {"redis_url": "", "jobs": True, "jobs_redis_url": redis_server.url}
    settings = shared.settings | {"job_slots": 1}
    async with Stack(tmp_path / "one", gateway_settings=settings, **common) as stack, submitting(stack) as somebody:
        pause_models(stack)
        first = await somebody.submit(wav(tone(1.0)))
        await both_compute(stack)
        second = await somebody.submit(RECORDING)
        (stack.store / "recordings" / DIGEST.sha256).unlink()
        shared.open().put(RECORDINGS + DIGEST.sha256, bytes(len(RECORDING)))
        resume_models(stack)

        failed = await somebody.ended(second)

        assert (failed.state, failed.error_reason) == (JobState.FAILED, "RECORDING_CORRUPT")
        assert (await somebody.ended(first)).state is JobState.SUCCEEDED
        assert [engine.inferences for engine in engines(stack)] == [1, 1]
        assert await somebody.upload(RECORDING) == "recording_needed"


@pytest.mark.parametrize("shared", ["s3"], indirect=True)
async def test_an_unavailable_storage_refuses_recordings_and_delays_jobs(
    tmp_path: Path, shared: Shared, redis_server: RedisServer
) -> None:
    assert shared.s3
    common: dict[str, Any] = {"redis_url": "", "jobs": True, "jobs_redis_url": redis_server.url}
    async with (
        Stack(tmp_path / "one", gateway_settings=shared.settings, **common) as stack,
        submitting(stack) as somebody,
    ):
        pause_models(stack)
        job = await somebody.submit(RECORDING)
        await both_compute(stack)
        shared.s3.stop()
        try:
            resume_models(stack)
            with pytest.raises(Unavailable) as refused:
                await somebody.upload(wav(tone(1.0)))
            assert refused.value.reason == "STORE_UNREACHABLE"
            await asyncio.sleep(1.0)
            assert (await somebody.get(job)).state is JobState.RUNNING
        finally:
            shared.s3.start()

        ended = await somebody.ended(job)
        assert (ended.state, len(ended.attempts)) == (JobState.SUCCEEDED, 1)
        assert (await somebody.result(job)).utterances


def test_a_shared_recording_is_fetched_and_checked(tmp_path: Path, shared: Shared) -> None:
    one, two = make_store(tmp_path / "one", shared), make_store(tmp_path / "two", shared)
    receive(one)

    with two.hold(DIGEST) as held:
        assert held.known(AudioSelection())
        held.require(AudioSelection())
        assert held.path.read_bytes() == RECORDING


def test_a_recording_in_no_store_is_missing(tmp_path: Path, shared: Shared) -> None:
    store = make_store(tmp_path / "one", shared)

    with store.hold(DIGEST) as held:
        assert not held.known(AudioSelection())
        with pytest.raises(PreconditionFailed) as caught:
            held.require(AudioSelection())

    assert caught.value.reason == "RECORDING_MISSING"


def test_a_lost_shared_recording_is_shared_again_from_a_local_copy(tmp_path: Path, shared: Shared) -> None:
    one, two = make_store(tmp_path / "one", shared), make_store(tmp_path / "two", shared)
    receive(one)
    shared.open().delete([RECORDINGS + DIGEST.sha256])

    with one.hold(DIGEST) as held:
        assert held.known(AudioSelection())

    with two.hold(DIGEST) as held:
        held.require(AudioSelection())


def test_unused_shared_files_are_removed_unless_a_job_needs_them(
    tmp_path: Path, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "one", shared)
    needed, forgotten = receive(store), receive(store, wav(tone(1.0)))
    now = time.time() + 7200.0
    monkeypatch.setattr(time, "time", lambda: now)

    store.sweep(frozenset({needed.sha256}))

    assert [blob.key for blob in shared.open().list(RECORDINGS)] == [RECORDINGS + needed.sha256]
    with store.hold(forgotten) as held:
        assert not held.known(AudioSelection())


def test_the_least_recently_used_shared_files_are_removed_except_young_ones(
    tmp_path: Path, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "one", shared, max_bytes=len(RECORDING) + 100, retention_seconds=10**6)
    older = receive(store)
    time.sleep(1.1)  # S3 knows seconds
    receive(store, wav(tone(1.0)))

    store.sweep()
    assert len(list(shared.open().list(RECORDINGS))) == 2

    now = time.time() + 3000.0
    monkeypatch.setattr(time, "time", lambda: now)
    store.sweep()
    assert RECORDINGS + older.sha256 not in [blob.key for blob in shared.open().list(RECORDINGS)]
    assert len(list(shared.open().list(RECORDINGS))) == 1


@pytest.mark.parametrize("asked", ["one", "two"])
@pytest.mark.parametrize("bounds", [{"retention_seconds": 3600.0}, {"retention_seconds": 10**6, "max_bytes": 0}])
def test_a_recording_that_was_just_reported_as_known_is_not_swept(
    tmp_path: Path, shared: Shared, received_long_ago: None, asked: str, bounds: dict[str, float]
) -> None:
    """Neither for its age nor for the size of the store, whether the gateway has a local copy or not."""
    stores = {name: make_store(tmp_path / name, shared, **bounds) for name in ("one", "two", "three")}
    needed, forgotten = receive(stores["one"]), receive(stores["one"], wav(tone(1.0)))

    with stores[asked].hold(needed) as held:
        assert held.known(AudioSelection())
    stores["one"].sweep()

    with stores["three"].hold(needed) as held:
        held.require(AudioSelection())
    assert RECORDINGS + forgotten.sha256 not in [blob.key for blob in shared.open().list(RECORDINGS)]


QUIET = Notice("VERY_QUIET", "the recording is very quiet")


def test_the_audio_of_a_job_stays_if_its_recording_is_missing(
    tmp_path: Path, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_store(tmp_path / "one", shared), make_store(tmp_path / "two", shared)
    receive(one)
    audio = digest_of(bytes(1000))
    with one.hold(DIGEST) as held, held.drafts(1) as drafts:
        drafts[0].write_bytes(bytes(1000))
        held.store_audio(AudioSelection(), drafts, DecodedRecord((audio,), (QUIET,)))
    one.put_waveform(audio, b"\1\2\3\4")
    shared.open().delete([RECORDINGS + DIGEST.sha256])
    with two.hold(DIGEST) as held:
        assert held.known(AudioSelection())
    now = time.time() + 7200.0
    monkeypatch.setattr(time, "time", lambda: now)

    two.sweep(frozenset({DIGEST.sha256}))
    with two.hold(DIGEST) as held:
        held.require(AudioSelection())
        decoded = held.stored_audio(AudioSelection())
        assert decoded is not None
        assert ([each.digest for each in decoded.audio], decoded.notices) == ([audio], (QUIET,))

    assert two.waveform(audio, 1, 2) == b"\2\3"

    two.sweep()
    assert not list(shared.open().list(""))
    assert two.waveform(audio, 1, 2) is None


def test_corrupt_shared_bytes_are_refused_before_they_are_stored(tmp_path: Path, shared: Shared) -> None:
    store = make_store(tmp_path / "one", shared)
    shared.open().put(RECORDINGS + DIGEST.sha256, bytes(DIGEST.size_bytes))

    with store.hold(DIGEST) as held:
        assert held.known(AudioSelection())
        with pytest.raises(PreconditionFailed) as caught:
            held.fetch()
        assert not held.path.exists()
        assert not held.known(AudioSelection())

    assert caught.value.reason == "RECORDING_CORRUPT"


def test_usage_is_that_of_all_gateways(tmp_path: Path, shared: Shared) -> None:
    one, two = make_store(tmp_path / "one", shared), make_store(tmp_path / "two", shared)
    receive(one)

    assert (two.usage().recordings, two.usage().size_bytes) == (1, len(RECORDING))
