"""The search for jobs by name and by what was said: real servers, decoding and Redis; scripted engines."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careca.auth.caller import Role
from careca.auth.tokens import entry_text, hash_token, new_token
from careca.errors import InvalidRequest, OutOfMemory, PermissionDenied, Unavailable
from careca.types import Job, JobState, Segment
from careca.v1 import jobs_pb2
from careca_client import Access, AsyncClient
from careca_gateway.jobs import search
from support.media import tone, wav
from support.redis_server import RedisServer
from support.stack import Stack
from support.submitters import Submitter, engines, pause_models, resume_models, submitting

_lengths = itertools.count(1)


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, jobs=True) as stack:
        yield stack


@pytest.fixture
async def ana(stack: Stack) -> AsyncIterator[Submitter]:
    async with submitting(stack, "ana") as submitter:
        yield submitter


async def say(stack: Stack, submitter: Submitter, *texts: str, name: str = "") -> Job:
    """Returns a job that has ended, in whose recording these texts are said."""
    transcriber, _ = engines(stack)
    transcriber.segments = tuple(Segment(float(start), start + 1.0, text) for start, text in enumerate(texts))
    recording = wav(tone(0.1 * next(_lengths)))  # no other job has the same audio
    return await submitter.ended(await submitter.submit(recording, display_name=name))


async def found(submitter: Submitter, query: str, **fields: Any) -> list[str]:
    jobs, token = await submitter.list(query=query, **fields)
    assert token == ""
    return [job.id for job in jobs]


def texts(stack: Stack) -> Path:
    return stack.store / "jobs" / "texts"


async def test_jobs_are_found_by_what_was_said_and_by_their_names(stack: Stack, ana: Submitter) -> None:
    budget = await say(stack, ana, "We talk about the budget", "of next year", name="Monday.mp4")
    weather = await say(stack, ana, "The weather is fine", name="Tuesday.mp4")

    assert await found(ana, "budget") == [budget.id]
    assert await found(ana, "fine weather") == [weather.id]
    assert await found(ana, "monday year") == [budget.id]
    assert await found(ana, "mp4") == [weather.id, budget.id]
    assert await found(ana, "the") == [weather.id, budget.id]
    assert await found(ana, "weather budget") == []
    assert await found(ana, "  ") == [weather.id, budget.id]


@pytest.mark.parametrize("query", ["você", "VOCE", "voce\u0302", "reunia", "ATA"])
async def test_case_and_accents_make_no_difference(stack: Stack, ana: Submitter, query: str) -> None:
    job = await say(stack, ana, "Olá, Você!", name="Ata da reunião.wav")
    await say(stack, ana, "something else")

    assert await found(ana, query) == [job.id]


async def test_states_and_times_narrow_a_search(stack: Stack, ana: Submitter) -> None:
    first = await say(stack, ana, "budget")
    second = await say(stack, ana, "budget")
    pause_models(stack)
    waiting = await ana.submit(wav(tone(0.05)), display_name="budget.wav")

    assert await found(ana, "budget") == [waiting.id, second.id, first.id]
    assert await found(ana, "budget", states=[jobs_pb2.JOB_STATE_SUCCEEDED]) == [second.id, first.id]
    assert await found(ana, "budget", created_before={"seconds": 1}) == []
    resume_models(stack)
    await ana.ended(waiting)


async def test_only_the_callers_jobs_are_found(stack: Stack, ana: Submitter) -> None:
    await say(stack, ana, "budget")

    async with submitting(stack, "bob") as bob:
        assert await found(bob, "budget") == []


async def test_pages_of_found_jobs_follow_each_other(stack: Stack, ana: Submitter) -> None:
    jobs = [await say(stack, ana, "budget" if number % 2 else "weather") for number in range(6)]

    first, token = await ana.list(query="budget", page_size=2)
    second, end = await ana.list(query="budget", page_size=2, page_token=token)

    assert [job.id for job in (*first, *second)] == [jobs[5].id, jobs[3].id, jobs[1].id]
    assert len(first) == 2
    assert end == ""


async def test_a_page_looks_through_a_limited_number_of_jobs(
    stack: Stack, ana: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_SCANNED", 2)
    jobs = [await say(stack, ana, text) for text in ("budget", "weather", "weather", "budget")]
    pages: list[list[str]] = []
    token = ""

    while not pages or token:
        page, token = await ana.list(query="budget", page_token=token)
        pages.append([job.id for job in page])

    assert pages == [[jobs[3].id], [jobs[0].id], []]
    async with AsyncClient(stack.target, submitter="ana") as client:
        assert [job.id async for job in client.jobs(query="budget")] == [jobs[3].id, jobs[0].id]
        assert [job.id async for job in client.jobs(query="budget", limit=1)] == [jobs[3].id]


async def test_jobs_without_a_stored_text_are_found_by_their_results(stack: Stack, ana: Submitter) -> None:
    job = await say(stack, ana, "Olá, Você!")
    assert (texts(stack) / job.id / "newest").exists()
    shutil.rmtree(texts(stack))

    assert await found(ana, "voce") == [job.id]
    shutil.rmtree(stack.store / "jobs" / "results")
    assert await found(ana, "voce") == []


async def test_the_text_of_another_attempt_is_not_searched(stack: Stack, ana: Submitter) -> None:
    job, other = await say(stack, ana, "budget"), await say(stack, ana, "weather")
    shutil.copyfile(texts(stack) / other.id / "newest", texts(stack) / job.id / "newest")

    assert await found(ana, "budget") == [job.id]


async def test_a_retried_job_is_found_by_its_new_text(stack: Stack, ana: Submitter) -> None:
    transcriber, _ = engines(stack)
    transcriber.failures = [OutOfMemory("the device has too little memory")]
    job = await say(stack, ana, "budget")
    assert job.partial
    assert await found(ana, "budget") == []

    await ana.retry(job)
    await ana.ended(job)

    assert await found(ana, "budget") == [job.id]


async def test_a_deleted_job_leaves_no_text(stack: Stack, ana: Submitter) -> None:
    job = await say(stack, ana, "budget")

    await ana.delete(job)

    assert await found(ana, "budget") == []
    assert [path for path in texts(stack).rglob("*") if path.is_file()] == []


async def test_a_query_has_a_limited_length(ana: Submitter) -> None:
    assert await found(ana, "é" * 200) == []
    with pytest.raises(InvalidRequest) as refused:
        await ana.list(query="é" * 201)

    assert refused.value.field == "query"


def break_texts(stack: Stack) -> None:
    """Makes it impossible to read and write texts, whoever runs the test: a file is where their folder should be."""
    shutil.rmtree(texts(stack), ignore_errors=True)
    texts(stack).write_text("no folder")


async def test_a_search_without_the_store_fails_instead_of_finding_nothing(stack: Stack, ana: Submitter) -> None:
    job = await say(stack, ana, "budget", name="call.wav")
    break_texts(stack)

    with pytest.raises(Unavailable):
        await ana.list(query="budget")
    assert await found(ana, "call") == [job.id]


async def test_a_text_that_cannot_be_stored_does_not_fail_its_job(stack: Stack, ana: Submitter) -> None:
    break_texts(stack)
    job = await say(stack, ana, "budget")
    texts(stack).unlink()

    assert job.state is JobState.SUCCEEDED
    assert await found(ana, "budget") == [job.id]


async def test_only_administrators_search_the_jobs_of_all(tmp_path: Path, redis_server: RedisServer) -> None:
    secrets = {"ana": new_token(), "ops": new_token()}
    file = tmp_path / "tokens.toml"
    roles = {"ana": Role.USER, "ops": Role.ADMIN}
    file.write_text("".join(entry_text(name, roles[name], hash_token(secrets[name]), {}) for name in secrets))
    settings = {"tokens_file": file}
    async with (
        Stack(tmp_path, redis_server.url, jobs=True, gateway_settings=settings) as stack,
        AsyncClient(stack.target, access=Access(secrets["ana"])) as ana,
        AsyncClient(stack.target, access=Access(secrets["ops"])) as ops,
    ):
        job = await ana.submit(wav(tone(0.5)))
        states = [update.state async for update in ana.watch(job.id) if isinstance(update, Job)]

        assert states[-1] is JobState.SUCCEEDED
        assert [each.id async for each in ops.jobs(query="hello", all_submitters=True)] == [job.id]
        assert [each async for each in ops.jobs(query="hello")] == []
        with pytest.raises(PermissionDenied):
            await anext(ana.jobs(query="hello", all_submitters=True))
