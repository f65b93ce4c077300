"""What is stored for jobs: specs, stage results and results, and when it is removed."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careca import codec
from careca.errors import NotFound, PreconditionFailed, Unavailable
from careca.types import (
    DiarizationOptions,
    Digest,
    Job,
    JobState,
    KnownSpeaker,
    OutputFormat,
    Result,
    Stage,
    Utterance,
)
from careca.v1 import audio_pb2, gateway_pb2
from careca_gateway.jobs.progress import first_stages
from careca_gateway.jobs.queue.port import Limits, Outcome, Submission
from careca_gateway.jobs.queue.redis_queue import RedisJobQueue
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.retention import JobRetention
from careca_gateway.jobs.service import JobRequest, JobService
from careca_gateway.jobs.specs import INLINE_BYTES, JobSpecs
from careca_gateway.jobs.stage_results import ResumingStage, StageResults
from careca_gateway.pipeline.port import StageResult
from careca_gateway.request import Deadline, PipelineEvent
from careca_gateway.storage.held_recording import StoredAudio
from careca_gateway.storage.object_storage import LocalObjectStorage
from careca_gateway.storage.store import Store
from careca_gateway.voices.requests import SavedVoices
from support.fakes import digest_of
from support.redis_server import RedisServer

DIGEST = Digest("a" * 64, 1000)
AUDIO = StoredAudio(Digest("b" * 64, 64_000), Path("audio.s16"))
OTHER_AUDIO = StoredAudio(Digest("c" * 64, 64_000), Path("other.s16"))
OPTIONS = DiarizationOptions(speaker_count=2)


@pytest.fixture
def blobs(tmp_path: Path) -> LocalObjectStorage:
    return LocalObjectStorage(tmp_path / "blobs")


@pytest.fixture
async def queue(redis_server: RedisServer) -> AsyncIterator[RedisJobQueue]:
    queue = RedisJobQueue(redis_server.url, timeout_seconds=20)
    yield queue
    await queue.close()


def keys(blobs: LocalObjectStorage) -> list[str]:
    return sorted(blob.key for folder in ("results/", "stages/", "specs/", "texts/") for blob in blobs.list(folder))


def age(tmp_path: Path, seconds: float) -> None:
    """Makes everything that is stored this old."""
    for path in (tmp_path / "blobs").rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


async def finished_job(queue: RedisJobQueue) -> Job:
    job = await queue.submit(Submission("ana", "r", DIGEST, b"spec", stages=first_stages()), Limits(10, 10))
    lease = await queue.take("worker")
    assert lease
    assert await queue.finish(lease, Outcome(JobState.SUCCEEDED, job.stages, result_key=f"results/{job.id}/1"))
    return job


def config(**fields: object) -> gateway_pb2.TranscribeRequest.Config:
    return gateway_pb2.TranscribeRequest.Config(recording=codec.encode_digest(DIGEST), **fields)  # type: ignore[arg-type]


class Model:
    """Returns a diarization with one speaker and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(
        self, audio: StoredAudio, options: DiarizationOptions, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[audio_pb2.Diarization], None]:
        self.runs += 1
        yield StageResult(audio_pb2.Diarization(model=f"{audio.digest.sha256[0]}{options.speaker_count}"), cached=False)


async def found(
    model: Model, results: StageResults, audio: StoredAudio = AUDIO, options: DiarizationOptions = OPTIONS
) -> tuple[str, bool]:
    stage = ResumingStage(Stage.DIARIZE, model, audio_pb2.Diarization, results)
    (event,) = [each async for each in stage.run(audio, options, skip_cache=False, deadline=Deadline())]
    assert isinstance(event, StageResult)
    return event.message.model, event.cached


async def test_a_short_spec_is_inline_and_can_be_unpacked(blobs: LocalObjectStorage) -> None:
    specs = JobSpecs(blobs)

    spec = await specs.pack(config(display_name="call.wav"))

    assert (await specs.unpack(spec)).display_name == "call.wav"
    assert keys(blobs) == []


async def test_a_long_spec_is_stored_and_can_be_unpacked(blobs: LocalObjectStorage) -> None:
    specs = JobSpecs(blobs)
    known = gateway_pb2.KnownSpeaker(name="Ana", recording=bytes(INLINE_BYTES))

    spec = await specs.pack(config(known_speakers=[known]))

    assert len(spec) < 100
    assert (await specs.unpack(spec)).known_speakers == (KnownSpeaker("Ana", bytes(INLINE_BYTES)),)


async def test_a_missing_spec_is_reported(blobs: LocalObjectStorage) -> None:
    specs = JobSpecs(blobs)
    spec = await specs.pack(config(known_speakers=[gateway_pb2.KnownSpeaker(name="Ana", recording=bytes(20_000))]))
    blobs.delete(keys(blobs))

    with pytest.raises(PreconditionFailed) as caught:
        await specs.unpack(spec)

    assert caught.value.reason == "SPEC_MISSING"


