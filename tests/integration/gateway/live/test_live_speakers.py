"""Names and numbers of speakers, and all encodings, from the audio to the result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careca import codec
from careca.types import KnownSpeaker, Voice
from careca.v1 import live_pb2
from integration.gateway.live.conftest import Sessions
from support.fakes import EMBEDDING_MODEL
from support.live import (
    Heard,
    LiveClient,
    Said,
    assert_speakers,
    assert_told,
    in_codec,
    labels_of,
    live_client,
    pace,
    spoken,
    spoken_stack,
    spoken_words,
    voice_of,
    word,
    words,
)
from support.redis_server import RedisServer
from support.stack import Stack
from support.submitters import submitting
from support.waiting import until

TALK: list[Said | float] = [*words(0, 1, 8), 1.0, *words(1, 101, 8), 1.0, *words(0, 11, 8), 1.0]


def known(*people: tuple[str, int], model: str = EMBEDDING_MODEL) -> list[object]:
    return [codec.encode_known_speaker(KnownSpeaker(name, Voice(voice_of(voice), model))) for name, voice in people]


def speakers(heard: Heard) -> list[str | None]:
    """The speakers of the words of ``TALK``, without those that follow a change of speakers at once."""
    labels = [each.speaker for each in heard.words]
    return list(dict.fromkeys(labels[4:8] + labels[12:16] + labels[20:]))


async def whole_at_the_pace_of_speech(
    client: LiveClient, sessions: Sessions, data: bytes, submitter: str = "anonymous", **config: Any
) -> Heard:
    live = await client.begin(**config)
    await pace(live, data, await sessions.of(live, submitter), seconds=0.5)
    await live.end()
    return await live.ended()


async def test_known_voices_are_named_while_they_speak(client: LiveClient, sessions: Sessions) -> None:
    live = await client.begin(known_speakers=known(("Ana", 0), ("Eve", 3)))
    await pace(live, spoken([*TALK, 1.0]), await sessions.of(live))
    await until(lambda: len(live.heard.words) == len(spoken_words(TALK)) or live.done)
    assert speakers(live.heard) == ["Ana", "SPEAKER_00"]
    await live.end()

    result = codec.decode_result((await live.ended()).result)
    assert [each.name for each in result.speakers] == ["Ana", None]


async def test_saved_voices_are_named_while_they_speak(stack: Stack, sessions: Sessions) -> None:
    async with live_client(stack.target, "ana") as client, submitting(stack, "ana") as ana:
        await ana.save_voice("Bob", voice=codec.encode_voice(Voice(voice_of(1), EMBEDDING_MODEL)))

        heard = await whole_at_the_pace_of_speech(client, sessions, spoken(TALK), "ana", use_saved_voices=True)
        without = await whole_at_the_pace_of_speech(client, sessions, spoken(TALK), "ana")

    assert speakers(heard) == ["SPEAKER_00", "Bob"]
    assert [each.name for each in codec.decode_result(heard.result).speakers] == [None, "Bob"]
    assert speakers(without) == ["SPEAKER_00", "SPEAKER_01"]


async def test_names_are_the_same_after_a_restart(stack: Stack, sessions: Sessions) -> None:
    data = spoken(TALK)
    async with live_client(stack.target, "ana") as client, submitting(stack, "ana") as ana:
        await ana.save_voice("Bob", voice=codec.encode_voice(Voice(voice_of(1), EMBEDDING_MODEL)))
        first = await client.begin(known_speakers=known(("Ana", 0)), use_saved_voices=True)
        await pace(first, data[: len(data) // 2], await sessions.of(first, "ana"))
        await ana.delete_voice("Bob")
        await stack.stop_gateway()
    await stack.start_gateway()

    async with live_client(stack.target, "ana") as client:
        second = await client.resume(first.session_id)
        await pace(second, data[second.received_bytes :], await sessions.of(second, "ana"))
        await second.end()
        heard = await second.ended()
    assert speakers(heard) == ["Ana", "Bob"]


async def test_a_voice_of_another_model_names_nobody(client: LiveClient, sessions: Sessions) -> None:
    """Embeddings of different models cannot be compared, even if they have the same length."""
    people = known(("Ana", 0), model="another-model@1")
    for each in people:
        each.skip_if_incomparable = True  # type: ignore[attr-defined]

    heard = await whole_at_the_pace_of_speech(client, sessions, spoken(TALK), known_speakers=people)

    assert "Ana" not in {each.speaker for each in heard.words}


async def test_the_number_of_speakers_is_limited_as_asked(client: LiveClient, sessions: Sessions) -> None:
    one = {"max_speaker_count": 1}
    heard = await whole_at_the_pace_of_speech(client, sessions, spoken(TALK), diarization=one)

    assert {each.speaker for each in heard.words} <= {None, "SPEAKER_00"}


async def test_a_speaker_is_known_again_after_a_long_silence(client: LiveClient, sessions: Sessions) -> None:
    said: list[Said | float] = [*words(0, 1, 20), 1.0, *words(1, 101, 20), 90.0, *words(0, 41, 20), 1.0]

    heard = await whole_at_the_pace_of_speech(client, sessions, spoken(said))

    assert_speakers(heard, said)


async def test_each_word_has_its_speaker_in_the_end(client: LiveClient, sessions: Sessions) -> None:
    """The first words of a new speaker too, after corrections."""
    said: list[Said | float] = [
        *words(0, 1, 20), 1.0, *words(1, 101, 20), 1.0, *words(2, 201, 20), 1.0, *words(0, 31, 20), 1.0
    ]  # fmt: skip
    live = await client.begin()
    await pace(live, spoken(said), await sessions.of(live))
    expected = labels_of(spoken_words(said))
    await until(lambda: [each.speaker for each in live.heard.words] == expected or live.done)
    await live.end()

    heard = await live.ended()
    assert_told(heard, said)
    assert [each.speaker for each in heard.words] == expected


# Encodings


GRAIN = 600
"""Values that differ by so much stay different words in G.711 and after a change of the sample rate."""

SPOKEN: list[Said | float] = [
    0.3,
    *(word(speaker, number, 0.5) for speaker, number in ((0, 400), (0, 1000), (0, 1600), (0, 2200))),
    1.0,
    *(word(speaker, number, 0.5) for speaker, number in ((1, 2000), (1, 2600), (1, 3200), (1, 3800))),
    0.5,
]


@pytest.fixture
async def coarse(tmp_path: Path, redis_server: RedisServer, sessions: Sessions) -> AsyncIterator[LiveClient]:
    """A client of a gateway whose engines round what they hear."""
    async with (
        spoken_stack(tmp_path, redis_server.url, GRAIN) as stack,
        live_client(stack.target) as client,
    ):
        yield client


@pytest.mark.parametrize("piece", [7, 800, 12_345])
@pytest.mark.parametrize(
    ("encoding", "rate"),
    [
        (live_pb2.LIVE_ENCODING_MULAW, 8_000),
        (live_pb2.LIVE_ENCODING_ALAW, 8_000),
        (live_pb2.LIVE_ENCODING_PCM_S16LE, 8_000),
        (live_pb2.LIVE_ENCODING_PCM_S16LE, 11_025),
        (live_pb2.LIVE_ENCODING_PCM_S16LE, 44_100),
        (live_pb2.LIVE_ENCODING_PCM_S16LE, 48_000),
    ],
)
async def test_audio_of_every_encoding_is_heard(
    coarse: LiveClient, encoding: live_pb2.LiveEncoding, rate: int, piece: int
) -> None:
    data = spoken(SPOKEN, rate, flat=True)
    if encoding != live_pb2.LIVE_ENCODING_PCM_S16LE:
        name = "pcm_mulaw" if encoding == live_pb2.LIVE_ENCODING_MULAW else "pcm_alaw"
        data = in_codec(data, name, rate)
    live = await coarse.begin(encoding=encoding, sample_rate_hertz=rate)
    await live.audio(data, piece if piece > 100 else rate)
    await live.end()
    heard = await live.ended()

    expected = spoken_words(SPOKEN)
    assert len(heard.words) == len(expected)
    for told, each in zip(heard.words, expected, strict=True):
        assert abs(int(told.text.removeprefix("w")) - int(each.text.removeprefix("w"))) <= GRAIN
        assert told.start == pytest.approx(each.start, abs=0.02)
        assert told.end == pytest.approx(each.end, abs=0.02)
    result = codec.decode_result(heard.result)
    assert len(result.utterances) == 2
    assert result.duration == pytest.approx(expected[-1].end + 0.5, abs=0.02)
