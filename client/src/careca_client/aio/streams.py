"""Streams and attempts of the client for asyncio. Its blocking twin is ``careca_client.blocking.streams``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from careca.errors import CarecaError
from careca.rpc.statuses import responses_of
from careca_client.access import Metadata
from careca_client.digests import DigestMemory
from careca_client.events import Event, EventCallback, Hashing
from careca_client.protocol.transcribe import Attempts
from careca_client.protocol.upload import Offer
from careca_client.recording import Recording, Source, open_recording

T = TypeVar("T")
O = TypeVar("O", bound=Offer[Any, Any])  # noqa: E741 -- the offer's own type


@asynccontextmanager
async def hashed(
    source: Source, name: str | None, digests: DigestMemory, emit: EventCallback
) -> AsyncIterator[Recording]:
    """The recording, open, with its digest, until the end of the ``with`` block. Read in threads."""
    with await asyncio.to_thread(open_recording, source, name) as recording:
        async for done in _in_threads(digests.hash(recording)):
            emit(Hashing(done, recording.total_bytes))
        yield recording


async def converse(
    method: Callable[..., Any], begin: Callable[[], O], attempts: Attempts, emit: EventCallback, metadata: Metadata
) -> O:
    """The offer of the attempt that came through, all of it received. ``begin`` makes one for each attempt."""
    while True:
        offer = begin()
        try:
            await _converse_once(method, offer, attempts.remaining(), emit, metadata)
        except CarecaError as error:
            await pause(attempts, error, emit, offer)
        else:
            return offer


async def pause(
    attempts: Attempts, error: CarecaError, emit: EventCallback, offer: Offer[Any, Any] | None = None
) -> None:
    """Waits until it is time to try again after ``error``. Raises it where that cannot help."""
    retrying = attempts.after(error, offer)
    emit(retrying)
    await asyncio.sleep(retrying.delay_seconds)


def ignore(_: Event) -> None:
    """What happens does not matter to this caller."""


async def _converse_once(
    method: Callable[..., Any],
    offer: Offer[Any, Any],
    timeout: float | None,  # noqa: ASYNC109 -- it travels to the services with the call
    emit: EventCallback,
    metadata: Metadata,
) -> None:
    sending = _Sending(offer, emit)
    call = method(sending.messages(), timeout=timeout, metadata=metadata)
    try:
        async for response in responses_of(call):
            offer.receive(response)
            if offer.answered:
                sending.decide(call.cancel)
            if (event := offer.event_of(response)) is not None:
                emit(event)
    except (CarecaError, asyncio.CancelledError):
        if sending.error is None or _being_cancelled():
            raise
    finally:
        sending.stop()
        call.cancel()
    if sending.error is not None:
        raise sending.error


class _Sending:
    """The caller's half of one stream. grpc draws its messages in a task of its own."""

    def __init__(self, offer: Offer[Any, Any], emit: EventCallback) -> None:
        self.error: Exception | None = None
        """Why no more could be sent."""
        self._offer = offer
        self._emit = emit
        self._decided = asyncio.Event()
        self._stopped = False
        self._cancel: Callable[[], object] | None = None

    async def messages(self) -> AsyncIterator[Any]:
        yield self._offer.opening
        await self._decided.wait()
        if self._stopped or not self._offer.recording_needed:
            return
        try:
            async for request, event in _in_threads(self._offer.chunks()):
                yield request
                if self._stopped:
                    return
                self._emit(event)
        except Exception as error:  # noqa: BLE001 -- grpc would hide it: raised where the call is waited for
            self.error = error
            if self._cancel is not None:
                self._cancel()

    def decide(self, cancel: Callable[[], object]) -> None:
        """The gateway has said whether it needs the recording. ``cancel`` ends the call where it cannot be sent."""
        self._cancel = cancel
        self._decided.set()

    def stop(self) -> None:
        """Nothing more is to be sent."""
        self._stopped = True
        self._decided.set()


async def _in_threads(steps: Iterator[T]) -> AsyncIterator[T]:
    """Takes each step of a blocking iterator in a thread."""
    while (step := await asyncio.to_thread(next, steps, None)) is not None:
        yield step


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
