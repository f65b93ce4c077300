"""Live sessions over a WebSocket: whole, continued, refused, and ended by the service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from careca_web.api import live as live_endpoint
from careca_web.live import sessions
from integration.web.live_socket import LiveSocket, live, numbers_of, socket, words_of
from support.live import (
    Said,
    SpokenDiarizer,
    SpokenTranscriber,
    labels_of,
    spoken,
    spoken_words,
    stereo,
    word,
    words,
)
from support.redis_server import RedisServer
from support.samples import sample_value
from support.stack import ModelService, Stack
from support.tokens import Tokens
from support.waiting import HANG_SECONDS, eventually, until
from support.web import Web, web_service

OPENING: list[Said | float] = [0.5, *words(0, 1, 6), 0.6]
TALK: list[Said | float] = [*OPENING, 0.6, *words(1, 101, 6), 1.5, *words(0, 11, 6), 1.0]
"""Two people, with pauses that end an utterance."""

AUDIO = spoken(TALK)
HALF = 2 * (len(AUDIO) // 4)
PAUSE = len(spoken(OPENING))


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(
        tmp_path,
        redis_server.url,
        transcriber=ModelService(SpokenTranscriber()),
        diarizer=ModelService(SpokenDiarizer()),
        jobs=True,
    ) as stack:
        yield stack


def sample(web: Web, name: str, **labels: str) -> float | None:
    return sample_value(web.service.metrics.registry, name, **labels)


def assert_told(messages: list[dict[str, Any]]) -> None:
    """All words of the talk came once, in order, and the events without holes."""
    expected = spoken_words(TALK)
    told = words_of(messages)
    assert [each["text"] for each in told] == [each.text for each in expected]
    assert [each["start"] for each in told] == [pytest.approx(each.start, abs=1e-6) for each in expected]
    numbers = numbers_of(messages)
    assert numbers == list(range(1, len(numbers) + 1))


# A whole session


async def test_words_come_while_people_talk_and_the_result_at_the_end(web: Web) -> None:
    async with live(web, encoding="pcm", sample_rate=16_000, language="en", display_name="meeting") as opened:
        started = await opened.until("started")
        await opened.audio(AUDIO)
        await opened.send({"type": "end"})
        assert await opened.rest() == 1000

    assert started["session_id"]
    assert started["received_bytes"] == 0
    assert_told(opened.messages)
    assert [each["speaker"] for each in words_of(opened.messages)] == labels_of(spoken_words(TALK))
    assert opened.of("utterance_end")
    *_, ended, result = opened.messages
    assert (ended["type"], result["type"]) == ("ended", "result")
    job = (await web.http.get(f"/api/jobs/{ended['job_id']}")).json()
    assert (job["name"], job["state"]) == ("meeting", "succeeded")
    assert result["job_id"] == ended["job_id"]
    assert result["result"] == (await web.http.get(f"/api/jobs/{ended['job_id']}/result")).json()


async def test_the_fields_of_words_are_those_of_the_rest_api(web: Web) -> None:
    async with live(web, interim_results=False) as opened:
        await opened.audio(spoken([*words(0, 1, 6), 1.0]))
        await opened.send({"type": "end"})
        await opened.rest()

    assert opened.of("interim") == []
    final = opened.of("final")[0]
    assert set(final) == {
        *("type", "event_number", "audio_seconds", "behind_seconds"),
        *("first_word", "channel", "language", "text", "words"),
    }
    assert final["text"] == " ".join(each["text"] for each in final["words"])
    assert set(final["words"][0]) == {"text", "start", "end", "probability", "speaker"}
    assert words_of(opened.messages)[0] == {
        "text": "w5001",
        "start": pytest.approx(0, abs=1e-6),
        "end": pytest.approx(0.4, abs=1e-6),
        "probability": 0.5,
        "speaker": "SPEAKER_00",
    }
    assert opened.of("result")[0]["result"]["utterances"][0]["words"][0]["text"] == "w5001"


async def test_interim_words_come_before_final_ones(web: Web, stack: Stack) -> None:
    async with live(web) as opened:
        await opened.until("started")
        await opened.audio(spoken(words(0, 1, 8)))
        interim = await opened.until("interim")
        await opened.send({"type": "end"})
        await opened.rest()

    assert interim["event_number"] == 0
    assert interim["words"][0]["text"] in interim["text"]
    assert interim["words"][0]["start"] is None


async def test_each_channel_is_a_speaker(web: Web) -> None:
    left, right = [2.0, *words(0, 1, 4), 1.0], [0.1, *words(1, 101, 4), 3.0]
    async with live(web, channels=2, channel_mode="separate") as opened:
        await opened.audio(stereo(spoken(left), spoken(right)))
        await opened.send({"type": "end"})
        assert await opened.rest() == 1000

    told = [(each["text"], each["speaker"]) for each in words_of(opened.messages)]
    assert told == [
        *((each.text, "SPEAKER_00") for each in spoken_words(right)),
        *((each.text, "SPEAKER_01") for each in spoken_words(left)),
    ]
    assert {each["channel"] for each in opened.of("final")} == {1, 2}
    assert sorted(each["channel"] for each in opened.of("utterance_end")) == [1, 2]
    (result,) = opened.of("result")
    assert [each["speaker"] for each in result["result"]["channels"]] == ["SPEAKER_01", "SPEAKER_00"]


async def test_flush_makes_words_final_without_more_audio(web: Web) -> None:
    async with live(web) as opened:
        await opened.until("started")
        await opened.audio(spoken(words(0, 1, 5)))
        await opened.send({"type": "flush"})
        await opened.until("utterance_end")

    assert [each["text"] for each in words_of(opened.messages)] == [f"w500{number}" for number in range(1, 6)]


async def test_a_session_without_audio_has_no_job(web: Web) -> None:
    async with live(web) as opened:
        await opened.send({"type": "end"})
        assert await opened.rest() == 1000

    assert [each["type"] for each in opened.messages] == ["started", "ended"]
    assert opened.messages[-1]["job_id"] is None


async def test_notices_are_told_as_in_results(web: Web, stack: Stack) -> None:
    stack.transcriber.engine.may_go_on.clear()
    async with live(web) as opened:
        await opened.until("started")
        await opened.audio(spoken(words(0, 1, 30)))
        notice = await opened.until("notice")
        stack.transcriber.engine.may_go_on.set()

    assert notice["code"] == "FALLING_BEHIND"
    assert notice["message"]
    assert set(notice) >= {"start", "end"}


async def test_sockets_and_audio_are_counted(web: Web) -> None:
    async with live(web) as opened:
        await opened.until("started")
        assert sample(web, "careca_http_websockets") == 1
        await opened.audio(bytes(1000))
        await opened.send({"type": "end"})
        await opened.rest()
    await until(lambda: sample(web, "careca_http_websockets") == 0)

    assert sample(web, "careca_http_live_audio_bytes_total") == 1000
    assert sample(web, "careca_http_closed_websockets_total", route="/api/live", code="1000") == 1


# Continued


async def say_half(opened: LiveSocket) -> None:
    """Sends half of the audio. Returns when its first words are final, while others are not."""
    await opened.until("started")
    await opened.audio(AUDIO[:PAUSE])
    await opened.send({"type": "flush"})
    await opened.until("final")
    await opened.audio(AUDIO[PAUSE:HALF])


async def broken_after_half(web: Web, headers: dict[str, str] | None = None) -> LiveSocket:
    """A session of which half of the audio was sent, and whose connection broke after some words."""
    async with live(web, headers) as opened:
        await say_half(opened)
        opened.connection.transport.abort()
    await until(lambda: sample(web, "careca_http_websockets") == 0)
    return opened


async def test_a_session_is_continued_where_it_was_lost(web: Web) -> None:
    first = await broken_after_half(web)
    session_id, last = first.messages[0]["session_id"], numbers_of(first.messages)[-1]

    async with live(web, session_id=session_id, after_event=last) as second:
        started = await second.until("started")
        await second.audio(AUDIO[started["received_bytes"] :])
        await second.send({"type": "end"})
        assert await second.rest() == 1000

    assert started["session_id"] == session_id
    assert 0 < started["received_bytes"] <= HALF
    assert_told(first.messages + second.messages)
    assert numbers_of(second.messages)[0] == last + 1


async def test_the_end_can_be_read_again(web: Web) -> None:
    async with live(web) as first:
        await first.audio(AUDIO)
        await first.send({"type": "end"})
        await first.rest()
    last = numbers_of(first.messages)[-1]

    async with live(web, session_id=first.messages[0]["session_id"], after_event=last) as second:
        assert await second.rest() == 1000

    assert second.messages[0]["received_bytes"] == len(AUDIO)
    assert second.messages[1:] == first.messages[-1:]


async def test_a_newer_connection_takes_a_session_over(web: Web) -> None:
    async with live(web) as first:
        started = await first.until("started")
        await first.audio(AUDIO[:HALF])
        async with live(web, session_id=started["session_id"]) as second:
            assert await first.problem() == (409, "SESSION_TAKEN_OVER", "", 1008)
            received = (await second.until("started"))["received_bytes"]
            await second.audio(AUDIO[received:])
            await second.send({"type": "end"})
            assert await second.rest() == 1000

    assert_told(second.messages)


async def test_a_session_that_this_service_has_forgotten_goes_on_at_the_gateway(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "KEEP_SECONDS", 0.0)
    first = await broken_after_half(web)
    monkeypatch.undo()

    await _continued(web, first)


async def test_another_service_continues_a_session(web: Web, stack: Stack, tmp_path: Path) -> None:
    first = await broken_after_half(web)

    async with web_service(stack.target, tmp_path / "other") as other:
        await _continued(other, first)


async def _continued(web: Web, first: LiveSocket) -> None:
    known = max(each.get("event_number", 0) for each in first.messages)
    async with live(web, session_id=first.messages[0]["session_id"], after_event=known) as second:
        started = await second.until("started")
        await second.audio(AUDIO[started["received_bytes"] :])
        await second.send({"type": "end"})
        assert await second.rest() == 1000
    assert_told([*first.messages, *(each for each in second.messages if each["type"] != "started")])


async def test_a_session_that_does_not_exist_is_not_found(web: Web) -> None:
    for session_id in ("0" * 24, "nonsense"):
        async with live(web, session_id=session_id) as opened:
            assert await opened.problem() == (404, "SESSION_NOT_FOUND", "session_id", 1008)


async def test_nobody_continues_the_session_of_others(guarded: Web, tokens: Tokens) -> None:
    ana, bo = ({"Authorization": f"Bearer {tokens.of[name]}"} for name in ("ana", "bo"))
    async with live(guarded, ana) as hers:
        started = await hers.until("started")
        async with live(guarded, bo, session_id=started["session_id"]) as his:
            assert await his.problem() == (404, "SESSION_NOT_FOUND", "session_id", 1008)
        await hers.send({"type": "end"})
        assert await hers.rest() == 1000


async def test_a_gateway_that_restarts_is_waited_for(web: Web, stack: Stack) -> None:
    stack.gateway_settings["port"] = int(stack.target.rpartition(":")[2])
    async with live(web) as opened:
        await say_half(opened)
        await stack.stop_gateway()
        reconnecting = await opened.until("reconnecting")
        await stack.start_gateway()
        started = await opened.until("started")
        await opened.audio(AUDIO[HALF:])
        await opened.send({"type": "end"})
        assert await opened.rest() == 1000

    assert reconnecting["attempt"] == 2
    assert reconnecting["error"]["reason"]
    assert started["received_bytes"] == HALF
    assert_told(opened.messages)


# Refused


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"encoding": "mp3"}, "encoding"),
        ({"sample_rate": 7_999}, "sample_rate"),
        ({"sample_rate": "fast"}, "sample_rate"),
        ({"channels": 0}, "channels"),
        ({"channels": 3}, "channels"),
        ({"channel_mode": "apart"}, "channel_mode"),
        ({"language": 1}, "language"),
        ({"hotwords": "Careca"}, "hotwords"),
        ({"hotwords": [""]}, "hotwords.0"),
        ({"speaker_count": 0}, "speaker_count"),
        ({"min_speaker_count": 51}, "min_speaker_count"),
        ({"max_speaker_count": 1.5}, "max_speaker_count"),
        ({"use_saved_voices": "perhaps"}, "use_saved_voices"),
        ({"display_name": "x" * 256}, "display_name"),
        ({"interim_results": None}, "interim_results"),
        ({"utterance_pause": 9}, "utterance_pause"),
        ({"after_event": -1}, "after_event"),
        ({"session_id": 7}, "session_id"),
        ({"type": "flush"}, "type"),
        ({"samplerate": 16_000}, "samplerate"),
    ],
)
async def test_a_config_with_a_wrong_field_is_refused_by_its_name(web: Web, config: dict[str, Any], field: str) -> None:
    async with live(web, **config) as opened:
        assert await opened.problem() == (422, "INVALID_REQUEST", field, 1003)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"encoding": "mulaw", "sample_rate": 16_000}, "sample_rate"),
        ({"language": "klingon"}, "language"),
        ({"channel_mode": "separate"}, "channels"),
        ({"channel_mode": "separate", "channels": 2, "max_speaker_count": 2}, "max_speaker_count"),
        ({"encoding": "container", "channel_mode": "separate"}, "channel_mode"),
        ({"speaker_count": 2, "min_speaker_count": 1}, "speaker_count"),
        ({"min_speaker_count": 3, "max_speaker_count": 2}, "min_speaker_count"),
    ],
)
async def test_what_only_the_gateway_refuses_has_the_same_names(web: Web, config: dict[str, Any], field: str) -> None:
    async with live(web, **config) as opened:
        status, _, named, code = await opened.problem()
        assert (status, named, code) == (400, field, 1003)
        assert "config." not in opened.messages[-1]["detail"]


@pytest.mark.parametrize("first", [b"\0\0", "not JSON", "[]", "7", "[" * 30_000])
async def test_the_first_message_must_be_the_config(web: Web, first: str | bytes) -> None:
    async with socket(web) as opened:
        await opened.send(first)
        assert await opened.problem() == (400, "BAD_MESSAGE", "", 1003)


@pytest.mark.parametrize(
    ("message", "status", "reason"),
    [
        ("not JSON", 400, "BAD_MESSAGE"),
        ({"type": "pause"}, 422, "INVALID_REQUEST"),
        ({"encoding": "pcm"}, 422, "INVALID_REQUEST"),
        ({"type": "end", "now": True}, 422, "INVALID_REQUEST"),
    ],
)
async def test_a_wrong_message_closes_the_socket_but_keeps_the_session(
    web: Web, message: Any, status: int, reason: str
) -> None:
    async with live(web) as first:
        session_id = (await first.until("started"))["session_id"]
        await first.send(message)
        assert (await first.problem())[::3] == (status, 1003)
        assert first.messages[-1]["reason"] == reason
    async with live(web, session_id=session_id) as second:
        await second.send({"type": "end"})
        assert await second.rest() == 1000


async def test_audio_after_the_end_is_refused(web: Web, stack: Stack) -> None:
    stack.transcriber.engine.may_go_on.clear()
    async with live(web) as opened:
        await opened.audio(AUDIO[:HALF])
        await opened.send({"type": "end"})
        await opened.send(b"\0\0")
        assert await opened.problem() == (409, "SESSION_ENDED", "", 1008)


async def test_a_message_that_is_too_large_is_refused(web: Web) -> None:
    async with live(web) as opened:
        await opened.send(bytes(live_endpoint.MAX_AUDIO_BYTES + 1))
        assert await opened.problem() == (413, "MESSAGE_TOO_LARGE", "", 1009)
    async with socket(web) as opened:
        await opened.send({"display_name": "x" * live_endpoint.MAX_TEXT_BYTES})
        assert await opened.problem() == (413, "MESSAGE_TOO_LARGE", "", 1009)
    async with live(web) as opened:
        await opened.until("started")
        with suppress(ConnectionClosed):
            await opened.send(bytes(8 << 20))  # is not even received
        assert await opened.rest() == 1009


async def test_what_the_gateway_cannot_do_now_can_be_tried_later(stack: Stack, tmp_path: Path) -> None:
    stack.gateway_settings["max_live_sessions"] = 1
    await stack.stop_gateway()
    await stack.start_gateway()
    async with web_service(stack.target, tmp_path) as web, live(web) as first:
        await first.until("started")
        async with live(web) as second:
            assert await second.problem() == (429, "TOO_MANY_SESSIONS", "", 1013)
            assert second.messages[-1]["retry_after_seconds"] > 0


async def test_a_mistake_in_the_service_tells_the_caller_only_that_there_is_one(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_endpoint.LiveConfig, "value", lambda _: 1 / 0)
    async with live(web) as opened:
        assert await opened.problem() == (500, "INTERNAL", "", 1011)
        assert "zero" not in opened.messages[-1]["detail"]


async def test_a_caller_who_sends_no_config_is_not_waited_for(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_endpoint, "CONFIG_SECONDS", 0.01)
    async with socket(web) as opened:
        assert await opened.problem() == (409, "CONFIG_MISSING", "", 1008)


async def test_a_session_ends_by_itself_if_nothing_is_sent(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_endpoint, "IDLE_SECONDS", 0.5)
    async with live(web) as opened:
        await opened.audio(AUDIO[:HALF])
        assert await opened.rest() == 1000

    assert opened.messages[-1]["type"] == "result"


# Who may


async def refusal(web: Web, headers: dict[str, str], **where: str) -> tuple[int, str]:
    """Status and reason of a handshake that fails."""
    with pytest.raises(InvalidStatus) as raised:
        async with socket(web, headers=headers, **where):
            pass
    response = raised.value.response
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "no-store"
    body = response.body
    assert body
    problem = json.loads(body)
    assert problem["request_id"] == response.headers["x-request-id"]
    return response.status_code, problem["reason"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://other.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_pages_of_other_sites_get_no_socket(web: Web, headers: dict[str, str]) -> None:
    assert await refusal(web, headers) == (403, "CROSS_SITE_REQUEST")


async def test_a_socket_for_another_host_is_refused(web: Web) -> None:
    assert await refusal(web, {}, host="other.example") == (400, "HOST_NOT_ALLOWED")


async def test_our_own_page_gets_a_socket(web: Web) -> None:
    async with live(web, {"Origin": web.url, "Sec-Fetch-Site": "same-origin"}) as opened:
        await opened.until("started")


async def test_a_token_is_needed_if_the_gateway_needs_one(guarded: Web, tokens: Tokens) -> None:
    async with live(guarded) as opened:
        assert await opened.problem() == (401, "NO_TOKEN", "", 1008)
    async with live(guarded, {"Authorization": "Bearer careca_wrong"}) as opened:
        assert (await opened.problem())[::3] == (401, 1008)
    async with live(guarded, {"Authorization": f"Bearer {tokens.of['ana']}"}) as opened:
        await opened.until("started")


async def test_a_bad_authorization_header_is_refused_before_the_socket_opens(web: Web) -> None:
    assert await refusal(web, {"Authorization": "Basic YTpi"}) == (400, "AUTHORIZATION_HEADER")


async def test_the_cookie_of_a_browser_that_signed_in_is_enough(guarded: Web, tokens: Tokens) -> None:
    response = await guarded.http.post("/api/session", json={"token": tokens.of["ana"]})
    cookie = {"Cookie": response.headers["set-cookie"].partition(";")[0]}

    async with live(guarded, cookie | {"Origin": guarded.url}) as opened:
        await opened.until("started")
    assert await refusal(guarded, cookie | {"Origin": "https://other.example"}) == (403, "CROSS_SITE_REQUEST")


async def test_a_socket_of_an_unknown_path_is_refused(web: Web) -> None:
    with pytest.raises(InvalidStatus) as raised:
        async with socket(web, "/api/nothing"):
            pass
    assert raised.value.response.status_code in (403, 404)


# Drain


async def test_a_service_that_stops_closes_sockets_so_that_pages_connect_again(web: Web) -> None:
    async with live(web) as opened:
        await say_half(opened)
        web.service.draining.begin()
        assert await opened.problem() == (503, "RESTARTING", "", 1012)
    async with live(web) as late:
        assert await late.problem() == (503, "RESTARTING", "", 1012)


async def test_the_recording_of_a_session_is_not_lost_when_the_service_stops(stack: Stack, tmp_path: Path) -> None:
    stack.gateway_settings["live_idle_seconds"] = 1.0
    await stack.stop_gateway()
    await stack.start_gateway()
    async with web_service(stack.target, tmp_path) as web:
        async with live(web) as opened:
            await say_half(opened)
            stopping = asyncio.create_task(web.server.stop())
            assert await opened.rest() == 1012
        async with asyncio.timeout(HANG_SECONDS):
            await stopping
    async with web_service(stack.target, tmp_path) as web:

        async def has_job() -> bool:
            jobs = (await web.http.get("/api/jobs")).json()["jobs"]
            return [job["state"] for job in jobs] == ["succeeded"]

        await eventually(has_job)


async def test_slow_headers_do_not_end_a_socket(stack: Stack, tmp_path: Path) -> None:
    async with web_service(stack.target, tmp_path, header_seconds=0.1) as web, live(web) as opened:
        await opened.until("started")
        await asyncio.sleep(0.3)
        await opened.audio(spoken([word(0, 1), 1.0]))
        await opened.send({"type": "end"})
        assert await opened.rest() == 1000
