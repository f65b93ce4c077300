"""Live sessions of both clients against a real gRPC server that keeps sessions and breaks connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from careca.errors import (
    Cancelled,
    CarecaError,
    InternalError,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    Unavailable,
)
from careca.types import Notice
from careca_client import (
    AsyncClient,
    Client,
    LiveEnded,
    LiveEvent,
    LiveFinal,
    LiveInterim,
    LiveNotice,
    LiveReconnecting,
    LiveResult,
    LiveStarted,
    SpeakerCorrection,
    UtteranceEnd,
)
from careca_client.protocol import live as protocol
from integration.client.live_gateway import JOB, SECOND, Fault, LiveFixture
from support.clients import NOWHERE, Connect, EitherClient
from support.waiting import HANG_SECONDS, happens, until

FLUSH = None
"""In the place of audio: asks for the words so far."""

AUDIO = b"".join(bytes([number]) * SECOND for number in range(8))
"""Eight seconds, all different."""
CHUNKS = [AUDIO[begin : begin + SECOND // 4] for begin in range(0, len(AUDIO), SECOND // 4)]


@pytest.fixture
def client(connect: Connect, live_gateway: LiveFixture) -> EitherClient:
    return connect(live_gateway.target)


async def talk(
    client: EitherClient,
    chunks: Iterable[bytes | None] = CHUNKS,
    *,
    on_event: Callable[[LiveEvent], None] = lambda _: None,
    **options: Any,
) -> list[LiveEvent]:
    """Sends everything while it receives all events."""
    events: list[LiveEvent] = []

    def note(event: LiveEvent) -> None:
        events.append(event)
        on_event(event)

    if isinstance(client.client, AsyncClient):
        await _talk_async(client.client, chunks, note, options)
    else:
        await asyncio.to_thread(_talk_blocking, client.client, chunks, note, options)
    return events


async def _talk_async(
    client: AsyncClient, chunks: Iterable[bytes | None], note: Callable[[LiveEvent], None], options: Any
) -> None:
    async with client.live(**options) as session:

        async def feed() -> None:
            for chunk in chunks:
                await (session.flush() if chunk is FLUSH else session.send(chunk))
            await session.end()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            async for event in session:
                note(event)


def _talk_blocking(
    client: Client, chunks: Iterable[bytes | None], note: Callable[[LiveEvent], None], options: Any
) -> None:
    with client.live(**options) as session:

        def feed() -> None:
            for chunk in chunks:
                if chunk is FLUSH:
                    session.flush()
                else:
                    session.send(chunk)
            session.end()

        feeder = threading.Thread(target=feed)
        feeder.start()
        for event in session:
            note(event)
        feeder.join(HANG_SECONDS)


def kinds(events: Iterable[LiveEvent]) -> list[type]:
    return [type(event) for event in events]


def words(events: Iterable[LiveEvent]) -> list[str]:
    return [word.text for event in events if isinstance(event, LiveFinal) for word in event.words]


async def test_words_come_while_people_talk_and_the_result_at_the_end(
    client: EitherClient, live_gateway: LiveFixture
) -> None:
    script = live_gateway.script
    script.notices, script.corrections = (Notice("FALLING_BEHIND", "slow"),), [(2, 2, "SPEAKER_00")]

    events = await talk(client, [AUDIO[: 2 * SECOND]], language="en", display_name="monday")

    assert kinds(events) == [
        LiveStarted,
        *(LiveInterim, LiveFinal) * 2,
        *(UtteranceEnd, LiveNotice, SpeakerCorrection, LiveEnded, LiveResult),
    ]
    assert words(events) == ["word0", "word1"]
    assert script.audio == AUDIO[: 2 * SECOND]
    result = events[-1]
    assert isinstance(result, LiveResult)
    assert [utterance.text for utterance in result.result.utterances] == ["Hello.", "Olá, você!"]
    assert result.result.uploaded_bytes == 2 * SECOND
    (config,) = script.configs
    assert (config.transcription.language_code, config.display_name) == ("en", "monday")
    assert events[-2] == LiveEnded(event_number=6, audio_seconds=2.0, behind_seconds=0.0, job_id=JOB)


async def test_interim_words_can_be_left_out(client: EitherClient) -> None:
    events = await talk(client, interim_results=False)

    assert LiveInterim not in kinds(events)
    assert len(words(events)) == 8


async def test_the_id_of_the_session_is_known_from_the_start(client: EitherClient) -> None:
    if isinstance(client.client, AsyncClient):
        async with client.client.live() as session:
            assert session.id == "s1"
    else:
        with client.client.live() as blocking:
            assert blocking.id == "s1"


async def test_a_gateway_that_is_gone_after_the_result_is_not_called_again(
    client: EitherClient, live_gateway: LiveFixture
) -> None:
    live_gateway.script.last_error = Unavailable("killed")

    events = await talk(client)

    assert kinds(events)[-1] is LiveResult
    assert LiveReconnecting not in kinds(events)
    assert len(live_gateway.script.configs) == 1


FAULTS = {
    "unavailable": [Fault(3 * SECOND, Unavailable("draining", retry_after_seconds=0.0))],
    "ended early": [Fault(3 * SECOND)],
    "several": [Fault(SECOND), Fault(SECOND, Unavailable("down")), Fault(before_started=True), Fault(SECOND)],
    "between the end and the result": [Fault(after_end=True, error=Unavailable("down"))],
    "a call that begins with a failure": [Fault(before_started=True, error=Unavailable("starting"))],
}


@pytest.mark.parametrize("repeats", [False, True], ids=["exact", "repeating"])
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
async def test_a_broken_connection_loses_and_repeats_nothing(
    client: EitherClient, live_gateway: LiveFixture, faults: list[Fault], repeats: bool
) -> None:
    script = live_gateway.script
    script.faults, script.repeats = list(faults), repeats

    events = await talk(client)

    assert script.audio == AUDIO
    assert script.ends == 1
    assert words(events) == [f"word{number}" for number in range(8)]
    numbers = [event.event_number for event in events if not isinstance(event, LiveReconnecting) and event.event_number]
    assert numbers == list(range(1, len(numbers) + 1))
    assert kinds(events).count(LiveReconnecting) == len(faults)
    assert {config.session_id for config in script.configs[len(faults) :]} <= {"", "s1"}
    assert kinds(events)[-1] is LiveResult


async def test_a_session_is_continued_after_its_last_event(client: EitherClient, live_gateway: LiveFixture) -> None:
    live_gateway.script.faults = [Fault(3 * SECOND)]

    events = await talk(client, interim_results=False)

    first, second = live_gateway.script.configs
    assert (first.session_id, first.after_event) == ("", 0)
    assert (second.session_id, second.after_event) == ("s1", 3)
    assert kinds(events[:6]) == [LiveStarted, LiveFinal, LiveFinal, LiveFinal, LiveReconnecting, LiveStarted]
    assert events[5] == LiveStarted(
        event_number=0, audio_seconds=0.0, behind_seconds=0.0, session_id="s1", received_bytes=3 * SECOND
    )


async def test_a_gateway_that_restarts_is_waited_for(connect: Connect, live_gateway: LiveFixture) -> None:
    client = connect(live_gateway.target, retries=1)
    live_gateway.script.result = threading.Event()

    def restart(event: LiveEvent) -> None:
        assert live_gateway.script.result is not None
        if isinstance(event, LiveFinal) and not live_gateway.script.result.is_set():
            live_gateway.restart()
            live_gateway.script.result.set()

    events = await talk(client, on_event=restart)

    assert live_gateway.script.audio == AUDIO
    assert words(events) == [f"word{number}" for number in range(8)]
    assert LiveReconnecting in kinds(events)


async def test_a_flush_comes_between_the_audio_around_it(client: EitherClient, live_gateway: LiveFixture) -> None:
    events = await talk(client, [AUDIO[:100], FLUSH, AUDIO[100:200], FLUSH])

    assert live_gateway.script.flushes == [100, 200]
    assert kinds(events).count(UtteranceEnd) == 3


async def test_large_audio_is_divided_into_messages_that_the_gateway_takes(
    client: EitherClient, live_gateway: LiveFixture
) -> None:
    data = bytes(range(256)) * (7 << 12)  # 7 MiB

    await talk(client, [data])

    assert live_gateway.script.audio == data


async def test_sending_waits_for_a_gateway_that_does_not_read(
    client: EitherClient, live_gateway: LiveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_WAITING_BYTES", 1000)
    live_gateway.script.reading = threading.Event()
    data, sent = bytes(64 << 20), [0]

    def chunks() -> Iterable[bytes]:
        for begin in range(0, len(data), 1 << 18):
            sent[0] = begin
            yield data[begin : begin + (1 << 18)]

    talking = asyncio.create_task(talk(client, chunks()))
    before = -1
    while sent[0] != before:
        before = sent[0]
        await asyncio.sleep(0.25)
    assert before < len(data) // 2
    live_gateway.script.reading.set()
    await talking

    assert len(live_gateway.script.audio) == len(data)


async def test_a_session_without_audio_ends_without_a_result(client: EitherClient) -> None:
    events = await talk(client, [])

    assert kinds(events) == [LiveStarted, UtteranceEnd, LiveEnded]


REFUSALS: dict[str, CarecaError] = {
    "jobs are off": PreconditionFailed("no jobs", reason="JOBS_OFF"),
    "invalid": InvalidRequest("no such voice", field="config.known_speakers"),
}


@pytest.mark.parametrize("error", REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_session_is_an_error_at_its_beginning(
    client: EitherClient, live_gateway: LiveFixture, error: CarecaError
) -> None:
    live_gateway.script.faults = [Fault(before_started=True, error=error)]
    events: list[LiveEvent] = []

    with pytest.raises(type(error)) as raised:
        await talk(client, on_event=events.append)

    assert raised.value.reason == error.reason
    assert events == []
    assert len(live_gateway.script.configs) == 1


async def test_options_are_checked_before_anything_is_sent(client: EitherClient, live_gateway: LiveFixture) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await talk(client, sample_rate=96_000)

    assert refused.value.field == "config.sample_rate_hertz"
    assert live_gateway.script.configs == []


async def test_a_gateway_that_cannot_be_reached_is_an_error(connect: Connect) -> None:
    with pytest.raises(Unavailable):
        await talk(connect(NOWHERE, retries=1))


async def errors_of(client: EitherClient) -> list[type[BaseException]]:
    """What iterating raises, and then what sending raises, in a session that fails while both go on."""
    found: list[type[BaseException]] = []
    endless = iter(lambda: AUDIO[:SECOND], b"")
    if isinstance(client.client, AsyncClient):
        async with client.client.live() as session:

            async def feed() -> None:
                for chunk in endless:
                    await session.send(chunk)

            feeder = asyncio.create_task(feed())
            with pytest.raises(CarecaError) as raised:
                async for _ in session:
                    pass
            with pytest.raises(CarecaError) as unsent:
                await feeder
            return [raised.type, unsent.type]

    def blocking() -> None:
        assert isinstance(client.client, Client)
        with client.client.live() as session:

            def send_all() -> None:
                for chunk in endless:
                    session.send(chunk)

            def feed() -> None:
                with pytest.raises(CarecaError) as unsent:
                    send_all()
                found.append(unsent.type)

            feeder = threading.Thread(target=feed)
            feeder.start()
            with pytest.raises(CarecaError) as raised:
                for _ in session:
                    pass
            feeder.join(HANG_SECONDS)
            found.insert(0, raised.type)

    await asyncio.to_thread(blocking)
    return found


@pytest.mark.parametrize(
    "error", [NotFound("gone", reason="SESSION_NOT_FOUND"), InternalError("bug"), Unavailable("down")], ids=repr
)
async def test_a_session_that_fails_ends_both_sending_and_iterating(
    connect: Connect, live_gateway: LiveFixture, error: CarecaError
) -> None:
    live_gateway.script.faults = [Fault(SECOND, error)]

    assert await errors_of(connect(live_gateway.target, retries=0)) == [type(error), type(error)]


async def test_leaving_without_the_end_leaves_the_session_to_the_gateway(
    client: EitherClient, live_gateway: LiveFixture
) -> None:
    late: list[BaseException] = []
    if isinstance(client.client, AsyncClient):
        async with client.client.live() as session:
            await session.send(AUDIO[:SECOND])
            async for event in session:
                if isinstance(event, LiveFinal):
                    break
        with pytest.raises(Cancelled):
            await session.send(b"x")
    else:

        def leave() -> None:
            assert isinstance(client.client, Client)
            with client.client.live() as session:
                session.send(AUDIO[:SECOND])
                for event in session:
                    if isinstance(event, LiveFinal):
                        break
            try:
                session.send(b"x")
            except Cancelled as error:
                late.append(error)

        await asyncio.to_thread(leave)
        assert len(late) == 1

    await happens(live_gateway.script.left)
    assert live_gateway.script.ends == 0
    assert live_gateway.script.audio == AUDIO[:SECOND]


async def test_a_loop_that_was_left_is_continued_by_the_next(client: EitherClient) -> None:
    if isinstance(client.client, AsyncClient):
        async with client.client.live(interim_results=False) as session:
            await session.send(AUDIO)
            await session.end()
            async for event in session:
                if isinstance(event, LiveFinal):
                    break
            rest = [event async for event in session]
    else:

        def twice() -> list[LiveEvent]:
            assert isinstance(client.client, Client)
            with client.client.live(interim_results=False) as session:
                session.send(AUDIO)
                session.end()
                for event in session:
                    if isinstance(event, LiveFinal):
                        break
                return list(session)

        rest = await asyncio.to_thread(twice)

    assert words(rest) == [f"word{number}" for number in range(1, 8)]
    assert kinds(rest)[-1] is LiveResult


async def test_leaving_ends_the_iteration_of_another_task(live_gateway: LiveFixture) -> None:
    events: list[LiveEvent] = []
    async with AsyncClient(live_gateway.target) as client:
        async with client.live() as session:

            async def read() -> None:
                async for event in session:
                    events.append(event)  # noqa: PERF401 -- the list is looked at before the end

            reader = asyncio.create_task(read())
            await until(lambda: events)
        with pytest.raises(Cancelled):
            await reader
    await happens(live_gateway.script.left)


async def test_the_call_of_a_gateway_that_breaks_the_rules_is_cancelled(live_gateway: LiveFixture) -> None:
    live_gateway.script.breaks_rules = True
    async with AsyncClient(live_gateway.target) as client, client.live() as session:
        with pytest.raises(InternalError) as broken:
            await anext(event async for event in session if not isinstance(event, LiveStarted))
        await happens(live_gateway.script.left)

    assert broken.value.reason == "PROTOCOL_ERROR"


async def test_a_cancelled_task_cancels_the_call(live_gateway: LiveFixture) -> None:
    events: list[LiveEvent] = []
    async with AsyncClient(live_gateway.target) as client:

        async def read() -> None:
            async with client.live() as session:
                async for event in session:
                    events.append(event)  # noqa: PERF401 -- the list is looked at before the end

        reader = asyncio.create_task(read())
        await until(lambda: events)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await happens(live_gateway.script.left)
    assert len(live_gateway.script.configs) == 1
