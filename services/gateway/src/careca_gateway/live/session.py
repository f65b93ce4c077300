"""One live session: takes audio from the calls of its owner, one after the other, and gives them its events.

All times are seconds of audio from the start of the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from careca import codec
from careca.auth.caller import current_caller
from careca.cancellation import cancel_and_wait
from careca.errors import CarecaError, InternalError, InvalidRequest, PreconditionFailed
from careca.telemetry.logs import get_logger
from careca.v1 import gateway_pb2
from careca_gateway.ingest.decoder import Decoder
from careca_gateway.live.audio import MOST_ADDED_BYTES, AudioBuffer, Converter
from careca_gateway.live.changes import Changes, run_to_end
from careca_gateway.live.container import ContainerDecoder
from careca_gateway.live.journal import Journal, is_lost, taken_over
from careca_gateway.live.metrics import LiveMetrics
from careca_gateway.live.options import decode_options
from careca_gateway.live.publisher import Position, Publisher, Response, published_words
from careca_gateway.live.recognition import Models, Recognition
from careca_gateway.live.speakers import Heard, SpeakerMemory

_AHEAD_SECONDS = 20.0
"""Audio that is taken before the models have worked on it. The caller waits then, by the flow control of gRPC."""

_MOST_PENDING_BYTES = 256 * 1024
"""Bytes of a container that wait for the decoder."""

_POLL_SECONDS = 0.1

_DELAY_STEP_SECONDS = 5.0
"""Audio without news after which the caller learns how much the gateway has: the caller keeps audio until then."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """The limits of one session."""

    max_bytes: int
    max_seconds: float


class LiveSession:
    """A session. Must be used in the event loop that created it.

    Args:
        journal: what is kept of it. A session with events is continued.
        models: the model services.
        speakers: the memory of voices.
        limits: the limits of the audio.
        decoder: decodes containers.
        finish: makes a job of the session, after the end of the audio; returns its id, empty without audio. The same
            session always gives the same job.
        metrics: counts.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        models: Models,
        speakers: SpeakerMemory,
        limits: LiveLimits,
        decoder: Decoder,
        finish: Callable[[LiveSession], Awaitable[str]],
        metrics: LiveMetrics,
    ) -> None:
        self.id = journal.session_id
        self.journal = journal
        self.job_id: str | None = None
        """The id of the job, once the session has ended; empty without audio."""
        self.options = decode_options(journal.config)
        self.received_bytes = 0
        self._models = models
        self._speakers = speakers
        self._limits = limits
        self._finish = finish
        self._audio = AudioBuffer(self.options.channels)
        self._changes = Changes()
        self._converter = self.new_converter()
        self._container = ContainerDecoder(decoder, output=self._take_pcm, ended=self._end_audio, failed=self.fail)
        self._publisher = Publisher(
            journal,
            audio=self._audio,
            speakers=speakers,
            changes=self._changes,
            metrics=metrics,
            options=self.options,
        )
        self._recognition = self._new_recognition(dict.fromkeys(self.options.channels, Position()))
        self._ending = False
        self._audio_ended = False
        self._ended_by: int | None = None
        """The call that ended the session; ``None`` if the session was without a call for too long."""
        self._receiving = asyncio.Lock()
        self._call = 0
        self._attached = False
        self._failure: CarecaError | None = None
        self._running: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None
        """Has the kept audio of a container decoded."""

    @property
    def failed(self) -> bool:
        """Whether the work has ended with an error. What is kept can be continued."""
        return self._failure is not None and self.job_id is None

    @property
    def lost(self) -> bool:
        """Whether the session was opened again, here or at another gateway."""
        return is_lost(self._failure)

    @property
    def ending(self) -> bool:
        """Whether no more audio comes."""
        return self._ending or self.job_id is not None

    @property
    def received(self) -> float:
        """Seconds of audio that have been received."""
        return self._audio.end

    @property
    def behind(self) -> float:
        """Seconds of audio that have not been read yet."""
        return self._publisher.behind

    @property
    def read_until(self) -> float:
        """All audio before this time has been read."""
        return self._publisher.read_until

    def new_converter(self) -> Converter | None:
        """Returns what converts the audio from its start; ``None`` for a container."""
        encoding = self.options.encoding
        return Converter(encoding, separate=self.options.separate) if encoding else None

    async def start(self) -> None:
        """Begins to work. A session with events continues after its last final word."""
        await asyncio.to_thread(self._restore)
        if self.job_id is None:
            if not self._converter:
                await self._container.start()
                self._restoring = asyncio.create_task(self._restore_container(), name=f"restore {self.id}")
            self._running = asyncio.create_task(self._run(), name=f"live {self.id}")
            if self.journal.sealed:
                self.end()

    async def close(self) -> None:
        """Stops the work. The journal stays open."""
        await cancel_and_wait((self._running, self._restoring))
        await self._container.close()

    async def read_beyond(self, seconds: float) -> bool:
        """Returns true when all audio before ``seconds`` has been read, and false if the audio ends before."""
        while self.read_until < seconds:
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

    def fail(self, error: CarecaError) -> None:
        """Ends the work and the calls with an error. What is kept can be continued."""
        if self._failure or self.job_id is not None:
            return
        if self._running:
            self._running.cancel()
        self._set_failure(error)

    def check_event(self, number: int) -> None:
        """Raises ``InvalidRequest`` if no caller can have received event ``number``. 0: none was received."""
        most = len(self._publisher.events)
        if not 0 <= number <= most:
            raise InvalidRequest(
                f"config.after_event must be from 0 to {most}, but is {number}",
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
            while not self.failed and self._is_far_behind():
                await self._wait_a_while()
                self._check_call(call)
            if self.ending:
                raise self._after_end(call)
            self._check_length(len(data))
            await run_to_end(self._take(data))
        await self._publisher.publish_delay()

    def flush(self, call: int) -> None:
        """Makes all words final that were said so far. Raises ``PreconditionFailed`` (SESSION_TAKEN_OVER)."""
        self._check_call(call)
        self._recognition.flush()

    def end(self, call: int | None = None) -> None:
        """Says that no more audio comes. Raises ``PreconditionFailed`` (SESSION_TAKEN_OVER).

        Without a number the session had no call for too long.
        """
        if call is not None:
            self._check_call(call)
        if not self.ending:
            self._ending = True
            self._ended_by = call
            if self._converter:
                self._audio.append(self._converter.finish())
                self._end_audio()
            elif not self._restoring:
                self._container.finish()

    async def give_up(self) -> None:
        """Makes a job of a session that has failed: it has all that was said, though not all words were published."""
        await self.journal.seal()
        await self._end_with(await self._finish(self))

    async def events(self, call: int, after: int) -> AsyncGenerator[Response, None]:
        """Yields the events after number ``after``, and interim words, until the session has ended.

        Raises ``PreconditionFailed`` (SESSION_TAKEN_OVER) when a newer call uses the session, and what ended the work.
        """
        publisher = self._publisher
        position, interim, sent_until = after, None, self.read_until
        while True:
            self._check_call(call)
            while position < len(publisher.events):
                sent_until = self.read_until
                yield publisher.events[position]
                position += 1
            if publisher.interim is not interim:
                interim = publisher.interim
                if interim is not None:
                    sent_until = self.read_until
                    yield interim
                continue
            if self.job_id is not None:
                return
            if self.read_until - sent_until >= _DELAY_STEP_SECONDS:
                sent_until = self.read_until
                yield publisher.message(self.read_until, delay=Response.Delay())
                continue
            if self._failure:
                raise self._failure
            await self._changes.wait()

    async def started(self) -> Response:
        """Returns the first message of a call, once the audio is kept that the call before it has sent."""
        async with self._receiving:
            started = Response.Started(session_id=self.id, received_bytes=self.received_bytes)
            return self._publisher.message(self.read_until, started=started)

    def result(self, result: gateway_pb2.TranscribeResult) -> Response:
        """Returns the last message of a call."""
        return self._publisher.message(self._audio.end, result=result)

    def _new_recognition(self, positions: Mapping[int, Position]) -> Recognition:
        return Recognition(
            self.journal,
            options=self.options,
            models=self._models,
            audio=self._audio,
            speakers=self._speakers,
            publisher=self._publisher,
            changes=self._changes,
            positions=positions,
        )

    def _restore(self) -> None:
        """Reads what is kept."""
        events = self.journal.events
        self.received_bytes = self.journal.audio_bytes
        positions = self._publisher.restore(events, self.journal.settled_until)
        ended = [event.ended for event in events if event.HasField("ended")]
        if ended:
            self.job_id = ended[0].job_id
            return
        self._recognition = self._new_recognition(positions)
        if not self.options.separate:
            self._speakers.diarized_until = self.read_until
            voices = [codec.decode_voice_piece(message) for message in self.journal.voices]
            self._speakers.restore([Heard(piece, int(piece.speaker)) for piece in voices], published_words(events))
        if self._converter:
            for data in self.journal.audio():
                self._audio.append(self._converter.convert(data))
                self._recognition.drop_audio()

    async def _take(self, data: bytes) -> None:
        """Keeps and converts audio."""
        await self.journal.append_audio(data)
        self.received_bytes += len(data)
        if self._converter:
            self._audio.append(self._converter.convert(data))
            self._changes.notify()
        else:
            self._container.feed(data)

    async def _restore_container(self) -> None:
        """Has the audio decoded that is kept."""
        pieces = self.journal.audio()
        while data := await asyncio.to_thread(next, pieces, b""):
            self._container.feed(data)
            while self._container.pending_bytes > _MOST_PENDING_BYTES:
                await self._wait_a_while()
        if self._ending:
            self._container.finish()
        self._restoring = None

    def _is_far_behind(self) -> bool:
        return (
            self.behind > _AHEAD_SECONDS
            or self._container.pending_bytes > _MOST_PENDING_BYTES
            or self._restoring is not None
        )

    async def _wait_a_while(self) -> None:
        """Waits for a change, or for the decoder, of which nothing is heard if there is no sound."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._changes.wait()

    async def _take_pcm(self, pcm: bytes) -> None:
        """Takes what was decoded from a container."""
        while self.behind > _AHEAD_SECONDS:
            await self._changes.wait()
        self._audio.append([pcm])
        self._recognition.drop_audio()
        self._changes.notify()

    def _end_audio(self) -> None:
        """All audio is in the buffer. A container may end before the caller says so."""
        self._ending = self._audio_ended = True
        self._recognition.end()

    def _check_call(self, call: int) -> None:
        if call != self._call:
            raise taken_over(self.id)

    def _after_end(self, call: int) -> CarecaError:
        if call == self._ended_by:
            return InvalidRequest("audio was sent after the end of the session", field="audio")
        return PreconditionFailed(
            "the session has ended: begin a new one", reason="SESSION_ENDED", metadata={"session_id": self.id}
        )

    def _check_length(self, added: int) -> None:
        size = self.received_bytes + added
        encoding = self.options.encoding
        seconds = size / encoding.bytes_per_second if encoding else self._audio.end
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
                tasks.create_task(self._recognition.run())
                finishing = tasks.create_task(self._finish_after_the_audio())
            await self._end_with(finishing.result())
        except* CarecaError as group:
            self._set_failure(_first(group))
        except* Exception as group:  # noqa: BLE001 - the caller must not wait forever
            _log.error("a live session failed unexpectedly", session_id=self.id, exc_info=group)
            self._set_failure(InternalError("the session failed unexpectedly"))

    async def _finish_after_the_audio(self) -> str:
        """Makes a job of the session as soon as all audio is there, though not all words may be. Returns its id."""
        while not self._audio_ended:
            await self._changes.wait()
        async with self._receiving:  # a call that has been cancelled may still write
            await self._recognition.retry(self.journal.seal)
        return await self._recognition.retry(lambda: self._finish(self))

    async def _end_with(self, job_id: str) -> None:
        await self._publisher.publish_end(job_id)
        self.job_id = job_id
        self._changes.notify()

    def _set_failure(self, error: CarecaError) -> None:
        _log.warning("a live session failed", session_id=self.id, reason=error.reason, error=error.message)
        self._failure = error
        self._changes.notify()


def _first(group: BaseExceptionGroup[CarecaError]) -> CarecaError:
    """Returns the first error in ``group``."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
