"""Jobs between a submitter and two model services: real servers, decoding and Redis; scripted engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from careca import codec
from careca.errors import InvalidRequest, NotFound, OutOfMemory, PreconditionFailed, Unavailable
from careca.rpc.statuses import translated_errors
from careca.types import (
    Job,
    JobState,
    JobWebhook,
    OutputFormat,
    Segment,
    Stage,
    StageState,
    WebhookState,
)
from careca.v1 import gateway_pb2, jobs_pb2
from support.fakes import FakeTranscriberEngine, digest_of
from support.media import encoded, tone, wav
from support.redis_server import RedisServer
from support.samples import sample_value
from support.stack import Config, ModelService, Stack
from support.submitters import (
    RECORDING,
    Submitter,
    both_compute,
    engines,
    pause_models,
    resume_models,
    submitting,
    until_running,
)
from support.waiting import until

OTHER = wav(tone(1.0, hertz=(660,)))
STEREO = wav(tone(2.0, channels=2, hertz=(440, 880)))


def _app(receive: Callable[[web.Request], Awaitable[web.Response]]) -> web.Application:
    app = web.Application()
    app.router.add_post("/told", receive)
    return app


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, jobs=True) as stack:
        yield stack


@pytest.fixture
async def uncached(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    """Model services without a cache."""
    async with Stack(tmp_path, "", jobs=True, jobs_redis_url=redis_server.url) as stack:
        yield stack


@pytest.fixture
async def narrow(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    """A gateway with one job slot."""
    async with Stack(tmp_path, redis_server.url, jobs=True, gateway_settings={"job_slots": 1}) as stack:
        yield stack


@pytest.fixture
async def ana(stack: Stack) -> AsyncIterator[Submitter]:
    async with submitting(stack, "ana") as submitter:
        yield submitter


async def told_of(submitter: Submitter, job: Job) -> JobWebhook:
    """Returns the job's webhook after it was delivered or given up."""
    while True:
        webhook = (await submitter.get(job)).webhook
        assert webhook
        if webhook.state is not WebhookState.PENDING:
            return webhook
        await asyncio.sleep(0.01)


def jobs_of(told: Sequence[tuple[str, Job | Segment]]) -> list[Job]:
    return [each for _, each in told if isinstance(each, Job)]


def segments_of(told: Sequence[tuple[str, Job | Segment]]) -> list[Segment]:
    return [each for _, each in told if isinstance(each, Segment)]


def stage_states(job: Job) -> dict[Stage, StageState]:
    return {stage.stage: stage.state for stage in job.stages}


async def test_a_recording_is_uploaded_once_and_its_result_is_kept(stack: Stack, ana: Submitter) -> None:
    assert await ana.upload(RECORDING) == "recording_needed"
    assert await ana.upload(RECORDING) == "recording_known"

    job = await ana.submit(display_name="call.wav")
    ended = await ana.ended(job)

    assert (ended.state, ended.partial, ended.submitter) == (JobState.SUCCEEDED, False, "ana")
    assert (ended.display_name, ended.recording) == ("call.wav", digest_of(RECORDING))
    assert set(stage_states(ended).values()) == {StageState.SUCCEEDED}
    assert [(attempt.number, attempt.outcome) for attempt in ended.attempts] == [(1, "SUCCEEDED")]
    result = await ana.result(job, OutputFormat.TXT, OutputFormat.SRT)
    assert [(each.speaker, each.text) for each in result.utterances] == [
        ("SPEAKER_00", "hello there"),
        ("SPEAKER_01", "good morning"),
    ]
    assert set(result.formats) == {OutputFormat.TXT, OutputFormat.SRT}
    assert "hello there" in result.formats[OutputFormat.TXT]
    assert (await ana.result(job)).formats == {}


async def test_a_job_for_a_missing_recording_is_refused(ana: Submitter) -> None:
    config = Config(recording=codec.encode_digest(digest_of(RECORDING)))

    with pytest.raises(PreconditionFailed) as refused, translated_errors():
        await ana.jobs.SubmitJob(jobs_pb2.SubmitJobRequest(config=config), **ana.terms)

    assert refused.value.reason == "RECORDING_MISSING"


async def test_uploads_that_differ_from_their_digest_are_not_kept(ana: Submitter) -> None:
    announced = replace(digest_of(RECORDING), size_bytes=len(OTHER))

    with pytest.raises(InvalidRequest) as refused:
        await ana.upload(OTHER, digest=announced)

    assert refused.value.reason == "DIGEST_MISMATCH"
    assert await ana.upload(RECORDING) == "recording_needed"


