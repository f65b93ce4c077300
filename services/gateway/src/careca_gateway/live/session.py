"""One live session: takes audio, has it read and diarized window by window, and tells what was said and by whom.

Three tasks work beside each other: one reads windows, one diarizes them, and one clusters voices again from time to
time. Final words wait for their speaker. All times are seconds of audio from the start of the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from typing import Protocol, TypeVar

from careca import codec
from careca.auth.caller import current_caller
from careca.errors import (
    CarecaError,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    Overloaded,
    PreconditionFailed,
    Unavailable,
)
from careca.telemetry.logs import get_logger
from careca.types import (
    SAMPLE_BYTES,
    SAMPLE_RATE,
    ClusteredVoices,
    DiarizedWindow,
    NoticeCode,
    ReadWindow,
    VoicesToCluster,
    WindowToDiarize,
    WindowToRead,
    Word,
)
from careca.v1 import gateway_pb2, live_pb2
from careca_gateway.live.audio import MOST_ADDED_BYTES, Converter
from careca_gateway.live.journal import Journal
from careca_gateway.live.metrics import LiveMetrics
from careca_gateway.live.options import decode_options
from careca_gateway.live.speakers import Heard, SpeakerMemory
from careca_gateway.live.words import WordStream

Response = live_pb2.LiveServiceTranscribeResponse

_READ_STEP_SECONDS = 0.5
"""New audio after which the window is read again."""

_DIARIZE_STEP_SECONDS = 1.0
"""New audio after which who speaks is found again."""

_DIARIZED_SECONDS = 10.0
"""Length of the diarizer's windows."""

_MOST_NEW_SECONDS = 5.0
"""Most new audio in a window, while a session catches up."""

_MOST_READ_SECONDS = 13.0
"""A longer window gets only a step of new audio. It may soon have to be the last one, which could cut a word."""

_AHEAD_SECONDS = 20.0
"""Audio that is taken before the models have worked on it. The caller waits then, by the flow control of gRPC."""

_SPEAKER_LAG_SECONDS = 0.2
"""Audio after a word that the diarizer needs to tell its speaker."""

_NEW_SPEAKER_LAG_SECONDS = 2.0
"""The same for a word of nobody who is known: a new voice is a speaker only after some speech."""

_LONGEST_SPEAKER_WAIT_SECONDS = 4.0
"""A word gets the most probable speaker if the diarizer is further behind."""

_FIRST_CLUSTERING_SECONDS = 6.0
_CLUSTERING_SHARE = 0.1
"""Voices are clustered again after so much new speech, absolute and as a share of all speech, because the time of the
clustering grows with it."""

_DELAY_STEP_SECONDS = 5.0
"""Audio without news after which the caller is told how much the gateway has: the caller keeps audio until then."""

_BEHIND_SECONDS = 10.0
_CAUGHT_UP_SECONDS = 3.0

_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before a window is tried again after a model service failed; the last one without end."""

_MOST_FAILURES = 4
"""How often a model may fail at one window. The fault is in the window then, or lasts."""

R = TypeVar("R")

_log = get_logger(__name__)


class Models(Protocol):
    """The model services, for the windows of one session."""

    async def read_window(self, audio: bytes, window: WindowToRead) -> ReadWindow:
        """Returns what is said in a window."""

    async def diarize_window(self, audio: bytes, window: WindowToDiarize) -> DiarizedWindow:
        """Returns who speaks when in a window."""

    async def cluster_voices(self, voices: VoicesToCluster) -> ClusteredVoices:
        """Returns which pieces of speech have the same voice."""


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """The limits of one session."""

    max_bytes: int
    max_seconds: float


class _Changes:
    """Wakes all tasks that wait for a change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self) -> None:
        await self._event.wait()


@dataclass(slots=True)
class _Pending:
    """A final word that waits for its speaker, or the end of an utterance."""

    word: Word | None
    language: str = ""