async def test_a_saved_stage_result_is_used_for_the_same_audio_and_options(blobs: LocalObjectStorage) -> None:
    model = Model()
    first = StageResults(blobs, "1", expected=False)
    await found(model, first)
    await first.save()
    again = StageResults(blobs, "1", expected=True)

    assert await found(model, again) == ("b2", True)
    assert await found(model, again, OTHER_AUDIO) == ("c2", False)
    assert await found(model, again, options=DiarizationOptions(speaker_count=3)) == ("b3", False)
    assert await found(model, StageResults(blobs, "2", expected=True)) == ("b2", False)
    assert model.runs == 4


async def test_saved_stage_results_are_deleted_when_the_job_succeeds(blobs: LocalObjectStorage) -> None:
    results = StageResults(blobs, "1", expected=True)
    await found(Model(), results)
    await results.save()
    assert keys(blobs)

    await results.delete()

    assert keys(blobs) == []


async def test_an_unavailable_store_loses_stage_results_and_no_job(
    blobs: LocalObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Unavailable("no store", reason="STORE_UNREACHABLE")

    monkeypatch.setattr(blobs, "get", refuse)
    monkeypatch.setattr(blobs, "put", refuse)
    monkeypatch.setattr(blobs, "list", refuse)
    results = StageResults(blobs, "1", expected=True)
    await found(Model(), results)

    await results.save()
    await results.delete()


async def test_a_result_is_returned_with_the_requested_formats(blobs: LocalObjectStorage) -> None:
    results = JobResults(blobs)
    result = Result(DIGEST, DIGEST, 2.0, (), utterances=(Utterance(0.0, 1.0, "hello", "SPEAKER_00"),))

    key = await results.put("1", 3, codec.encode_result(result))
    plain = codec.decode_result(await results.get(key, (), "call"))
    formatted = codec.decode_result(await results.get(key, (OutputFormat.TXT, OutputFormat.SRT), "call"))

    assert plain == result
    assert "hello" in formatted.formats[OutputFormat.TXT]
    assert list(formatted.formats) == [OutputFormat.TXT, OutputFormat.SRT]


async def test_a_missing_result_is_reported(blobs: LocalObjectStorage) -> None:
    with pytest.raises(NotFound) as caught:
        await JobResults(blobs).get("results/1/1", (), "call")

    assert caught.value.reason == "RESULT_MISSING"


async def test_only_one_result_of_several_attempts_is_kept(blobs: LocalObjectStorage) -> None:
    results = JobResults(blobs)
    message = codec.encode_result(Result(DIGEST, DIGEST, 2.0, ()))
    await results.put("1", 1, message)
    key = await results.put("1", 3, message)
    other = await results.put("10", 1, message)

    await results.keep_only("1", key)

    assert keys(blobs) == sorted([key, other])


async def test_expired_jobs_are_removed_with_their_objects(
    blobs: LocalObjectStorage, queue: RedisJobQueue, tmp_path: Path
) -> None:
    job = await finished_job(queue)
    for key in (f"results/{job.id}/1", f"stages/{job.id}/transcribe", f"texts/{job.id}/newest", "specs/old"):
        blobs.put(key, b"x")

    await JobRetention(queue, blobs, retention_seconds=3600.0).sweep()
    assert len(keys(blobs)) == 4

    age(tmp_path, 8000.0)
    await JobRetention(queue, blobs, retention_seconds=0.0).sweep()
    assert keys(blobs) == []
    with pytest.raises(NotFound):
        await queue.get(job.id)


async def test_orphans_are_removed_except_young_and_foreign_objects(
    blobs: LocalObjectStorage, queue: RedisJobQueue, tmp_path: Path
) -> None:
    job = await finished_job(queue)
    blobs.put(f"results/{job.id}/1", b"x")
    blobs.put("results/ffff/1", b"x")
    blobs.put("stages/ffff/diarize", b"x")
    blobs.put("texts/ffff/newest", b"x")
    age(tmp_path, 7200.0)
    blobs.put("results/eeee/1", b"x")

    await JobRetention(queue, blobs, retention_seconds=10**6).sweep()

    assert keys(blobs) == sorted([f"results/{job.id}/1", "results/eeee/1"])


async def test_a_recording_is_held_until_its_job_is_queued(
    tmp_path: Path, queue: RedisJobQueue, blobs: LocalObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store", max_bytes=0, retention_seconds=0.0, max_recording_bytes=10**6)
    store.open()
    submit = queue.submit

    async def sweep_and_submit(submission: Submission, limits: Limits) -> Job:
        store.sweep()
        return await submit(submission, limits)

    monkeypatch.setattr(queue, "submit", sweep_and_submit)
    unused: Any = None
    desk = JobService(
        queue=queue,
        store=store,
        specs=JobSpecs(blobs),
        results=unused,
        search=unused,
        retention=unused,
        admin=unused,
        limits=Limits(10, 10),
        add_voices=SavedVoices(None).add_to,
        check_webhook=unused,
    )
    content = b"a recording"
    digest = digest_of(content)
    with store.hold(digest) as recording:
        with recording.upload() as upload:
            upload.write(content)
            upload.finish()
        request = JobRequest(gateway_pb2.TranscribeRequest.Config(recording=codec.encode_digest(digest)))

    job = await desk.submit("ana", request)

    assert (store.files.recordings / digest.sha256).exists()
    assert await queue.recordings_in_use() == {job.recording.sha256}
    store.close()