async def test_a_repeated_submission_returns_the_same_job(ana: Submitter) -> None:
    first = await ana.submit(request_id="call-7")

    assert (await ana.submit(request_id="call-7")).id == first.id
    with pytest.raises(PreconditionFailed) as refused:
        await ana.submit(OTHER, request_id="call-7")
    assert refused.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"request_id": "a b"}, "request_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"priority": 9}, "priority"),
        ({"config": Config(recording={"sha256": "nonsense", "size_bytes": 1})}, "config.recording.sha256"),
        ({"config": Config(recording={"sha256": "a" * 64, "size_bytes": 1}, formats=[99])}, "config.formats[0]"),
    ],
)
async def test_an_invalid_submission_is_refused_with_its_field(
    ana: Submitter, request_fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused, translated_errors():
        await ana.jobs.SubmitJob(jobs_pb2.SubmitJobRequest(**request_fields), **ana.terms)

    assert refused.value.field == field


@pytest.mark.parametrize("name", ["", "an a", "x" * 65, "ana/../bob"])
async def test_an_invalid_submitter_name_is_refused(stack: Stack, name: str) -> None:
    async with stack.caller() as caller:
        submitter = Submitter(caller)
        submitter.terms["metadata"] = (("x-careca-submitter", name),)
        with pytest.raises(InvalidRequest) as refused:
            await submitter.list()

    assert refused.value.field == "x-careca-submitter"


async def test_jobs_of_others_do_not_exist_for_a_submitter(stack: Stack, ana: Submitter) -> None:
    job = await ana.submit()
    async with submitting(stack, "bob") as bob:
        for attempt in (bob.get, bob.watch, bob.result, bob.cancel, bob.retry, bob.delete):
            with pytest.raises(NotFound) as refused:
                await attempt(job)
            assert refused.value.reason == "JOB_NOT_FOUND"
        assert await bob.list() == ([], "")
    async with submitting(stack) as nobody:
        with pytest.raises(NotFound):
            await nobody.get(job)
    assert (await ana.get(job)).id == job.id


@pytest.mark.parametrize("job_id", ["", "no-such-job", "f" * 64, "x" * 100_000])
async def test_an_invalid_job_id_is_not_found(ana: Submitter, job_id: str) -> None:
    with pytest.raises(NotFound), translated_errors():
        await ana.jobs.GetJob(jobs_pb2.GetJobRequest(job_id=job_id), **ana.terms)


async def test_jobs_are_listed_newest_first_in_pages_and_by_state(stack: Stack, ana: Submitter) -> None:
    jobs = [await ana.submit(display_name=f"{number}.wav") for number in range(5)]
    for job in jobs:
        await ana.ended(job)
    pause_models(stack)
    waiting = await ana.submit(OTHER)

    first, token = await ana.list(page_size=4)
    second, end = await ana.list(page_size=4, page_token=token)
    done, _ = await ana.list(states=[jobs_pb2.JOB_STATE_SUCCEEDED])

    assert [job.id for job in (*first, *second)] == [waiting.id, *(job.id for job in reversed(jobs))]
    assert end == ""
    assert [job.id for job in done] == [job.id for job in reversed(jobs)]
    since = codec.encode_time(jobs[3].create_unix)
    assert [job.id for job in (await ana.list(created_from=since))[0]] == [waiting.id, jobs[4].id, jobs[3].id]
    assert [job.id for job in (await ana.list(created_before=since))[0]] == [job.id for job in reversed(jobs[:3])]
    resume_models(stack)


@pytest.mark.parametrize(
    ("query", "field"),
    [({"page_size": -1}, "page_size"), ({"page_token": "../x"}, "page_token"), ({"states": [0]}, "states[0]")],
)
async def test_an_invalid_query_is_refused_with_its_field(ana: Submitter, query: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await ana.list(**query)

    assert refused.value.field == field


async def test_watching_yields_stages_and_segments_and_continues_from_a_cursor(stack: Stack, ana: Submitter) -> None:
    pause_models(stack)
    job = await ana.submit()
    await both_compute(stack)
    beginning = []
    async for told in ana.watching(job):
        beginning.append(told)
        if isinstance(told[1], Job) and stage_states(told[1])[Stage.DECODE] is StageState.SUCCEEDED:
            break
    resume_models(stack)

    rest = await ana.watch(job, beginning[-1][0])
    afterwards = await ana.watch(job, rest[1][0])

    assert segments_of(beginning) == []
    assert [segment.text for segment in segments_of(rest)] == ["hello there", "good morning"]
    assert jobs_of(rest)[-1].state is JobState.SUCCEEDED
    whole = await ana.watch(job)
    assert [segment.text for segment in segments_of(whole)] == ["hello there", "good morning"]
    seen = len(segments_of(rest[:2]))
    assert segments_of(afterwards) == segments_of(rest)[seen:]


async def test_a_malformed_cursor_is_refused(ana: Submitter) -> None:
    job = await ana.submit()

    with pytest.raises(InvalidRequest):
        await ana.watch(job, "not a cursor")


async def test_cancelling_a_running_job_frees_both_devices_for_the_next(stack: Stack, ana: Submitter) -> None:
    pause_models(stack)
    job = await ana.submit()
    await both_compute(stack)

    cancelled = await ana.cancel(job)

    assert cancelled.state is JobState.CANCELLED
    await until(lambda: all(engine.cancellations and not engine.running for engine in engines(stack)))
    resume_models(stack)
    assert (await ana.ended(await ana.submit(OTHER))).state is JobState.SUCCEEDED
    with pytest.raises(PreconditionFailed) as refused:
        await ana.result(job)
    assert refused.value.reason == "NO_RESULT"
    assert (await ana.get(job)).state is JobState.CANCELLED


async def test_a_cancelled_waiting_job_never_runs(narrow: Stack) -> None:
    async with submitting(narrow) as somebody:
        pause_models(narrow)
        first = await somebody.submit()
        await both_compute(narrow)
        second = await somebody.submit(OTHER)

        assert (await somebody.cancel(second)).state is JobState.CANCELLED

        resume_models(narrow)
        assert (await somebody.ended(first)).state is JobState.SUCCEEDED
        assert (await somebody.get(second)).attempts == ()


async def test_cancelling_a_job_that_has_ended_changes_nothing(ana: Submitter) -> None:
    ended = await ana.ended(await ana.submit())

    assert await ana.cancel(ended) == ended


async def test_a_retry_repeats_only_the_failed_stage(uncached: Stack) -> None:
    transcriber, diarizer = engines(uncached)
    diarizer.failures = [OutOfMemory("the device has too little memory")]
    async with submitting(uncached) as somebody:
        job = await somebody.ended(await somebody.submit())
        assert (job.state, job.partial) == (JobState.SUCCEEDED, True)
        assert stage_states(job)[Stage.DIARIZE] is StageState.FAILED
        assert stage_states(job)[Stage.TRANSCRIBE] is StageState.SUCCEEDED
        assert {each.speaker for each in (await somebody.result(job)).utterances} == {None}
        assert "diarize failed" in (await somebody.result(job, OutputFormat.TXT)).formats[OutputFormat.TXT]

        await somebody.retry(job)
        again = await somebody.ended(job)

        assert (again.state, again.partial) == (JobState.SUCCEEDED, False)
        assert (transcriber.inferences, diarizer.inferences) == (1, 2)
        stages = {stage.stage: stage for stage in again.stages}
        assert stages[Stage.DIARIZE].attempts == 2
        assert stages[Stage.TRANSCRIBE].cached
        assert [each.speaker for each in (await somebody.result(job)).utterances] == ["SPEAKER_00", "SPEAKER_01"]
        with pytest.raises(PreconditionFailed) as refused:
            await somebody.retry(job)
        assert refused.value.reason == "NOTHING_TO_RETRY"


async def test_a_job_whose_stages_all_fail_has_an_error_and_can_be_retried(stack: Stack, ana: Submitter) -> None:
    for engine in engines(stack):
        engine.failures = [OutOfMemory("the device has too little memory")]

    failed = await ana.ended(await ana.submit())

    assert (failed.state, failed.error_reason) == (JobState.FAILED, "OUT_OF_MEMORY")
    assert failed.attempts[-1].outcome == "OUT_OF_MEMORY"
    await ana.retry(failed)
    assert (await ana.ended(failed)).state is JobState.SUCCEEDED


async def test_an_unreadable_recording_fails_its_job(stack: Stack, ana: Submitter) -> None:
    failed = await ana.ended(await ana.submit(b"no sound at all" * 100))

    assert (failed.state, failed.error_reason) == (JobState.FAILED, "NOT_A_RECORDING")
    assert stage_states(failed)[Stage.DECODE] is StageState.FAILED
    assert [engine.inferences for engine in engines(stack)] == [0, 0]


async def test_a_job_can_have_separate_channels(stack: Stack, ana: Submitter) -> None:
    job = await ana.ended(await ana.submit(STEREO, channel_mode=gateway_pb2.CHANNEL_MODE_SEPARATE))

    assert job.state is JobState.SUCCEEDED
    assert len((await ana.result(job)).channels) == 2


async def test_a_job_can_have_separate_tracks_and_has_notices(stack: Stack, ana: Submitter) -> None:
    two = encoded("matroska", "flac", np.zeros(32_000), tone(2.0)[:, 0] / 32_768)

    each = await ana.ended(await ana.submit(two, audio_track_mode=gateway_pb2.AUDIO_TRACK_MODE_EACH))
    one = await ana.ended(await ana.submit(two))
    refused = await ana.ended(await ana.submit(two, audio_track=3))

    assert [job.state for job in (each, one, refused)] == [JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED]
    assert [channel.speaker for channel in (await ana.result(each)).channels] == ["SPEAKER_00", "SPEAKER_01"]
    assert [notice.code for notice in (await ana.result(one)).notices][:1] == ["AUDIO_TRACK_CHOSEN"]
    assert refused.error_reason == "NO_SUCH_AUDIO_TRACK"
    assert "has 2 audio tracks" in refused.error_message


async def test_a_full_model_service_delays_jobs_instead_of_failing_them(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    narrow = ModelService(FakeTranscriberEngine(steps=1, step_seconds=0.2), max_waiting=0)
    async with (
        Stack(tmp_path, "", transcriber=narrow, jobs=True, jobs_redis_url=redis_server.url) as stack,
        submitting(stack) as somebody,
    ):
        jobs = [await somebody.submit(wav(tone(1.0 + number / 10))) for number in range(4)]

        ended = [await somebody.ended(job) for job in jobs]

        assert [(job.state, job.partial, len(job.attempts)) for job in ended] == [(JobState.SUCCEEDED, False, 1)] * 4


async def test_an_unavailable_model_service_delays_jobs(stack: Stack, ana: Submitter) -> None:
    await stack.diarizer.stop()
    job = await ana.submit()
    await until_running(ana, job)

    await stack.diarizer.start(stack.redis_url)

    ended = await ana.ended(job)
    assert (ended.state, ended.partial, len(ended.attempts)) == (JobState.SUCCEEDED, False, 1)


async def test_a_gateway_that_stops_hands_its_jobs_back_and_no_attempt_is_wasted(stack: Stack, ana: Submitter) -> None:
    pause_models(stack)
    job = await ana.submit()
    await both_compute(stack)

    await stack.stop_gateway()
    resume_models(stack)
    await stack.start_gateway()

    async with submitting(stack, "ana") as same:
        ended = await same.ended(job)
    assert ended.state is JobState.SUCCEEDED
    assert [attempt.outcome for attempt in ended.attempts] == ["HANDED_BACK", "SUCCEEDED"]
    assert len({attempt.worker for attempt in ended.attempts}) == 2


async def test_watchers_get_unavailable_when_the_gateway_stops(stack: Stack, ana: Submitter) -> None:
    pause_models(stack)
    job = await ana.submit()
    await both_compute(stack)
    watching = asyncio.create_task(ana.watch(job))
    await asyncio.sleep(0.2)

    stopping = asyncio.create_task(stack.stop_gateway())

    with pytest.raises(Unavailable):
        await watching
    await stopping
    resume_models(stack)


async def test_deleting_a_job_removes_its_result_and_one_that_runs_is_cancelled(stack: Stack, ana: Submitter) -> None:
    done = await ana.ended(await ana.submit())
    pause_models(stack)
    running = await ana.submit(OTHER)
    await both_compute(stack)

    await ana.delete(done)
    await ana.delete(running)

    for job in (done, running):
        with pytest.raises(NotFound):
            await ana.get(job)
    await until(lambda: not any(engine.running for engine in engines(stack)))
    assert [path for path in stack.folder.rglob("*") if path.is_file() and done.id in str(path)] == []
    resume_models(stack)


async def test_clearing_the_history_removes_ended_jobs_and_releases_memory(stack: Stack, ana: Submitter) -> None:
    done = await ana.ended(await ana.submit())
    async with submitting(stack, "bob") as bob:
        others = await bob.ended(await bob.submit())

        cleared = await ana.clear()

        assert cleared.removed_jobs == 1
        assert {codec.decode_stage(each.stage) for each in cleared.stages} == {Stage.TRANSCRIBE, Stage.DIARIZE}
        assert all(each.memory.models_unloaded for each in cleared.stages)
        assert not any(engine.loaded for engine in engines(stack))
        with pytest.raises(NotFound):
            await ana.get(done)
        assert (await bob.get(others)).id == others.id


async def test_a_missing_recording_fails_its_job_at_once(narrow: Stack) -> None:
    async with submitting(narrow) as somebody:
        pause_models(narrow)
        first = await somebody.submit()
        await both_compute(narrow)
        second = await somebody.submit(OTHER)
        name = digest_of(OTHER).sha256
        for path in narrow.folder.rglob("*"):
            if path.is_file() and name in path.name:
                path.unlink()
        resume_models(narrow)

        failed = await somebody.ended(second)

        assert (failed.state, failed.error_reason) == (JobState.FAILED, "RECORDING_MISSING")
        assert (await somebody.ended(first)).state is JobState.SUCCEEDED
        assert [engine.inferences for engine in engines(narrow)] == [1, 1]


async def test_an_unavailable_redis_refuses_new_jobs_and_loses_none(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = {"jobs_redis_timeout_seconds": 5.0}
    async with (
        Stack(tmp_path, "", jobs=True, jobs_redis_url=redis_server.url, gateway_settings=settings) as stack,
        submitting(stack) as somebody,
    ):
        pause_models(stack)
        job = await somebody.submit()
        await both_compute(stack)
        redis_server.pause()
        resume_models(stack)

        with pytest.raises(Unavailable):
            await somebody.submit()
        redis_server.resume()

        ended = await somebody.ended(job)
        assert (ended.state, len(ended.attempts)) == (JobState.SUCCEEDED, 1)


async def test_a_gateway_without_a_redis_for_jobs_says_what_it_needs(tmp_path: Path) -> None:
    async with Stack(tmp_path, "") as stack, submitting(stack) as somebody:
        with pytest.raises(PreconditionFailed, match="CARECA_JOBS_REDIS_URL") as refused:
            await somebody.list()

    assert refused.value.reason == "JOBS_OFF"


async def test_a_webhook_is_called_at_the_end_of_its_job(tmp_path: Path, redis_server: RedisServer) -> None:
    told: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        told.put_nowait((request.headers["Careca-Signature"], await request.json()))
        return web.Response()

    secret = tmp_path / "secret"
    secret.write_text("a secret that is long enough, surely")
    settings = {"webhook_secret_file": secret, "webhook_allow_private": True}
    async with TestServer(_app(receive)) as receiver:
        url = str(receiver.make_url("/told"))
        async with (
            Stack(tmp_path / "stack", redis_server.url, jobs=True, gateway_settings=settings) as stack,
            submitting(stack) as somebody,
        ):
            job = await somebody.submit(webhook_url=url)
            signature, notice = await told.get()

            assert signature.startswith("t=")
            assert (notice["job_id"], notice["state"]) == (job.id, "succeeded")
            webhook = await told_of(somebody, job)
            assert webhook == JobWebhook(url, WebhookState.DELIVERED, attempts=1)


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "http://localhost:1/x", "ftp://example.org/", "nonsense"])
async def test_a_webhook_with_a_private_address_is_refused(tmp_path: Path, redis_server: RedisServer, url: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret that is long enough, surely")
    settings = {"webhook_secret_file": secret}
    async with (
        Stack(tmp_path / "stack", redis_server.url, jobs=True, gateway_settings=settings) as stack,
        submitting(stack) as somebody,
    ):
        if "localhost" in url:  # what a name leads to is found when it is told
            job = await somebody.ended(await somebody.submit(webhook_url=url))
            webhook = await told_of(somebody, job)
            assert webhook.state is WebhookState.FAILED
        else:
            with pytest.raises(InvalidRequest) as refused:
                await somebody.submit(webhook_url=url)
            assert refused.value.field == "webhook_url"


async def test_webhooks_need_a_secret(ana: Submitter) -> None:
    with pytest.raises(PreconditionFailed, match="CARECA_WEBHOOK_SECRET_FILE") as refused:
        await ana.submit(webhook_url="https://example.org/told")

    assert refused.value.reason == "WEBHOOKS_OFF"


async def test_jobs_are_counted_in_the_metrics(stack: Stack, ana: Submitter) -> None:
    await ana.ended(await ana.submit())

    def sample(name: str, **labels: str) -> float | None:
        return sample_value(stack.metrics.registry, name, **labels)

    await until(lambda: sample("careca_job_attempt_seconds_count", outcome="succeeded") == 1)
    assert sample("careca_job_attempt_seconds_count", outcome="failed") == 0
    assert sample("careca_jobs_recovered_total", reason="reclaimed") == 0
    assert sample("careca_jobs", state="succeeded") is not None
    assert sample("careca_jobs_in_flight") == 0
    assert sample("careca_jobs_oldest_waiting_seconds") is not None
