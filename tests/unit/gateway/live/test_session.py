"""A session between a caller that comes and goes and models that a test holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from careca.auth.caller import Caller, CallerLimits, acting_as
from careca.errors import (
    CarecaError,
    InternalError,
    InvalidRequest,
    Overloaded,
    PreconditionFailed,
    Unavailable,
)
from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.types import (
    ClusteredVoices,
    DiarizationOptions,
    DiarizedWindow,
    NoticeCode,
    ReadWindow,
    VoicesToCluster,
    WindowToDiarize,
    WindowToRead,
)
from careca.v1 import gateway_pb2
from careca.v1.diarizer_pb2 import VoicePiece
from careca_gateway.ingest.decoder import Decoder
from careca_gateway.live import recognition as recognition_module
from careca_gateway.live.journal import Journal
from careca_gateway.live.metrics import LiveMetrics
from careca_gateway.live.session import LiveLimits, LiveSession
from careca_gateway.live.speakers import Correction, SpeakerMemory
from support.live import (
    BYTES_PER_SECOND,
    PCM,
    Config,
    Heard,
    Response,
    Said,
    SpokenDiarizer,
    SpokenTranscriber,
    assert_numbered,
    spoken,
    spoken_words,
    stereo,
    word,
    words,
)
from support.waiting import settle, until

TALK: list[Said | float] = [*words(0, 1, 10), 1.2, *words(1, 101, 10), 1.2, *words(0, 21, 10), 1.2]
DATA = spoken(TALK)
SAID = [each.text for each in spoken_words(TALK)]
SEPARATE = {"channel_count": 2, "channel_mode": gateway_pb2.CHANNEL_MODE_SEPARATE}


class Models:
    """Both engines without services. Clear an event to hold that kind of work."""

    def __init__(self) -> None:
        self.transcriber, self.diarizer = SpokenTranscriber(), SpokenDiarizer()
        self.transcriber.load()
        self.diarizer.load()
        self.read, self.diarize, self.cluster = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for event in (self.read, self.diarize, self.cluster):
            event.set()
        self.failures: list[Exception] = []
        self.reading = self.clustering = 0
        self.windows: list[tuple[WindowToRead, float]] = []

    async def read_window(self, audio: bytes, window: WindowToRead) -> ReadWindow:
        self.reading += 1
        self.windows.append((window, len(audio) / BYTES_PER_SECOND))
        await self.read.wait()
        self.reading -= 1
        if self.failures:
            raise self.failures.pop(0)
        return complete(self.transcriber.infer(_audio(audio), window))  # type: ignore[no-any-return]

    async def diarize_window(self, audio: bytes, window: WindowToDiarize) -> DiarizedWindow:
        await self.diarize.wait()
        return complete(self.diarizer.infer(_audio(audio), window))  # type: ignore[no-any-return]

    async def cluster_voices(self, voices: VoicesToCluster) -> ClusteredVoices:
        self.clustering += 1
        await self.cluster.wait()
        return complete(self.diarizer.infer(_audio(b""), voices))  # type: ignore[no-any-return]


def _audio(data: bytes) -> Audio:
    return Audio(np.frombuffer(data, "<i2"))


class MemoryJournal:
    """Keeps a session in memory. ``again`` opens it again."""

    session_id = "one"
    submitter = "ana"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.events: list[Response] = []
        self.voices: list[VoicePiece] = []
        self.kept_audio = b""
        self.settled_until = 0.0
        self.sealed = False

    def again(self) -> MemoryJournal:
        journal = MemoryJournal(self.config)
        journal.events, journal.voices = list(self.events), list(self.voices)
        journal.kept_audio = self.kept_audio
        journal.settled_until, journal.sealed = self.settled_until, self.sealed
        return journal

    @property
    def audio_bytes(self) -> int:
        return len(self.kept_audio)

    async def append_audio(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.kept_audio += data

    async def append_event(self, event: Response) -> None:
        await asyncio.sleep(0)
        self.events.append(Response.FromString(event.SerializeToString()))

    async def append_voice(self, piece: VoicePiece) -> None:
        await asyncio.sleep(0)
        self.voices.append(piece)

    async def seal(self) -> None:
        self.sealed = True

    def audio(self) -> Iterator[bytes]:
        yield self.kept_audio


@dataclass
class Room:
    """Where a session is, which may be opened again after it was closed."""

    models: Models
    journal: MemoryJournal | None = None
    config: dict[str, Any] = field(default_factory=dict)
    limits: LiveLimits = field(default_factory=lambda: LiveLimits(10**9, 10**6))
    jobs: list[bytes] = field(default_factory=list)
    job_failures: list[CarecaError] = field(default_factory=list)
    opened: list[LiveSession] = field(default_factory=list)

    async def open(self) -> LiveSession:
        """Begins the session, or continues it."""
        if self.journal is None:
            config = Config(**({"encoding": PCM, "interim_results": True} | self.config))
            self.journal = MemoryJournal(config)
        self.journal = self.journal.again()
        session = LiveSession(
            cast("Journal", self.journal),
            models=self.models,
            speakers=SpeakerMemory(similarity=0.5, options=DiarizationOptions()),
            limits=self.limits,
            decoder=cast("Decoder", None),  # containers are tested with real gateways
            finish=self._finish,
            metrics=LiveMetrics(CollectorRegistry()),
        )
        await session.start()
        self.opened.append(session)
        return session

    @property
    def kept(self) -> MemoryJournal:
        """What is kept of the session that was opened last."""
        assert self.journal
        return self.journal

    async def _finish(self, session: LiveSession) -> str:
        if self.job_failures:
            raise self.job_failures.pop(0)
        self.jobs.append(b"".join(session.journal.audio()))
        return f"job{len(self.jobs)}"


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    monkeypatch.setattr(recognition_module, "_PAUSES", (0.0,))
    room = Room(Models())
    yield room
    for session in room.opened:
        await session.close()


class Listener:
    """Collects the events of one call."""

    def __init__(self, session: LiveSession, after: int = 0) -> None:
        self.session = session
        self.call = session.attach()
        self.responses: list[Response] = []
        self.task = asyncio.create_task(self._listen(after))

    async def _listen(self, after: int) -> None:
        async for event in self.session.events(self.call, after):
            self.responses.append(Response.FromString(event.SerializeToString()))

    async def say(self, data: bytes, piece: int = BYTES_PER_SECOND // 4) -> None:
        for first in range(0, len(data), piece):
            await self.session.receive(self.call, data[first : first + piece])

    async def ended(self) -> Heard:
        await self.task
        return Heard(self.responses)

    async def error(self) -> CarecaError:
        with pytest.raises(CarecaError) as raised:
            await self.task
        return raised.value

    @property
    def heard(self) -> Heard:
        return Heard(self.responses)


class HeldWrites:
    """Holds what is written to a journal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, journal: MemoryJournal, method: str) -> None:
        self.began, self.may_end = asyncio.Event(), asyncio.Event()
        self.may_end.set()
        original: Callable[..., Awaitable[None]] = getattr(journal, method)

        async def held(*args: Any) -> None:
            self.began.set()
            await self.may_end.wait()
            await original(*args)

        monkeypatch.setattr(journal, method, held)

    def hold(self) -> None:
        self.began.clear()
        self.may_end.clear()


