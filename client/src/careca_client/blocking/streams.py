"""Streams and attempts of the blocking client. Its twin for asyncio is ``careca_client.aio.streams``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from careca.errors import CarecaError
from careca.rpc.statuses import translated_errors
from careca_client.access import Metadata
from careca_client.digests import DigestMemory
from careca_client.events import Event, EventCallback, Hashing
from careca_client.protocol.transcribe import Attempts
from careca_client.protocol.upload import Offer
from careca_client.recording import Recording, Source, open_recording

O = TypeVar("O", bound=Offer[Any, Any])  # noqa: E741 -- the offer's own type


@contextmanager
def hashed(source: Source, name: str | None, digests: DigestMemory, emit: EventCallback) -> Iterator[Recording]:
    """The recording, open, with its digest, until the end of the ``with`` block."""
    with open_recording(source, name) as recording:
        for done in digests.hash(recording):
            emit(Hashing(done, recording.total_bytes))
        yield recording


def converse(
    method: Callable[..., Any], begin: Callable[[], O], attempts: Attempts, emit: EventCallback, metadata: Metadata
) -> O:
    """The offer of the attempt that came through, all of it received. ``begin`` makes one for each attempt."""
    while True:
        offer = begin()
        try:
            _converse_once(method, offer, attempts.remaining(), emit, metadata)
        except CarecaError as error:
            pause(attempts, error, emit, offer)
        else:
            return offer


def pause(attempts: Attempts, error: CarecaError, emit: EventCallback, offer: Offer[Any, Any] | None = None) -> None:
    """Waits until it is time to try again after ``error``. Raises it where that cannot help."""
    retrying = attempts.after(error, offer)
    emit(retrying)
    time.sleep(retrying.delay_seconds)


def one_at_a_time(callback: EventCallback | None) -> EventCallback:
    """``callback`` with a lock: events come from the caller's thread and, during the upload, from grpc's."""
    lock = threading.Lock()

    def emit(event: Event) -> None:
        if callback is not None:
            with lock:
                callback(event)

    return emit


def _converse_once(
    method: Callable[..., Any], offer: Offer[Any, Any], timeout: float | None, emit: EventCallback, metadata: Metadata
) -> None:
    sending = _Sending(offer, emit)
    call = method(iter(sending), timeout=timeout, metadata=metadata)
    try:
        with translated_errors():
            for response in call:
                offer.receive(response)
                if offer.answered:
                    sending.decide(call.cancel)
                if (event := offer.event_of(response)) is not None:
                    emit(event)
    except CarecaError:
        if sending.error is None:
            raise
    finally:
        sending.stop()
        call.cancel()
    if sending.error is not None:
        raise sending.error


class _Sending:
    """The caller's half of one stream. grpc draws its messages in a thread of its own."""

    def __init__(self, offer: Offer[Any, Any], emit: EventCallback) -> None:
        self.error: Exception | None = None
        """Why no more could be sent."""
        self._offer = offer
        self._emit = emit
        self._decided = threading.Event()
        self._stopped = False
        self._cancel: Callable[[], object] | None = None

    def __iter__(self) -> Iterator[Any]:
        yield self._offer.opening
        self._decided.wait()
        if self._stopped or not self._offer.recording_needed:
            return
        try:
            for request, event in self._offer.chunks():
                yield request
                if self._stopped:
                    return
                self._emit(event)
        except Exception as error:  # noqa: BLE001 -- grpc would log and hide it: raised where the call is waited for
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
