"""Live sessions that go on after something broke: the call, the gateway, a model service."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from careca import codec
from careca.errors import InternalError, InvalidRequest, NotFound, OutOfMemory, PreconditionFailed, Unavailable
from careca.types import JobState
from careca_gateway.jobs.queue.redis_script import PREFIX
from careca_gateway.live import service
from integration.gateway.live.conftest import Sessions
from support.live import (
    BYTES_PER_SECOND,
    Heard,
    Live,
    LiveClient,
    Said,
    SpokenDiarizer,
    SpokenTranscriber,
    assert_numbered,
    assert_speakers,
    assert_told,
    live_client,
    pace,
    spoken,
    spoken_words,
    words,
)
from support.redis_server import RedisServer
from support.stack import Stack
from support.submitters import submitting
from support.waiting import eventually, until

TALK: list[Said | float] = [
    *words(0, 1, 8),
    1.0,
    *words(1, 101, 8),
    1.0,
    *words(0, 11, 8),
    1.0,
    *words(1, 111, 8),
    1.0,
    *words(0, 21, 8),
    0.5,
]
DATA = spoken(TALK)


def texts(heard: Heard) -> list[str]:
    return [each.text for each in heard.words]


SAID = [each.text for each in spoken_words(TALK)]


@pytest.fixture
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(service, "_BEAT_SECONDS", 0.01)
    monkeypatch.setattr(service, "_SILENCE_SECONDS", 0.2)


async def finish(live: Live, data: bytes = DATA) -> Heard:
    """Sends the rest of the audio, and the end."""
    await live.audio(data[live.received_bytes :])
    await live.end()
    return await live.ended()


@pytest.mark.parametrize("bytes_before", [0, 1, 40_001, len(DATA) // 2, len(DATA)])
async def test_a_broken_call_is_continued(client: LiveClient, bytes_before: int) -> None:
    first = await client.begin()
    await first.audio(DATA[:bytes_before])
    await first.cancel()

    second = await client.resume(first.session_id, first.heard.last_number)
    assert second.received_bytes <= bytes_before
    heard = first.heard + await finish(second)

    assert_numbered(heard)
    assert_told(heard, TALK)
    assert heard.kinds[-2:] == ["ended", "result"]


async def test_many_broken_calls_are_continued(client: LiveClient) -> None:
    live = await client.begin()
    heard = Heard([])
    for _ in range(30):
        position = live.received_bytes
        await live.audio(DATA[position : position + BYTES_PER_SECOND // 2], piece=1_001)
        await live.cancel()
        heard += live.heard
        live = await client.resume(live.session_id, heard.last_number)
    heard += await finish(live)

    assert_numbered(heard)
    assert_told(heard, TALK)


async def test_events_are_sent_again_from_the_one_asked_for(client: LiveClient) -> None:
    first = await client.begin()
    await first.audio(DATA[: len(DATA) // 2])
    await first.until_heard("final", 2)
    await first.cancel()
    told = first.heard.numbered

    for after in range(len(told)):
        again = await client.resume(first.session_id, after)
        await until(lambda again=again, after=after: len(again.heard.numbered) >= len(told) - after)
        assert again.heard.numbered[: len(told) - after] == told[after:]
        await again.cancel()


async def test_the_options_are_those_of_the_first_call(client: LiveClient, transcriber: SpokenTranscriber) -> None:
    first = await client.begin(interim_results=False, transcription={"language_code": "nl"})
    await first.cancel()

    heard = first.heard + await finish(await client.resume(first.session_id))

    assert texts(heard) == SAID
    assert "interim" not in heard.kinds
    assert {window.options.language for window, _ in transcriber.asked} == {"nl"}


async def test_a_newer_call_ends_the_older_one(client: LiveClient) -> None:
    first = await client.begin()
    await first.audio(DATA[: len(DATA) // 2])
    second = await client.resume(first.session_id, first.heard.last_number)

    error = await first.error()
    assert isinstance(error, PreconditionFailed)
    assert error.reason == "SESSION_TAKEN_OVER"
    heard = Heard([each for each in first.responses if each.event_number <= second_after(second, first)])
    heard += await finish(second)
    assert_told(heard, TALK)


def second_after(second: Live, first: Live) -> int:
    """The number of the last event of the first call that the second one does not repeat."""
    numbers = [each.event_number for each in second.heard.numbered]
    return numbers[0] - 1 if numbers else first.heard.last_number


async def test_a_newer_call_takes_over_from_one_that_waits(client: LiveClient, transcriber: SpokenTranscriber) -> None:
    """The older call sends more than the gateway takes, because the engine is held."""
    transcriber.may_go_on.clear()
    first = await client.begin()
    sending = asyncio.create_task(first.audio(spoken(words(0, 1, 100))))
    session_id = first.session_id
    await until(lambda: first.sent_bytes > 19 * BYTES_PER_SECOND)

    second = await client.resume(session_id)

    assert (await first.error()).reason == "SESSION_TAKEN_OVER"
    await sending
    assert second.received_bytes <= first.sent_bytes
    transcriber.may_go_on.set()
    await second.end()
    assert (await second.ended()).kinds[-1] == "result"


@pytest.mark.parametrize("gateway_settings", [{"live_idle_seconds": 0.05}])
async def test_a_session_without_a_call_becomes_a_job(stack: Stack, sessions: Sessions, quick_sweeps: None) -> None:
    async with live_client(stack.target, "ana") as client, submitting(stack, "ana") as ana:
        first = await client.begin(display_name="Monday")
        session = await sessions.of(first, "ana")
        await first.audio(DATA)
        await until(lambda: session.received_bytes == len(DATA))
        await first.cancel()

        await until(lambda: session.job_id)

        (job,), _ = await ana.list()
        assert (job.id, job.display_name) == (session.job_id, "Monday")
        assert (await ana.ended(job)).state is JobState.SUCCEEDED
        second = await client.resume(first.session_id, first.heard.last_number)
        heard = first.heard + await second.ended()
        assert_numbered(heard)
        assert_told(heard, TALK)
        assert heard.job_id == job.id
        assert codec.decode_result(heard.result).utterances == (await ana.result(job)).utterances


@pytest.mark.parametrize("gateway_settings", [{"live_idle_seconds": 0.05}])
async def test_a_session_with_a_call_goes_on_without_audio(
    client: LiveClient, sessions: Sessions, quick_sweeps: None
) -> None:
    live = await client.begin()
    other = await client.begin()
    session = await sessions.of(other)
    await other.cancel()

    await until(lambda: session.job_id == "")

    assert texts(await finish(live)) == SAID


async def test_a_session_that_has_ended_gives_the_rest_and_the_result(client: LiveClient) -> None:
    first = await client.begin()
    await first.audio(DATA)
    await first.end()
    whole = await first.ended()

    for after in (0, 1, whole.last_number - 1, whole.last_number):
        heard = await (await client.resume(first.session_id, after)).ended()
        assert heard.numbered == whole.numbered[after:]
        assert heard.kinds == ["started", *(str(each.WhichOneof("message")) for each in heard.numbered), "result"]
        assert heard.responses[0].started.received_bytes == len(DATA)
        assert heard.result == whole.result


async def test_a_session_without_audio_that_has_ended_says_so_again(client: LiveClient) -> None:
    first = await client.begin()
    await first.end()
    await first.ended()

    heard = await (await client.resume(first.session_id)).ended()
    assert heard.kinds == ["started", "ended"]


async def test_audio_for_a_session_that_was_ended_by_another_call_is_refused(
    client: LiveClient, diarizer: SpokenDiarizer, sessions: Sessions
) -> None:
    diarizer.may_go_on.clear()  # so that it does not end yet
    first = await client.begin()
    session = await sessions.of(first)
    await first.audio(DATA[:BYTES_PER_SECOND])
    await first.end()
    await until(lambda: session.ending)
    second = await client.resume(first.session_id)
    await second.audio(DATA[:BYTES_PER_SECOND])

    error = await second.error()
    assert isinstance(error, PreconditionFailed)
    assert error.reason == "SESSION_ENDED"
    diarizer.may_go_on.set()
    heard = await (await client.resume(first.session_id)).ended()
    assert heard.responses[0].started.received_bytes == BYTES_PER_SECOND


async def test_after_an_event_that_does_not_exist_nothing_is_continued(client: LiveClient) -> None:
    first = await client.begin()
    await first.cancel()

    for after in (-1, 1, 2**62):
        with pytest.raises(InvalidRequest) as refused:
            await client.resume(first.session_id, after)
        assert refused.value.field == "config.after_event"
    assert texts(await finish(await client.resume(first.session_id))) == SAID


async def test_sessions_of_others_do_not_exist(stack: Stack, client: LiveClient) -> None:
    first = await client.begin()

    async with live_client(stack.target, "eve") as eve:
        for session_id in (first.session_id, "none", "../" + first.session_id, "x" * 100_000, "\n."):
            with pytest.raises(NotFound) as refused:
                await eve.resume(session_id)
            assert refused.value.reason == "SESSION_NOT_FOUND"
    assert texts(await finish(first)) == SAID


# The gateway


async def restart(stack: Stack) -> None:
    await stack.stop_gateway()
    await stack.start_gateway()


@pytest.mark.parametrize("part", [0.0, 0.05, 0.25, 0.5, 0.7, 1.0])
async def test_a_restart_of_the_gateway_loses_nothing(stack: Stack, sessions: Sessions, part: float) -> None:
    async with live_client(stack.target) as client:
        first = await client.begin()
        await pace(first, DATA[: round(part * len(DATA))], await sessions.of(first))
        await stack.stop_gateway()
        error = await first.error()
    assert isinstance(error, Unavailable)
    await stack.start_gateway()

    async with live_client(stack.target) as client:
        second = await client.resume(first.session_id, first.heard.last_number)
        assert second.received_bytes == round(part * len(DATA))
        heard = first.heard + await finish(second)

    assert_numbered(heard)
    assert_told(heard, TALK)


async def test_many_restarts_lose_nothing(stack: Stack) -> None:
    heard, session_id = Heard([]), ""
    for _ in range(5):
        async with live_client(stack.target) as client:
            live = await (client.resume(session_id, heard.last_number) if session_id else client.begin())
            session_id, position = live.session_id, live.received_bytes
            await live.audio(DATA[position : position + len(DATA) // 6])
            await stack.stop_gateway()
            assert isinstance(await live.error(), Unavailable)
        heard += live.heard
        await stack.start_gateway()
    async with live_client(stack.target) as client:
        heard += await finish(await client.resume(session_id, heard.last_number))

    assert_numbered(heard)
    assert texts(heard) == SAID


async def test_speakers_keep_their_labels_after_a_restart(stack: Stack, sessions: Sessions) -> None:
    """The second speaker is the first to speak after it."""
    said: list[Said | float] = [*words(0, 1, 12), 1.0, *words(1, 101, 12), 1.0, *words(0, 21, 12), 1.0]
    after: list[Said | float] = [*words(1, 121, 12), 1.0, *words(0, 41, 12), 1.0, *words(2, 201, 12), 1.0]
    async with live_client(stack.target) as client:
        first = await client.begin()
        await pace(first, spoken(said), await sessions.of(first))
        await restart(stack)
    async with live_client(stack.target) as client:
        second = await client.resume(first.session_id)
        session = await sessions.of(second)
        await pace(second, spoken([*said, *after])[second.received_bytes :], session)
        await second.end()
        heard = await second.ended()

    assert_told(heard, [*said, *after])
    assert_speakers(heard, [*said, *after])


async def test_a_session_without_a_call_ends_after_a_restart(stack: Stack, quick_sweeps: None) -> None:
    async with live_client(stack.target, "ana") as client, submitting(stack, "ana") as ana:
        first = await client.begin()
        await first.audio(DATA)
        await first.until_heard("final")
        await first.cancel()
        received = (await client.resume(first.session_id)).received_bytes
        stack.gateway_settings["live_idle_seconds"] = 0.05
        await restart(stack)
    async with live_client(stack.target, "ana") as client, submitting(stack, "ana") as ana:

        async def submitted() -> bool:
            return bool((await ana.list())[0])

        await eventually(submitted)
        second = await client.resume(first.session_id, first.heard.last_number)
        heard = first.heard + await second.ended()
    assert_numbered(heard)
    assert heard.result.utterances
    assert second.received_bytes == received


async def test_a_session_that_has_ended_is_kept_over_a_restart(stack: Stack) -> None:
    async with live_client(stack.target) as client:
        first = await client.begin()
        await first.audio(DATA)
        await first.end()
        whole = await first.ended()
    await restart(stack)

    async with live_client(stack.target) as client:
        heard = await (await client.resume(first.session_id)).ended()
    assert heard.numbered == whole.numbered
    assert heard.result == whole.result
    assert heard.responses[0].started.received_bytes == len(DATA)


async def test_a_damaged_session_does_not_stop_the_others(
    stack: Stack, redis_server: RedisServer, quick_sweeps: None
) -> None:
    async with live_client(stack.target) as client:
        damaged, whole = [await client.begin() for _ in range(2)]
        for live in (damaged, whole):
            await live.audio(DATA[: len(DATA) // 2])
            await live.until_heard("final")
        await stack.stop_gateway()
    async with Redis.from_url(redis_server.url) as redis:
        key = f"{PREFIX}:live:{damaged.session_id}"
        await redis.rpush(f"{key}:events", b"\xff\xff\xff")
        fence = int(await redis.hget(key, "fence"))
        await stack.start_gateway()
        async with live_client(stack.target) as client:
            second = await client.resume(whole.session_id, whole.heard.last_number)
            heard = whole.heard + await finish(second)

            async def was_tried() -> bool:
                return int(await redis.hget(key, "fence")) > fence

            await eventually(was_tried)
            with pytest.raises(InternalError):
                await client.resume(damaged.session_id)
    assert_numbered(heard)
    assert texts(heard) == SAID


# The model services


@pytest.mark.parametrize("name", ["transcriber", "diarizer"])
async def test_a_restart_of_a_model_service_loses_nothing(stack: Stack, client: LiveClient, name: str) -> None:
    restarted = getattr(stack, name)
    live = await client.begin()
    await live.audio(DATA[: len(DATA) // 2])
    await restarted.stop()
    await live.audio(DATA[len(DATA) // 2 :])
    await live.end()
    await restarted.start(stack.redis_url)

    heard = await live.ended()
    assert_numbered(heard)
    assert texts(heard) == SAID
    assert heard.result.utterances


@pytest.mark.parametrize("name", ["transcriber", "diarizer"])
async def test_a_window_that_fails_is_tried_again(stack: Stack, client: LiveClient, name: str) -> None:
    engine = getattr(stack, name).engine
    engine.failures += [ValueError("broken"), ValueError("broken")]

    heard = await client.whole(DATA)

    assert not engine.failures
    assert_told(heard, TALK)


async def test_a_session_whose_windows_fail_can_be_continued(
    stack: Stack, client: LiveClient, transcriber: SpokenTranscriber
) -> None:
    transcriber.failures += [ValueError("broken")] * 4
    first = await client.begin()
    await first.audio(DATA[: len(DATA) // 2])
    assert isinstance(await first.error(), InternalError)

    transcriber.failures += [OutOfMemory("the device has too little memory")]
    second = await client.resume(first.session_id, first.heard.last_number)
    assert isinstance(await second.error(), OutOfMemory)

    heard = first.heard + second.heard
    heard += await finish(await client.resume(first.session_id, heard.last_number))
    assert_numbered(heard)
    assert texts(heard) == SAID


async def test_calls_that_continue_a_failed_session_at_once_share_it(
    stack: Stack, client: LiveClient, transcriber: SpokenTranscriber
) -> None:
    transcriber.failures += [OutOfMemory("the device has too little memory")]
    first = await client.begin()
    await first.audio(DATA[: len(DATA) // 2])
    await first.error()

    await asyncio.gather(
        *(client.resume(first.session_id, first.heard.last_number) for _ in range(5)), return_exceptions=True
    )

    last = await client.resume(first.session_id, first.heard.last_number)
    heard = first.heard + await finish(last)
    assert_numbered(heard)
    assert texts(heard) == SAID
    again = await client.resume(first.session_id)
    assert (await again.ended()).numbered == heard.numbered


@pytest.mark.parametrize("gateway_settings", [{"live_idle_seconds": 0.05}])
async def test_a_session_that_has_failed_becomes_a_job(
    client: LiveClient, transcriber: SpokenTranscriber, sessions: Sessions, quick_sweeps: None
) -> None:
    transcriber.may_go_on.clear()
    transcriber.failures += [OutOfMemory("the device has too little memory")]
    first = await client.begin()
    session = await sessions.of(first)
    said = [*words(0, 1, 8), 1.0]
    await first.audio(spoken(said))
    await until(lambda: session.received_bytes == len(spoken(said)))
    transcriber.may_go_on.set()
    assert isinstance(await first.error(), OutOfMemory)

    await until(lambda: session.job_id)

    heard = first.heard + await (await client.resume(first.session_id, first.heard.last_number)).ended()
    assert_numbered(heard)
    recorded = [each.text for utterance in heard.result.utterances for each in utterance.words]
    assert recorded == [each.text for each in spoken_words(said)]
