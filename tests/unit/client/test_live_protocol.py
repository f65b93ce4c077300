"""The bookkeeping of a live session: what is sent, what is sent again, what is dropped, what is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from careca import codec
from careca.errors import CarecaError, InternalError, InvalidRequest, PreconditionFailed, Unavailable
from careca.types import ChannelMode, Notice, Word
from careca.v1 import audio_pb2, gateway_pb2, live_pb2
from careca_client.live import (
    LiveEnded,
    LiveFinal,
    LiveInterim,
    LiveNotice,
    LiveReconnecting,
    LiveResult,
    LiveStarted,
    SpeakerCorrection,
    UtteranceEnd,
)
from careca_client.protocol.attempts import MAX_DELAY_SECONDS
from careca_client.protocol.jobs import RESTART_RETRIES
from careca_client.protocol.live import (
    MAX_CHUNK_BYTES,
    MAX_WAITING_BYTES,
    LiveOptions,
    LiveStream,
    Request,
    Response,
    build_live_config,
    split,
)

SECOND = 32_000
"""Bytes in a second of the default audio."""


def begin(options: LiveOptions | None = None, *, retries: int = 3) -> LiveStream:
    """A session that the gateway has answered."""
    stream = LiveStream(build_live_config(options or {}), retries=retries)
    connection = stream.connect()
    stream.next_request(connection)
    stream.receive(started())
    return stream


def started(received: int = 0, session_id: str = "s1") -> Response:
    return Response(started=Response.Started(session_id=session_id, received_bytes=received))


def final(number: int, received: int = 0) -> Response:
    return Response(
        event_number=number,
        received_bytes=received,
        final=Response.Final(words=[audio_pb2.Word(text=f"word{number}")]),
    )


def sent(stream: LiveStream) -> list[Any]:
    """All that is ready to be sent: the bytes of audio, and the names of other messages."""
    connection, messages = stream._connection, []
    while stream.is_ready(connection) and (request := stream.next_request(connection)) is not None:
        kind = request.WhichOneof("message")
        messages.append(request.audio if kind == "audio" else kind)
    return messages


def reconnect(stream: LiveStream, received: int) -> Request.Config:
    """Breaks the connection and makes another one. Returns the config that continues the session."""
    stream.disconnect()
    connection = stream.connect()
    request = stream.next_request(connection)
    assert request is not None
    stream.receive(started(received))
    return request.config


def test_the_config_has_all_options() -> None:
    config = build_live_config(
        {
            "encoding": "pcm",
            "sample_rate": 44_100,
            "channels": 2,
            "language": "Portuguese",
            "hotwords": "Careca",
            "translate": True,
            "initial_prompt": "Ana",
            "beam_size": 3,
            "max_speaker_count": 4,
            "use_saved_voices": True,
            "interim_results": False,
            "utterance_pause": 1.5,
            "display_name": "monday",
        }
    )

    assert (config.encoding, config.sample_rate_hertz) == (live_pb2.LIVE_ENCODING_PCM_S16LE, 44_100)
    assert (config.channel_count, config.channel_mode) == (2, gateway_pb2.CHANNEL_MODE_MIX)
    assert (config.transcription.language_code, list(config.transcription.hotwords)) == ("pt", ["Careca"])
    assert (config.transcription.translate, config.transcription.initial_prompt) == (True, "Ana")
    assert config.transcription.beam_size == 3
    assert config.diarization.max_speaker_count == 4
    assert (config.use_saved_voices, config.interim_results, config.display_name) == (True, False, "monday")
    assert codec.decode_duration(config.utterance_pause) == 1.5


def test_without_options_the_gateway_chooses_but_interim_words_are_wanted() -> None:
    config = build_live_config({})

    assert config == Request.Config(
        encoding=live_pb2.LIVE_ENCODING_PCM_S16LE,
        interim_results=True,
        transcription=audio_pb2.TranscriptionOptions(),
        diarization=audio_pb2.DiarizationOptions(),
        channel_mode=gateway_pb2.CHANNEL_MODE_MIX,
    )


@pytest.mark.parametrize("mode", ["separate", ChannelMode.SEPARATE])
def test_each_channel_may_be_a_speaker(mode: ChannelMode | str) -> None:
    config = build_live_config({"encoding": "mulaw", "channels": 2, "channel_mode": mode})

    assert (config.channel_count, config.channel_mode) == (2, gateway_pb2.CHANNEL_MODE_SEPARATE)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"encoding": "opus"}, "encoding"),
        ({"sample_rate": 7_999}, "sample_rate_hertz"),
        ({"sample_rate": 48_001}, "sample_rate_hertz"),
        ({"sample_rate": 0}, "sample_rate_hertz"),
        ({"encoding": "mulaw", "sample_rate": 16_000}, "sample_rate_hertz"),
        ({"encoding": "container", "sample_rate": 16_000}, "sample_rate_hertz"),
        ({"channels": 0}, "channel_count"),
        ({"channels": 3}, "channel_count"),
        ({"channels": 2**40}, "channel_count"),
        ({"channel_mode": "apart"}, "channel_mode"),
        ({"channel_mode": "separate"}, "channel_count"),
        ({"channel_mode": "separate", "channels": 1}, "channel_count"),
        ({"channel_mode": "separate", "channels": 2, "speaker_count": 2}, "diarization.speaker_count"),
        ({"encoding": "container", "channels": 2}, "channel_count"),
        ({"encoding": "container", "channel_mode": "separate"}, "channel_mode"),
        ({"utterance_pause": 0.1}, "utterance_pause"),
        ({"utterance_pause": float("nan")}, "utterance_pause"),
        ({"display_name": "x" * 256}, "display_name"),
        ({"language": "tlh"}, "transcription.language_code"),
        ({"beam_size": 21}, "transcription.beam_size"),
        ({"speaker_count": 2, "max_speaker_count": 3}, "diarization.speaker_count"),
    ],
)
def test_an_option_out_of_range_is_refused(options: LiveOptions, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        build_live_config(options)
    assert refused.value.field == f"config.{field}"


def test_nothing_is_sent_before_the_gateway_has_answered() -> None:
    stream = LiveStream(build_live_config({}), retries=3)
    connection = stream.connect()
    stream.put(b"abcd")

    assert sent(stream) == ["config"]
    assert not stream.is_ready(connection)
    stream.receive(started())
    assert sent(stream) == [b"abcd"]


def test_audio_flushes_and_the_end_are_sent_in_order() -> None:
    stream = begin()
    stream.flush()
    stream.put(b"ab")
    stream.put(b"cd")
    stream.flush()
    stream.put(b"ef")
    stream.end()

    assert sent(stream) == ["flush", b"abcd", "flush", b"ef", "end"]
    assert stream.next_request(0) is None


def test_large_audio_is_divided() -> None:
    stream = begin()
    data = bytes(range(256)) * (7 << 12)  # 7 MiB

    parts = list(split(data))
    for part in parts:
        stream.put(part)
    messages = sent(stream)

    assert max(map(len, parts)) == max(map(len, messages)) == MAX_CHUNK_BYTES
    assert b"".join(messages) == data


def test_arrays_of_samples_are_divided_by_their_bytes() -> None:
    data = bytes(2 * MAX_CHUNK_BYTES)

    assert [part.nbytes for part in split(memoryview(data).cast("h"))] == [MAX_CHUNK_BYTES] * 2


def test_there_is_room_until_too_much_audio_waits() -> None:
    stream = begin()
    stream.put(bytes(MAX_WAITING_BYTES - 1))
    assert stream.has_room

    stream.put(b"x")
    assert not stream.has_room
    sent(stream)
    assert stream.has_room


def test_a_session_that_is_over_makes_nobody_wait() -> None:
    failed, left = begin(), begin()
    for stream in (failed, left):
        stream.put(bytes(MAX_WAITING_BYTES))
    left.end()
    failed.close(Unavailable("gone"))

    assert failed.has_room
    assert left.has_room
    with pytest.raises(Unavailable, match="gone"):
        failed.put(b"x")
    with pytest.raises(PreconditionFailed) as ended:
        left.put(b"x")
    assert ended.value.reason == "SESSION_ENDED"


def test_after_a_broken_connection_the_session_continues_where_the_gateway_is() -> None:
    stream = begin({"language": "en"})
    stream.put(b"abcdef")
    sent(stream)
    stream.receive(final(1))
    stream.receive(final(2))
    stream.put(b"gh")

    config = reconnect(stream, received=4)

    assert (config.session_id, config.after_event) == ("s1", 2)
    assert sent(stream) == [b"efgh"]


def test_what_an_old_connection_asks_for_is_not_given() -> None:
    stream = begin()
    reconnect(stream, received=0)
    stream.put(b"abcd")

    assert stream.is_ready(0)
    assert stream.next_request(0) is None
    assert sent(stream) == [b"abcd"]


def test_audio_is_kept_until_the_gateway_has_it() -> None:
    stream = begin()
    stream.put(bytes(3 * SECOND))
    sent(stream)

    stream.receive(final(1, round(1.25 * SECOND)))
    assert stream._audio.received_bytes == 1.25 * SECOND
    assert len(stream._audio._kept) == 1.75 * SECOND

    reconnect(stream, received=2 * SECOND)
    assert len(stream._audio._kept) == SECOND
    assert [len(message) for message in sent(stream)] == [SECOND]


def test_a_gateway_that_claims_more_than_was_sent_makes_nothing_be_forgotten_that_was_not() -> None:
    stream = begin()
    stream.put(b"abcd")
    sent(stream)
    stream.put(b"ef")

    stream.receive(final(1, SECOND))

    assert sent(stream) == [b"ef"]


def test_a_flush_that_may_be_lost_is_sent_again() -> None:
    stream = begin()
    stream.put(b"ab")
    stream.flush()
    stream.put(b"cd")
    stream.flush()
    sent(stream)

    reconnect(stream, received=4)
    assert sent(stream) == ["flush"]
    reconnect(stream, received=4)
    stream.put(b"ef")
    assert sent(stream) == ["flush", b"ef"]
    reconnect(stream, received=6)
    assert sent(stream) == []


def test_flushes_stay_in_their_places_while_audio_is_forgotten() -> None:
    stream = begin()
    for _ in range(2):
        stream.put(bytes(SECOND))
        stream.flush()
    assert sent(stream) == [bytes(SECOND), "flush", bytes(SECOND), "flush"]
    stream.receive(final(1, SECOND + SECOND // 2))
    stream.put(b"ab")
    stream.flush()

    assert sent(stream) == [b"ab", "flush"]


def test_the_end_is_sent_again_until_the_gateway_has_ended_the_session() -> None:
    stream = begin()
    stream.put(b"ab")
    stream.end()
    assert sent(stream) == [b"ab", "end"]

    reconnect(stream, received=2)
    assert sent(stream) == ["end"]

    stream.receive(Response(event_number=1, ended=Response.Ended(job_id="j1")))
    reconnect(stream, received=2)
    assert sent(stream) == []
    assert not stream.is_ready(stream._connection)


def test_a_gateway_that_ends_the_session_takes_no_more_audio() -> None:
    stream = begin()
    stream.put(b"ab")
    stream.receive(Response(event_number=1, ended=Response.Ended(job_id="j1")))

    assert sent(stream) == []
    with pytest.raises(PreconditionFailed):
        stream.put(b"cd")


def test_an_event_is_never_returned_twice() -> None:
    stream = begin()
    interim = Response(interim=Response.Interim())
    first = [stream.receive(response) for response in (final(1), interim, final(2))]
    reconnect(stream, received=0)
    again = [stream.receive(response) for response in (final(1), final(2), interim, final(3), final(3))]

    assert [getattr(event, "event_number", None) for event in first] == [1, 0, 2]
    assert [getattr(event, "event_number", None) for event in again] == [None, None, 0, 3, None]


def test_all_events_are_decoded() -> None:
    stream = LiveStream(build_live_config({}), retries=0)
    stream.connect()
    word = audio_pb2.Word(text="Hello", speaker_label="SPEAKER_00", start_offset=codec.encode_duration(0.5))
    notice = gateway_pb2.Notice(code="FALLING_BEHIND", message="slow", start_offset=codec.encode_duration(1.0))
    messages: list[dict[str, Any]] = [
        {"started": Response.Started(session_id="s1")},
        {"interim": Response.Interim(words=[word], language_code="en")},
        {"final": Response.Final(words=[word], first_word=7, language_code="en")},
        {"speaker_correction": Response.SpeakerCorrection(first_word=7, word_count=2, speaker_label="Ana")},
        {"utterance_end": Response.UtteranceEnd()},
        {"final": Response.Final(words=[word], first_word=8, channel=2)},
        {"utterance_end": Response.UtteranceEnd(channel=2)},
        {"notice": notice},
        {"ended": Response.Ended(job_id="j1")},
    ]

    events = [
        stream.receive(
            Response(
                event_number=max(number - 1, 0),
                audio_offset=codec.encode_duration(2.0),
                behind=codec.encode_duration(0.5),
                **message,
            )
        )
        for number, message in enumerate(messages)
    ]

    words = (Word("Hello", 0.5, speaker="SPEAKER_00"),)

    def position(number: int) -> dict[str, Any]:
        return {"event_number": number, "audio_seconds": 2.0, "behind_seconds": 0.5}

    assert events == [
        LiveStarted(session_id="s1", received_bytes=0, **position(0)),
        LiveInterim(words=words, language="en", **position(0)),
        LiveFinal(words=words, first_word=7, language="en", **position(1)),
        SpeakerCorrection(first_word=7, word_count=2, speaker="Ana", **position(2)),
        UtteranceEnd(**position(3)),
        LiveFinal(words=words, first_word=8, language="", channel=2, **position(4)),
        UtteranceEnd(channel=2, **position(5)),
        LiveNotice(notice=Notice("FALLING_BEHIND", "slow", 1.0, None), **position(6)),
        LiveEnded(job_id="j1", **position(7)),
    ]


def test_the_result_is_that_of_transcribe_and_ends_the_session() -> None:
    stream = begin()
    stream.put(b"abcd")
    sent(stream)
    reconnect(stream, received=2)
    sent(stream)

    event = stream.receive(Response(event_number=1, result=gateway_pb2.TranscribeResult(language_code="en")))

    assert isinstance(event, LiveResult)
    assert (event.result.message.language_code, event.result.uploaded_bytes) == ("en", 6)
    stream.finish()
    with pytest.raises(PreconditionFailed):
        stream.put(b"ef")


def test_a_stream_that_ends_before_the_result_can_be_continued() -> None:
    stream = begin()
    with pytest.raises(Unavailable):
        stream.finish()

    stream.receive(Response(event_number=1, ended=Response.Ended(job_id="j1")))
    with pytest.raises(Unavailable):
        stream.finish()


def test_a_session_without_audio_has_no_result() -> None:
    stream = begin()
    stream.end()
    sent(stream)
    stream.receive(Response(event_number=1, ended=Response.Ended()))

    stream.finish()


@pytest.mark.parametrize(
    ("before", "response", "what"),
    [
        ([], final(1), "final before started"),
        ([started()], started(), "started a second time"),
        ([started()], Response(), "does not know"),
        ([], started(session_id=""), "another session"),
        ([], started(received=1), "1 bytes of the audio"),
        (
            [started(), Response(event_number=1, result=gateway_pb2.TranscribeResult())],
            final(2),
            "final after the result",
        ),
    ],
)
def test_a_gateway_that_breaks_the_rules_is_named(before: list[Response], response: Response, what: str) -> None:
    stream = LiveStream(build_live_config({}), retries=3)
    stream.connect()
    for each in before:
        stream.receive(each)

    with pytest.raises(InternalError, match=what) as broken:
        stream.receive(response)
    assert broken.value.reason == "PROTOCOL_ERROR"


@pytest.mark.parametrize("received", [SECOND - 2, 2 * SECOND + 2])
def test_a_gateway_that_continues_where_it_cannot_be_breaks_the_rules(received: int) -> None:
    stream = begin()
    stream.put(bytes(2 * SECOND))
    sent(stream)
    stream.put(bytes(SECOND))
    stream.receive(final(1, SECOND))

    with pytest.raises(InternalError, match=f"it has {received} bytes"):
        reconnect(stream, received)


def test_another_session_than_the_one_to_continue_breaks_the_rules() -> None:
    stream = begin()
    stream.disconnect()
    stream.connect()

    with pytest.raises(InternalError, match="'s2'"):
        stream.receive(started(session_id="s2"))


def attempts_of(stream: LiveStream, error: CarecaError) -> int:
    """How many attempts follow errors, until one is raised."""
    count = 0
    with suppress(type(error)):
        while True:
            assert stream.after(error).attempt == count + 2
            count += 1
    return count


def test_a_session_that_has_begun_waits_longer_for_its_gateway() -> None:
    fresh = LiveStream(build_live_config({}), retries=3)

    assert attempts_of(fresh, Unavailable("down")) == 3
    assert attempts_of(begin(), Unavailable("down")) == RESTART_RETRIES
    assert attempts_of(begin(retries=0), Unavailable("down")) == 0


def test_only_progress_gives_new_attempts() -> None:
    stream, error = begin(), Unavailable("down")
    stream.put(b"abcd")
    sent(stream)

    assert stream.after(error).attempt == 2
    reconnect(stream, received=0)
    assert stream.after(error).attempt == 3
    reconnect(stream, received=2)
    assert stream.after(error).attempt == 2
    reconnect(stream, received=2)
    stream.receive(final(1))
    assert stream.after(error).attempt == 2
    reconnect(stream, received=2)
    stream.receive(final(1))
    assert stream.after(error).attempt == 3


def test_an_error_that_another_attempt_cannot_help_ends_the_session() -> None:
    stream, error = begin(), PreconditionFailed("taken over", reason="SESSION_TAKEN_OVER")

    with pytest.raises(PreconditionFailed):
        stream.after(error)

    for call in (lambda: stream.put(b"x"), stream.flush, stream.connect):
        with pytest.raises(PreconditionFailed) as failure:
            call()
        assert failure.value is error
    stream.close(Unavailable("later"))
    assert stream.failure is error
    stream.end()


def test_the_event_of_a_further_attempt_says_what_follows() -> None:
    error = Unavailable("down", retry_after_seconds=60)

    assert begin().after(error) == LiveReconnecting(2, MAX_DELAY_SECONDS, error)
