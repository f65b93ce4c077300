"""Sessions with two channels: a speaker on each of them, or both mixed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from careca import codec
from careca.errors import InvalidRequest, PreconditionFailed
from careca.turns import speaker_label
from careca.types import Result
from careca.v1 import gateway_pb2, live_pb2
from careca_gateway.live.audio import MOST_ADDED_BYTES
from careca_gateway.live.models import WindowModels
from integration.gateway.live.conftest import Sessions
from support.live import (
    BYTES_PER_SECOND,
    PCM,
    Heard,
    Live,
    LiveClient,
    Said,
    SpokenDiarizer,
    SpokenTranscriber,
    assert_numbered,
    assert_told,
    in_codec,
    live_client,
    pace,
    spoken,
    spoken_stack,
    spoken_words,
    stereo,
    wav_of,
    word,
    words,
)
from support.redis_server import RedisServer
from support.stack import Stack
from support.waiting import until

SEPARATE: dict[str, Any] = {"channel_count": 2, "channel_mode": gateway_pb2.CHANNEL_MODE_SEPARATE}
MIX: dict[str, Any] = {"channel_count": 2}

LEFT: list[Said | float] = [3.05, *words(0, 1, 8), 2.0, *words(0, 11, 6), 2.5]
RIGHT: list[Said | float] = [0.5, *words(1, 101, 6), 2.5, *words(1, 111, 3, 0.33), 5.0, *words(1, 121, 6), 1.0]
"""The second channel begins to speak, and interrupts the first one."""

DATA = stereo(spoken(LEFT), spoken(RIGHT))
SECONDS = len(DATA) / 2 / BYTES_PER_SECOND


class Told(NamedTuple):
    """A word with its channel, as it was told."""

    text: str
    channel: int
    speaker: str | None
    start: float
    end: float


def expected(*channels: Sequence[Said | float]) -> list[Told]:
    """The words of all channels, in order of time."""
    said = sorted(
        (
            (each.start, each.end, number, each.text)
            for number, channel in enumerate(channels, 1)
            for each in spoken_words(channel)
        )
    )
    labels: dict[int, str] = {}
    return [
        Told(text, number, labels.setdefault(number, speaker_label(len(labels))), start, end)
        for start, end, number, text in said
    ]


def told(heard: Heard) -> list[Told]:
    """The final words."""
    channels = [each.final.channel for each in heard.numbered if each.HasField("final") for _ in each.final.words]
    return [
        Told(each.text, channel, each.speaker, each.start or 0.0, each.end or 0.0)
        for each, channel in zip(heard.words, channels, strict=True)
    ]


def assert_heard(heard: Heard, *channels: Sequence[Said | float]) -> None:
    """Each word once, with its channel, its speaker and its times, in order."""
    found, wanted = told(heard), expected(*channels)
    assert [each[:3] for each in found] == [each[:3] for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one[3:] == pytest.approx(other[3:], abs=1e-6)
    assert_numbered(heard)
    assert "speaker_correction" not in heard.kinds


async def at_the_pace_of_speech(client: LiveClient, sessions: Sessions, data: bytes, **config: Any) -> Heard:
    live = await client.begin(**config)
    await pace(live, data, await sessions.of(live))
    await live.end()
    return await live.ended()


async def finish(live: Live) -> Heard:
    """Sends the rest of the audio, and the end."""
    await live.audio(DATA[live.received_bytes :])
    await live.end()
    return await live.ended()


async def test_each_word_has_the_speaker_of_its_channel(client: LiveClient, diarizer: SpokenDiarizer) -> None:
    heard = await client.whole(DATA, **SEPARATE)

    assert_heard(heard, LEFT, RIGHT)
    assert diarizer.windows == 0
    assert heard.kinds[-2:] == ["ended", "result"]


async def test_it_is_the_same_at_the_pace_of_speech(client: LiveClient, sessions: Sessions) -> None:
    heard = await at_the_pace_of_speech(client, sessions, DATA, **SEPARATE)

    assert_heard(heard, LEFT, RIGHT)
    ends = [each.utterance_end.channel for each in heard.numbered if each.HasField("utterance_end")]
    assert [ends.count(channel) for channel in (1, 2)] == [2, 3]


async def test_interim_words_have_speakers_and_are_never_final_already(client: LiveClient, sessions: Sessions) -> None:
    heard = await at_the_pace_of_speech(client, sessions, DATA, **SEPARATE)

    speakers = {each.text: each.speaker for each in expected(LEFT, RIGHT)}
    final: set[str] = set()
    seen: set[str] = set()
    for response in heard.responses:
        if response.HasField("interim"):
            assert not final & {each.text for each in response.interim.words}
            for each in response.interim.words:
                assert not each.HasField("start_offset")
                if each.text in speakers:  # the others are parts of words
                    assert each.speaker_label == speakers[each.text]
                    seen.add(each.text)
        elif response.HasField("final"):
            final.update(each.text for each in response.final.words)
    assert len(seen) > len(speakers) / 2


async def test_an_interruption_is_told_between_the_words_around_it(client: LiveClient, sessions: Sessions) -> None:
    heard = await at_the_pace_of_speech(client, sessions, DATA, **SEPARATE)

    parties = [channel for channel, _ in groupby(each.channel for each in told(heard))]
    assert len(parties) > 6, "the interrupting words are among those of the other party"
    for response in heard.numbered:
        if response.HasField("final"):
            assert len({each.speaker_label for each in response.final.words}) == 1


async def test_the_result_is_that_of_the_same_recording(stack: Stack, client: LiveClient) -> None:
    heard = await client.whole(DATA, **SEPARATE)
    live = codec.decode_result(heard.result)
    async with stack.caller() as caller:
        answer = await caller.transcribe(wav_of(DATA, channels=2), channel_mode=gateway_pb2.CHANNEL_MODE_SEPARATE)

    assert_same(live, answer.result)
    assert [channel.speaker for channel in live.channels] == ["SPEAKER_01", "SPEAKER_00"]
    assert live.duration == pytest.approx(SECONDS)
    assert {(each.text, each.speaker) for each in told(heard)} == {
        (each.text, each.speaker) for utterance in live.utterances for each in utterance.words
    }


def assert_same(live: Result, recorded: Result) -> None:
    assert live.utterances
    for name in ("utterances", "turns", "speakers", "channels", "language", "audio", "duration"):
        assert getattr(live, name) == getattr(recorded, name), name


async def test_the_recording_is_a_wav_file_with_both_channels(stack: Stack, client: LiveClient) -> None:
    heard = await client.whole(DATA, **SEPARATE)

    recording = codec.decode_result(heard.result).recording
    (kept,) = [
        path for path in stack.store.rglob("*") if path.is_file() and path.stat().st_size == recording.size_bytes
    ]
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == recording.sha256
    with av.open(str(kept)) as container:
        (stream,) = container.streams.audio
        assert (stream.channels, stream.rate) == (2, 16_000)
        assert b"".join(bytes(packet) for packet in container.demux(stream)) == DATA


async def test_two_channels_can_be_mixed(stack: Stack, client: LiveClient, sessions: Sessions) -> None:
    """The mean of two channels that are the same is each of them."""
    said: list[Said | float] = [0.5, *words(0, 1, 10), 1.0, *words(1, 101, 10), 1.0]
    data = stereo(spoken(said), spoken(said))

    heard = await at_the_pace_of_speech(client, sessions, data, **MIX)

    assert_told(heard, said)
    assert {each.final.channel for each in heard.numbered if each.HasField("final")} == {0}
    assert {each.speaker for each in heard.words} == {"SPEAKER_00", "SPEAKER_01"}
    async with stack.caller() as caller:
        assert_same(codec.decode_result(heard.result), (await caller.transcribe(wav_of(data, channels=2))).result)


async def test_one_channel_may_be_named(client: LiveClient) -> None:
    assert_told(await client.whole(spoken(LEFT), channel_count=1), LEFT)


async def test_a_channel_without_speech_has_no_speaker(client: LiveClient, transcriber: SpokenTranscriber) -> None:
    heard = await client.whole(stereo(bytes(2), spoken(RIGHT)), **SEPARATE)

    assert_heard(heard, [0.1], RIGHT)
    assert [channel.speaker_label for channel in heard.result.channels] == ["", "SPEAKER_00"]


async def test_crosstalk_is_not_heard(stack: Stack, client: LiveClient) -> None:
    """The first channel has an echo of the second one at -26 dB."""
    echo = (np.frombuffer(spoken(RIGHT), "<i2") // 20).astype("<i2").tobytes()
    data = stereo(echo, spoken(RIGHT))

    heard = await client.whole(data, **SEPARATE)

    assert_heard(heard, [0.1], RIGHT)
    async with stack.caller() as caller:
        answer = await caller.transcribe(wav_of(data, channels=2), channel_mode=gateway_pb2.CHANNEL_MODE_SEPARATE)
    assert_same(codec.decode_result(heard.result), answer.result)


async def test_two_channels_with_the_same_audio_have_words_and_no_result(client: LiveClient) -> None:
    """As in a recording: nobody knows whose voice is on both."""
    live = await client.begin(**SEPARATE)
    await live.audio(stereo(spoken(RIGHT), spoken(RIGHT)))
    await live.end()

    error = await live.error()
    assert isinstance(error, PreconditionFailed)
    assert error.reason == "IDENTICAL_CHANNELS"
    assert len(live.heard.words) == 2 * len(spoken_words(RIGHT))


@pytest.mark.parametrize("piece", [1, 3, 333, 64_001])
async def test_frames_may_be_divided_between_messages(client: LiveClient, piece: int) -> None:
    left, right = (LEFT, RIGHT) if piece > 300 else ([word(0, 1, 0.1), 0.02], [0.02, word(1, 2, 0.11)])
    data = stereo(spoken(left), spoken(right))
    live = await client.begin(**SEPARATE)
    for first in range(0, len(data), piece):
        await live.send(audio=data[first : first + piece])
    await live.end()

    assert_heard(await live.ended(), left, right)


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_part_of_a_frame_is_left_out(client: LiveClient, size: int) -> None:
    heard = await client.whole(DATA + bytes([1]) * size, **SEPARATE)

    assert_heard(heard, LEFT, RIGHT)
    assert codec.decode_result(heard.result).duration == pytest.approx(SECONDS)
    nothing = await client.whole(bytes([1]) * size, **SEPARATE)
    assert nothing.kinds == ["started", "ended"]


async def test_flush_ends_the_utterances_of_both_channels(client: LiveClient) -> None:
    live = await client.begin(**SEPARATE)
    left, right = [0.1, *words(0, 1, 5)], words(1, 101, 5)
    await live.audio(stereo(spoken(left), spoken(right)))
    await live.flush()

    await live.until_heard("utterance_end", 2)
    assert {each.text for each in live.heard.words} == {
        each.text for each in (*spoken_words(left), *spoken_words(right))
    }
    await live.end()
    await live.ended()


# Continued


@pytest.mark.parametrize("part", [0.05, 0.3, 0.5, 0.65, 0.8, 1.0])
async def test_a_restart_of_the_gateway_loses_nothing(stack: Stack, sessions: Sessions, part: float) -> None:
    size = round(part * len(DATA)) - 1
    async with live_client(stack.target) as client:
        first = await client.begin(**SEPARATE)
        await pace(first, DATA[:size], await sessions.of(first))
        await stack.stop_gateway()
        await first.error()
    await stack.start_gateway()

    async with live_client(stack.target) as client:
        second = await client.resume(first.session_id, first.heard.last_number)
        assert second.received_bytes == size
        heard = first.heard + await finish(second)

    assert_heard(heard, LEFT, RIGHT)
    utterance_ends = [each.utterance_end.channel for each in heard.numbered if each.HasField("utterance_end")]
    assert {1, 2} == set(utterance_ends)
    assert len(utterance_ends) == 5


async def test_many_broken_calls_are_continued(client: LiveClient) -> None:
    live = await client.begin(**SEPARATE)
    heard = Heard([])
    for _ in range(20):
        position = live.received_bytes
        await live.audio(DATA[position : position + BYTES_PER_SECOND], piece=3_001)
        await live.cancel()
        heard += live.heard
        live = await client.resume(live.session_id, heard.last_number)
    heard += await finish(live)

    assert_heard(heard, LEFT, RIGHT)


# Limits


@pytest.mark.parametrize("gateway_settings", [{"max_audio_seconds": SECONDS}])
async def test_seconds_are_those_of_one_channel(client: LiveClient) -> None:
    assert_heard(await client.whole(DATA, **SEPARATE), LEFT, RIGHT)
    await refused_as_too_long(client)


@pytest.mark.parametrize("gateway_settings", [{"max_recording_bytes": len(DATA) + MOST_ADDED_BYTES}])
async def test_bytes_are_those_of_both_channels(client: LiveClient) -> None:
    assert_heard(await client.whole(DATA, **SEPARATE), LEFT, RIGHT)
    await refused_as_too_long(client)


async def refused_as_too_long(client: LiveClient) -> None:
    live = await client.begin(**SEPARATE)
    await live.audio(DATA)
    await live.send(audio=bytes(4))
    error = await live.error()
    assert isinstance(error, InvalidRequest)
    assert error.reason == "RECORDING_TOO_LONG"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"channel_count": 3}, "config.channel_count"),
        ({"channel_count": -1}, "config.channel_count"),
        ({"channel_count": 2**31 - 1}, "config.channel_count"),
        ({"channel_count": 2, "channel_mode": 99}, "config.channel_mode"),
        ({**SEPARATE, "channel_count": 0}, "config.channel_count"),
        ({**SEPARATE, "channel_count": 1}, "config.channel_count"),
        ({**SEPARATE, "diarization": {"speaker_count": 2}}, "config.diarization.speaker_count"),
        ({**SEPARATE, "diarization": {"min_speaker_count": 1}}, "config.diarization.min_speaker_count"),
        ({**SEPARATE, "diarization": {"max_speaker_count": 2}}, "config.diarization.max_speaker_count"),
        ({"encoding": live_pb2.LIVE_ENCODING_CONTAINER, "channel_count": 2}, "config.channel_count"),
        (
            {
                "encoding": live_pb2.LIVE_ENCODING_CONTAINER,
                "channel_mode": gateway_pb2.CHANNEL_MODE_SEPARATE,
            },
            "config.channel_mode",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_with_its_field(
    client: LiveClient, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await client.begin(**config)

    assert refused.value.field == field
    assert field in refused.value.message


# Encodings

GRAIN = 600
"""Values that differ by so much stay different words in G.711 and after a change of the sample rate."""

CODED_LEFT: list[Said | float] = [0.3, *(word(0, number, 0.5) for number in (400, 1000, 1600, 2200)), 3.0]
CODED_RIGHT: list[Said | float] = [3.0, *(word(1, number, 0.5) for number in (2000, 2600, 3200)), 0.8]


@pytest.fixture
async def coarse(tmp_path: Path, redis_server: RedisServer, sessions: Sessions) -> AsyncIterator[Stack]:
    """A gateway whose engines round what they hear."""
    async with spoken_stack(tmp_path, redis_server.url, GRAIN) as stack:
        yield stack


@pytest.mark.parametrize(
    ("encoding", "rate"),
    [
        (live_pb2.LIVE_ENCODING_MULAW, 8_000),
        (live_pb2.LIVE_ENCODING_ALAW, 8_000),
        (PCM, 8_000),
        (PCM, 44_100),
        (PCM, 48_000),
    ],
)
async def test_both_channels_of_every_encoding_are_heard(
    coarse: Stack, encoding: live_pb2.LiveEncoding, rate: int
) -> None:
    data = stereo(spoken(CODED_LEFT, rate, flat=True), spoken(CODED_RIGHT, rate, flat=True))
    if encoding != PCM:
        data = in_codec(data, "pcm_mulaw" if encoding == live_pb2.LIVE_ENCODING_MULAW else "pcm_alaw", layout="stereo")
    async with live_client(coarse.target) as client:
        live = await client.begin(encoding=encoding, sample_rate_hertz=rate, **SEPARATE)
        await live.audio(data, piece=12_345)
        await live.end()
        heard = await live.ended()

    wanted = expected(CODED_LEFT, CODED_RIGHT)
    found = told(heard)
    assert [(each.channel, each.speaker) for each in found] == [(each.channel, each.speaker) for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert abs(int(one.text.removeprefix("w")) - int(other.text.removeprefix("w"))) <= GRAIN
        assert one[3:] == pytest.approx(other[3:], abs=0.02)
    result = codec.decode_result(heard.result)
    assert [channel.speaker for channel in result.channels] == ["SPEAKER_00", "SPEAKER_01"]
    assert sum(len(utterance.words) for utterance in result.utterances) == len(wanted)


# The result is prepared


async def test_both_channels_are_prepared_and_the_result_does_not_depend_on_it(
    stack: Stack, client: LiveClient, sessions: Sessions, diarizer: SpokenDiarizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    prepare = WindowModels.prepare

    async def recorded(models: WindowModels, audio: Any, *options: Any) -> None:
        await prepare(models, audio, *options)
        prepared.append(audio.digest.sha256)

    monkeypatch.setattr(WindowModels, "prepare", recorded)
    left = [0.5, *words(0, 1, 20), 14.0, *words(0, 41, 20), 1.0]
    right = [10.0, *words(1, 101, 25), 11.0]
    data = stereo(spoken(left), spoken(right))
    live = await client.begin(**SEPARATE)
    await pace(live, data, await sessions.of(live))
    await until(lambda: len(prepared) >= 2)
    await live.end()
    heard = await live.ended()

    assert_heard(heard, left, right)
    assert len(set(prepared)) == len(prepared)
    assert {each.speaker_count for each in diarizer.options} == {1}
    async with stack.caller() as caller:
        answer = await caller.transcribe(
            wav_of(data, channels=2),
            channel_mode=gateway_pb2.CHANNEL_MODE_SEPARATE,
            cache_control={"skip_cache": True},
        )
    assert_same(codec.decode_result(heard.result), answer.result)
