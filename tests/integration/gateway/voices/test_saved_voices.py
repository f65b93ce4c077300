"""Saved voices, from one job to the names in the next: real servers, decoding and Redis; scripted engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careca import codec
from careca.errors import CarecaError, InvalidRequest, NotFound, PreconditionFailed, Unavailable
from careca.rpc.statuses import translated_errors
from careca.types import Job, JobState, NoticeCode, Result, Stage, StageState, Voice
from careca.v1 import gateway_pb2, voices_pb2
from support.fakes import ANA, BOB, EMBEDDING_MODEL, EVE, FakeDiarizerEngine
from support.media import tone, wav
from support.redis_server import RedisServer
from support.stack import ModelService, Stack
from support.submitters import Submitter, both_compute, pause_models, resume_models, submitting
from support.waiting import until

NEXT = wav(tone(1.5))


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, jobs=True) as stack:
        yield stack


@pytest.fixture
async def ana(stack: Stack) -> AsyncIterator[Submitter]:
    async with submitting(stack, "ana") as submitter:
        yield submitter


@pytest.fixture
async def first(ana: Submitter) -> Job:
    """A job that has succeeded. Two people speak in it."""
    return await ana.ended(await ana.submit())


def voice(embedding: tuple[float, ...] = EVE, model: str = EMBEDDING_MODEL) -> gateway_pb2.Voice:
    return codec.encode_voice(Voice(embedding, model))


async def result_with_voices(submitter: Submitter, data: bytes = NEXT, **config: Any) -> Result:
    job = await submitter.ended(await submitter.submit(data, use_saved_voices=True, **config))
    assert job.state is JobState.SUCCEEDED
    return await submitter.result(job)


def names(result: Result) -> list[str | None]:
    return [speaker.name for speaker in result.speakers]


async def test_the_next_job_names_a_speaker_who_was_saved(ana: Submitter, first: Job) -> None:
    saved = await ana.save_speaker("Ana de Sá", first, "SPEAKER_01")

    result = await result_with_voices(ana)

    assert names(result) == [None, "Ana de Sá"]
    assert [utterance.speaker for utterance in result.utterances] == ["SPEAKER_00", "Ana de Sá"]
    assert result.notices == ()
    assert (saved.name, saved.embedding_model, saved.job_id) == ("Ana de Sá", EMBEDDING_MODEL, first.id)
    assert saved.create_unix >= first.create_unix
    assert await ana.list_voices() == [saved]


async def test_without_asking_nobody_is_recognised(ana: Submitter, first: Job) -> None:
    await ana.save_speaker("Ana", first)

    assert names(await ana.result(await ana.ended(await ana.submit(NEXT)))) == [None, None]


async def test_a_call_recognises_the_saved_voices_of_its_caller(stack: Stack, ana: Submitter, first: Job) -> None:
    await ana.save_speaker("Ana", first)

    async with stack.caller() as caller:
        mine = await caller.transcribe(NEXT, use_saved_voices=True, metadata=ana.terms["metadata"])
        others = await caller.transcribe(NEXT, use_saved_voices=True)

    assert names(mine.result) == ["Ana", None]
    assert names(others.result) == [None, None]


async def test_a_speaker_may_be_given_by_the_name_that_the_result_has(ana: Submitter, first: Job) -> None:
    await ana.save_speaker("Ana", first)
    named = await ana.ended(await ana.submit(NEXT, use_saved_voices=True))

    again = await ana.save_speaker("Anabel", named, "Ana")

    assert (again.name, again.job_id) == ("Anabel", named.id)


async def test_a_voice_that_the_caller_sends_is_recognised_too(ana: Submitter) -> None:
    await ana.save_voice("Bob", voice=voice(tuple(7.0 * value for value in BOB)))

    result = await result_with_voices(ana)

    assert [(speaker.name, speaker.similarity) for speaker in result.speakers] == [(None, None), ("Bob", 1.0)]
    assert [saved.job_id for saved in await ana.list_voices()] == [""]


async def test_saving_the_same_name_replaces_the_voice(ana: Submitter, first: Job) -> None:
    await ana.save_speaker("Ana", first, "SPEAKER_00")
    await ana.save_speaker("Ana", first, "SPEAKER_01")

    assert names(await result_with_voices(ana)) == [None, "Ana"]
    assert len(await ana.list_voices()) == 1


async def test_a_deleted_voice_is_not_recognised(ana: Submitter, first: Job) -> None:
    await ana.save_speaker("Ana", first)
    await ana.delete_voice("Ana")

    assert await ana.list_voices() == []
    assert names(await result_with_voices(ana)) == [None, None]
    with pytest.raises(NotFound) as refused:
        await ana.delete_voice("Ana")
    assert refused.value.reason == "VOICE_NOT_FOUND"


async def test_voices_of_others_do_not_exist_for_a_submitter(stack: Stack, ana: Submitter, first: Job) -> None:
    await ana.save_speaker("Ana", first)

    async with submitting(stack, "bob") as bob:
        assert await bob.list_voices() == []
        with pytest.raises(NotFound):
            await bob.delete_voice("Ana")
        with pytest.raises(NotFound) as refused:
            await bob.save_speaker("Ana", first)
        assert names(await result_with_voices(bob)) == [None, None]

    assert refused.value.reason == "JOB_NOT_FOUND"
    assert [saved.name for saved in await ana.list_voices()] == ["Ana"]


async def test_known_speakers_of_the_request_win_against_saved_voices(ana: Submitter, first: Job) -> None:
    await ana.save_speaker("Ana B", first, "SPEAKER_01")
    given = [gateway_pb2.KnownSpeaker(name="Ana_B", voice=voice(ANA))]

    assert names(await result_with_voices(ana, known_speakers=given)) == ["Ana_B", None]


async def test_a_job_recognises_the_voices_that_were_saved_when_it_was_submitted(
    stack: Stack, ana: Submitter, first: Job
) -> None:
    await ana.save_speaker("Ana", first)
    pause_models(stack)
    job = await ana.submit(NEXT, use_saved_voices=True)
    await both_compute(stack)
    await ana.delete_voice("Ana")
    await ana.cancel(job)
    await until(lambda: not any(service.engine.running for service in stack.model_services))
    resume_models(stack)

    await ana.retry(job)

    assert (await ana.ended(job)).state is JobState.SUCCEEDED
    assert names(await ana.result(job)) == ["Ana", None]


async def test_a_repeated_submission_is_the_same_job_although_voices_were_saved_since(
    ana: Submitter, first: Job
) -> None:
    job = await ana.submit(NEXT, request_id="monday", use_saved_voices=True)
    await ana.save_speaker("Ana", first)

    assert (await ana.submit(NEXT, request_id="monday", use_saved_voices=True)).id == job.id
    with pytest.raises(PreconditionFailed) as refused:
        await ana.submit(NEXT, request_id="monday")
    assert refused.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    "old", [voice(ANA, "old-voices@1"), voice((*ANA, 0.0))], ids=["of another model", "of another size"]
)
async def test_a_saved_voice_that_cannot_be_compared_is_skipped_with_a_notice(
    ana: Submitter, first: Job, old: gateway_pb2.Voice
) -> None:
    await ana.save_voice("Zoë", voice=old)
    await ana.save_voice("Old", voice=old)
    await ana.save_speaker("Bob", first, "SPEAKER_01")

    result = await result_with_voices(ana)

    assert names(result) == [None, "Bob"]
    (notice,) = result.notices
    assert notice.code == NoticeCode.VOICES_SKIPPED
    assert "Old, Zoë" in notice.message


async def test_a_diarizer_without_voices_skips_saved_voices(tmp_path: Path, redis_server: RedisServer) -> None:
    mute = ModelService(FakeDiarizerEngine(voices=((), ())))
    async with Stack(tmp_path, redis_server.url, jobs=True, diarizer=mute) as stack, submitting(stack, "ana") as ana:
        await ana.save_voice("Eve", voice=voice())

        result = await result_with_voices(ana)

        diarized = next(report for report in result.stages if report.stage is Stage.DIARIZE)
        assert diarized.state is StageState.SUCCEEDED
        assert [notice.code for notice in result.notices] == [NoticeCode.VOICES_SKIPPED]
        with pytest.raises(PreconditionFailed) as refused:
            await ana.save_speaker("Ana", await ana.ended(await ana.submit()))
        assert refused.value.reason == "NO_EMBEDDINGS"


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"name": "Eve"}, "source"),
        ({"name": "", "voice": voice()}, "name"),
        ({"name": " Eve", "voice": voice()}, "name"),
        ({"name": "Eve\nAdam", "voice": voice()}, "name"),
        ({"name": "x" * 101, "voice": voice()}, "name"),
        ({"name": "SPEAKER_07", "voice": voice()}, "name"),
        ({"name": "Eve", "voice": gateway_pb2.Voice()}, "voice.embedding_model"),
        ({"name": "Eve", "voice": gateway_pb2.Voice(embedding_model="m")}, "voice.embedding"),
        ({"name": "Eve", "voice": gateway_pb2.Voice(embedding_model="m", embedding=[0.0])}, "voice.embedding"),
        ({"name": "Eve", "voice": gateway_pb2.Voice(embedding_model="m", embedding=[1.0] * 4097)}, "voice.embedding"),
        ({"name": "Eve", "voice": gateway_pb2.Voice(embedding_model="x" * 256)}, "voice.embedding_model"),
    ],
)
async def test_an_invalid_voice_is_refused_with_its_field(
    ana: Submitter, request_fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await ana.save_voice(**request_fields)

    assert refused.value.field == field
    assert await ana.list_voices() == []


@pytest.mark.parametrize("name", ["", "x" * 100_000, "SPEAKER_00"])
async def test_no_voice_is_deleted_under_a_name_that_none_can_have(ana: Submitter, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await ana.delete_voice(name)

    assert refused.value.field == "name"


async def test_a_speaker_who_is_not_in_the_result_is_not_found(ana: Submitter, first: Job) -> None:
    for label in ("", "SPEAKER_02", "x" * 100_000):
        with pytest.raises(NotFound) as refused:
            await ana.save_speaker("Eve", first, label)
        assert refused.value.reason == "SPEAKER_NOT_FOUND"
        assert "SPEAKER_00, SPEAKER_01" in refused.value.message


async def test_a_job_without_a_result_has_no_voices(stack: Stack, ana: Submitter) -> None:
    pause_models(stack)
    job = await ana.submit(NEXT)
    await both_compute(stack)

    with pytest.raises(PreconditionFailed) as refused:
        await ana.save_speaker("Ana", job)

    resume_models(stack)
    assert refused.value.reason == "NO_RESULT"
    await ana.ended(job)


async def test_the_fifty_first_voice_and_the_fifty_first_known_speaker_are_refused(
    stack: Stack, ana: Submitter
) -> None:
    for number in range(50):
        await ana.save_voice(f"voice {number}", voice=voice())
    with pytest.raises(PreconditionFailed) as full:
        await ana.save_voice("one more", voice=voice())
    given = [gateway_pb2.KnownSpeaker(name="Eve", voice=voice())]
    answered: list[Any] = []

    with pytest.raises(InvalidRequest) as submitted:
        await ana.submit(NEXT, known_speakers=given, use_saved_voices=True)
    config = gateway_pb2.TranscribeRequest.Config(known_speakers=given, use_saved_voices=True)
    opening = gateway_pb2.TranscribeRequest(config=config)
    async with stack.caller() as caller:
        with pytest.raises(InvalidRequest) as called:
            await caller.converse([opening], [], metadata=ana.terms["metadata"], on_response=answered.append)

    assert full.value.reason == "TOO_MANY_VOICES"
    assert submitted.value.field == called.value.field == "config.known_speakers"
    assert answered == []
    same = [gateway_pb2.KnownSpeaker(name="voice 7", voice=voice(ANA))]
    assert names(await result_with_voices(ana, known_speakers=same)) == ["voice 7", None]


async def test_without_a_job_queue_no_voices_are_kept(tmp_path: Path) -> None:
    async with Stack(tmp_path, "") as stack, submitting(stack, "ana") as ana, stack.caller() as caller:
        for call in (
            ana.save_voice("Eve", voice=voice()),
            ana.save_voice("Eve", job_speaker=voices_pb2.JobSpeaker(job_id="1", speaker_label="SPEAKER_00")),
            ana.list_voices(),
            ana.delete_voice("Eve"),
            caller.transcribe(NEXT, use_saved_voices=True),
        ):
            with pytest.raises(PreconditionFailed) as refused:
                await call
            assert refused.value.reason == "JOBS_OFF"
        assert len((await caller.transcribe(NEXT)).result.speakers) == 2


async def test_without_redis_a_call_that_needs_saved_voices_fails_and_others_do_not(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    gone = RedisServer()
    gone.start()
    async with Stack(tmp_path, redis_server.url, jobs=True, jobs_redis_url=gone.url) as stack, stack.caller() as caller:
        gone.stop()

        with pytest.raises(Unavailable):
            await caller.transcribe(NEXT, use_saved_voices=True)
        with pytest.raises(Unavailable), translated_errors():
            await caller.voices.ListVoices(voices_pb2.ListVoicesRequest())

        assert len((await caller.transcribe(NEXT)).result.speakers) == 2


async def test_an_invalid_submitter_name_is_refused(stack: Stack) -> None:
    async with stack.caller() as caller:
        submitter = Submitter(caller)
        submitter.terms["metadata"] = (("x-careca-submitter", "an a"),)
        for call in (submitter.list_voices(), submitter.save_voice("Eve", voice=voice()), submitter.delete_voice("E")):
            with pytest.raises(CarecaError) as refused:
                await call
            assert isinstance(refused.value, InvalidRequest)
            assert refused.value.field == "x-careca-submitter"


async def test_the_error_for_an_unknown_speaker_has_the_names(ana: Submitter, first: Job) -> None:
    await ana.save_speaker("Ana de Sá", first, "SPEAKER_01")
    named = await ana.ended(await ana.submit(NEXT, use_saved_voices=True))

    with pytest.raises(NotFound, match=r"2 speakers: SPEAKER_00, SPEAKER_01 \(Ana de Sá\)$"):
        await ana.save_speaker("Eve", named, "Ana")
