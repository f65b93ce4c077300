"""Both clients' calls for jobs, against a real gRPC server that keeps jobs in memory. One suite runs on each client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from careca import codec
from careca.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PreconditionFailed,
    Unavailable,
)
from careca.types import Digest, Job, JobPriority, JobState, OutputFormat, Segment, Stage
from careca.v1 import jobs_pb2
from careca_client import AsyncClient, Client, RecordingKnown, Retrying, Uploading
from support.clients import NOWHERE, Connect, EitherClient
from support.scripted_gateway import GatewayFixture, result_for
from support.scripted_jobs import RELEASE, SEGMENTS
from support.waiting import HANG_SECONDS, longer_and_longer

MEBIBYTE = 1 << 20
DATA = b"RIFF" + bytes(3 * MEBIBYTE)


async def test_a_recording_is_uploaded_only_once(client: EitherClient, gateway: GatewayFixture) -> None:
    events: list[object] = []
    digest = await client.upload(DATA)
    again = await client.upload(DATA, on_event=events.append)

    assert gateway.script.recordings == {digest.sha256: DATA}
    assert again == digest
    assert gateway.script.uploads == [len(DATA)]
    assert RecordingKnown(digest) in events


async def test_an_upload_that_breaks_is_tried_again(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.script.failures = [Unavailable("draining"), Unavailable("draining")]
    events: list[object] = []

    digest = await client.upload(DATA, on_event=events.append)

    assert gateway.script.recordings == {digest.sha256: DATA}
    assert [event.attempt for event in events if isinstance(event, Retrying)] == [2, 3]


async def test_submitting_uploads_a_missing_recording_and_returns_a_job(
    client: EitherClient, gateway: GatewayFixture, tmp_path: Path
) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(DATA)
    events: list[object] = []

    job = await client.submit(
        path,
        priority="interactive",
        webhook_url="https://example.org/done",
        on_event=events.append,
        max_speaker_count=4,
        language="en",
    )

    assert isinstance(job, Job)
    assert (job.display_name, job.priority) == ("call.wav", JobPriority.INTERACTIVE)
    assert job.webhook is not None
    assert job.webhook.url == "https://example.org/done"
    config = gateway.jobs.records[job.id].request.config
    assert (config.diarization.max_speaker_count, config.transcription.language_code) == (4, "en")
    assert gateway.script.uploads == [len(DATA)]
    assert Uploading(len(DATA), len(DATA)) in events
    assert not any(isinstance(event, RecordingKnown) for event in events)


async def test_submitting_a_known_recording_sends_none_of_it(client: EitherClient, gateway: GatewayFixture) -> None:
    digest = await client.upload(DATA)
    events: list[object] = []

    first, second = await client.submit(DATA, on_event=events.append), await client.submit(DATA)

    assert first.id != second.id
    assert first.recording == digest
    assert RecordingKnown(digest) in events
    assert gateway.script.uploads == [len(DATA)]


async def test_a_digest_is_submitted_without_the_recording_if_the_gateway_has_it(
    client: EitherClient, gateway: GatewayFixture
) -> None:
    with pytest.raises(PreconditionFailed) as raised:
        await client.submit_digest(Digest("ab" * 32, 3), display_name="call.wav")
    digest = await client.upload(DATA)
    gateway.script.failures = [Unavailable("draining")]

    job = await client.submit_digest(digest, display_name="call.wav", priority="interactive", language="en")

    assert raised.value.reason == "RECORDING_MISSING"
    assert (job.recording, job.display_name, job.priority) == (digest, "call.wav", JobPriority.INTERACTIVE)
    assert gateway.jobs.records[job.id].request.config.transcription.language_code == "en"


async def test_a_lost_response_creates_no_second_job(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.jobs.script.lost_responses = 2

    job = await client.submit(DATA)

    assert list(gateway.jobs.records) == [job.id]
    (request_id,) = {request.request_id for request in gateway.jobs.script.submissions}
    assert job.request_id == request_id
    assert request_id


async def test_the_same_request_id_is_the_same_job_and_is_refused_with_other_content(
    client: EitherClient, gateway: GatewayFixture
) -> None:
    first = await client.submit(DATA, request_id="monday")
    again = await client.submit(DATA, request_id="monday")

    assert first.id == again.id
    with pytest.raises(PreconditionFailed) as raised:
        await client.submit(DATA, request_id="monday", language="en")
    assert raised.value.reason == "REQUEST_ID_REUSED"


async def test_once_creates_one_job_of_the_same_recording_name_and_options(
    client: EitherClient, gateway: GatewayFixture
) -> None:
    first = await client.submit(DATA, once=True, language="en")
    again = await client.submit(DATA, once=True, language="en")
    others = [
        await client.submit(DATA, once=True),
        await client.submit(DATA, once=True, language="en", display_name="other.wav"),
        await client.submit(DATA, once=True, language="en", priority=JobPriority.INTERACTIVE),
        await client.submit(DATA + b"x", once=True, language="en"),
    ]

    assert again.id == first.id
    assert len({first.id, *(job.id for job in others)}) == 5
    assert all(len(request.request_id) <= 128 for request in gateway.jobs.script.submissions)


async def test_a_recording_that_is_lost_again_is_uploaded_again_up_to_a_limit(
    client: EitherClient, gateway: GatewayFixture
) -> None:
    gateway.jobs.script.lost_uploads = 1
    assert (await client.submit(DATA)).id in gateway.jobs.records
    gateway.script.recordings.clear()
    gateway.jobs.script.lost_uploads = 100

    with pytest.raises(PreconditionFailed) as raised:
        await client.submit(DATA)

    assert raised.value.reason == "RECORDING_MISSING"
    assert gateway.script.uploads == [len(DATA)] * 4


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"speaker_count": 51}, "config.diarization.speaker_count"),
        ({"formats": ["srt"]}, "config.formats"),
        ({"priority": "urgent"}, "priority"),
        ({"once": True, "request_id": "monday"}, "request_id"),
    ],
)
async def test_an_invalid_submission_is_refused_without_a_call(
    client: EitherClient, gateway: GatewayFixture, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await client.submit(DATA, **settings)

    assert raised.value.field == field
    assert gateway.jobs.script.submissions == []
    assert gateway.script.uploads == []


async def test_a_full_queue_says_when_to_try_again(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.script.failures = [Overloaded("too many jobs wait", retry_after_seconds=9.0, reason="TOO_MANY_JOBS")]

    with pytest.raises(Overloaded) as raised:
        await client.submit(DATA)

    assert (raised.value.reason, raised.value.retry_after_seconds) == ("TOO_MANY_JOBS", 9.0)


async def test_every_call_sends_the_submitter(connect: Connect, gateway: GatewayFixture) -> None:
    ana, nobody = connect(gateway.target, submitter="ana@example.org"), connect(gateway.target)
    job = await ana.submit(DATA)
    await ana.transcribe(DATA)
    await ana.upload(DATA)
    for name in ("job", "job_result", "cancel_job"):
        await getattr(ana, name)(job.id)
    assert await ana.all("watch", job.id)
    assert [each.id for each in await ana.all("jobs")] == [job.id]
    await ana.delete_job(job.id)
    await ana.clear_jobs()

    assert set(gateway.jobs.script.submitters) == {"ana@example.org"}
    assert gateway.script.submitters == ["ana@example.org"]
    assert job.submitter == "ana@example.org"
    assert await nobody.all("jobs") == []
    assert gateway.jobs.script.submitters[-1] == "anonymous"


@pytest.mark.parametrize("name", ["Ana B", "x" * 65, "ana\n", "анна"])
def test_an_invalid_submitter_is_refused(name: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidRequest):
            kind(NOWHERE, submitter=name)


async def test_a_job_is_returned_in_its_present_state(client: EitherClient, gateway: GatewayFixture) -> None:
    job = await client.submit(DATA)

    found = await client.job(job.id)

    assert found == gateway.jobs.records[job.id].job
    assert found.state is JobState.SUCCEEDED
    assert [stage.stage for stage in found.stages] == list(Stage)
    assert found.attempts[0].outcome == "SUCCEEDED"


async def test_all_jobs_are_listed_over_several_pages(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.script.recordings[(await client.upload(DATA)).sha256] = DATA
    for number in range(105):
        await client.submit(DATA, request_id=str(number))

    assert [job.request_id for job in await client.all("jobs")] == [str(number) for number in range(104, -1, -1)]
    assert [request.page_size for request in gateway.jobs.script.listings] == [100, 100]
    assert [job.request_id for job in await client.all("jobs", limit=2)] == ["104", "103"]
    assert gateway.jobs.script.listings[-1].page_size == 2
    assert await client.all("jobs", limit=0) == []
    assert len(gateway.jobs.script.listings) == 3


async def test_a_search_goes_on_after_short_and_empty_pages(client: EitherClient, gateway: GatewayFixture) -> None:
    job = codec.encode_job(await client.submit(DATA))
    pages = [([], "1"), ([job], "2"), ([], "3"), ([job], "")] * 2
    gateway.jobs.script.pages = [jobs_pb2.ListJobsResponse(jobs=jobs, next_page_token=token) for jobs, token in pages]

    assert len(await client.all("jobs", query="budget 2026", limit=5)) == 2
    assert [request.page_token for request in gateway.jobs.script.listings] == ["", "1", "2", "3"]
    assert len(await client.all("jobs", query="budget 2026", limit=1)) == 1
    assert len(gateway.jobs.script.listings) == 6
    assert {request.query for request in gateway.jobs.script.listings} == {"budget 2026"}


async def test_jobs_are_listed_by_state_and_time(client: EitherClient, gateway: GatewayFixture) -> None:
    done = await client.submit(DATA)
    gateway.jobs.script.at_once = False
    waiting = await client.submit(DATA)

    assert [job.id for job in await client.all("jobs", states=[JobState.QUEUED, "running"])] == [waiting.id]
    assert [job.id for job in await client.all("jobs", states="succeeded")] == [done.id]
    assert await client.all("jobs", created_before=done.create_unix) == []
    found = await client.all("jobs", created_from=done.create_unix, created_before=waiting.create_unix + 1)
    assert [job.id for job in found] == [waiting.id, done.id]
    for settings in ({"states": ["lost"]}, {"limit": -1}):
        with pytest.raises(InvalidRequest):
            await client.all("jobs", **settings)


async def test_jobs_are_listed_page_by_page(client: EitherClient) -> None:
    jobs = [await client.submit(DATA, request_id=f"{number}") for number in range(3)]

    first = await client.jobs_page(page_size=2, states=["succeeded"])
    last = await client.jobs_page(page_size=2, states=["succeeded"], page_token=first.next_page_token)

    assert [job.id for job in (*first.jobs, *last.jobs)] == [job.id for job in reversed(jobs)]
    assert first.next_page_token
    assert last.next_page_token == ""


async def test_a_watch_continues_after_any_update(client: EitherClient) -> None:
    job = await client.submit(DATA)
    updates = await client.all("updates", job.id)
    segments = [update for update in updates if isinstance(update.content, Segment)]

    rest = await client.all("updates", job.id, cursor=segments[0].cursor)

    assert tuple(update.content for update in segments) == SEGMENTS
    assert [update.content for update in rest if isinstance(update.content, Segment)] == list(SEGMENTS[1:])
    assert isinstance(rest[0].content, Job)


async def test_a_job_is_watched_from_its_queue_to_its_end(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.jobs.script.at_once = False
    job = await client.submit(DATA)
    seen: list[Job | Segment] = []

    async for happened in client.iterate("watch", job.id):
        if not seen:
            await asyncio.to_thread(gateway.jobs.work, job.id)
        seen.append(happened)

    jobs = [each for each in seen if isinstance(each, Job)]
    assert [each.state for each in jobs] == [
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.RUNNING,
        JobState.SUCCEEDED,
    ]
    assert tuple(each for each in seen if isinstance(each, Segment)) == SEGMENTS
    assert jobs[2].stages[0].progress == 1.0


@pytest.mark.parametrize("breaks", [[1, 1, 1, 1, 1, 1, 1], [2, 2, 2], [0, 2], [2, 0, 0, 1]], ids=str)
async def test_a_broken_watch_continues_without_losing_or_repeating(
    client: EitherClient, gateway: GatewayFixture, breaks: list[int]
) -> None:
    """It may break more often than the number of retries, because each update renews the attempts."""
    job = await client.submit(DATA)
    gateway.jobs.script.break_watches_after = list(breaks)
    events: list[object] = []

    seen = await client.all("watch", job.id, on_event=events.append)

    assert tuple(each for each in seen if isinstance(each, Segment)) == SEGMENTS
    assert [each.state for each in seen if isinstance(each, Job)] == [JobState.SUCCEEDED]
    assert any(isinstance(event, Retrying) for event in events)
    assert len(gateway.jobs.script.cursors) > 1


async def test_a_watch_survives_a_restart_of_the_gateway(client: EitherClient, gateway: GatewayFixture) -> None:
    """The gateway ends abruptly, and is away for longer than the attempts of a call that has not begun."""
    gateway.jobs.script.at_once = False
    job = await client.submit(DATA)
    await asyncio.to_thread(gateway.jobs.begin, job.id)
    seen: list[Job | Segment] = []

    async for happened in client.iterate("watch", job.id):
        seen.append(happened)
        if happened == SEGMENTS[0]:
            await asyncio.to_thread(gateway.restart, 3.0)
            await asyncio.to_thread(gateway.jobs.finish, job.id)

    assert tuple(each for each in seen if isinstance(each, Segment)) == SEGMENTS
    assert [each.state for each in seen if isinstance(each, Job)][-1] is JobState.SUCCEEDED
    assert gateway.jobs.script.cursors[0] == ""
    assert gateway.jobs.script.cursors[-1] != ""


async def test_a_watch_of_a_client_without_retries_fails_at_once(connect: Connect, gateway: GatewayFixture) -> None:
    client = connect(gateway.target, retries=0)
    job = await client.submit(DATA)
    gateway.jobs.script.break_watches_after = [2, 2]

    with pytest.raises(Unavailable):
        await client.all("watch", job.id)

    assert len(gateway.jobs.script.cursors) == 1


async def test_a_watch_fails_if_the_gateway_stays_away(connect: Connect, gateway: GatewayFixture) -> None:
    client = connect(gateway.target, retries=2)
    job = await client.submit(DATA)
    gateway.jobs.script.break_watches_after = [0] * 10

    with pytest.raises(Unavailable):
        await client.all("watch", job.id)

    assert len(gateway.jobs.script.cursors) == 3


async def test_a_watch_has_a_deadline_and_ends_with_its_iterator(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.jobs.script.at_once = False
    job = await client.submit(DATA)

    deadlines = longer_and_longer(0.5)
    while not gateway.jobs.script.cursors:
        with pytest.raises(DeadlineExceeded):
            await client.all("watch", job.id, timeout=next(deadlines))
    assert await asyncio.to_thread(gateway.jobs.script.watch_ended.wait, HANG_SECONDS)

    gateway.jobs.script.watch_ended.clear()
    watch = client.client.watch(job.id)
    if isinstance(watch, Iterator):
        next(watch)
        watch.close()
    else:
        await anext(watch)
        await watch.aclose()
    assert await asyncio.to_thread(gateway.jobs.script.watch_ended.wait, HANG_SECONDS)


async def test_a_watch_that_ends_before_its_job_is_a_protocol_error(
    client: EitherClient, gateway: GatewayFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await client.submit(DATA)
    running = codec.encode_job(replace(job, state=JobState.RUNNING))
    said = jobs_pb2.WatchJobResponse(cursor="0", job=running)
    for replies in ([], [said], [jobs_pb2.WatchJobResponse(cursor="1")]):
        monkeypatch.setattr(gateway.jobs, "_updates", lambda *_, said=replies: iter(said))
        with pytest.raises(InternalError) as raised:
            await client.all("watch", job.id)
        assert raised.value.reason == "PROTOCOL_ERROR"


async def test_a_result_has_the_requested_formats(client: EitherClient, gateway: GatewayFixture) -> None:
    job = await client.submit(DATA, display_name="call.wav")

    result = await client.job_result(job.id, formats=["srt", OutputFormat.TXT])

    config = gateway.jobs.records[job.id].request.config
    assert result.utterances == result_for(config).utterances
    assert result.formats == {OutputFormat.SRT: "srt of call.wav\n", OutputFormat.TXT: "txt of call.wav\n"}
    assert result.uploaded_bytes == 0
    with pytest.raises(InvalidRequest) as raised:
        await client.job_result(job.id, formats=["docx"])
    assert raised.value.field == "formats"


async def test_a_job_that_has_not_ended_has_no_result(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.jobs.script.at_once = False
    job = await client.submit(DATA)

    with pytest.raises(PreconditionFailed) as raised:
        await client.job_result(job.id)

    assert raised.value.reason == "NO_RESULT"


async def test_a_job_is_cancelled_retried_and_deleted(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.jobs.script.at_once = False
    job = await client.submit(DATA)

    assert (await client.cancel_job(job.id)).state is JobState.CANCELLED
    assert (await client.retry_job(job.id)).state is JobState.QUEUED
    gateway.jobs.work(job.id)
    assert (await client.cancel_job(job.id)).state is JobState.SUCCEEDED
    with pytest.raises(PreconditionFailed) as raised:
        await client.retry_job(job.id)
    assert raised.value.reason == "NOTHING_TO_RETRY"
    assert await client.delete_job(job.id) is None
    assert gateway.jobs.records == {}


async def test_clearing_removes_the_jobs_that_have_ended(client: EitherClient, gateway: GatewayFixture) -> None:
    await client.submit(DATA)
    await client.submit(DATA)
    gateway.jobs.script.at_once = False
    waiting = await client.submit(DATA)

    cleared = await client.clear_jobs()

    assert cleared.removed_jobs == 2
    assert cleared.memory.stages == ((Stage.DIARIZE, RELEASE),)
    assert cleared.memory.gateway == RELEASE
    assert list(gateway.jobs.records) == [waiting.id]


async def test_an_unknown_job_is_not_found(client: EitherClient) -> None:
    for name in ("job", "job_result", "cancel_job", "retry_job", "delete_job"):
        with pytest.raises(NotFound, match="there is no job nothing"):
            await getattr(client, name)("nothing")
    with pytest.raises(NotFound):
        await client.all("watch", "nothing")


async def test_a_gateway_that_cannot_be_reached_is_unavailable(connect: Connect) -> None:
    client = connect(NOWHERE, retries=0)

    for name in ("job", "cancel_job", "delete_job"):
        with pytest.raises(Unavailable):
            await getattr(client, name)("some")
    for call in (client.submit(DATA), client.upload(DATA), client.clear_jobs()):
        with pytest.raises(Unavailable):
            await call
    for listing in (client.all("watch", "some"), client.all("jobs")):
        with pytest.raises(Unavailable):
            await listing


async def test_several_submissions_share_one_client(client: EitherClient, gateway: GatewayFixture) -> None:
    recordings = [bytes([number]) * MEBIBYTE for number in range(5)]

    jobs = await asyncio.gather(*(client.submit(recording) for recording in recordings))

    assert [gateway.script.recordings[job.recording.sha256] for job in jobs] == recordings
    assert len({job.id for job in jobs}) == 5


async def test_a_cancelled_task_ends_its_watch(gateway: GatewayFixture) -> None:
    gateway.jobs.script.at_once = False
    looking = asyncio.Event()
    async with AsyncClient(gateway.target) as client:
        job = await client.submit(DATA)

        async def look() -> None:
            async for _ in client.watch(job.id):
                looking.set()

        task = asyncio.create_task(look())
        await looking.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(gateway.jobs.script.watch_ended.wait, HANG_SECONDS)
