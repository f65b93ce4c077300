"""Live audio in containers that are decoded as they grow."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from careca.errors import CarecaError, InvalidRecording, InvalidRequest
from careca.types import JobState
from careca.v1 import live_pb2
from careca_gateway.ingest.decoder import DecodeLimits, Decoder
from careca_gateway.live import service
from careca_gateway.live.container import ContainerDecoder
from careca_gateway.request import AudioSelection
from integration.gateway.live.conftest import Sessions
from support.live import (
    Heard,
    Live,
    LiveClient,
    Said,
    assert_numbered,
    assert_told,
    live_client,
    spoken,
    spoken_words,
    words,
)
from support.media import endless_silence, recording, silent_film
from support.stack import Stack
from support.submitters import submitting
from support.waiting import until

CONTAINER = live_pb2.LIVE_ENCODING_CONTAINER
TALK: list[Said | float] = [*words(0, 1, 10), 1.0, *words(1, 101, 10), 1.0, *words(0, 21, 10), 1.0]

LIMITS = DecodeLimits(memory_bytes=2**31, cpu_seconds=60, timeout_seconds=120.0, max_audio_seconds=60.0)


def contained(said: list[Said | float], container: str = "matroska", codec: str = "flac") -> bytes:
    """The words in a container, without loss."""
    file = io.BytesIO()
    samples = np.frombuffer(spoken(said), "<i2")
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=16_000, layout="mono")
        for first in range(0, len(samples), 1_600):
            frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1_600], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), first
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


class Streamed:
    """What a decoder made of bytes that came one after the other."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self.ended = False
        self.error: CarecaError | None = None
        self.may_take = asyncio.Event()
        self.may_take.set()
        self.decoder = ContainerDecoder(Decoder(LIMITS, slots=1), output=self._take, ended=self._end, failed=self._fail)

    async def _take(self, pcm: bytes) -> None:
        await self.may_take.wait()
        self.pcm += pcm

    def _end(self) -> None:
        self.ended = True

    def _fail(self, error: CarecaError) -> None:
        self.error = error

    async def done(self) -> None:
        await until(lambda: self.ended or self.error)


@pytest.fixture
async def streamed() -> AsyncIterator[Streamed]:
    streamed = Streamed()
    await streamed.decoder.start()
    yield streamed
    await streamed.decoder.close()


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("webm", "libopus", {"rate": 48_000}),
        ("webm", "libopus", {"rate": 48_000, "channels": 2, "hertz": (440.0, 660.0)}),
        ("matroska", "aac", {"rate": 44_100, "video": True, "start": 1.0}),
        ("ogg", "libopus", {"rate": 48_000, "hole": (0.5, 1.5)}),
        ("ogg", "flac", {"rate": 44_100, "channels": 2}),
        ("mp3", "libmp3lame", {"rate": 44_100}),
        ("adts", "aac", {"rate": 22_050}),
        ("flac", "flac", {}),
        ("wav", "pcm_s16le", {"rate": 8_000}),
    ],
)
async def test_pcm_is_that_of_the_recording(
    streamed: Streamed, tmp_path: Path, container: str, codec: str, options: dict[str, Any]
) -> None:
    data = recording(container, codec, 4.0, **options)
    pieces = random.Random(7)
    position = 0
    while position < len(data):
        size = pieces.choice([1, 7, 100, 1_000, 5_000])
        streamed.decoder.feed(data[position : position + size])
        position += size
        await asyncio.sleep(0)
    streamed.decoder.finish()
    await streamed.done()

    whole, draft = tmp_path / "whole", tmp_path / "draft"
    whole.write_bytes(data)
    await Decoder(LIMITS, slots=1).decode(whole, AudioSelection(), [draft], lambda _: None)
    assert streamed.error is None
    expected = draft.read_bytes()
    if container == "mp3":  # the padding at its end is known only to who can read the end first
        assert 0 <= len(streamed.pcm) - len(expected) < 0.1 * 32_000
        assert streamed.pcm[: len(expected) - 1_000] == expected[:-1_000]
    else:
        assert streamed.pcm == expected


