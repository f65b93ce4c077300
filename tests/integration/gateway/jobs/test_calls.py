"""Calls that run as jobs: in the queue, on other gateways, and when callers leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from careca import codec
from careca.errors import Cancelled, CarecaError, DeadlineExceeded, InvalidRequest, Overloaded, Unavailable
from careca.types import Job, JobPriority, JobState, OutputFormat, Scheduling, SchedulingClass, Stage, StageState
from careca_client import AsyncClient
from support.fakes import digest_of
from support.media import tone, wav
from support.redis_server import RedisServer
from support.samples import sample_value
from support.stack import Answer, Caller, Stack
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
from support.waiting import longer_and_longer, until

OTHER = wav(tone(1.0, hertz=(660,)))
THIRD = wav(tone(1.0, hertz=(550,)))
ANA = (("x-careca-submitter", "ana"),)


def named(request_id: str) -> tuple[tuple[str, str], ...]:
    return (*ANA, ("x-request-id", request_id))


INTERACTIVE, BATCH = SchedulingClass.INTERACTIVE, SchedulingClass.BATCH


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    """Its cache cannot be stopped."""
    async with Stack(tmp_path, "", jobs=True, jobs_redis_url=redis_server.url) as stack:
        yield stack


@pytest.fixture
async def caller(stack: Stack) -> AsyncIterator[Caller]:
    async with stack.caller() as caller:
        yield caller


@pytest.fixture
async def ana(stack: Stack) -> AsyncIterator[Submitter]:
    async with submitting(stack, "ana") as submitter:
        yield submitter


async def only_job(submitter: Submitter) -> Job:
    (job,), _ = await submitter.list()
    return job


async def calling(stack: Stack, caller: Caller) -> asyncio.Task[Answer]:
    """A call on which both models wait in the middle of their work."""
    pause_models(stack)
    task = asyncio.create_task(caller.transcribe(RECORDING, metadata=ANA))
    await both_compute(stack)
    return task


async def test_a_call_is_an_interactive_job_of_its_submitter_with_a_result(caller: Caller, ana: Submitter) -> None:
    txt = codec.encode_format(OutputFormat.TXT)

    answer = await caller.transcribe(RECORDING, metadata=named("call-7"), display_name="call.wav", formats=[txt])

    ended = await ana.ended(await only_job(ana))
    assert (ended.state, ended.priority, ended.partial) == (JobState.SUCCEEDED, JobPriority.INTERACTIVE, False)
    assert (ended.recording, ended.display_name, ended.request_id) == (digest_of(RECORDING), "call.wav", "call-7")
    assert [attempt.outcome for attempt in ended.attempts] == ["SUCCEEDED"]
    assert {stage.state for stage in ended.stages} == {StageState.SUCCEEDED}
    assert (await ana.result(ended)).formats == {}
    assert await ana.result(ended, OutputFormat.TXT) == answer.result
    assert "hello there" in answer.result.formats[OutputFormat.TXT]


async def test_model_services_are_told_the_class_and_the_submitter(
    stack: Stack, caller: Caller, ana: Submitter
) -> None:
    await caller.transcribe(RECORDING, metadata=ANA)
    assert [service.scheduled for service in stack.model_services] == [[Scheduling(INTERACTIVE, "ana")]] * 2

    for priority, expected in ((JobPriority.BATCH, BATCH), (JobPriority.INTERACTIVE, INTERACTIVE)):
        job = await ana.submit(priority=priority)
        await ana.ended(job)
        assert [service.scheduled[-1] for service in stack.model_services] == [Scheduling(expected, "ana")] * 2


async def test_a_call_in_progress_is_seen_as_a_running_job(stack: Stack, caller: Caller, ana: Submitter) -> None:
    call = await calling(stack, caller)

    job = await only_job(ana)
    await until_running(ana, job)
    async for _, told in ana.watching(job):
        if isinstance(told, Job) and told.stages[0].state is StageState.SUCCEEDED:
            break

    resume_models(stack)
    assert not (await call).result.partial


async def test_a_caller_that_leaves_cancels_the_job_and_frees_both_devices(
    stack: Stack, caller: Caller, ana: Submitter
) -> None:
    call = await calling(stack, caller)

    call.cancel()

    await until(lambda: all(engine.cancellations and not engine.running for engine in engines(stack)))
    assert (await ana.ended(await only_job(ana))).state is JobState.CANCELLED
    resume_models(stack)
    assert not (await caller.transcribe(RECORDING)).result.partial


async def test_cancelling_the_job_ends_the_call(stack: Stack, caller: Caller, ana: Submitter) -> None:
    call = await calling(stack, caller)

    await ana.cancel(await only_job(ana))

    with pytest.raises(Cancelled):
        await call
    await until(lambda: all(engine.cancellations and not engine.running for engine in engines(stack)))


async def test_deleting_the_job_ends_the_call(stack: Stack, caller: Caller, ana: Submitter) -> None:
    call = await calling(stack, caller)

    await ana.delete(await only_job(ana))

    with pytest.raises(Cancelled):
        await call


async def test_a_call_past_its_deadline_is_a_failed_job(stack: Stack, caller: Caller, ana: Submitter) -> None:
    pause_models(stack)
    deadlines = longer_and_longer(0.5)
    while not all(engine.inferences for engine in engines(stack)):
        with pytest.raises(DeadlineExceeded):
            await caller.transcribe(RECORDING, metadata=ANA, within=next(deadlines))

    newest, *_ = (await ana.list())[0]
    failed = await ana.ended(newest)
    assert (failed.state, failed.error_reason) == (JobState.FAILED, "DEADLINE_EXCEEDED")
    await until(lambda: all(engine.cancellations and not engine.running for engine in engines(stack)))


async def test_the_job_of_a_failed_call_can_be_retried_without_a_caller(
    stack: Stack, caller: Caller, ana: Submitter
) -> None:
    engines(stack)[0].failures = [InvalidRequest("config.options.beam_size", field="config.options.beam_size")]
    with pytest.raises(InvalidRequest) as caught:
        await caller.transcribe(RECORDING, metadata=ANA)
    assert caught.value.field == "config.transcription.beam_size"

    failed = await ana.ended(await only_job(ana))
    await stack.diarizer.stop()
    await ana.retry(failed)
    await until_running(ana, failed)
    await stack.diarizer.start("")

    assert (failed.state, failed.error_reason) == (JobState.FAILED, "INVALID_REQUEST")
    again = await ana.ended(failed)
    assert (again.state, again.partial) == (JobState.SUCCEEDED, False)


async def test_batch_jobs_in_all_slots_do_not_delay_calls(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = {"job_slots": 1}
    async with (
        Stack(tmp_path, redis_server.url, jobs=True, gateway_settings=settings) as stack,
        stack.caller() as caller,
        submitting(stack) as somebody,
    ):
        await caller.transcribe(RECORDING)
        for engine in engines(stack):
            engine.started.clear()
        pause_models(stack)
        batch = [await somebody.submit(data) for data in (OTHER, THIRD)]
        await both_compute(stack)

        assert all(report.cached for report in (await caller.transcribe(RECORDING)).result.stages)

        assert (await somebody.get(batch[1])).state is JobState.QUEUED
        resume_models(stack)
        assert [(await somebody.ended(job)).state for job in batch] == [JobState.SUCCEEDED] * 2


async def test_a_submitter_with_too_many_waiting_jobs_is_refused_at_once(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    settings = {"job_slots": 1, "max_requests": 1, "max_queued_jobs_per_submitter": 1}
    async with (
        Stack(tmp_path, "", jobs=True, jobs_redis_url=redis_server.url, gateway_settings=settings) as stack,
        stack.caller() as caller,
        submitting(stack, "ana") as ana,
    ):
        pause_models(stack)
        for data in (RECORDING, OTHER):  # one of them takes the slot that is kept for such jobs
            await until_running(ana, await ana.submit(data, priority=JobPriority.INTERACTIVE))
        await ana.submit(THIRD, priority=JobPriority.INTERACTIVE)

        with pytest.raises(Overloaded) as refused:
            await caller.transcribe(THIRD, metadata=ANA)

        assert refused.value.reason == "TOO_MANY_JOBS"
        assert refused.value.retry_after_seconds
        resume_models(stack)


# Where the queue is away


async def test_a_call_runs_without_a_job_if_redis_is_unavailable(
    stack: Stack, caller: Caller, ana: Submitter, redis_server: RedisServer
) -> None:
    redis_server.stop()

    answer = await caller.transcribe(RECORDING, metadata=ANA)

    assert not answer.result.partial
    assert answer.progress(Stage.DECODE)[-1] == 1.0
    assert sample_value(stack.metrics.registry, "careca_calls_without_job_total") == 1
    redis_server.start()
    assert await ana.list() == ([], "")


async def test_losing_redis_fails_no_running_call(
    stack: Stack, caller: Caller, ana: Submitter, redis_server: RedisServer
) -> None:
    call = await calling(stack, caller)
    redis_server.pause()
    resume_models(stack)

    answer = await call
    redis_server.resume()

    assert [segment.text for segment in answer.segments] == ["hello there", "good morning"]
    assert (await ana.ended(await only_job(ana))).state is JobState.SUCCEEDED


async def test_a_caller_that_leaves_without_redis_frees_both_devices(
    stack: Stack, caller: Caller, redis_server: RedisServer
) -> None:
    call = await calling(stack, caller)
    redis_server.stop()

    call.cancel()

    await until(lambda: all(engine.cancellations and not engine.running for engine in engines(stack)))


# Several gateways


@asynccontextmanager
async def another(stack: Stack, folder: Path, **changes: Any) -> AsyncIterator[Stack]:
    """A gateway that shares jobs and store with ``stack`` and has its own model services."""
    settings = {**stack.gateway_settings, **changes}
    common: dict[str, Any] = {"jobs": True, "jobs_redis_url": stack.jobs_redis_url}
    async with Stack(folder, "", gateway_settings=settings, **common) as other:
        yield other


@pytest.fixture
async def busy(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    """A gateway with no free slot."""
    settings = {"store_url": (tmp_path / "shared").as_uri(), "job_slots": 1, "max_requests": 1, "drain_seconds": 0.5}
    common: dict[str, Any] = {"jobs": True, "jobs_redis_url": redis_server.url}
    async with Stack(tmp_path / "one", "", gateway_settings=settings, **common) as stack:
        pause_models(stack)
        async with submitting(stack) as somebody:
            for data in (OTHER, THIRD):
                await until_running(somebody, await somebody.submit(data, priority=JobPriority.INTERACTIVE))
        yield stack
        resume_models(stack)


async def test_a_call_to_a_busy_gateway_runs_on_another_with_the_same_events(busy: Stack, tmp_path: Path) -> None:
    async with another(busy, tmp_path / "two") as two, busy.caller() as caller, submitting(two, "ana") as ana:
        txt = codec.encode_format(OutputFormat.TXT)

        answer = await caller.transcribe(RECORDING, metadata=ANA, formats=[txt])

        assert engines(two)[0].inferences == 1
        assert (answer.kinds[0], answer.kinds[-1]) == ("recording_needed", "result")
        assert [segment.text for segment in answer.segments] == ["hello there", "good morning"]
        for stage in Stage:
            told = answer.progress(stage)
            assert (told[0], told[-1]) == (0.0, 1.0)
            assert told == sorted(told)
        assert answer.result == await ana.result(await only_job(ana), OutputFormat.TXT)


async def test_a_call_past_its_deadline_in_the_queue_is_a_failed_job(busy: Stack) -> None:
    deadlines = longer_and_longer(2.0)
    async with busy.caller() as caller, submitting(busy, "ana") as ana:
        while not (jobs := (await ana.list())[0]):
            with pytest.raises(DeadlineExceeded):
                await caller.transcribe(RECORDING, metadata=ANA, within=next(deadlines))

        failed = await ana.ended(jobs[0])
        assert (failed.state, failed.error_reason) == (JobState.FAILED, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("config.options.beam_size: no", field="config.options.beam_size", metadata={"value": "99"}),
        Overloaded("all is full", retry_after_seconds=7.0),
    ],
    ids=lambda error: error.reason,
)
async def test_an_error_at_another_gateway_reaches_the_caller_with_all_its_details(
    busy: Stack, tmp_path: Path, error: CarecaError
) -> None:
    async with another(busy, tmp_path / "two") as two, busy.caller() as caller, two.caller() as direct:
        engines(two)[0].failures = [error, error]

        refusals = []
        for each in (caller, direct):
            with pytest.raises(type(error)) as refused:
                await each.transcribe(RECORDING)
            refusals.append(vars(refused.value))

        assert refusals[0] == refusals[1]
        assert refusals[0]["reason"] == error.reason
        assert (refusals[0]["field"], refusals[0]["metadata"], refusals[0]["retry_after_seconds"]) == (
            error.field and "config.transcription.beam_size",
            error.metadata,
            error.retry_after_seconds,
        )


async def test_a_caller_that_leaves_stops_the_work_at_another_gateway(busy: Stack, tmp_path: Path) -> None:
    async with another(busy, tmp_path / "two") as two, busy.caller() as caller, submitting(two, "ana") as ana:
        pause_models(two)
        call = asyncio.create_task(caller.transcribe(RECORDING, metadata=ANA))
        await both_compute(two)

        call.cancel()

        await until(lambda: all(engine.cancellations and not engine.running for engine in engines(two)))
        assert (await ana.ended(await only_job(ana))).state is JobState.CANCELLED
        resume_models(two)


@pytest.fixture
async def pair(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[tuple[Stack, Stack]]:
    settings = {"store_url": (tmp_path / "shared").as_uri(), "drain_seconds": 0.3}
    common: dict[str, Any] = {"jobs": True, "jobs_redis_url": redis_server.url}
    async with (
        Stack(tmp_path / "one", "", gateway_settings=settings, **common) as one,
        another(one, tmp_path / "two") as two,
    ):
        yield one, two


async def test_a_call_continues_elsewhere_after_its_gateway_and_is_found_by_its_id(
    pair: tuple[Stack, Stack],
) -> None:
    one, two = pair
    pause_models(one)
    async with one.caller() as first, two.caller() as second, submitting(two, "ana") as ana:
        call = asyncio.create_task(first.transcribe(RECORDING, metadata=named("call-7")))
        await both_compute(one)
        await one.stop_gateway()
        with pytest.raises(Unavailable):
            await call

        answer = await second.transcribe(RECORDING, metadata=named("call-7"))

        assert (answer.kinds[0], answer.result.partial) == ("recording_known", False)
        assert [segment.text for segment in answer.segments] == ["hello there", "good morning"]
        ended = await ana.ended(await only_job(ana))
        assert [attempt.outcome for attempt in ended.attempts] == ["HANDED_BACK", "SUCCEEDED"]
        assert engines(two)[0].inferences == 1


async def test_the_client_finds_its_call_again(pair: tuple[Stack, Stack]) -> None:
    for stack in pair:
        pause_models(stack)
    target = "ipv4:" + ",".join(stack.target for stack in pair)
    async with AsyncClient(target, retries=10, submitter="ana") as client:
        call = asyncio.create_task(client.transcribe(RECORDING))
        await until(lambda: any(engine.running for stack in pair for engine in engines(stack)))
        first, other = pair if any(engine.running for engine in engines(pair[0])) else pair[::-1]
        await first.stop_gateway()
        resume_models(other)

        result = await call

    assert result.utterances
    async with submitting(other, "ana") as ana:
        ended = await ana.ended(await only_job(ana))
    assert [attempt.outcome for attempt in ended.attempts] == ["HANDED_BACK", "SUCCEEDED"]


# One call sent again


async def test_a_repeated_call_is_answered_from_the_store(stack: Stack, caller: Caller, ana: Submitter) -> None:
    first = await caller.transcribe(RECORDING, metadata=named("call-7"))
    await ana.ended(await only_job(ana))

    second = await caller.transcribe(RECORDING, metadata=named("call-7"))

    assert second.result == first.result
    assert engines(stack)[0].inferences == 1
    assert len((await ana.list())[0]) == 1


async def test_a_repeated_failed_call_retries_the_same_job(stack: Stack, caller: Caller, ana: Submitter) -> None:
    for engine in engines(stack):
        engine.failures = [Overloaded("full", retry_after_seconds=0.1)]
    with pytest.raises(Overloaded):
        await caller.transcribe(RECORDING, metadata=named("call-7"))
    for engine in engines(stack):
        engine.failures = []

    assert not (await caller.transcribe(RECORDING, metadata=named("call-7"))).result.partial

    ended = await ana.ended(await only_job(ana))
    assert [attempt.outcome for attempt in ended.attempts] == ["OVERLOADED", "SUCCEEDED"]


async def test_calls_with_different_content_may_have_the_same_id(caller: Caller, ana: Submitter) -> None:
    answers = [await caller.transcribe(data, metadata=named("trace-1")) for data in (RECORDING, OTHER, THIRD)]

    assert [answer.result.recording for answer in answers] == [digest_of(data) for data in (RECORDING, OTHER, THIRD)]
    jobs, _ = await ana.list()
    assert {job.recording for job in jobs} == {answer.result.recording for answer in answers}
    assert [job.request_id.split("~")[0] for job in jobs] == ["trace-1"] * 3


async def test_a_late_cancellation_does_not_cancel_the_repeated_call(
    stack: Stack, caller: Caller, ana: Submitter, redis_server: RedisServer
) -> None:
    pause_models(stack)
    broken = asyncio.create_task(caller.transcribe(RECORDING, metadata=named("call-7")))
    await both_compute(stack)
    key = f"careca:{{jobs}}:job:{(await only_job(ana)).id}"
    with redis_server.client() as client:
        waits = client.hget(key, "caller")
        again = asyncio.create_task(caller.transcribe(RECORDING, metadata=named("call-7")))
        await until(lambda: client.hget(key, "caller") != waits)

    broken.cancel()
    await until(lambda: stack.gateway is not None and stack.gateway.calls_in_flight == 1)
    resume_models(stack)

    assert not (await again).result.partial
    assert [attempt.outcome for attempt in (await ana.ended(await only_job(ana))).attempts] == ["SUCCEEDED"]
