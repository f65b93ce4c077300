"""Corrections of transcripts at real gateways, with a real Redis and a real store; scripted engines."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from careca.errors import CarecaError, InvalidRequest, NotFound, OutOfMemory, PreconditionFailed
from careca.rpc.statuses import translated_errors
from careca.types import OutputFormat, RenameSpeaker, ReplaceUtterances, Revision
from careca.v1 import jobs_pb2, transcripts_pb2
from careca_client import AsyncClient
from careca_gateway.corrections import service
from careca_gateway.jobs.queue.redis_queue import RedisJobQueue
from careca_gateway.jobs.retention import JobRetention
from careca_gateway.storage.object_storage import LocalObjectStorage
from support.redis_server import RedisServer
from support.stack import Stack
from support.submitters import RECORDING, engines
from support.waiting import HANG_SECONDS

ANA = RenameSpeaker("SPEAKER_00", "Ana")


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, jobs=True) as stack:
        yield stack


@asynccontextmanager
async def connected(stack: Stack, submitter: str = "ana") -> AsyncIterator[AsyncClient]:
    async with AsyncClient(stack.target, submitter=submitter) as client:
        yield client


@pytest.fixture
async def ana(stack: Stack) -> AsyncIterator[AsyncClient]:
    async with connected(stack) as client:
        yield client


async def finished(client: AsyncClient) -> str:
    """Returns the id of a job that has ended."""
    job = await client.submit(RECORDING, display_name="call.wav")
    async for _ in client.watch(job.id):
        pass
    return job.id


@pytest.fixture
async def job(ana: AsyncClient) -> str:
    return await finished(ana)


async def said(client: AsyncClient, job_id: str, revision: int | None = None) -> list[tuple[str | None, str]]:
    result = await client.job_result(job_id, revision=revision)
    return [(utterance.speaker, utterance.text) for utterance in result.utterances]


async def refused(call: object) -> CarecaError:
    with pytest.raises(CarecaError) as caught:
        await call  # type: ignore[misc]
    return caught.value


def speakers_in(rttm: str) -> set[str]:
    return {line.split()[7] for line in rttm.splitlines()}


RECOGNISED = [("SPEAKER_00", "hello there"), ("SPEAKER_01", "good morning")]


async def test_a_correction_is_a_revision_with_author_time_and_summary(ana: AsyncClient, job: str) -> None:
    saved = await ana.save_transcript(job, [ANA], base_revision=0)

    assert saved.revision == Revision(1, "ana", saved.revision.create_unix, "renamed SPEAKER_00 to Ana")
    assert abs(saved.revision.create_unix - time.time()) < 3600
    assert await ana.revisions(job) == (saved.revision,)
    assert await said(ana, job) == [("Ana", "hello there"), ("SPEAKER_01", "good morning")]


async def test_formats_are_made_of_the_newest_revision_or_of_the_one_that_was_asked_for(
    ana: AsyncClient, job: str
) -> None:
    result = await ana.job_result(job)
    second = replace(result.utterances[1], text="good evening", speaker="SPEAKER_00")
    await ana.save_transcript(job, [ReplaceUtterances(1, 1, (second,)), ANA], base_revision=result.revision)

    forms = (OutputFormat.TXT, OutputFormat.RTTM, OutputFormat.JSON)
    newest = await ana.job_result(job, formats=forms)
    original = await ana.job_result(job, formats=forms, revision=0)

    assert "Ana: good evening" in newest.formats[OutputFormat.TXT]
    assert "SPEAKER_01: good morning" in original.formats[OutputFormat.TXT]
    assert {line.split()[7] for line in newest.formats[OutputFormat.RTTM].splitlines()} == {"Ana"}
    assert {line.split()[7] for line in original.formats[OutputFormat.RTTM].splitlines()} == {
        "SPEAKER_00",
        "SPEAKER_01",
    }
    assert (newest.revision, original.revision) == (1, 0)
    assert '"revision": 1' in newest.formats[OutputFormat.JSON]
    assert [word.start for word in newest.utterances[1].words] == [word.start for word in original.utterances[1].words]


async def test_splices_are_what_is_stored(ana: AsyncClient, job: str) -> None:
    utterances = (await ana.job_result(job)).utterances
    edits = [ReplaceUtterances(0, 1, (replace(utterances[0], text="hello you there", words=()),)), ANA]

    saved = await ana.save_transcript(job, edits, base_revision=0)

    stored = (await ana.job_result(job)).utterances
    splice, nothing = saved.splices
    assert (splice.index, splice.removed_count) == (0, 1)
    assert [word.text for word in splice.utterances[0].words] == ["hello", "you", "there"]
    assert [(word.text, word.start, word.end) for word in splice.utterances[0].words] == [
        (word.text, word.start, word.end) for word in stored[0].words
    ]
    assert (nothing.removed_count, nothing.utterances) == (0, ())


async def test_two_who_edit_at_once_are_told(stack: Stack, ana: AsyncClient, job: str) -> None:
    names = [f"Name {number}" for number in range(4)]

    outcomes = await asyncio.gather(
        *(ana.save_transcript(job, [RenameSpeaker("SPEAKER_00", name)], base_revision=0) for name in names),
        return_exceptions=True,
    )

    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(errors) == 3
    for error in errors:
        assert isinstance(error, PreconditionFailed)
        assert (error.reason, error.metadata["newest_revision"]) == ("REVISION_CONFLICT", "1")
    assert len(await ana.revisions(job)) == 1
    assert len(objects(stack)) == 1


def objects(stack: Stack) -> list[Path]:
    """Returns the stored contents of all revisions."""
    return [path for path in (stack.store / "jobs" / "revisions").rglob("*") if path.is_file()]


async def test_a_save_whose_answer_was_lost_may_be_repeated(stack: Stack, ana: AsyncClient, job: str) -> None:
    edits = [ANA, RenameSpeaker("SPEAKER_01", "Bea")]
    first = await ana.save_transcript(job, edits, base_revision=0)

    assert await ana.save_transcript(job, edits, base_revision=0) == first
    assert len(await ana.revisions(job)) == 1
    assert len(objects(stack)) == 1
    other = await refused(ana.save_transcript(job, [ANA], base_revision=0))
    assert other.reason == "REVISION_CONFLICT"

    restored = await ana.restore_revision(job, 0, base_revision=1)
    assert await ana.restore_revision(job, 0, base_revision=1) == restored
    assert (await refused(ana.save_transcript(job, edits, base_revision=0))).reason == "REVISION_CONFLICT"
    assert len(await ana.revisions(job)) == 2


async def test_an_older_revision_and_the_original_can_be_restored(ana: AsyncClient, job: str) -> None:
    await ana.save_transcript(job, [ANA], base_revision=0)
    await ana.save_transcript(job, [RenameSpeaker("Ana", "Eva")], base_revision=1)

    assert (await refused(ana.restore_revision(job, 1, base_revision=1))).reason == "REVISION_CONFLICT"
    third = await ana.restore_revision(job, 1, base_revision=2)
    assert (third.number, third.restored_from, third.summary) == (3, 1, "restored revision 1")
    assert (await said(ana, job))[0] == ("Ana", "hello there")
    fourth = await ana.restore_revision(job, 0, base_revision=3)
    assert (fourth.number, fourth.restored_from, fourth.summary) == (4, 0, "restored what was recognised")
    assert await said(ana, job) == RECOGNISED
    assert [revision.number for revision in await ana.revisions(job)] == [1, 2, 3, 4]


@pytest.mark.parametrize("number", [2, 2**31 - 1, -1])
async def test_a_revision_that_does_not_exist_is_not_found(ana: AsyncClient, job: str, number: int) -> None:
    await ana.save_transcript(job, [ANA], base_revision=0)

    for call in (ana.job_result(job, revision=number), ana.restore_revision(job, number, base_revision=1)):
        error = await refused(call)
        assert isinstance(error, NotFound)
        assert error.reason == "REVISION_NOT_FOUND"


async def test_a_foreign_transcript_does_not_exist(stack: Stack, ana: AsyncClient, job: str) -> None:
    async with connected(stack, "bo") as bo:
        for call in (
            bo.save_transcript(job, [ANA], base_revision=0),
            bo.revisions(job),
            bo.restore_revision(job, 0, base_revision=0),
        ):
            error = await refused(call)
            assert isinstance(error, NotFound)
            assert error.reason == "JOB_NOT_FOUND"
    assert await ana.revisions(job) == ()


async def test_a_refused_edit_saves_none(stack: Stack, ana: AsyncClient, job: str) -> None:
    error = await refused(ana.save_transcript(job, [ANA, RenameSpeaker("Eva", "Bea")], base_revision=0))

    assert isinstance(error, InvalidRequest)
    assert (error.reason, error.field) == ("NO_SUCH_SPEAKER", "edits[1].rename_speaker.speaker_label")
    assert await said(ana, job) == RECOGNISED
    assert objects(stack) == []


async def test_an_edit_without_an_operation_is_refused(stack: Stack, job: str) -> None:
    async with stack.caller() as caller:
        request = transcripts_pb2.SaveTranscriptRequest(job_id=job, edits=[transcripts_pb2.EditOperation()])
        with pytest.raises(InvalidRequest) as caught, translated_errors():
            await caller.transcripts.SaveTranscript(
                request, metadata=(("x-careca-submitter", "ana"),), timeout=HANG_SECONDS
            )
    assert caught.value.field == "edits[0]"


async def test_a_transcript_that_gets_too_large_is_refused(
    stack: Stack, ana: AsyncClient, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (await ana.job_result(job)).message.ByteSize()
    monkeypatch.setattr(service, "MAX_TRANSCRIPT_BYTES", size + 20)

    error = await refused(ana.save_transcript(job, [RenameSpeaker("SPEAKER_00", "A" * 100)], base_revision=0))

    assert error.reason == "TRANSCRIPT_TOO_LARGE"
    assert objects(stack) == []
    await ana.save_transcript(job, [ANA], base_revision=0)


async def test_the_oldest_revisions_are_removed_above_the_limit_and_the_original_stays(
    stack: Stack, ana: AsyncClient, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_REVISIONS", 2)
    names = ["SPEAKER_00", "Ana", "Bea", "Eva"]
    for base, (old, new) in enumerate(pairwise(names)):
        await ana.save_transcript(job, [RenameSpeaker(old, new)], base_revision=base)

    assert [revision.number for revision in await ana.revisions(job)] == [2, 3]
    assert len(objects(stack)) == 2
    assert (await refused(ana.job_result(job, revision=1))).reason == "REVISION_NOT_FOUND"
    assert await said(ana, job, 0) == RECOGNISED


async def test_a_job_without_a_result_cannot_be_corrected(stack: Stack, ana: AsyncClient) -> None:
    transcriber, diarizer = engines(stack)
    for engine in (transcriber, diarizer):
        engine.failures = [OutOfMemory("too long")]
    job = await finished(ana)

    assert (await refused(ana.save_transcript(job, [ANA], base_revision=0))).reason == "NO_RESULT"
    assert (await refused(ana.revisions(job))).reason == "NO_RESULT"


async def test_a_corrected_job_is_not_retried_because_its_corrections_would_be_lost(
    stack: Stack, ana: AsyncClient
) -> None:
    engines(stack)[1].failures = [OutOfMemory("too long")]
    job = await finished(ana)
    first = (await ana.job_result(job)).utterances[0]
    await ana.save_transcript(job, [ReplaceUtterances(0, 1, (replace(first, speaker="Ana"),))], base_revision=0)

    assert (await refused(ana.retry_job(job))).reason == "TRANSCRIPT_CORRECTED"
    result = await ana.job_result(job)
    assert result.partial
    assert [turn.speaker for turn in result.turns] == ["Ana"]


async def test_a_correction_of_a_result_that_a_retry_replaced_is_refused(stack: Stack, ana: AsyncClient) -> None:
    engines(stack)[1].failures = [OutOfMemory("too long")]
    job = await finished(ana)
    assert stack.gateway
    queue = RedisJobQueue(stack.redis_url, timeout_seconds=HANG_SECONDS)
    before = await queue.transcript(job)
    await ana.retry_job(job)
    async for _ in ana.watch(job):
        pass

    new = service.NewRevision("ana", "", "revisions/x")
    assert await queue.add_revision(job, before.result_key, 0, new, most=2) is None
    await queue.close()


async def test_a_lost_revision_is_reported_and_an_older_one_can_be_restored(
    stack: Stack, ana: AsyncClient, job: str
) -> None:
    await ana.save_transcript(job, [ANA], base_revision=0)
    (lost,) = objects(stack)
    lost.unlink()

    for call in (ana.job_result(job), ana.save_transcript(job, [ANA], base_revision=1)):
        assert (await refused(call)).reason == "RESULT_MISSING"
    assert (await ana.restore_revision(job, 0, base_revision=1)).number == 2
    assert await said(ana, job) == RECOGNISED


async def test_all_gateways_see_the_revisions(
    tmp_path: Path, stack: Stack, ana: AsyncClient, job: str, redis_server: RedisServer
) -> None:
    await ana.save_transcript(job, [ANA], base_revision=0)
    await ana.close()
    await stack.stop_gateway()
    await stack.start_gateway()

    async with connected(stack) as again:
        assert (await said(again, job))[0] == ("Ana", "hello there")


async def test_revisions_are_removed_with_their_job(stack: Stack, ana: AsyncClient, job: str) -> None:
    await ana.save_transcript(job, [ANA], base_revision=0)
    assert len(objects(stack)) == 1

    await ana.delete_job(job)

    assert objects(stack) == []


async def test_revisions_without_a_job_are_swept(tmp_path: Path, redis_server: RedisServer) -> None:
    storage = LocalObjectStorage(tmp_path / "blobs")
    storage.put("revisions/ffff/1", b"x")
    path = tmp_path / "blobs" / "revisions" / "ffff" / "1"
    os.utime(path, (time.time() - 7200,) * 2)
    queue = RedisJobQueue(redis_server.url, timeout_seconds=HANG_SECONDS)

    await JobRetention(queue, storage, retention_seconds=10**6).sweep()

    assert not path.exists()
    await queue.close()


async def test_a_gateway_without_jobs_has_no_corrections(tmp_path: Path) -> None:
    async with Stack(tmp_path, "") as stack, stack.caller() as caller:
        for call, request in (
            (caller.transcripts.SaveTranscript, transcripts_pb2.SaveTranscriptRequest()),
            (caller.transcripts.ListRevisions, transcripts_pb2.ListRevisionsRequest()),
            (caller.transcripts.RestoreRevision, transcripts_pb2.RestoreRevisionRequest()),
            (caller.jobs.GetJobResult, jobs_pb2.GetJobResultRequest()),
        ):
            with pytest.raises(PreconditionFailed) as caught, translated_errors():
                await call(request, timeout=HANG_SECONDS)
            assert caught.value.reason == "JOBS_OFF"


async def test_jobs_are_found_by_the_newest_revision(stack: Stack, ana: AsyncClient, job: str) -> None:
    async def found(query: str) -> list[str]:
        return [each.id async for each in ana.jobs(query=query)]

    second = (await ana.job_result(job)).utterances[1]
    await ana.save_transcript(job, [ReplaceUtterances(1, 1, (replace(second, text="Bom dia"),))], base_revision=0)

    assert (await found("bom dia"), await found("good morning")) == ([job], [])
    for path in (stack.store / "jobs" / "texts").rglob("*"):
        if path.is_file():
            path.unlink()
    assert (await found("bom dia"), await found("good morning")) == ([job], [])
    await ana.restore_revision(job, 0, base_revision=1)
    assert (await found("bom dia"), await found("good morning")) == ([], [job])