async def test_audio_comes_before_the_container_ends(streamed: Streamed) -> None:
    data = recording("webm", "libopus", 20.0, rate=48_000)
    for part in range(1, 5):
        streamed.decoder.feed(data[(part - 1) * len(data) // 5 : part * len(data) // 5])
        await until(lambda part=part: len(streamed.pcm) > 32_000 * (4.0 * part - 1.5))
    assert not streamed.ended


async def test_nothing_is_decoded_ahead_of_who_takes_it(streamed: Streamed) -> None:
    """A few bytes may hold hours of sound."""
    streamed.may_take.clear()
    streamed.decoder.feed(endless_silence(0.015))
    await asyncio.sleep(0.5)
    assert not streamed.pcm
    streamed.may_take.set()
    streamed.decoder.finish()
    await streamed.done()
    assert len(streamed.pcm) == pytest.approx(54 * 32_000, rel=0.01)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "NOT_A_RECORDING"),
        (b"\0" * 100_000, "NOT_A_RECORDING"),
        (random.Random(1).randbytes(100_000), "NOT_A_RECORDING"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", "NOT_A_RECORDING"),
        (silent_film(), None),
        (endless_silence(0.02), "RECORDING_TOO_LONG"),
    ],
)
async def test_what_cannot_be_decoded_is_an_error(streamed: Streamed, data: bytes, reason: str | None) -> None:
    streamed.decoder.feed(data)
    streamed.decoder.finish()
    await streamed.done()
    assert isinstance(streamed.error, InvalidRecording)
    assert reason in (None, streamed.error.reason)


# Sessions


@pytest.mark.parametrize(
    ("container", "codec"), [("matroska", "flac"), ("ogg", "flac"), ("wav", "pcm_s16le"), ("flac", "flac")]
)
async def test_a_session_in_a_container_tells_each_word(
    stack: Stack, client: LiveClient, container: str, codec: str
) -> None:
    heard = await client.whole(contained(TALK, container, codec), encoding=CONTAINER)

    assert_numbered(heard)
    assert_told(heard, TALK)
    recorded = [word.text for utterance in heard.result.utterances for word in utterance.words]
    assert recorded == [each.text for each in spoken_words(TALK)]


async def test_words_come_while_the_container_grows(client: LiveClient) -> None:
    data = contained(TALK)
    live = await client.begin(encoding=CONTAINER)
    await live.audio(data[: len(data) // 2], piece=500)
    await live.until_heard("final")
    await live.audio(data[len(data) // 2 :], piece=500)
    await live.end()
    assert_told(await live.ended(), TALK)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
async def test_a_session_in_a_container_survives_a_restart(stack: Stack, part: float) -> None:
    data = contained(TALK)
    async with live_client(stack.target) as client:
        first = await client.begin(encoding=CONTAINER)
        await first.audio(data[: round(part * len(data))], piece=500)
        if part:
            await first.until_heard("final")
        await stack.stop_gateway()
        await first.error()
    await stack.start_gateway()
    async with live_client(stack.target) as client:
        second = await client.resume(first.session_id, first.heard.last_number)
        heard = first.heard + await _finish(second, data)
    assert_numbered(heard)
    assert_told(heard, TALK)


async def _finish(live: Live, data: bytes) -> Heard:
    await live.audio(data[live.received_bytes :], piece=500)
    await live.end()
    return await live.ended()


async def test_a_container_that_breaks_off_gives_what_is_in_it(client: LiveClient) -> None:
    data = contained(TALK)
    heard = await client.whole(data[: len(data) * 2 // 3], encoding=CONTAINER)

    said = [each.text for each in spoken_words(TALK)]
    told = [each.text for each in heard.words]
    assert 15 < len(told) < len(said)
    assert told[:-1] == said[: len(told) - 1]  # the last one may be cut
    assert heard.result.utterances


@pytest.mark.parametrize("gateway_settings", [{"live_idle_seconds": 0.05}])
async def test_what_is_no_container_is_refused_and_becomes_a_job_that_says_why(
    stack: Stack, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(service, "_BEAT_SECONDS", 0.01)
    async with live_client(stack.target, "ana") as client, submitting(stack, "ana") as ana:
        live = await client.begin(encoding=CONTAINER)
        session = await sessions.of(live, "ana")
        await live.audio(random.Random(1).randbytes(500_000))
        await live.end()
        error = await live.error()
        assert isinstance(error, InvalidRecording)
        assert error.reason == "NOT_A_RECORDING"

        await until(lambda: session.job_id)
        (job,), _ = await ana.list()
        assert (await ana.ended(job)).state is JobState.FAILED


async def test_a_container_has_its_own_sample_rate(client: LiveClient) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await client.begin(encoding=CONTAINER, sample_rate_hertz=48_000)
    assert refused.value.field == "config.sample_rate_hertz"
