"""Live sessions of this process, each with the events that its caller may need again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TypeAlias

from careca.errors import CarecaError, NotFound, PreconditionFailed, Unavailable
from careca_client import (
    AsyncClient,
    AsyncLiveSession,
    LiveEnded,
    LiveEvent,
    LiveFinal,
    LiveInterim,
    LiveNotice,
    LiveOptions,
    LiveReconnecting,
    LiveResult,
    LiveStarted,
    SpeakerCorrection,
    UtteranceEnd,
)
from careca_web.http.requests import Draining

KEEP_SECONDS = 60.0
"""How long a session goes on without a WebSocket."""

RESTARTING = "RESTARTING"
"""The reason of the error of a session that ends here because this service stops."""


_FromGateway: TypeAlias = (
    LiveStarted | LiveInterim | LiveFinal | SpeakerCorrection | UtteranceEnd | LiveNotice | LiveEnded | LiveResult
)


class LiveSessions:
    """All live sessions that callers may continue.

    Args:
        draining: says when this service stops.
    """

    def __init__(self, draining: Draining) -> None:
        self._draining = draining
        self._sessions: dict[str, LiveSession] = {}

    async def begin(self, caller: str, client: AsyncClient, options: LiveOptions) -> LiveSession:
        """Begins a session of ``caller``. Raises as ``AsyncClient.live`` does, and ``Unavailable`` (RESTARTING)."""
        if self._draining.has_begun:
            raise _restarting()
        session = LiveSession(caller, client.live(**options))
        await session.begin()
        if self._draining.has_begun:
            session.stop(_restarting())
            raise _restarting()
        self._sessions[session.id] = session
        session.on_gone = lambda: self._forget(session)
        return session

    async def resume(self, caller: str, client: AsyncClient, session_id: str) -> LiveSession:
        """Returns a session to continue, which another web service may have begun.

        Raises ``NotFound`` (SESSION_NOT_FOUND) if ``caller`` has no such session, and as ``begin`` does.
        """
        if session := self._sessions.get(session_id):
            if session.caller != caller:
                raise _not_found(session_id)
            if not session.failed:
                return session
            session.forget()  # another web service may have continued it, or the gateway was away for long
        try:
            return await self.begin(caller, client, {"session_id": session_id})
        except NotFound:
            raise _not_found(session_id) from None

    def _forget(self, session: LiveSession) -> None:
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]

    async def run(self) -> None:
        """Waits until this service stops, and then ends all sessions here. The gateway goes on with them."""
        try:
            await self._draining.wait()
        finally:
            for session in list(self._sessions.values()):
                session.stop(_restarting())


class LiveSession:
    """One session. ``attached`` gives its events to one WebSocket at a time."""

    def __init__(self, caller: str, opening: AbstractAsyncContextManager[AsyncLiveSession]) -> None:
        self.caller = caller
        self.received_bytes = 0
        """How much audio was received for it. All of it reaches the gateway, also after a broken connection."""
        self.on_gone: Callable[[], object] = lambda: None
        """Is called when the session cannot be continued any more."""
        self.job_id = ""
        """The job of the session, once the audio has ended."""
        self._kept: list[_FromGateway] = []
        self._interim: LiveInterim | None = None
        self._feed: Feed | None = None
        self._attachment = asyncio.Lock()
        self._attachments = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._begun: asyncio.Future[tuple[AsyncLiveSession, LiveStarted]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(opening))

    @property
    def id(self) -> str:
        """The id, once the session has begun."""
        return self._started.session_id

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._task.done() and self._failure is not None

    async def begin(self) -> None:
        """Waits until the gateway has answered. Raises the errors up to then."""
        try:
            await asyncio.shield(self._begun)
        except BaseException:
            self._task.cancel()
            raise

    async def send(self, audio: bytes) -> None:
        """Takes audio. Waits if a lot of it has not reached the gateway. Raises as ``AsyncLiveSession.send`` does."""
        with self._sending():
            await self._session.send(audio)
        self.received_bytes += len(audio)

    async def flush(self) -> None:
        """Asks for all words as final ones."""
        with self._sending():
            await self._session.flush()

    async def end(self) -> None:
        """Says that the audio ends here."""
        with self._sending():
            await self._session.end()

    @asynccontextmanager
    async def attached(self, after_event: int) -> AsyncIterator[Feed]:
        """Yields the events after number ``after_event``, and takes them away from the WebSocket before.

        After the ``with`` block the session waits for another WebSocket, and is given up after ``KEEP_SECONDS``.
        """
        self._attachments += 1
        number = self._attachments
        if self._feed:
            self._feed.replace()
        async with self._attachment:  # the one before must not take audio any more
            if number != self._attachments:
                raise _taken_over()
            self._stop_waiting()
            feed = self._feed = Feed(self._events_after(after_event), after_event)
            if self._task.done():
                feed.end(self._failure)
            try:
                yield feed
            finally:
                self._feed = None
                self._expiry = asyncio.get_running_loop().call_later(KEEP_SECONDS, self.forget)

    def forget(self) -> None:
        """Gives the session up. If it has not ended, the gateway ends it after some time."""
        self._stop_waiting()
        self._task.cancel()
        self.on_gone()

    def stop(self, failure: Exception) -> None:
        """Ends the session here because of ``failure``."""
        if not self._task.done():
            self._failure = failure
        self.forget()

    @property
    def _session(self) -> AsyncLiveSession:
        return self._begun.result()[0]

    @property
    def _started(self) -> LiveStarted:
        return self._begun.result()[1]

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """Raises why the session ended, instead of the error of a call that it was ended during."""
        try:
            yield
        except CarecaError as error:
            raise self._failure or error from None

    def _stop_waiting(self) -> None:
        if self._expiry:
            self._expiry.cancel()
        self._expiry = None

    def _events_after(self, number: int) -> list[LiveEvent]:
        last = self._kept[-1] if self._kept else self._started
        interim = [self._interim] if self._interim else []
        return [self._start(last), *(each for each in self._kept if _follows(each, number)), *interim]

    def _start(self, last: _FromGateway) -> LiveStarted:
        """The first event for a WebSocket: the audio that follows is that which this process does not have."""
        return replace(
            self._started,
            received_bytes=self.received_bytes,
            audio_seconds=last.audio_seconds,
            behind_seconds=last.behind_seconds,
        )

    async def _run(self, opening: AbstractAsyncContextManager[AsyncLiveSession]) -> None:
        try:
            async with opening as session:
                async for event in session:
                    self._receive(event, session)
        except Exception as error:  # noqa: BLE001 - those who attach learn of it
            self._failure = error
            if not self._begun.done():
                self._begun.set_exception(error)
        finally:
            if self._feed:
                self._feed.end(self._failure)

    def _receive(self, event: LiveEvent, session: AsyncLiveSession) -> None:
        if isinstance(event, LiveStarted) and not self._begun.done():
            self.received_bytes = event.received_bytes
            self._begun.set_result((session, event))
            return
        if not self._begun.done():  # attempts before the session had begun
            return
        if isinstance(event, LiveStarted):
            event = self._start(event)
        if isinstance(event, LiveInterim):
            self._interim = event
        elif isinstance(event, LiveEnded):
            self.job_id = event.job_id
        if not isinstance(event, LiveReconnecting) and _follows(event, 0):
            self._kept.append(event)
            self._interim = None
        if self._feed:
            self._feed.put(event)


class Feed:
    """The events that one WebSocket must still send. Of interim words only the latest are kept."""

    def __init__(self, events: Iterable[LiveEvent], after_event: int = 0) -> None:
        """Begins with ``events``. The caller has those up to number ``after_event``."""
        self._events = deque(events)
        self._after_event = after_event
        self._ended = False
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._replaced = asyncio.Event()

    def put(self, event: LiveEvent) -> None:
        """Adds an event, unless the caller has it: a session of another service sends all events again."""
        if not isinstance(event, LiveReconnecting) and 0 < event.event_number <= self._after_event:
            return
        if self._events and isinstance(event, LiveInterim) and isinstance(self._events[-1], LiveInterim):
            self._events.pop()
        self._events.append(event)
        self._changed.set()

    def end(self, failure: Exception | None) -> None:
        """Says that no event follows, because of ``failure`` or after the last one."""
        self._ended, self._failure = True, failure
        self._changed.set()

    def replace(self) -> None:
        """Says that another WebSocket takes the session over."""
        self._replaced.set()

    async def next(self) -> LiveEvent | None:
        """Waits for the next event. ``None`` after the last one. Raises what ended the session."""
        while not self._events and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if self._events:
            return self._events.popleft()
        if self._failure:
            raise self._failure
        return None

    async def until_replaced(self) -> None:
        """Waits until another WebSocket takes the session over, and raises ``PreconditionFailed`` then."""
        await self._replaced.wait()
        raise _taken_over()


def _follows(event: _FromGateway, number: int) -> bool:
    """Whether a caller who has the events up to ``number`` needs the event. The result comes last, without a number."""
    return event.event_number > number or isinstance(event, LiveResult)


def _not_found(session_id: str) -> NotFound:
    return NotFound(
        f"there is no live session {session_id[:100]}: it has ended, or it was begun by another caller",
        reason="SESSION_NOT_FOUND",
        field="session_id",
    )


def _taken_over() -> PreconditionFailed:
    return PreconditionFailed("the session was continued by another connection", reason="SESSION_TAKEN_OVER")


def _restarting() -> Unavailable:
    return Unavailable("this service restarts: connect again", reason=RESTARTING, retry_after_seconds=1.0)
