"""Live sessions: audio whose content says what the engines hear, the engines, and a plain gRPC client.

Each word is a square wave of one amplitude, and silence is zero. So engines read the same words wherever a window
begins and ends, and what a session tells can be compared exactly with what was said.

    talk = spoken([word(0, 1, 0.4), 0.5, word(1, 2, 0.6)])
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import av
import grpc.aio
import numpy as np
import numpy.typing as npt
import pytest

from careca.codec.speech import read_words
from careca.errors import CarecaError
from careca.inference.audio import Audio
from careca.inference.engine import Work
from careca.rpc.statuses import responses_of
from careca.turns import speaker_label
from careca.types import (
    SAMPLE_RATE,
    ClusteredVoices,
    Diarization,
    DiarizationOptions,
    DiarizedWindow,
    ReadWindow,
    Segment,
    Speaker,
    Stage,
    Transcript,
    TranscriptionOptions,
    Turn,
    VoicePiece,
    VoicesToCluster,
    WindowToDiarize,
    WindowToRead,
    Word,
)
from careca.v1 import gateway_pb2, live_pb2, live_pb2_grpc
from careca_gateway.live.session import LiveSession
from support.fakes import EMBEDDING_MODEL, FakeDiarizerEngine, FakeTranscriberEngine
from support.stack import ModelService, Stack
from support.waiting import HANG_SECONDS, until

Config = live_pb2.LiveServiceTranscribeRequest.Config
Request = live_pb2.LiveServiceTranscribeRequest
Response = live_pb2.LiveServiceTranscribeResponse

PCM = live_pb2.LIVE_ENCODING_PCM_S16LE
BYTES_PER_SECOND = 2 * SAMPLE_RATE

SPEAKERS = 5
_SPEAKER_STEP = 5_000
_LEAST_RUN_SAMPLES = 80
"""Shorter runs are what a converter makes of the edge of a word."""
_SURE_AFTER_SECONDS = 2.0
"""A word is final in any case if so much of the window comes after it."""

_SURE_SECONDS = 0.1
_PAUSE_SECONDS = 0.3
_PIECE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Said:
    """A word that somebody says."""

    speaker: int
    number: int
    seconds: float

    @property
    def value(self) -> int:
        """Its amplitude. It is loud enough for a recording."""
        return (self.speaker + 1) * _SPEAKER_STEP + self.number

    @property
    def text(self) -> str:
        return f"w{self.value}"


def word(speaker: int, number: int, seconds: float = 0.4) -> Said:
    """Word ``number``, from 1, of ``speaker``, from 0. Words beside each other must differ."""
    assert 0 <= speaker < SPEAKERS
    assert 0 < number < _SPEAKER_STEP
    return Said(speaker, number, seconds)


def words(speaker: int, first: int, count: int, seconds: float = 0.4, gap: float = 0.0) -> list[Said | float]:
    """Several words, with a silence between them if ``gap`` is not 0."""
    said: list[Said | float] = []
    for number in range(first, first + count):
        said.append(word(speaker, number, seconds))
        if gap:
            said.append(gap)
    return said


def spoken(said: Iterable[Said | float], rate: int = SAMPLE_RATE, *, flat: bool = False) -> bytes:
    """PCM of words and, as numbers, seconds of silence. ``flat``: one value instead of a wave, to be resampled."""
    parts = [
        np.zeros(round(each * rate), np.int16)
        if isinstance(each, float | int)
        else np.full(round(each.seconds * rate), each.value, np.int16)
        for each in said
    ]
    samples = np.concatenate([*parts, np.zeros(0, np.int16)])
    if not flat:
        samples[np.arange(len(samples)) // 16 % 2 == 1] *= -1
    return samples.astype("<i2").tobytes()


def stereo(left: bytes, right: bytes, sample_bytes: int = 2) -> bytes:
    """Both channels, interleaved. The shorter one of 16-bit PCM ends with silence."""
    size = max(len(left), len(right))
    channels = [np.frombuffer(each.ljust(size, b"\0"), f"V{sample_bytes}") for each in (left, right)]
    return np.stack(channels, axis=1).tobytes()


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word as it is in audio."""

    text: str
    speaker: int
    start: float
    end: float


