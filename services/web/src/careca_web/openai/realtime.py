"""OpenAI's realtime transcription: audio comes in over a WebSocket, and the text of each utterance goes out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import uuid
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from careca import languages
from careca.errors import CarecaError, InvalidRequest, Unavailable
from careca.types import Word
from careca_client import (
    AsyncClient,
    AsyncLiveSession,
    LiveEnded,
    LiveEvent,
    LiveFinal,
    UtteranceEnd,
)
from careca_web.http import sockets
from careca_web.http.errors import problem_of
from careca_web.http.requests import Draining
from careca_web.metrics import WebMetrics
from careca_web.openai.errors import error_object
from careca_web.openai.fields import invalid, missing, unsupported
from careca_web.openai.models import model_names
from careca_web.openai.realtime_settings import REALTIME_NAMES, RealtimeSettings, updated, updated_as_before
from careca_web.openai.responses import logprobs_of
from careca_web.sessions.callers import CallerClient

IDLE_SECONDS = 600.0
"""After this time without an event from the caller, the WebSocket is closed."""

_END_SECONDS = 5.0
"""How long the gateway may take to make a recording of what was said when the caller has gone."""

SILENCE_SECONDS = 10.0
"""After this time without an answer, a committed item is one in which nobody speaks."""

_EPSILON = 0.001
"""Times of events are rounded."""


def routes(metrics: WebMetrics, draining: Draining) -> APIRouter:
    """Returns the endpoint /realtime."""
    router = APIRouter(prefix="/v1")

    @router.websocket("/realtime")
    async def realtime(
        websocket: WebSocket,
        client: CallerClient,
        intent: Annotated[str, Query()] = "",
        model: Annotated[str, Query()] = "",
    ) -> None:
        """Serves one session: docs/openai.md describes what is supported."""
        if intent != "transcription":
            raise unsupported("intent", "must be transcription: this service does not answer what people say")
        names = [*model_names(await client.info()), *REALTIME_NAMES]
        settings = RealtimeSettings()
        if model:
            settings = updated(settings, _asking_for(model), names)
        await websocket.accept("realtime" if "realtime" in websocket.scope["subprotocols"] else None)
        async with AsyncExitStack() as resources:
            session = _Session(websocket, client, metrics=metrics, settings=settings, models=names, resources=resources)
            try:
                await session.send("session.created", session=session.description())
                await sockets.first_to_end(
                    session.listen(), session.tell(), session.complete_silence(), _until_restart(draining)
                )
                await websocket.close(sockets.NORMAL)
            except WebSocketDisconnect:
                return
            except Exception as error:  # noqa: BLE001 - the status has been sent: the caller learns of it by an event
                await _refuse(session, websocket, error, draining)

    return router


def _asking_for(model: str) -> dict[str, Any]:
    return {"session": {"audio": {"input": {"transcription": {"model": model}}}}}


async def _until_restart(draining: Draining) -> None:
    await draining.wait()
    raise Unavailable("this service restarts: connect again", reason="RESTARTING", retry_after_seconds=1.0)


async def _refuse(session: _Session, websocket: WebSocket, error: Exception, draining: Draining) -> None:
    problem = problem_of(error)
    try:
        await session.send("error", error=error_object(problem))
        await websocket.close(sockets.RESTART if draining.has_begun else sockets.close_code(problem))
    except WebSocketDisconnect:
        return


@dataclass(slots=True)
class _Item:
    """One utterance. ``end`` is where the caller has committed it, in seconds of the audio."""

    id: str = field(default_factory=lambda: f"item_{uuid.uuid4().hex[:24]}")
    text: str = ""
    words: list[Word] = field(default_factory=list)
    language: str = ""
    end: float | None = None


class _Session:
    """One WebSocket."""

    def __init__(
        self,
        websocket: WebSocket,
        client: AsyncClient,
        *,
        metrics: WebMetrics,
        settings: RealtimeSettings,
        models: list[str],
        resources: AsyncExitStack,
    ) -> None:
        self._websocket = websocket
        self._client = client
        self._metrics = metrics
        self._settings = settings
        self._models = models
        self._resources = resources
        self._id = f"sess_{uuid.uuid4().hex[:24]}"
        self._live: AsyncLiveSession | None = None
        self._begun: asyncio.Future[AsyncLiveSession] = asyncio.get_running_loop().create_future()
        self._received_bytes = 0
        self._committed_bytes = 0
        self._told_until = 0.0
        self._last_item: str | None = None
        self._gone = False
        self._ended = asyncio.Event()
        self._commits: asyncio.Queue[tuple[_Item, float]] = asyncio.Queue()
        self._items = deque([_Item()])
        self._handlers = {
            "session.update": self._update,
            "transcription_session.update": self._update_as_before,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
        }

    def description(self) -> dict[str, Any]:
        """Returns OpenAI's description of the session."""
        return self._settings.session(self._id)

    async def send(self, kind: str, **content: Any) -> None:
        """Sends an event, unless the caller has gone."""
        if self._gone:
            return
        event = {"type": kind, "event_id": f"event_{uuid.uuid4().hex[:24]}", **content}
        try:
            await self._websocket.send_text(json.dumps(event, ensure_ascii=False))
        except WebSocketDisconnect:
            self._gone = True  # listen learns of it too, and ends the session

    async def listen(self) -> None:
        """Handles events until the caller disconnects. What is wrong with one is told, and the next one follows."""
        most = sockets.MAX_MESSAGE_BYTES
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    message = await sockets.receive(self._websocket, max_bytes=most, max_text_bytes=most)
            except TimeoutError:
                return
            except WebSocketDisconnect:
                self._gone = True
                await self._end()
                raise
            event: Mapping[str, Any] = {}
            try:
                if isinstance(message, bytes):
                    raise sockets.bad_message("events must be text: audio is sent in base64")
                event = sockets.read_json(message)
                await self._handle(event)
            except InvalidRequest as error:
                await self._tell_error(error, event)
            except CarecaError as error:
                if error.reason != "MODEL_NOT_FOUND":
                    raise
                await self._tell_error(error, event)

    async def tell(self) -> None:
        """Sends what is said, from the first audio on."""
        async for event in await self._begun:
            await self._receive(event)

    async def complete_silence(self) -> None:
        """Completes items that were committed and in which nobody speaks: no event tells of silence."""
        while True:
            item, deadline = await self._commits.get()
            await asyncio.sleep(deadline - asyncio.get_running_loop().time())
            if item.end is not None and item is self._items[0]:
                await self._complete(item.end)

    async def _end(self) -> None:
        """Ends the live session, so that its recording is in the history at once."""
        if self._live is None:
            return
        await self._live.end()
        with suppress(TimeoutError):  # the gateway ends it by itself
            async with asyncio.timeout(_END_SECONDS):
                await self._ended.wait()

    async def _handle(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if kind is None:
            raise missing("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise unsupported("type", f"can only be one of {', '.join(self._handlers)}")
        await handler(event)

    async def _tell_error(self, error: CarecaError, event: Mapping[str, Any]) -> None:
        event_id = event.get("event_id")
        body = error_object(problem_of(error)) | {"event_id": event_id if isinstance(event_id, str) else None}
        await self.send("error", error=body)

    async def _update(self, event: Mapping[str, Any]) -> None:
        self._change(updated(self._settings, event, self._models))
        await self.send("session.updated", session=self.description())

    async def _update_as_before(self, event: Mapping[str, Any]) -> None:
        self._change(updated_as_before(self._settings, event, self._models))
        await self.send("transcription_session.updated", session=self._settings.old_session(self._id))

    def _change(self, settings: RealtimeSettings) -> None:
        if self._live is not None and settings != self._settings:
            raise unsupported("session", "cannot be changed any more: audio has been received")
        self._settings = settings

    async def _append(self, event: Mapping[str, Any]) -> None:
        text = event.get("audio")
        if not isinstance(text, str):
            raise missing("audio") if text is None else invalid("audio", "must be text in base64")
        try:
            audio = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise invalid("audio", "is not valid base64") from None
        if not audio:
            return
        if self._live is None:
            self._live = await self._resources.enter_async_context(self._client.live(**self._settings.options()))
            self._begun.set_result(self._live)
        self._metrics.count_live_audio(len(audio))
        await self._live.send(audio)
        self._received_bytes += len(audio)

    async def _commit(self, _: Mapping[str, Any]) -> None:
        if self._live is None or self._received_bytes == self._committed_bytes:
            raise InvalidRequest("there is no audio since the last commit", reason="INPUT_AUDIO_BUFFER_COMMIT_EMPTY")
        self._committed_bytes = self._received_bytes
        await self._live.flush()
        if self._settings.pause_ms is None:
            item = self._items[-1]
            item.end = self._received_bytes / self._settings.bytes_per_second
            self._items.append(_Item())
            await self._tell_committed(item)
            await self._commits.put((item, asyncio.get_running_loop().time() + SILENCE_SECONDS))

    async def _clear(self, _: Mapping[str, Any]) -> None:
        if self._received_bytes > self._committed_bytes:
            raise unsupported("type", "cannot be input_audio_buffer.clear: audio is transcribed as it arrives")
        await self.send("input_audio_buffer.cleared")

    async def _receive(self, event: LiveEvent) -> None:
        if isinstance(event, LiveFinal):
            await self._tell_delta(event)
        elif isinstance(event, LiveEnded):
            self._ended.set()
        elif not isinstance(event, UtteranceEnd):
            return
        elif self._settings.pause_ms is None:
            while (end := self._items[0].end) is not None and event.audio_seconds >= end - _EPSILON:
                await self._complete(end)
        elif self._items[0].text:
            item = self._items[0]
            self._items.append(_Item())
            await self._tell_speech("stopped", item, audio_end_ms=_milliseconds(item.words[-1].end))
            await self._tell_committed(item)
            await self._complete(event.audio_seconds)

    async def _tell_delta(self, event: LiveFinal) -> None:
        item = self._items[0]
        if not item.words and self._settings.pause_ms is not None:
            await self._tell_speech("started", item, audio_start_ms=_milliseconds(event.words[0].start))
        item.language = event.language or item.language
        item.words += event.words
        delta = "".join(
            word.text if languages.is_unspaced(word.text, event.language) else f" {word.text}" for word in event.words
        )
        delta = delta if item.text else delta.lstrip()
        item.text += delta
        await self.send(
            "conversation.item.input_audio_transcription.delta",
            item_id=item.id,
            content_index=0,
            delta=delta,
            **self._logprobs(event.words),
        )

    async def _tell_speech(self, what: str, item: _Item, **times: int) -> None:
        await self.send(f"input_audio_buffer.speech_{what}", item_id=item.id, **times)

    async def _tell_committed(self, item: _Item) -> None:
        await self.send("input_audio_buffer.committed", item_id=item.id, previous_item_id=self._last_item)
        self._last_item = item.id

    async def _complete(self, until: float) -> None:
        item = self._items.popleft()
        seconds, self._told_until = until - self._told_until, until
        await self.send(
            "conversation.item.input_audio_transcription.completed",
            item_id=item.id,
            content_index=0,
            transcript=item.text,
            usage={"type": "duration", "seconds": round(seconds, 3)},
            languages=[{"code": item.language}] if item.language else [],
            **self._logprobs(item.words),
        )

    def _logprobs(self, words: list[Word] | tuple[Word, ...]) -> dict[str, Any]:
        return {"logprobs": logprobs_of(words)} if self._settings.logprobs else {}


def _milliseconds(seconds: float | None) -> int:
    return round((seconds or 0.0) * 1000)  # final words have times