async def test_a_session_tells_each_word_and_ends_with_its_job(room: Room) -> None:
    session = await room.open()
    listener = Listener(session)
    await listener.say(DATA)
    session.end(listener.call)

    heard = await listener.ended()
    assert [each.text for each in heard.words] == SAID
    assert heard.kinds[-1] == "ended"
    assert (heard.job_id, room.jobs) == ("job1", [DATA])
    assert session.job_id == "job1"


async def test_audio_is_kept_once_if_its_call_ends_while_it_is_written(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await room.open()
    writes = HeldWrites(monkeypatch, room.kept, "append_audio")
    first = Listener(session)
    await first.say(DATA[:1000])
    writes.hold()
    sending = asyncio.create_task(session.receive(first.call, DATA[1000:3000]))
    await until(writes.began.is_set)

    sending.cancel()
    await settle()
    second = Listener(session, 0)
    starting = asyncio.create_task(session.started())
    await settle()
    writes.may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await sending
    assert (await starting).started.received_bytes == session.journal.audio_bytes == 3000
    await second.say(DATA[3000:])
    session.end(second.call)
    assert [each.text for each in (await second.ended()).words] == SAID
    assert room.jobs == [DATA]


async def test_a_newer_call_learns_of_audio_that_is_still_written(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await room.open()
    writes = HeldWrites(monkeypatch, room.kept, "append_audio")
    writes.hold()
    first = Listener(session)
    sending = asyncio.create_task(session.receive(first.call, DATA[:5000]))
    await until(writes.began.is_set)

    second = Listener(session)
    starting = asyncio.create_task(session.started())
    await settle()
    assert not starting.done()
    writes.may_end.set()

    received = (await starting).started.received_bytes
    await sending
    assert received == 5000
    await second.say(DATA[received:])
    session.end(second.call)
    await second.ended()
    assert room.jobs == [DATA]


async def test_an_older_call_can_neither_send_flush_nor_end(room: Room) -> None:
    session = await room.open()
    first = Listener(session)
    second = Listener(session)

    with pytest.raises(PreconditionFailed) as refused:
        await session.receive(first.call, b"\1\1")
    assert refused.value.reason == "SESSION_TAKEN_OVER"
    for end in (session.flush, session.end):
        with pytest.raises(PreconditionFailed) as refused:
            end(first.call)
        assert refused.value.reason == "SESSION_TAKEN_OVER"
    assert (await first.error()).reason == "SESSION_TAKEN_OVER"
    await second.say(DATA)
    session.end(second.call)
    assert [each.text for each in (await second.ended()).words] == SAID


async def test_every_flush_counts_also_while_a_window_is_read(room: Room) -> None:
    session = await room.open()
    listener = Listener(session)
    room.models.read.clear()
    parts = [words(0, first, 5) for first in (1, 11, 21)]
    for part in parts:
        await listener.say(spoken(part))
        session.flush(listener.call)
        await until(lambda: room.models.reading)

    room.models.read.set()
    await until(lambda: Heard(listener.responses).kinds.count("utterance_end") == 3)
    assert [each.text for each in listener.heard.words] == [each.text for part in parts for each in spoken_words(part)]
    assert [window.last for window, _ in room.models.windows].count(True) == 3


async def test_a_flush_is_exact_although_more_audio_has_come(room: Room) -> None:
    """The audio after a flush may end in the middle of a word."""
    session = await room.open()
    listener = Listener(session)
    room.models.read.clear()
    await listener.say(spoken(words(0, 1, 5)))
    session.flush(listener.call)
    await listener.say(spoken(words(0, 11, 5))[: round(0.63 * BYTES_PER_SECOND)])
    room.models.read.set()
    await listener.say(spoken(words(0, 11, 5))[round(0.63 * BYTES_PER_SECOND) :])
    session.end(listener.call)

    heard = await listener.ended()
    assert [each.text for each in heard.words] == [
        each.text for each in spoken_words([*words(0, 1, 5), *words(0, 11, 5)])
    ]


async def test_interim_words_are_never_final_already(room: Room) -> None:
    """Final words wait for their speaker, and are interim until then."""
    session = await room.open()
    listener = Listener(session)
    room.models.diarize.clear()
    await listener.say(spoken(words(0, 1, 8)))
    await until(lambda: any(each for each in listener.heard.interims))
    late = Listener(session)
    await until(lambda: late.heard.interims)
    room.models.diarize.set()
    await late.say(spoken([1.0]))
    session.end(late.call)

    told: set[str] = set()
    for response in (await late.ended()).responses:
        if response.HasField("final"):
            told.update(each.text for each in response.final.words)
        elif response.HasField("interim"):
            assert not told & {each.text for each in response.interim.words}
    assert told


async def test_a_call_that_comes_late_sees_no_old_interim_words(room: Room) -> None:
    session = await room.open()
    room.models.diarize.clear()
    first = Listener(session)
    await first.say(DATA)
    session.end(first.call)
    await until(lambda: first.heard.interims)
    room.models.diarize.set()
    await first.ended()

    heard = await Listener(session).ended()
    assert [each.text for each in heard.words] == SAID
    assert "interim" not in heard.kinds
    assert heard.kinds[-1] == "ended"


async def test_the_end_does_not_cut_corrections_off(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrections of one clustering are all told, with numbers that are those on disk."""
    session = await room.open()
    writes = HeldWrites(monkeypatch, room.kept, "append_event")
    room.models.cluster.clear()
    listener = Listener(session)
    await listener.say(spoken([*words(0, 1, 20), *words(1, 101, 20), 1.0]))
    await until(lambda: room.models.clustering)
    await until(lambda: len(listener.heard.words) >= 38)

    corrections = [Correction(0, 3, "SPEAKER_07"), Correction(5, 2, "SPEAKER_07"), Correction(9, 1, "SPEAKER_07")]
    told = iter([corrections])
    settle_voices = session._speakers.settle

    def settled(count: int, clusters: Sequence[int]) -> list[Correction]:
        settle_voices(count, clusters)
        return next(told, [])

    monkeypatch.setattr(session._speakers, "settle", settled)
    await until(lambda: session.received - session._speakers.diarized_until < 1.0)
    room.models.diarize.clear()
    await session.receive(listener.call, spoken([1.6]))  # as one: there is one more window
    session.end(listener.call)
    await until(lambda: session._recognition.all_read)
    writes.hold()
    room.models.cluster.set()
    await until(writes.began.is_set)
    room.models.diarize.set()
    await until(lambda: session._speakers.diarized_until >= session.received)
    writes.may_end.set()

    heard = await listener.ended()
    assert heard.kinds.count("speaker_correction") == len(corrections)
    assert_numbered(heard)
    assert room.kept.events == [each for each in heard.responses if each.event_number]


async def test_a_session_that_is_closed_while_it_writes_continues_with_the_same_numbers(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await room.open()
    writes = HeldWrites(monkeypatch, room.kept, "append_event")
    first = Listener(session)
    await first.say(DATA[: len(DATA) // 2])
    await until(lambda: first.heard.numbered)
    writes.hold()
    await first.say(DATA[len(DATA) // 2 : len(DATA) * 3 // 4])
    await until(writes.began.is_set)
    closing = asyncio.create_task(session.close())
    await settle()
    writes.may_end.set()
    await closing
    first.task.cancel()

    session = await room.open()
    second = Listener(session, first.heard.last_number)
    await second.say(DATA[session.received_bytes :])
    session.end(second.call)
    heard = first.heard + await second.ended()
    assert_numbered(heard)
    assert [each.text for each in heard.words] == SAID


async def test_a_window_is_tried_again_until_a_service_answers(room: Room) -> None:
    room.models.failures += [Unavailable("away")] * 20 + [Overloaded("busy", retry_after_seconds=1)] * 20
    session = await room.open()
    listener = Listener(session)
    await listener.say(DATA)
    session.end(listener.call)

    assert [each.text for each in (await listener.ended()).words] == SAID


async def test_a_window_that_fails_often_ends_the_work_and_keeps_the_audio(room: Room) -> None:
    room.models.failures += [InternalError("broken")] * 4
    session = await room.open()
    listener = Listener(session)
    await session.receive(listener.call, DATA[:BYTES_PER_SECOND])
    assert isinstance(await listener.error(), InternalError)
    assert session.failed
    await session.close()

    session = await room.open()
    second = Listener(session)
    assert (await session.started()).started.received_bytes == BYTES_PER_SECOND
    await second.say(DATA[BYTES_PER_SECOND:])
    session.end(second.call)
    assert [each.text for each in (await second.ended()).words] == SAID


async def test_a_failed_session_can_be_given_up(room: Room) -> None:
    room.models.failures += [InvalidRequest("no such language", field="options.language_code")]
    session = await room.open()
    first = Listener(session)
    await session.receive(first.call, DATA)
    assert isinstance(await first.error(), InvalidRequest)

    await session.give_up()

    assert (session.job_id, session.failed, room.jobs) == ("job1", False, [DATA])
    assert (await Listener(session).ended()).kinds[-1] == "ended"


async def test_a_job_that_cannot_be_submitted_now_is_submitted_later(room: Room) -> None:
    room.job_failures += [Overloaded("too many jobs", retry_after_seconds=1), Unavailable("Redis is away")]
    session = await room.open()
    listener = Listener(session)
    await listener.say(DATA)
    session.end(listener.call)

    assert (await listener.ended()).job_id == "job1"


async def test_more_audio_waits_while_the_session_is_far_behind(room: Room) -> None:
    room.models.read.clear()
    session = await room.open()
    listener = Listener(session)
    saying = asyncio.create_task(listener.say(spoken(words(0, 1, 150))))
    await until(lambda: session.received_bytes > 20 * BYTES_PER_SECOND)
    for _ in range(10):
        await settle()
    assert session.received_bytes <= 20.25 * BYTES_PER_SECOND
    assert not saying.done()
    assert listener.heard.notices == [NoticeCode.FALLING_BEHIND]

    room.models.read.set()
    await saying
    session.end(listener.call)
    assert (await listener.ended()).job_id == "job1"


@pytest.mark.parametrize("limits", [CallerLimits(recording_seconds=2.0), CallerLimits(recording_bytes=64_047)])
async def test_the_limits_of_a_token_hold_for_sessions(room: Room, limits: CallerLimits) -> None:
    session = await room.open()
    listener = Listener(session)
    with acting_as(Caller("ana", limits=limits)):
        await listener.say(DATA[:64_000])
        with pytest.raises(InvalidRequest) as refused:
            await session.receive(listener.call, b"\1\1")
    assert refused.value.reason == "RECORDING_TOO_LONG"
    assert session.received_bytes == 64_000


async def test_audio_that_no_window_needs_is_dropped(room: Room) -> None:
    session = await room.open()
    listener = Listener(session)
    for first in range(0, 120, 4):
        await listener.say(spoken([*words(first % 2, first + 1, 4), 0.9, *words(first % 2, first + 301, 2), 0.7]))
        await until(lambda: session.behind < 0.5 and session._speakers.diarized_until > session.received - 1)
        assert session.received - session._audio.start < 30
    assert session.received > 115


async def test_channels_without_sound_are_not_read(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.config = SEPARATE
    session = await room.open()
    read, asked = room.models.read_window, list[bytes]()

    async def recorded(audio: bytes, window: WindowToRead) -> ReadWindow:
        asked.append(audio)
        return await read(audio, window)

    monkeypatch.setattr(room.models, "read_window", recorded)
    listener = Listener(session)
    await listener.say(stereo(DATA, b""))
    session.end(listener.call)

    assert [each.text for each in (await listener.ended()).words] == SAID
    assert asked
    assert all(audio.strip(b"\0") for audio in asked)


async def test_words_do_not_wait_long_for_those_of_another_channel(room: Room) -> None:
    """Somebody says one endless word, of which the model is not sure, while the other party talks."""
    room.config = SEPARATE
    session = await room.open()
    listener = Listener(session)
    left: list[Said | float] = [0.5, *words(0, 1, 20), 1.0]
    endless = word(1, 1, 9.0)
    data = stereo(spoken(left), spoken([0.2, endless, 0.3]))
    await listener.say(data[: round(8.5 * 2 * BYTES_PER_SECOND)])
    await until(lambda: len(listener.heard.words) >= 4)
    assert {each.speaker for each in listener.heard.words} == {"SPEAKER_00"}
    assert all(each.text != endless.text for each in listener.heard.words)

    await listener.say(data[round(8.5 * 2 * BYTES_PER_SECOND) :])
    session.end(listener.call)
    heard = await listener.ended()
    (late,) = [each for each in heard.words if each.text == endless.text]
    assert (late.speaker, late.start) == ("SPEAKER_01", pytest.approx(0.2))
    assert [each.text for each in heard.words if each.text != endless.text] == [
        each.text for each in spoken_words(left)
    ]
    assert_numbered(heard)


def talk_of(speaker: int, random: Random) -> list[Said | float]:
    """Half a minute of words of different lengths, with pauses between some of them."""
    said: list[Said | float] = []
    for number in range(1, 25):
        if random.random() < 0.35:
            said.append(round(random.uniform(0.1, 5.0), 2))
        said.append(word(speaker, number, round(random.uniform(0.15, 0.8), 2)))
    return said


@pytest.mark.parametrize("seed", range(8))
async def test_words_of_both_channels_are_told_once_and_in_order_over_restarts(room: Room, seed: int) -> None:
    random = Random(seed)
    channels = talk_of(0, random), talk_of(1, random)
    data = stereo(*map(spoken, channels))
    room.config = SEPARATE
    heard, position = Heard([]), 0
    for restart in (*sorted(random.randrange(len(data)) for _ in range(seed % 4)), len(data)):
        session = await room.open()
        listener = Listener(session, heard.last_number)
        for first in range(position, restart, 16_001):
            await listener.say(data[first : min(first + 16_001, restart)])
            await until(lambda session=session: session.behind < 0.5)  # type: ignore[misc]
        position = restart
        if position < len(data):
            await session.close()
            await settle()
            listener.task.cancel()
        else:
            session.end(listener.call)
            await listener.ended()
        heard += listener.heard

    assert_numbered(heard)
    said_words = [each for said in channels for each in spoken_words(said)]
    expected = sorted(said_words, key=lambda each: (each.start, each.speaker))
    assert [each.text for each in heard.words] == [each.text for each in expected]
    assert [each.start for each in heard.words] == pytest.approx([each.start for each in expected], abs=1e-6)
    texts = [{each.text for each in spoken_words(said)} for said in channels]
    assert [len({each.speaker for each in heard.words if each.text in said}) for said in texts] == [1, 1]
    assert len({each.speaker for each in heard.words}) == 2


async def test_words_are_in_order_while_a_session_catches_up(room: Room) -> None:
    """Windows have 5 s of new audio then: a word is old already when it is final."""
    room.config = SEPARATE
    session = await room.open()
    listener = Listener(session)
    room.models.read.clear()
    left: list[Said | float] = [4.5, word(0, 1, 7.5), 4.0]
    right: list[Said | float] = [4.55, word(1, 1, 0.4), 11.05]
    await session.receive(listener.call, stereo(spoken(left), spoken(right)))
    room.models.read.set()
    session.end(listener.call)

    assert [each.text for each in (await listener.ended()).words] == [word(0, 1).text, word(1, 1).text]


async def test_words_wait_for_earlier_ones_of_another_channel(room: Room) -> None:
    room.config = SEPARATE
    session = await room.open()
    listener = Listener(session)
    left: list[Said | float] = [0.5, *words(0, 1, 4), 2.0]
    right: list[Said | float] = [0.2, word(1, 1, 2.5), 1.4]
    await listener.say(stereo(spoken(left), spoken(right)))
    session.end(listener.call)

    heard = await listener.ended()
    starts = [each.start for each in heard.words]
    assert starts == sorted(starts)
    assert heard.words[0].text == word(1, 1).text


async def test_words_do_not_wait_long_for_a_diarizer_that_is_away(room: Room) -> None:
    room.models.diarize.clear()
    session = await room.open()
    listener = Listener(session)
    await listener.say(spoken([*words(0, 1, 10), 1.0, *words(0, 21, 20), 1.0]))

    await until(lambda: len(listener.heard.words) >= 10)
    assert {each.speaker for each in listener.heard.words} == {None}
