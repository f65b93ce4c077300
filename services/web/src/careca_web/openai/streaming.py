"""Server-sent events: the text while the work goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from careca.types import Progress, Segment, Stage, Word
from careca_client import Event, EventCallback, Retrying, TranscriptionResult
from careca_web.http.errors import problem_of
from careca_web.openai.errors import error_object
from careca_web.openai.request import AudioRequest, ResponseFormat
from careca_web.openai.responses import (
    all_words,
    check_complete,
    diarized_segments,
    full_text,
    languages_of,
    logprobs_of,
    with_space,
)

PING_SECONDS = 15.0
"""Seconds without an event after which a comment is sent, so that proxies keep the connection."""

_MODEL_STAGES = {Stage.TRANSCRIBE, Stage.DIARIZE}


class StreamedCall:
    """One call of the gateway, which has begun, and whose segments are sent as they come. ``stop`` must be called.

    Args:
        request: what the caller asks for.
        transcribe: makes the call, with a callback for its events.
    """

    def __init__(
        self,
        request: AudioRequest,
        transcribe: Callable[[EventCallback], Coroutine[Any, Any, TranscriptionResult]],
    ) -> None:
        self._request = request
        self._deltas = Deltas()
        self._queue: asyncio.Queue[Segment | Retrying | None] = asyncio.Queue()
        self._begun = asyncio.Event()
        self._call = asyncio.create_task(transcribe(self._on_event))
        self._call.add_done_callback(self._on_end)

    async def stop(self) -> None:
        """Cancels the call if it has not ended."""
        self._call.cancel()
        await asyncio.gather(self._call, return_exceptions=True)

    async def begin(self) -> None:
        """Returns when a model has begun, and after some seconds in any case. Raises the call's errors up to then.

        A response whose status is sent only then says whether the recording could be read and a place was free.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._begun.wait(), PING_SECONDS)
        if self._call.done():
            self._call.result()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yields the events up to the last one: ``transcript.text.done``, or ``error``."""
        try:
            while True:
                try:
                    event = await asyncio.wait_for(self._queue.get(), PING_SECONDS)
                except TimeoutError:
                    yield KEEPALIVE_COMMENT
                    continue
                if event is None:
                    break
                if delta := self._delta_of(event):
                    yield _encoded(delta)
            result = self._call.result()
            check_complete(self._request, result)
            for body in self._last_events(result):
                yield _encoded(body)
        except Exception as error:  # noqa: BLE001 - the status has been sent: the caller learns of it by an event
            yield _encoded({"error": error_object(problem_of(error))}, event="error")

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Segment) or (isinstance(event, Progress) and event.stage in _MODEL_STAGES):
            self._begun.set()
        if self._request.in_order and isinstance(event, Segment | Retrying):
            self._queue.put_nowait(event)

    def _on_end(self, _: object) -> None:
        self._begun.set()
        self._queue.put_nowait(None)

    def _delta_of(self, event: Segment | Retrying) -> dict[str, Any] | None:
        if isinstance(event, Retrying):
            self._deltas.restart()
            return None
        delta = self._deltas.add(event)
        return self._delta(delta, event.words) if delta else None

    def _delta(self, delta: str, words: Iterable[Word]) -> dict[str, Any]:
        return {"type": "transcript.text.delta", "delta": delta, **self._logprobs(words)}

    def _logprobs(self, words: Iterable[Word]) -> dict[str, Any]:
        return {"logprobs": logprobs_of(words)} if self._request.logprobs else {}

    def _last_events(self, result: TranscriptionResult) -> Iterator[dict[str, Any]]:
        text = full_text(result)
        if not self._deltas.text:
            for utterance in result.utterances:
                yield self._delta(self._deltas.append(with_space(utterance)), utterance.words)
        elif rest := self._deltas.rest_of(text):
            yield self._delta(self._deltas.append(rest), ())
        if self._request.response_format is ResponseFormat.DIARIZED_JSON:
            yield from diarized_segments(result)
        yield {
            "type": "transcript.text.done",
            "text": self._deltas.text if same_letters(self._deltas.text, text) else text,
            "languages": languages_of(result),
            **self._logprobs(all_words(result)),
        }


class Deltas:
    """The text that was sent so far."""

    def __init__(self) -> None:
        self.text = ""
        self._sent_until = -1.0
        self._repeats = False

    def restart(self) -> None:
        """Says that the call begins again: it may repeat segments, which are not sent again."""
        self._repeats = True

    def add(self, segment: Segment) -> str:
        """Returns what to send for a segment, empty for nothing."""
        if not segment.text.strip() or (self._repeats and segment.start <= self._sent_until):
            return ""
        self._sent_until = max(self._sent_until, segment.start)
        return self.append(with_space(segment))

    def append(self, text: str) -> str:
        """Returns ``text`` as it continues what was sent: the first text has no space before it."""
        delta = text if self.text else text.lstrip()
        self.text += delta
        return delta

    def rest_of(self, full: str) -> str:
        """Returns what must follow so that all of ``full`` was sent. Spaces may differ.

        Empty if what was sent is not the beginning of ``full``, as after a repeated call with another result.
        """
        sent = len("".join(self.text.split()))
        ends = [index + 1 for index, letter in enumerate(full) if not letter.isspace()]
        end = ends[sent - 1] if 0 < sent <= len(ends) else 0
        return full[end:] if same_letters(full[:end], self.text) else ""


def same_letters(one: str, other: str) -> bool:
    """Returns whether two texts differ in spaces only."""
    return "".join(one.split()) == "".join(other.split())


def _encoded(body: dict[str, Any], event: str | None = None) -> bytes:
    return format_sse_event(data_str=json.dumps(body, ensure_ascii=False), event=event)