def spoken_words(said: Iterable[Said | float]) -> list[Spoken]:
    """The words with their times: what a session must tell."""
    found, now = [], 0.0
    for each in said:
        if isinstance(each, float | int):
            now += each
        else:
            found.append(Spoken(each.text, each.speaker, now, now + each.seconds))
            now += each.seconds
    return found


def runs_in(samples: npt.NDArray[np.int16], grain: int = 1) -> list[Spoken]:
    """The words in audio. Amplitudes are rounded to multiples of ``grain``."""
    values = (np.round(np.abs(samples.astype(np.float64)) / grain) * grain).astype(np.int64)
    borders = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    found: list[Spoken] = []
    for first, last in pairwise(borders):
        if last - first < _LEAST_RUN_SAMPLES or not values[first]:
            continue
        value = int(values[first])
        run = Spoken(f"w{value}", value // _SPEAKER_STEP - 1, first / SAMPLE_RATE, last / SAMPLE_RATE)
        if found and found[-1].text == run.text and run.start - found[-1].end < 0.02:
            found[-1] = replace(found[-1], end=run.end)
        else:
            found.append(run)
    return found


class SpokenTranscriber(FakeTranscriberEngine):
    """Reads what is spoken. It hears a word wrongly of which only a very short part is in the window.

    Words are final as with the real models, and also if they are old: how many readings there are of audio that comes
    at once depends on how busy the machine is.

    It fails if the final words that it gets are not those at the start of the window. ``asked`` are the windows in
    order, with the seconds of their audio.
    """

    def __init__(self, *, grain: int = 1, **script: Any) -> None:
        super().__init__(**script)
        self.grain = grain
        self.asked: list[tuple[WindowToRead, float]] = []

    def infer(self, audio: Audio, options: Any) -> Work[Any]:
        match options:
            case WindowToRead():
                return self._read(audio, options)
            case TranscriptionOptions():
                return self._transcribe(audio, options)
        return super().infer(audio, options)

    def _read(self, audio: Audio, window: WindowToRead) -> Work[ReadWindow]:
        assert self.loaded
        self.asked.append((window, audio.duration))
        yield from self._wait_to_go_on()
        if self.failures:
            raise self.failures.pop(0)
        runs = runs_in(audio.samples, self.grain)
        heard = [self._heard(run, audio.duration) for run in runs]
        count = len(window.final_words)
        assert tuple(each.text for each in heard[:count]) == window.final_words
        heard = heard[count:]
        if not runs:
            return ReadWindow()
        ended = window.last or audio.duration - runs[-1].end >= 0.2
        agreed = len(heard) if window.last else _agreed(heard, window, ended=ended)
        agreed = max(agreed, sum((word.end or 0.0) <= audio.duration - _SURE_AFTER_SECONDS for word in heard))
        return ReadWindow(
            tuple(each if number < agreed else Word(each.text) for number, each in enumerate(heard)),
            agreed,
            window.options.language or self.language,
            runs[0].start,
            runs[-1].end,
        )

    def _heard(self, run: Spoken, duration: float) -> Word:
        at_edge = run.start == 0.0 or run.end == duration
        sure = not at_edge or run.end - run.start >= _SURE_SECONDS
        return Word(run.text if sure else f"part of {run.text}", run.start, run.end, 0.5)

    def _transcribe(self, audio: Audio, options: TranscriptionOptions) -> Work[Transcript]:
        self.options.append(options)
        yield from self._follow_script(Stage.TRANSCRIBE)
        segments = []
        language = options.language or self.language
        for group in _between_pauses(runs_in(audio.samples, self.grain)):
            heard = tuple(Word(each.text, each.start, each.end, 0.5) for each in group)
            text = " ".join(each.text for each in group)
            segments.append(Segment(group[0].start, group[-1].end, text, heard, language))
        yield from segments
        return Transcript(tuple(segments), language if segments else "", 0.5, audio.duration, self.model)


class SpokenDiarizer(FakeDiarizerEngine):
    """Hears who speaks. Voices of different people have nothing in common."""

    def __init__(self, *, grain: int = 1, **script: Any) -> None:
        super().__init__(**script)
        self.grain = grain

    def infer(self, audio: Audio, options: Any) -> Work[Any]:
        match options:
            case WindowToDiarize():
                return self._diarize_spoken_window(audio, options)
            case DiarizationOptions():
                return self._diarize_spoken(audio, options)
            case VoicesToCluster():
                return self._cluster_spoken(options)
        return super().infer(audio, options)

    def _diarize_spoken_window(self, audio: Audio, window: WindowToDiarize) -> Work[DiarizedWindow]:
        assert self.loaded
        self.windows += 1
        yield from self._wait_to_go_on()
        if self.failures:
            raise self.failures.pop(0)
        turns, voices = self._spoken_turns(audio)
        pieces = (piece for piece in _pieces(turns, voices) if piece.end > window.voices_from)
        return DiarizedWindow(turns, tuple(pieces), EMBEDDING_MODEL)

    def _diarize_spoken(self, audio: Audio, options: DiarizationOptions) -> Work[Diarization]:
        self.options.append(options)
        yield from self._follow_script(Stage.DIARIZE)
        turns, voices = self._spoken_turns(audio)
        speakers = tuple(Speaker(label, voice, EMBEDDING_MODEL) for label, voice in voices.items())
        return Diarization(turns, turns, audio.duration, self.model, speakers=speakers)

    def _cluster_spoken(self, asked: VoicesToCluster) -> Work[ClusteredVoices]:
        yield from self._wait_to_go_on()
        known = list(dict.fromkeys(piece.embedding for piece in asked.pieces))
        most = asked.options.speaker_count or asked.options.max_speaker_count or len(known)
        return ClusteredVoices(tuple(min(known.index(piece.embedding), most - 1) for piece in asked.pieces))

    def _spoken_turns(self, audio: Audio) -> tuple[tuple[Turn, ...], dict[str, tuple[float, ...]]]:
        """The turns, with labels by first speech, and the voices of the labels."""
        labels: dict[int, str] = {}
        turns: list[Turn] = []
        for run in runs_in(audio.samples, self.grain):
            label = labels.setdefault(run.speaker, speaker_label(len(labels)))
            if turns and turns[-1].speaker == label and run.start - turns[-1].end < _PAUSE_SECONDS:
                turns[-1] = replace(turns[-1], end=run.end)
            else:
                turns.append(Turn(run.start, run.end, label))
        return tuple(turns), {label: voice_of(speaker) for speaker, label in labels.items()}


def voice_of(speaker: int) -> tuple[float, ...]:
    """The embedding of a speaker's voice."""
    return tuple(float(speaker == other) for other in range(SPEAKERS))


def _pieces(turns: Iterable[Turn], voices: dict[str, tuple[float, ...]]) -> list[VoicePiece]:
    pieces = []
    for turn in turns:
        count = max(1, round((turn.end - turn.start) / _PIECE_SECONDS))
        borders = np.linspace(turn.start, turn.end, count + 1).tolist()
        for start, end in pairwise(borders):
            pieces.append(VoicePiece(voices[turn.speaker], end - start, start, end, turn.speaker, alone=True))
    return pieces


def _between_pauses(runs: Sequence[Spoken]) -> list[list[Spoken]]:
    groups: list[list[Spoken]] = []
    for run in runs:
        if groups and run.start - groups[-1][-1].end < _PAUSE_SECONDS:
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _agreed(heard: Sequence[Word], window: WindowToRead, *, ended: bool) -> int:
    count = _common(heard, window.previous_words)
    return count if ended else max(0, min(count, _common(heard, window.earlier_words), len(heard) - 1))


def _common(heard: Sequence[Word], words: Sequence[str]) -> int:
    same = [one.text == other for one, other in zip(heard, words, strict=False)]
    return same.index(False) if False in same else len(same)


# The client


@dataclass
class Live:
    """One call of a session. Its responses are collected while it runs."""

    call: Any
    responses: list[Response] = field(default_factory=list)
    sent_bytes: int = 0

    def __post_init__(self) -> None:
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(lambda task: task.cancelled() or task.exception())  # not every test asks

    async def _read(self) -> None:
        async for response in responses_of(self.call):
            self.responses.append(response)

    async def send(self, **message: Any) -> None:
        """Sends any message. A call that has ended takes none, and says why in ``ended``."""
        try:
            await self.call.write(Request(**message))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await asyncio.wait({self._reading}, timeout=HANG_SECONDS)

    async def audio(self, data: bytes, piece: int = BYTES_PER_SECOND // 4) -> None:
        """Sends audio in pieces, as fast as the gateway takes it."""
        for first in range(0, len(data), piece):
            await self.send(audio=data[first : first + piece])
            self.sent_bytes += len(data[first : first + piece])

    async def flush(self) -> None:
        await self.send(flush=Request.Flush())

    async def end(self) -> None:
        await self.send(end=Request.End())

    async def cancel(self) -> None:
        """Breaks the call."""
        self.call.cancel()
        await asyncio.wait({self._reading}, timeout=HANG_SECONDS)

    async def ended(self) -> Heard:
        """Waits for the end of the call. Returns all that it told; raises ``CarecaError``."""
        async with asyncio.timeout(HANG_SECONDS):
            await self._reading
        return self.heard

    async def error(self) -> CarecaError:
        """Waits for the end of the call and returns its error."""
        async with asyncio.timeout(HANG_SECONDS):
            (error,) = await asyncio.gather(self._reading, return_exceptions=True)
        assert isinstance(error, CarecaError), error
        return error

    @property
    def done(self) -> bool:
        return self._reading.done()

    @property
    def heard(self) -> Heard:
        return Heard(list(self.responses))

    @property
    def session_id(self) -> str:
        return self.responses[0].started.session_id

    @property
    def received_bytes(self) -> int:
        return self.responses[0].started.received_bytes

    async def until_started(self) -> Self:
        """Returns after the first message. Raises what ended the call before it."""
        await until(lambda: self.responses or self.done)
        if not self.responses:
            await self._reading
        return self

    async def until_heard(self, kind: str, count: int = 1) -> Response:
        """Waits for message number ``count`` of a kind, and returns it. Raises what ended the call before it."""
        await until(lambda: self.heard.kinds.count(kind) >= count or self.done)
        if self.heard.kinds.count(kind) < count:
            await self._reading
        return [response for response in self.responses if response.HasField(kind)][count - 1]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Heard:
    """What a session told, in one call or several."""

    responses: list[Response]

    def __add__(self, later: Heard) -> Heard:
        return Heard(self.responses + later.responses)

    @property
    def kinds(self) -> list[str]:
        return [str(response.WhichOneof("message")) for response in self.responses]

    @property
    def numbered(self) -> list[Response]:
        return [response for response in self.responses if response.event_number]

    @property
    def last_number(self) -> int:
        return max((response.event_number for response in self.responses), default=0)

    @property
    def interims(self) -> list[list[str]]:
        return [
            [each.text for each in response.interim.words]
            for response in self.responses
            if response.HasField("interim")
        ]

    @property
    def words(self) -> list[Word]:
        """All final words, with the speakers as they were corrected. Their numbers must have no holes."""
        found: list[Word] = []
        for response in self.numbered:
            if response.HasField("final"):
                assert response.final.first_word == len(found)
                assert response.final.words
                found += read_words(response.final.words)
            elif response.HasField("speaker_correction"):
                correction = response.speaker_correction
                first, last = correction.first_word, correction.first_word + correction.word_count
                assert 0 <= first < last <= len(found)
                found[first:last] = [replace(each, speaker=correction.speaker_label) for each in found[first:last]]
        return found

    @property
    def job_id(self) -> str:
        (ended,) = [response.ended for response in self.responses if response.HasField("ended")]
        return ended.job_id

    @property
    def result(self) -> gateway_pb2.TranscribeResult:
        """The last message, which must be the only result."""
        assert self.kinds.count("result") == 1
        return self.responses[-1].result

    @property
    def notices(self) -> list[str]:
        return [response.notice.code for response in self.responses if response.HasField("notice")]


class LiveClient:
    """A plain gRPC client of the live service."""

    def __init__(self, channel: grpc.aio.Channel, submitter: str = "") -> None:
        self._stub = live_pb2_grpc.LiveServiceStub(channel)
        self._calls: list[Live] = []
        self.submitter = submitter

    def open(self, *, within: float = HANG_SECONDS) -> Live:
        """Begins a call without sending anything."""
        metadata = (("x-careca-submitter", self.submitter),) if self.submitter else ()
        live = Live(self._stub.Transcribe(timeout=within, metadata=metadata))
        self._calls.append(live)
        return live

    async def begin(self, *, within: float = HANG_SECONDS, **config: Any) -> Live:
        """Begins a session. Raises ``CarecaError``."""
        live = self.open(within=within)
        await live.send(config=Config(**({"encoding": PCM, "interim_results": True} | config)))
        return await live.until_started()

    async def resume(self, session_id: str, after_event: int = 0) -> Live:
        """Continues a session. Raises ``CarecaError``."""
        live = self.open()
        await live.send(config=Config(session_id=session_id, after_event=after_event))
        return await live.until_started()

    async def whole(self, data: bytes, **config: Any) -> Heard:
        """A whole session for ``data``."""
        live = await self.begin(**config)
        await live.audio(data)
        await live.end()
        return await live.ended()

    async def close(self) -> None:
        for live in self._calls:
            if not live.done:
                await live.cancel()


@asynccontextmanager
async def live_client(target: str, submitter: str = "") -> AsyncIterator[LiveClient]:
    """A client of the gateway at ``target``."""
    async with grpc.aio.insecure_channel(target) as channel:
        client = LiveClient(channel, submitter)
        try:
            yield client
        finally:
            await client.close()


def spoken_stack(folder: Path, redis_url: str, grain: int) -> Stack:
    """A stack that takes jobs, whose engines hear what is spoken and round amplitudes to multiples of ``grain``."""
    return Stack(
        folder,
        redis_url,
        transcriber=ModelService(SpokenTranscriber(grain=grain)),
        diarizer=ModelService(SpokenDiarizer(grain=grain)),
        jobs=True,
    )


def in_codec(pcm: bytes, codec: str, rate: int = 8_000, layout: str = "mono") -> bytes:
    """16-bit PCM in another codec, without a container."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout, encoder.format = rate, layout, "s16"  # type: ignore[attr-defined]
    frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2").reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate = rate
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])  # type: ignore[attr-defined]


def wav_of(pcm: bytes, rate: int = SAMPLE_RATE, channels: int = 1) -> bytes:
    """A WAV file of 16-bit PCM."""
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(pcm)) + pcm
    return b"RIFF" + struct.pack("<I", len(body)) + body


def assert_told(heard: Heard, said: Iterable[Said | float]) -> None:
    """Each word once, in order, with its times."""
    expected = spoken_words(said)
    assert [each.text for each in heard.words] == [each.text for each in expected]
    for told, each in zip(heard.words, expected, strict=True):
        assert told.start == pytest.approx(each.start, abs=1e-6)
        assert told.end == pytest.approx(each.end, abs=1e-6)


def assert_speakers(heard: Heard, said: Iterable[Said | float], *, sure_after: float = 3.0) -> None:
    """Words have the labels of their speakers, by first words, once these have spoken for ``sure_after`` seconds.

    Use ``pace``: otherwise words may be told before it is known who spoke.
    """
    expected = spoken_words(said)
    seconds: dict[int, float] = {}
    for told, each, label in zip(heard.words, expected, labels_of(expected), strict=True):
        if seconds.get(each.speaker, 0.0) >= sure_after:
            assert (told.text, told.speaker) == (each.text, label)
        seconds[each.speaker] = seconds.get(each.speaker, 0.0) + each.end - each.start
    assert max(seconds.values(), default=0.0) > sure_after, "nothing was compared"


def labels_of(words: Iterable[Spoken]) -> list[str]:
    """The label of each word's speaker."""
    labels: dict[int, str] = {}
    return [labels.setdefault(each.speaker, speaker_label(len(labels))) for each in words]


def assert_numbered(heard: Heard) -> None:
    """Numbered events are told once each, in order, without holes."""
    assert [each.event_number for each in heard.numbered] == list(range(1, len(heard.numbered) + 1))


async def pace(live: Live, data: bytes, session: LiveSession, *, seconds: float = 0.25) -> None:
    """Sends audio as slowly as somebody speaks: the next piece when the models have worked on the one before it."""
    encoding = session.options.encoding
    piece = round(seconds * (encoding.bytes_per_second if encoding else BYTES_PER_SECOND))
    start = session.received_bytes

    def keeps_up(kept: int) -> bool:
        diarized = session.options.separate or session.received - session._speakers.diarized_until < 1.0
        return session.received_bytes >= kept and session.behind < 0.5 and diarized

    for first in range(0, len(data), piece):
        await live.audio(data[first : first + piece])
        kept = start + min(first + piece, len(data))
        await until(lambda kept=kept: keeps_up(kept) or live.done)  # type: ignore[misc]