class LiveSession:
    """A session. Must be used in the event loop that created it.

    Args:
        session_id: its id.
        journal: what is kept on disk. A session with events is continued.
        models: the model services.
        speakers: the memory of voices.
        limits: the limits of the audio.
        finish: makes a job of the session, after the last word; returns its id, empty without audio.
        metrics: counts.
    """

    def __init__(
        self,
        session_id: str,
        journal: Journal,
        *,
        models: Models,
        speakers: SpeakerMemory,
        limits: LiveLimits,
        finish: Callable[[LiveSession], Awaitable[str]],
        metrics: LiveMetrics,
    ) -> None:
        self.id = session_id
        self.journal = journal
        self.job_id: str | None = None
        """The id of the job, once the session has ended; empty without audio."""
        self.options = decode_options(journal.config)
        self._models = models
        self._speakers = speakers
        self._limits = limits
        self._finish = finish
        self._metrics = metrics
        self._converter = Converter(self.options.encoding)
        self._events: list[Response] = []
        self._interim: Response | None = None
        """The newest interim words; ``None`` if there are none after the final ones."""
        self._newest: tuple[Sequence[Word], str] = ((), "")
        """The words and the language of the last reading that are not final."""
        self._pcm = bytearray()
        self._pcm_start = 0
        """The number of samples before ``_pcm``."""
        self.received_bytes = 0
        self._read_until = 0.0
        self._speech_until = 0.0
        """The end of the last speech that was found."""
        self._flushes: list[float] = []
        self._flushed_until = 0.0
        """All words before this time are to be final, without waiting for more audio."""
        """Times up to which words are to be final."""
        self._ending = False
        self._ended_by: int | None = None
        """The call that ended the session; ``None`` if the session was without a call for too long."""
        self._words_done = False
        self._pending: list[_Pending] = []
        self._word_count = 0
        self._is_behind = False
        self._changes = _Changes()
        self._receiving = asyncio.Lock()
        self._telling = asyncio.Lock()
        """Held while numbered events are made, so that they are in order."""
        self._call = 0
        self._attached = False
        self._failure: CarecaError | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._words = self._new_words(0.0)

    @property
    def failed(self) -> bool:
        """Whether the work has ended with an error. What is on disk can be continued."""
        return self._failure is not None and self.job_id is None

    @property
    def ending(self) -> bool:
        """Whether no more audio comes."""
        return self._ending or self.job_id is not None

    @property
    def attached(self) -> bool:
        """Whether a call uses the session."""
        return self._attached

    @property
    def behind(self) -> float:
        """Seconds of audio that have not been read yet."""
        return max(0.0, self._received - self._read_until)

    async def start(self) -> None:
        """Begins to work. A session with events continues after its last final word."""
        await asyncio.to_thread(self._restore)
        if self.job_id is None:
            self._tasks = [asyncio.create_task(self._run(), name=f"live {self.id}")]

    async def close(self) -> None:
        """Stops the work. What is on disk stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.journal.close)

    @property
    def read_until(self) -> float:
        """All audio before this time has been read."""
        return self._read_until

    async def read_beyond(self, seconds: float) -> bool:
        """Returns true when all audio before ``seconds`` has been read, and false if the audio ends before."""
        while self._read_until < seconds:
            if self._ending or self._failure or self.job_id is not None:
                return False
            await self._changes.wait()
        return True

    def attach(self) -> int:
        """Begins a call. Returns its number. The call before it ends with SESSION_TAKEN_OVER."""
        self._call += 1
        self._attached = True
        self._changes.notify()
        return self._call

    def check_event(self, number: int) -> None:
        """Raises ``InvalidRequest`` if no caller can have received event ``number``. 0: none was received."""
        if not 0 <= number <= len(self._events):
            raise InvalidRequest(
                f"config.after_event must be from 0 to {len(self._events)}, but is {number}",
                field="config.after_event",
                metadata={"value": str(number)},
            )

    def detach(self, call: int) -> bool:
        """Ends a call. Returns whether the session has no call now."""
        if call == self._call:
            self._attached = False
        return not self._attached

    async def receive(self, call: int, data: bytes) -> None:
        """Takes the next bytes of audio. Waits while the session is far behind.

        Raises ``InvalidRequest`` after the end, and for more audio than is allowed; ``PreconditionFailed`` if the
        session has a newer call (SESSION_TAKEN_OVER), or was ended by another one (SESSION_ENDED); ``Overloaded`` if
        the disk is full.
        """
        async with self._receiving:
            self._check_call(call)
            while not self.failed and self._received - self._read_until > _AHEAD_SECONDS:
                await self._changes.wait()
                self._check_call(call)
            if self.ending:
                raise self._after_end(call)
            self._check_length(len(data))
            await _whole(self._take(data))
        await self._tell_delay()

    def flush(self, call: int) -> None:
        """Makes all words final that were said so far. Raises ``PreconditionFailed`` (SESSION_TAKEN_OVER)."""
        self._check_call(call)
        if self._received not in self._flushes[-1:]:
            self._flushes.append(self._received)
        self._changes.notify()

    def end(self, call: int | None = None) -> None:
        """Says that no more audio comes. Raises ``PreconditionFailed`` (SESSION_TAKEN_OVER).

        Without a number the session had no call for too long.
        """
        if call is not None:
            self._check_call(call)
        if not self.ending:
            self._ending = True
            self._ended_by = call
            self._append_pcm(self._converter.finish())
            self._changes.notify()

    async def give_up(self) -> None:
        """Makes a job of a session that has failed: it has all that was said, though not all words were told."""
        job_id = await self._finish(self)
        await self._keep(self._event(self._received, ended=Response.Ended(job_id=job_id)))
        self.job_id = job_id
        self._changes.notify()

    async def events(self, call: int, after: int) -> AsyncGenerator[Response, None]:
        """Yields the events after number ``after``, and interim words, until the session has ended.

        Raises ``PreconditionFailed`` (SESSION_TAKEN_OVER) when a newer call uses the session, and what ended the work.
        """
        position, interim, told_until = after, None, self._read_until
        while True:
            self._check_call(call)
            while position < len(self._events):
                told_until = self._read_until
                yield self._events[position]
                position += 1
            if self._interim is not interim:
                interim = self._interim
                if interim is not None:
                    told_until = self._read_until
                    yield interim
                continue
            if self.job_id is not None:
                return
            if self._read_until - told_until >= _DELAY_STEP_SECONDS:
                told_until = self._read_until
                yield self._event(self._read_until, delay=Response.Delay())
                continue
            if self._failure:
                raise self._failure
            await self._changes.wait()

    async def started(self) -> Response:
        """Returns the first message of a call, once the audio is kept that the call before it has sent."""
        async with self._receiving:
            started = Response.Started(session_id=self.id, received_bytes=self.received_bytes)
            return self._event(self._read_until, started=started)

    def result(self, result: gateway_pb2.TranscribeResult) -> Response:
        """Returns the last message of a call."""
        return self._event(self._received, result=result)

    @property
    def _received(self) -> float:
        return (self._pcm_start + len(self._pcm) // SAMPLE_BYTES) / SAMPLE_RATE

    def _new_words(self, start: float) -> WordStream:
        return WordStream(self.options.transcription, pause=self.options.utterance_pause, start=start)

    def _restore(self) -> None:
        """Reads what is on disk."""
        self._events = self.journal.events()
        self.received_bytes = self.journal.audio_bytes
        finals = [event.final for event in self._events if event.HasField("final")]
        ended = [event.ended for event in self._events if event.HasField("ended")]
        if ended:
            self.job_id = ended[0].job_id
            return
        resumed = 0.0
        if finals:
            self._word_count = finals[-1].first_word + len(finals[-1].words)
            resumed = codec.decode_duration(finals[-1].words[-1].end_offset)
        self._words = self._new_words(resumed)
        self._read_until = self._speakers.diarized_until = resumed
        voices = [codec.decode_voice_piece(message) for message in self.journal.voices()]
        self._speakers.restore([Heard(piece, int(piece.speaker)) for piece in voices], told_words(self._events))
        for data in self.journal.audio():
            self._append_pcm(self._converter.convert(data))
            self._trim()

    async def _take(self, data: bytes) -> None:
        """Keeps and converts audio."""
        await asyncio.to_thread(self.journal.append_audio, data)
        self.received_bytes += len(data)
        self._append_pcm(self._converter.convert(data))
        self._changes.notify()

    def _append_pcm(self, pcm: bytes) -> None:
        self._pcm += pcm

    def _audio(self, start: float, end: float) -> bytes:
        first = max(0, round(start * SAMPLE_RATE) - self._pcm_start)
        last = max(0, round(end * SAMPLE_RATE) - self._pcm_start)
        return bytes(self._pcm[first * SAMPLE_BYTES : last * SAMPLE_BYTES])

    def _trim(self) -> None:
        """Drops audio that no window needs any more."""
        # Without the diarizer, words go on, and it hears the newest audio once it is back.
        diarized = max(self._speakers.diarized_until, self._received - 2 * _AHEAD_SECONDS) - _DIARIZED_SECONDS
        needed = min(self._words.start, diarized, self._read_until)
        samples = max(0, int(needed * SAMPLE_RATE) - self._pcm_start)
        samples = min(samples, len(self._pcm) // SAMPLE_BYTES)
        del self._pcm[: samples * SAMPLE_BYTES]
        self._pcm_start += samples

    def _check_call(self, call: int) -> None:
        if call != self._call:
            raise PreconditionFailed(
                "a newer call continues this session", reason="SESSION_TAKEN_OVER", metadata={"session_id": self.id}
            )

    def _after_end(self, call: int) -> CarecaError:
        if call == self._ended_by:
            return InvalidRequest("audio was sent after the end of the session", field="audio")
        return PreconditionFailed(
            "the session has ended: begin a new one", reason="SESSION_ENDED", metadata={"session_id": self.id}
        )

    def _check_length(self, added: int) -> None:
        size = self.received_bytes + added
        seconds = size / self.options.encoding.bytes_per_second
        own = current_caller().limits
        most_bytes = min(self._limits.max_bytes, own.recording_bytes or self._limits.max_bytes) - MOST_ADDED_BYTES
        most_seconds = min(self._limits.max_seconds, own.recording_seconds or self._limits.max_seconds)
        if size > most_bytes or seconds > most_seconds:
            raise InvalidRequest(
                f"the session is longer than is allowed: {most_seconds:g} s, or {most_bytes} bytes. End it, and begin "
                "a new one",
                reason="RECORDING_TOO_LONG",
                field="audio",
                metadata={"max_audio_seconds": f"{most_seconds:g}"},
            )

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._diarize())
                settling = tasks.create_task(self._settle())
                while not (self._words_done and self._speakers.diarized_until >= self._received):
                    await self._changes.wait()
                async with self._telling:  # between two corrections, the rest would be lost
                    settling.cancel()
            if self._speakers.new_seconds:
                await self._cluster()
            await self._tell_pending(all_words=True)
            job_id = await self._with_patience(lambda: self._finish(self))
            await self._keep(self._event(self._received, ended=Response.Ended(job_id=job_id)))
            self.job_id = job_id
        except* CarecaError as group:
            self._fail(_first(group))
        except* Exception as group:  # noqa: BLE001 - the caller must not wait forever
            _log.error("a live session failed unexpectedly", session_id=self.id, exc_info=group)
            self._fail(InternalError("the session failed unexpectedly"))
        self._changes.notify()

    def _fail(self, error: CarecaError) -> None:
        _log.warning("a live session failed", session_id=self.id, reason=error.reason, error=error.message)
        self._failure = error

    async def _read(self) -> None:
        """Reads windows to the end of the audio."""
        while True:
            while not self._must_read():
                await self._changes.wait()
            most = max(self._read_until + _READ_STEP_SECONDS, self._words.start + _MOST_READ_SECONDS)
            now = min(self._received, self._read_until + _MOST_NEW_SECONDS, most, *self._flushes[:1])
            flushed = now in self._flushes[:1]
            at_end = self._ending and now >= self._received
            last = at_end or flushed or self._words.must_end(now)
            await self._read_window(now, last=last)
            if flushed:
                self._flushed_until = self._flushes.pop(0)
            self._changes.notify()
            if at_end:
                self._words_done = True
                self._changes.notify()
                return

    def _must_read(self) -> bool:
        new = self._received - self._read_until
        return new >= _READ_STEP_SECONDS or bool(self._flushes) or self._ending

    async def _read_window(self, now: float, *, last: bool) -> None:
        start = self._words.start
        audio = self._audio(start, now)
        read = ReadWindow()
        if audio:
            window = self._words.window(last=last)
            read = await self._with_patience(partial(self._models.read_window, audio, window))
        if read.speech_end is not None:
            self._speech_until = start + read.speech_end
        change = self._words.add(read, now, last=last)
        self._read_until = now
        for index, word in enumerate(change.final):
            if index in change.pauses:
                self._pending.append(_Pending(None))
            self._pending.append(_Pending(word, change.language))
        if change.utterance_ended:
            self._pending.append(_Pending(None))
        self._newest = change.interim, change.language
        await self._tell_pending()
        self._tell_interim()
        await self._tell_delay()
        self._trim()

    async def _diarize(self) -> None:
        """Finds who speaks, to the end of the audio."""
        while not (self._words_done and self._speakers.diarized_until >= self._received):
            until = self._speakers.diarized_until
            enough = self._received - until >= _DIARIZE_STEP_SECONDS or self._flushed_until > until
            if not (enough or self._words_done):
                await self._changes.wait()
                continue
            kept_from = self._pcm_start / SAMPLE_RATE
            now = min(self._received, max(until, kept_from) + _MOST_NEW_SECONDS)
            start = max(0.0, now - _DIARIZED_SECONDS, kept_from)
            found = DiarizedWindow()
            if self._may_have_speech(start, now):
                audio = self._audio(start, now)
                window = WindowToDiarize(voices_from=max(0.0, self._speakers.voices_until - start))
                found = await self._with_patience(partial(self._models.diarize_window, audio, window))
            for heard in self._speakers.add(found, start, now):
                await asyncio.to_thread(self.journal.append_voice, codec.encode_voice_piece(heard.piece))
            await self._tell_pending()
            self._tell_interim()
            self._changes.notify()

    def _may_have_speech(self, start: float, end: float) -> bool:
        """Whether there may be speech in a window: none was found in it, or it has not been read yet."""
        return self._speech_until > start or self._read_until < end - _DIARIZE_STEP_SECONDS

    async def _settle(self) -> None:
        """Clusters the voices again from time to time."""
        while True:
            enough = max(_FIRST_CLUSTERING_SECONDS, self._speakers.heard_seconds * _CLUSTERING_SHARE)
            if self._speakers.new_seconds < enough:
                await self._changes.wait()
                continue
            await self._cluster()

    async def _cluster(self) -> None:
        pieces = self._speakers.pieces
        voices = VoicesToCluster(pieces, self.options.diarization)
        clustered = await self._with_patience(partial(self._models.cluster_voices, voices))
        async with self._telling:
            for correction in self._speakers.settle(len(pieces), clustered.speakers):
                self._metrics.corrected(correction.word_count)
                message = Response.SpeakerCorrection(
                    first_word=correction.first_word,
                    word_count=correction.word_count,
                    speaker_label=correction.speaker,
                )
                await self._keep(self._event(self._read_until, speaker_correction=message))

    async def _with_patience(self, call: Callable[[], Awaitable[R]]) -> R:
        """Returns what a model service answers. Waits until one can be reached: the audio is kept meanwhile.

        Raises the error of a window that fails again and again.
        """
        failures = 0
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            try:
                return await call()
            except (Unavailable, Overloaded, DeadlineExceeded, InternalError) as error:
                failures += isinstance(error, InternalError)
                if failures == _MOST_FAILURES:
                    raise
                _log.info("a window is tried again", session_id=self.id, reason=error.reason, error=error.message)
                await asyncio.sleep(pause)
        raise AssertionError  # the pauses do not end

    async def _tell_pending(self, *, all_words: bool = False) -> None:
        """Tells the final words whose speakers are known, in order."""
        async with self._telling:
            words: list[Word] = []
            language = ""
            while self._pending and (all_words or self._is_ready(self._pending[0])):
                pending = self._pending.pop(0)
                if words and (pending.word is None or pending.language != language):
                    await self._tell_final(words, language)
                    words = []
                if pending.word is None:
                    await self._keep(self._event(self._read_until, utterance_end=Response.UtteranceEnd()))
                else:
                    words.append(pending.word)
                    language = pending.language
            if words:
                await self._tell_final(words, language)

    def _is_ready(self, pending: _Pending) -> bool:
        if pending.word is None:
            return True
        lag = _SPEAKER_LAG_SECONDS if self._speakers.knows(pending.word) else _NEW_SPEAKER_LAG_SECONDS
        end = (pending.word.end or 0.0) + lag
        if end > self._flushed_until >= (pending.word.end or 0.0):
            end = self._flushed_until
        until = self._speakers.diarized_until
        return until >= min(end, self._received) or self._read_until - end > _LONGEST_SPEAKER_WAIT_SECONDS

    async def _tell_final(self, words: Sequence[Word], language: str) -> None:
        final = Response.Final(first_word=self._word_count, language_code=language)
        for number, word in enumerate(words, self._word_count):
            speaker = self._speakers.speaker_of(number, word)
            codec.write_words(final.words, [replace(word, speaker=speaker or None)])
        self._word_count += len(words)
        self._metrics.final(self._received - (words[-1].end or 0.0), len(words))
        await self._keep(self._event(self._read_until, final=final))

    def _tell_interim(self) -> None:
        if not self.options.interim_results:
            return
        words, language = self._newest
        waiting = [each.word for each in self._pending if each.word is not None]
        interim = Response.Interim(language_code=language)
        for word in (*waiting, *words):
            interim.words.add(text=word.text)
        if interim.words if self._interim is None else self._interim.interim != interim:
            self._interim = self._event(self._read_until, interim=interim)
            self._metrics.interim(self.behind)
            self._changes.notify()

    async def _tell_delay(self) -> None:
        if not self._is_behind and self.behind > _BEHIND_SECONDS:
            self._is_behind = True
            message = f"The transcript is {self.behind:.0f} s behind: the audio arrives faster than the models work."
            notice = gateway_pb2.Notice(code=NoticeCode.FALLING_BEHIND, message=message)
            async with self._telling:
                await self._keep(self._event(self._read_until, notice=notice))
        elif self.behind < _CAUGHT_UP_SECONDS:
            self._is_behind = False

    async def _keep(self, event: Response) -> None:
        """Numbers an event, and keeps and sends it. Final words replace the interim ones."""
        event.event_number = len(self._events) + 1
        await _whole(self._append_event(event))
        self._changes.notify()

    async def _append_event(self, event: Response) -> None:
        await asyncio.to_thread(self.journal.append_event, event)
        self._events.append(event)
        if event.HasField("final") or event.HasField("ended"):
            self._interim = None

    def _event(self, until: float, **content: object) -> Response:
        event = Response(**content)  # type: ignore[arg-type]  # one of the messages
        codec.set_duration(event.audio_offset, until)
        codec.set_duration(event.behind, max(0.0, self._received - until))
        return event


def _first(group: BaseExceptionGroup[CarecaError]) -> CarecaError:
    """Returns the first error in ``group``."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _whole(work: Coroutine[None, None, None]) -> None:
    """Runs work to its end even if the caller is cancelled: what is on disk and what is in memory must agree."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def told_words(events: Sequence[Response]) -> list[Word]:
    """Returns the final words in ``events``, with their speakers as corrected since."""
    words: list[Word] = []
    for event in events:
        if event.HasField("final"):
            words += codec.read_words(event.final.words)
        elif event.HasField("speaker_correction"):
            correction = event.speaker_correction
            for number in range(correction.first_word, correction.first_word + correction.word_count):
                words[number] = replace(words[number], speaker=correction.speaker_label)
    return words
